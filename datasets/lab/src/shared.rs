use crate::cpu::ThreadClock;
use crate::fault::Flags;
use crate::queue::{Task, TaskQueue, lock};
use crate::work::{Sum, Workbench};
use crate::{LabConfig, Parameters};
use foreglow_core::Timestamp;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// The first pause before a failed attempt is placed again; doubled each time.
const BACKOFF_US: u64 = 5_000;

/// What the dispatcher, the agents and the supervisor share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: LabConfig,
    pub(crate) bench: Workbench,
    pub(crate) clock: Clock,
    pub(crate) boards: Vec<Board>,
    pub(crate) parameters: watch::Sender<Arc<Parameters>>,
    /// The lock that all agents share: each finished batch adds its results to one chain of digests.
    pub(crate) ledger: tokio::sync::Mutex<Sum>,
    pub(crate) edges: Edges,
    pub(crate) retries: Retries,
    pub(crate) surge: AtomicBool,
    pub(crate) stopping: AtomicBool,
    pub(crate) arrivals: AtomicU64,
}

/// Monotonic time since the start, and the timestamps that belong to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) origin: Instant,
    pub(crate) epoch: Timestamp,
}

impl Clock {
    pub(crate) fn now(&self) -> u64 {
        self.origin.elapsed().as_micros() as u64
    }

    pub(crate) fn timestamp(&self, micros: u64) -> Timestamp {
        self.epoch.plus((micros / 1000) as i64)
    }
}

/// What one agent shows to the others.
#[derive(Debug)]
pub(crate) struct Board {
    pub(crate) queue: TaskQueue,
    pub(crate) window: Mutex<Window>,
    pub(crate) address: Mutex<Option<SocketAddr>>,
    pub(crate) flags: watch::Sender<Flags>,
    pub(crate) kill: Notify,
    pub(crate) cpu: Mutex<Option<ThreadClock>>,
    pub(crate) in_flight: AtomicUsize,
    pub(crate) busy_us: AtomicU64,
    pub(crate) cache_bytes: AtomicUsize,
    pub(crate) leak_bytes: AtomicUsize,
    pub(crate) workers: AtomicUsize,
    /// The dispatcher found the queue closed and leaves the agent alone until then.
    pub(crate) avoid_until: AtomicU64,
}

impl Board {
    pub(crate) fn new() -> Self {
        Self {
            queue: TaskQueue::default(),
            window: Mutex::default(),
            address: Mutex::new(None),
            flags: watch::Sender::new(Flags::default()),
            kill: Notify::new(),
            cpu: Mutex::new(None),
            in_flight: AtomicUsize::new(0),
            busy_us: AtomicU64::new(0),
            cache_bytes: AtomicUsize::new(0),
            leak_bytes: AtomicUsize::new(0),
            workers: AtomicUsize::new(0),
            avoid_until: AtomicU64::new(0),
        }
    }

    pub(crate) fn load(&self) -> usize {
        self.queue.len() + self.in_flight.load(Ordering::Relaxed)
    }
}

/// What happened at one agent since the last tick. Times are microseconds.
#[derive(Debug, Default)]
pub(crate) struct Window {
    pub(crate) latencies_ms: Vec<f64>,
    pub(crate) completion_us: u64,
    pub(crate) done: u64,
    pub(crate) first_done: Option<u64>,
    pub(crate) failed: u64,
    pub(crate) attempts: u64,
    pub(crate) errors: u64,
    pub(crate) lock_wait_us: u64,
    pub(crate) lock_waits: u64,
    pub(crate) sync_us: u64,
    pub(crate) syncs: u64,
    pub(crate) lookups: u64,
    pub(crate) hits: u64,
    pub(crate) seen_length: u64,
    pub(crate) pushes: u64,
}

/// Why an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Not done before its deadline.
    Timeout,
    /// The queue was full or closed.
    Refused,
    /// The agent ended with the task in hand.
    Lost,
    /// The check after the work found a wrong record.
    Corrupt,
}

impl Shared {
    /// An attempt ended well.
    pub(crate) fn succeed(&self, agent: usize, task: &Task, started: u64) {
        let now = self.clock.now();
        let mut w = lock(&self.boards[agent].window);
        w.attempts += 1;
        w.done += 1;
        w.first_done.get_or_insert(now);
        w.completion_us += now.saturating_sub(started);
        w.latencies_ms.push(now.saturating_sub(task.arrived) as f64 / 1000.0);
    }

    /// An attempt failed: the task is placed again later, or has failed for good.
    pub(crate) fn fail(&self, agent: usize, mut task: Task, why: Failure) {
        let now = self.clock.now();
        let again = task.retries < self.parameters.borrow().retry_limit;
        {
            let mut w = lock(&self.boards[agent].window);
            w.attempts += 1;
            w.errors += 1;
            if !again {
                w.failed += 1;
                if why == Failure::Timeout {
                    w.latencies_ms.push(now.saturating_sub(task.arrived) as f64 / 1000.0);
                }
            }
        }
        if again && !self.stopping.load(Ordering::Relaxed) {
            let due = now + (BACKOFF_US << task.retries.min(8));
            task.retries += 1;
            task.last = Some(agent);
            self.retries.push(due, task);
        }
    }

    pub(crate) fn is_up(&self, agent: usize) -> bool {
        lock(&self.boards[agent].address).is_some()
    }
}

/// Tasks that wait to be placed again, and the dispatcher's alarm clock.
#[derive(Debug, Default)]
pub(crate) struct Retries {
    heap: Mutex<BinaryHeap<Due>>,
    changed: Condvar,
}

#[derive(Debug)]
struct Due {
    at: u64,
    task: Task,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    /// Earliest first out of a heap that gives the greatest.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.at.cmp(&self.at).then(other.task.nonce.cmp(&self.task.nonce))
    }
}

impl Retries {
    fn push(&self, at: u64, task: Task) {
        lock(&self.heap).push(Due { at, task });
        self.changed.notify_one();
    }

    /// Wakes the dispatcher, so that it sees the order to stop.
    pub(crate) fn wake(&self) {
        // Under the lock: a dispatcher between its check and its sleep would miss the call.
        drop(lock(&self.heap));
        self.changed.notify_one();
    }

    /// Sleeps until `until`, a task is due, or somebody calls; gives a task that is due.
    pub(crate) fn wait(&self, clock: &Clock, until: u64, stopping: &AtomicBool) -> Option<Task> {
        let mut heap = lock(&self.heap);
        let now = clock.now();
        if heap.peek().is_some_and(|d| d.at <= now) {
            return heap.pop().map(|d| d.task);
        }
        let wake = heap.peek().map_or(until, |d| d.at.min(until));
        if wake > now && !stopping.load(Ordering::Relaxed) {
            // Who is woken early looks again and comes back.
            drop(self.changed.wait_timeout(heap, Duration::from_micros(wake - now)));
        }
        None
    }
}

/// Messages and bytes between agents since the start; every frame counts once, at its sender.
#[derive(Debug)]
pub(crate) struct Edges {
    agents: usize,
    counts: Vec<(AtomicU64, AtomicU64)>,
}

impl Edges {
    pub(crate) fn new(agents: usize) -> Self {
        Self { agents, counts: (0..agents * agents).map(|_| Default::default()).collect() }
    }

    pub(crate) fn count(&self, from: usize, to: usize, bytes: usize) {
        if let Some((messages, volume)) = self.counts.get(from * self.agents + to) {
            messages.fetch_add(1, Ordering::Relaxed);
            volume.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Bytes sent and received by `agent`.
    pub(crate) fn bytes_of(&self, agent: usize) -> u64 {
        let n = self.agents;
        (0..n).map(|o| self.volume(agent, o) + self.volume(o, agent)).sum()
    }

    pub(crate) fn messages(&self) -> u64 {
        self.counts.iter().map(|(m, _)| m.load(Ordering::Relaxed)).sum()
    }

    fn volume(&self, from: usize, to: usize) -> u64 {
        self.counts[from * self.agents + to].1.load(Ordering::Relaxed)
    }

    pub(crate) fn report(&self) -> Topology {
        let edges = self.counts.iter().enumerate().filter_map(|(i, (messages, bytes))| {
            let (messages, bytes) = (messages.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed));
            (messages > 0).then_some(Edge { from: i / self.agents, to: i % self.agents, messages, bytes })
        });
        Topology { agents: self.agents, edges: edges.collect() }
    }
}

/// What one agent has sent to another since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// The sender.
    pub from: usize,
    /// The receiver.
    pub to: usize,
    /// Frames sent.
    pub messages: u64,
    /// Bytes sent, frame headers included.
    pub bytes: u64,
}

/// Who talks to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// How many agents there are.
    pub agents: usize,
    /// The edges that carried anything, ordered by sender and receiver.
    pub edges: Vec<Edge>,
}

impl Topology {
    /// Messages by (sender, receiver), zeros included.
    pub fn matrix(&self) -> Vec<Vec<u64>> {
        let mut m = vec![vec![0; self.agents]; self.agents];
        for e in &self.edges {
            m[e.from][e.to] = e.messages;
        }
        m
    }
}
