use crate::LabError;
use crate::cpu::ThreadClock;
use crate::fault::Flags;
use crate::mischief;
use crate::queue::lock;
use crate::shared::Shared;
use crate::wire::{self, Links, Op};
use crate::work::{self, Sum};
use crate::worker;
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::{Semaphore, watch};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{MissedTickBehavior, interval_at, sleep, timeout};

/// Reads that the store of one agent serves at a time; more wait.
const STORE_DEPTH: usize = 6;
/// The wait of one read, by key between the two; each further record of the same read adds [`STORE_MORE_US`].
const STORE_WAIT_US: std::ops::Range<u64> = 21_000..24_000;
const STORE_MORE_US: u64 = 300;
/// How often an agent tells its peers what it has done.
const SYNC_EVERY: Duration = Duration::from_millis(200);
/// A sync round that takes longer is given up.
const SYNC_LIMIT: Duration = Duration::from_secs(2);

/// What the tasks of one agent share, on its one thread.
pub(crate) struct Agent {
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: usize,
    pub(crate) flags: watch::Receiver<Flags>,
    pub(crate) local: RefCell<Local>,
    store: Semaphore,
}

/// State that dies with the agent.
#[derive(Default)]
pub(crate) struct Local {
    /// Output of each agent as far as this one knows: a grow-only counter (Shapiro et al. 2011,
    /// doi:10.1007/978-3-642-24550-3_29).
    output: Vec<u64>,
    /// Digests of results since the last sync.
    recent: Vec<Sum>,
    /// Which workers run.
    pub(crate) running: Vec<bool>,
}

/// Starts the thread of agent `index` and waits until it listens.
pub(crate) fn spawn(shared: &Arc<Shared>, index: usize) -> Result<JoinHandle<()>, LabError> {
    let (ready, is_ready) = mpsc::channel();
    let what = format!("agent {index}");
    let shared = shared.clone();
    let thread = Builder::new()
        .name(format!("lab-agent-{index}"))
        .spawn(move || run(&shared, index, &ready))
        .map_err(|e| LabError::start(&what, e))?;
    match is_ready.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(e)) => Err(LabError::start(what, e)),
        Err(_) => Err(LabError::start(what, std::io::Error::other("its thread ended at once"))),
    }
}

fn run(shared: &Arc<Shared>, index: usize, ready: &mpsc::Sender<std::io::Result<()>>) {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return drop(ready.send(Err(e))),
    };
    let tasks = LocalSet::new();
    let outcome = tasks.block_on(&runtime, async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let board = &shared.boards[index];
        *lock(&board.cpu) = Some(ThreadClock::current());
        *lock(&board.address) = Some(listener.local_addr()?);
        board.avoid_until.store(0, Ordering::Relaxed);
        let agent = Rc::new(Agent {
            shared: shared.clone(),
            index,
            flags: board.flags.subscribe(),
            local: RefCell::new(Local { output: vec![0; shared.boards.len()], ..Local::default() }),
            store: Semaphore::new(STORE_DEPTH),
        });
        spawn_local(serve(agent.clone(), listener));
        spawn_local(synchronise(agent.clone()));
        spawn_local(worker::manage(agent.clone()));
        mischief::spawn(&agent);
        board.queue.open();
        // The receiver is gone only when the swarm is.
        let _ = ready.send(Ok(()));
        board.kill.notified().await;
        Ok(())
    });
    if let Err(e) = outcome {
        let _ = ready.send(Err(e));
    }
    // Everything in hand is dropped here: connections close, tasks report themselves lost.
    drop(tasks);
    drop(runtime);
    let board = &shared.boards[index];
    board.cache_bytes.store(0, Ordering::Relaxed);
    board.leak_bytes.store(0, Ordering::Relaxed);
    board.workers.store(0, Ordering::Relaxed);
}

impl Agent {
    /// Reads records from the store of this agent: waits for a free place, then for the device, then makes the content.
    pub(crate) async fn read(&self, keys: &[u64]) -> Vec<Vec<u8>> {
        if keys.is_empty() {
            return Vec::new();
        }
        {
            let _place = self.store.acquire().await;
            let span = STORE_WAIT_US.end - STORE_WAIT_US.start;
            let first = keys.iter().map(|k| STORE_WAIT_US.start + crate::dispatch::mix(!k) % span).max().unwrap_or(0);
            sleep(Duration::from_micros(first + STORE_MORE_US * (keys.len() as u64 - 1))).await;
        }
        let seed = self.shared.config.seed.child("records");
        self.busy(|| keys.iter().map(|k| work::record(seed, *k)).collect())
    }

    /// Adds results to the output that the next sync tells.
    pub(crate) fn note(&self, sums: &[Sum]) {
        let mut local = self.local.borrow_mut();
        local.output[self.index] += sums.len() as u64;
        local.recent.extend_from_slice(sums);
    }

    /// Runs `f` and counts its time as busy.
    pub(crate) fn busy<T>(&self, f: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let out = f();
        self.shared.boards[self.index].busy_us.fetch_add(begin.elapsed().as_micros() as u64, Ordering::Relaxed);
        out
    }
}

async fn serve(agent: Rc<Agent>, listener: TcpListener) {
    loop {
        // A connection that broke before it was accepted is the caller's to open again.
        if let Ok((stream, _)) = listener.accept().await {
            spawn_local(serve_one(agent.clone(), stream));
        }
    }
}

/// Answers one caller until it hangs up or breaks the protocol.
async fn serve_one(agent: Rc<Agent>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    while let Ok(frame) = wire::receive(&stream).await {
        let body = match frame.op {
            Op::Fetch => {
                let keys: Vec<u64> = frame.body.chunks_exact(8).map(u64_of).collect();
                agent.read(&keys).await.concat()
            }
            Op::Sync => agent.busy(|| merge(&agent, &frame.body)),
            Op::Noise => agent.busy(|| Sha256::digest(&frame.body)[..8].to_vec()),
        };
        match wire::send(&stream, frame.op, agent.index, &body).await {
            Ok(bytes) => agent.shared.edges.count(agent.index, frame.from, bytes),
            Err(_) => return,
        }
    }
}

/// Tells the peers, every [`SYNC_EVERY`], the output this agent knows of and its results since the last time.
async fn synchronise(agent: Rc<Agent>) {
    let n = agent.shared.boards.len();
    let mut links = Links::new(agent.shared.clone(), agent.index);
    // Agents take turns within the period.
    let first = SYNC_EVERY.mul_f64((agent.index + 1) as f64 / n as f64);
    let mut every = interval_at(tokio::time::Instant::now() + first, SYNC_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let begin = Instant::now();
        let round = async {
            let head = *agent.shared.ledger.lock().await;
            let message = agent.busy(|| compose(&agent, head));
            let mut asked = Vec::with_capacity(n);
            for peer in (0..n).filter(|p| *p != agent.index) {
                if agent.shared.is_up(peer) && links.request(peer, Op::Sync, &message).await.is_ok() {
                    asked.push(peer);
                }
            }
            for peer in asked {
                // A peer that went down in between is left out; the next round tells it.
                let _ = links.answer(peer).await;
            }
        };
        let _ = timeout(SYNC_LIMIT, round).await;
        let mut w = lock(&agent.shared.boards[agent.index].window);
        w.sync_us += begin.elapsed().as_micros() as u64;
        w.syncs += 1;
    }
}

fn compose(agent: &Agent, head: Sum) -> Vec<u8> {
    let mut local = agent.local.borrow_mut();
    let recent = std::mem::take(&mut local.recent);
    let mut message: Vec<u8> = local.output.iter().flat_map(|c| c.to_le_bytes()).collect();
    message.extend_from_slice(&head);
    message.extend(recent.iter().flatten());
    work::deflate(&message)
}

fn merge(agent: &Agent, body: &[u8]) -> Vec<u8> {
    let message = work::inflate(body);
    let mut local = agent.local.borrow_mut();
    for (mine, theirs) in local.output.iter_mut().zip(message.chunks_exact(8).map(u64_of)) {
        *mine = theirs.max(*mine);
    }
    local.output.iter().sum::<u64>().to_le_bytes().to_vec()
}

/// The number in 8 bytes.
fn u64_of(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        assert_eq!(u64_of(&0x0123_4567_89ab_cdef_u64.to_le_bytes()), 0x0123_4567_89ab_cdef);
    }
}
