use crate::agent;
use crate::fault::{Event, Fault, FaultKind};
use crate::queue::{Task, lock};
use crate::shared::{Failure, Shared, Window};
use crate::tick::{AgentSample, SwarmSample, Tick, fairness, quantile};
use crate::worker::WORKER_BYTES;
use crate::{LabError, Parameters};
use foreglow_core::Timestamp;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::broadcast;

/// What the handle asks of the supervisor.
pub(crate) enum Command {
    Inject(Fault, Sender<Result<Event, LabError>>),
    Stop,
}

/// The thread that owns the agents: takes the measures at every step, starts and ends faults, restarts who crashed.
pub(crate) struct Supervisor {
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: Receiver<Command>,
    pub(crate) ticks: broadcast::Sender<Arc<Tick>>,
    pub(crate) events: Arc<Mutex<Vec<Event>>>,
    pub(crate) members: Vec<Member>,
}

/// One agent as the supervisor sees it.
pub(crate) struct Member {
    thread: Option<JoinHandle<()>>,
    /// When it was lost, until it has completed a task again.
    lost_at: Option<u64>,
    cpu_before: u64,
    bytes_before: u64,
}

impl Member {
    pub(crate) fn start(shared: &Arc<Shared>, index: usize) -> Result<Self, LabError> {
        Ok(Self { thread: Some(agent::spawn(shared, index)?), lost_at: None, cpu_before: 0, bytes_before: 0 })
    }
}

/// A fault that runs: when it ends and which event it is.
struct Running {
    until: u64,
    event: usize,
    fault: Fault,
}

impl Supervisor {
    pub(crate) fn run(mut self) {
        let shared = self.shared.clone();
        let (step_us, epoch) = (shared.config.step.ms() as u64 * 1000, shared.clock.epoch.ms());
        let step = shared.config.step.ms();
        // The first boundary that is at least half a step away, so that the first tick has something to measure.
        let first = (epoch + step / 2).div_euclid(step) * step + step;
        let mut due = (first - epoch) as u64 * 1000;
        let mut running: Vec<Running> = Vec::new();
        let mut before = Totals::default();
        loop {
            let now = shared.clock.now();
            while let Some(at) = running.iter().position(|r| r.until <= now) {
                let over = running.swap_remove(at);
                self.end(&over);
            }
            self.revive(&running);
            let now = shared.clock.now();
            if now >= due {
                // After a standstill of the machine the latest boundary is the one that is reported.
                due += (now - due) / step_us * step_us;
                let tick = self.measure(Timestamp(epoch + (due / 1000) as i64), now, &mut before);
                // Nobody has to listen.
                let _ = self.ticks.send(Arc::new(tick));
                due += step_us;
            }
            let wake = running.iter().map(|r| r.until).min().unwrap_or(due).min(due);
            let wait = Duration::from_micros(wake.saturating_sub(shared.clock.now()));
            match self.commands.recv_timeout(wait) {
                Ok(Command::Inject(fault, reply)) => {
                    // Who asked may have gone.
                    let _ = reply.send(self.begin(fault, &mut running));
                }
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        self.shut_down(running);
    }

    fn begin(&mut self, fault: Fault, running: &mut Vec<Running>) -> Result<Event, LabError> {
        let refuse = |problem: &str| LabError::Fault { kind: fault.kind.to_string(), problem: problem.to_owned() };
        if running.iter().any(|r| r.fault.kind == fault.kind && r.fault.agent == fault.agent) {
            return Err(refuse("is already active there: wait for its end"));
        }
        if fault.agent.is_some_and(|a| self.members[a].thread.is_none()) {
            return Err(refuse("the agent is down: wait until it is back"));
        }
        let now = self.shared.clock.now();
        let until = now + fault.duration.as_micros() as u64;
        let clock = self.shared.clock;
        let event =
            Event { kind: fault.kind, agent: fault.agent, start: clock.timestamp(now), end: clock.timestamp(until) };
        match (fault.kind, fault.agent) {
            (FaultKind::LoadSurge, _) => self.shared.surge.store(true, Ordering::Relaxed),
            (FaultKind::CrashedAgent, Some(a)) => {
                self.members[a].lost_at = Some(now);
                self.halt(a);
                lock(&self.shared.boards[a].window).first_done = None;
            }
            (kind, Some(a)) => self.shared.boards[a].flags.send_modify(|f| f.set(kind, true)),
            (_, None) => return Err(refuse("needs an agent")),
        }
        let mut events = lock(&self.events);
        events.push(event.clone());
        running.push(Running { until, event: events.len() - 1, fault });
        Ok(event)
    }

    fn end(&mut self, over: &Running) {
        match (over.fault.kind, over.fault.agent) {
            (FaultKind::LoadSurge, _) => self.shared.surge.store(false, Ordering::Relaxed),
            // Its restart is `revive`'s, which tries again where the system refuses a thread.
            (FaultKind::CrashedAgent, _) | (_, None) => {}
            (kind, Some(a)) => self.shared.boards[a].flags.send_modify(|f| f.set(kind, false)),
        }
        let end = self.shared.clock.timestamp(self.shared.clock.now());
        lock(&self.events)[over.event].end = end;
    }

    /// Ends the agent's thread; what it had to do is lost.
    fn halt(&mut self, agent: usize) {
        let board = &self.shared.boards[agent];
        *lock(&board.address) = None;
        let waiting: Vec<Task> = board.queue.close();
        board.kill.notify_one();
        if let Some(thread) = self.members[agent].thread.take() {
            // A panic in there has been printed; the agent is gone either way.
            let _ = thread.join();
        }
        *lock(&board.cpu) = None;
        for task in waiting {
            self.shared.fail(agent, task, Failure::Lost);
        }
    }

    /// Starts again who is down and not meant to be.
    fn revive(&mut self, running: &[Running]) {
        for agent in 0..self.members.len() {
            let crashed = |r: &Running| r.fault.kind == FaultKind::CrashedAgent && r.fault.agent == Some(agent);
            if self.members[agent].thread.is_none()
                && !running.iter().any(crashed)
                && let Ok(thread) = agent::spawn(&self.shared, agent)
            {
                self.members[agent].thread = Some(thread);
                self.members[agent].cpu_before = 0;
            }
        }
    }

    fn shut_down(&mut self, running: Vec<Running>) {
        for r in running {
            self.end(&r);
        }
        for board in &self.shared.boards {
            board.kill.notify_one();
        }
        for agent in 0..self.members.len() {
            self.halt(agent);
        }
    }

    fn measure(&mut self, timestamp: Timestamp, now: u64, before: &mut Totals) -> Tick {
        let shared = self.shared.clone();
        let elapsed = ((now - before.at).max(1)) as f64 / 1e6;
        let steps = elapsed * 1000.0 / shared.config.step.ms() as f64;
        let parameters = shared.parameters.borrow().clone();
        let mut all = Window::default();
        let mut agents = Vec::with_capacity(self.members.len());
        let mut recovery_us = 0;
        for (index, member) in self.members.iter_mut().enumerate() {
            for late in shared.boards[index].queue.expire(now) {
                shared.fail(index, late, Failure::Timeout);
            }
            let mut window = std::mem::take(&mut *lock(&shared.boards[index].window));
            let sample = sample(&shared, index, member, &mut window, &parameters, elapsed, steps);
            if let Some(lost) = member.lost_at {
                // `first_done` was cleared at the loss: it is the first task since.
                let back = window.first_done.filter(|at| member.thread.is_some() && *at >= lost);
                recovery_us = recovery_us.max(back.unwrap_or(now).saturating_sub(lost));
                if back.is_some() {
                    member.lost_at = None;
                }
            }
            all.add(window);
            agents.push(sample);
        }
        all.latencies_ms.sort_by(f64::total_cmp);
        let totals =
            Totals { at: now, messages: shared.edges.messages(), arrivals: shared.arrivals.load(Ordering::Relaxed) };
        let active = agents.iter().filter(|a| a.active).count() as f64;
        let throughput = all.done as f64 / elapsed;
        let sum = |f: fn(&AgentSample) -> f64| agents.iter().map(f).sum::<f64>();
        let swarm = SwarmSample {
            completion_ms: ratio(all.completion_us, all.done) / 1000.0,
            success_ratio: ratio(all.done, all.done + all.failed),
            cpu_ratio: sum(|a| a.cpu_ratio),
            memory_accounted_bytes: sum(|a| a.memory_accounted_bytes),
            // Every byte was counted at both of its ends.
            network_bytes: sum(|a| a.network_bytes) / 2.0,
            latency_p50_ms: quantile(&all.latencies_ms, 0.5),
            latency_p95_ms: quantile(&all.latencies_ms, 0.95),
            latency_p99_ms: quantile(&all.latencies_ms, 0.99),
            error_ratio: ratio(all.errors, all.attempts),
            throughput_per_s: throughput,
            queue_length: sum(|a| a.queue_length),
            lock_wait_ms: ratio(all.lock_wait_us, all.lock_waits) / 1000.0,
            cache_hit_ratio: ratio(all.hits, all.lookups),
            arrival_per_s: (totals.arrivals - before.arrivals) as f64 / elapsed,
            sync_ms: ratio(all.sync_us, all.syncs) / 1000.0,
            balance_index: fairness(&agents.iter().map(|a| a.throughput_per_s).collect::<Vec<_>>()),
            messages_per_s: (totals.messages - before.messages) as f64 / elapsed,
            active_agents: active,
            output_per_agent_per_s: if active > 0.0 { throughput / active } else { 0.0 },
            recovery_ms: recovery_us as f64 / 1000.0,
        };
        *before = totals;
        Tick { timestamp, agents, swarm }
    }
}

/// Counts at the last tick.
#[derive(Debug, Default, Clone, Copy)]
struct Totals {
    at: u64,
    messages: u64,
    arrivals: u64,
}

fn sample(
    shared: &Shared,
    index: usize,
    member: &mut Member,
    w: &mut Window,
    parameters: &Parameters,
    elapsed: f64,
    steps: f64,
) -> AgentSample {
    let board = &shared.boards[index];
    w.latencies_ms.sort_by(f64::total_cmp);
    let clock = lock(&board.cpu).clone();
    let busy = board.busy_us.swap(0, Ordering::Relaxed);
    let cpu_us = match clock {
        None => 0,
        Some(c) if c.is_absent() => busy,
        Some(c) => {
            let total = c.micros().unwrap_or(member.cpu_before);
            total.saturating_sub(std::mem::replace(&mut member.cpu_before, total))
        }
    };
    let bytes = shared.edges.bytes_of(index);
    let network = bytes - std::mem::replace(&mut member.bytes_before, bytes);
    let waiting = board.queue.len();
    let memory = board.cache_bytes.load(Ordering::Relaxed)
        + board.leak_bytes.load(Ordering::Relaxed)
        + board.workers.load(Ordering::Relaxed) * WORKER_BYTES
        + waiting.min(parameters.queue_bound) * size_of::<Task>();
    AgentSample {
        agent: index,
        active: member.thread.is_some(),
        completion_ms: ratio(w.completion_us, w.done) / 1000.0,
        success_ratio: ratio(w.done, w.done + w.failed),
        cpu_ratio: cpu_us as f64 / 1e6 / elapsed,
        memory_accounted_bytes: memory as f64,
        network_bytes: network as f64 / steps,
        latency_p50_ms: quantile(&w.latencies_ms, 0.5),
        latency_p95_ms: quantile(&w.latencies_ms, 0.95),
        latency_p99_ms: quantile(&w.latencies_ms, 0.99),
        error_ratio: ratio(w.errors, w.attempts),
        throughput_per_s: w.done as f64 / elapsed,
        queue_length: if w.pushes > 0 { ratio(w.seen_length, w.pushes) } else { waiting as f64 },
        lock_wait_ms: ratio(w.lock_wait_us, w.lock_waits) / 1000.0,
        cache_hit_ratio: ratio(w.hits, w.lookups),
    }
}

/// NaN for nothing out of nothing.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { f64::NAN } else { part as f64 / whole as f64 }
}

impl Window {
    fn add(&mut self, other: Self) {
        self.latencies_ms.extend(other.latencies_ms);
        self.completion_us += other.completion_us;
        self.done += other.done;
        self.failed += other.failed;
        self.attempts += other.attempts;
        self.errors += other.errors;
        self.lock_wait_us += other.lock_wait_us;
        self.lock_waits += other.lock_waits;
        self.sync_us += other.sync_us;
        self.syncs += other.syncs;
        self.lookups += other.lookups;
        self.hits += other.hits;
        self.seen_length += other.seen_length;
        self.pushes += other.pushes;
    }
}
