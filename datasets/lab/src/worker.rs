use crate::FaultKind;
use crate::agent::Agent;
use crate::cache::Lru;
use crate::dispatch::mix;
use crate::queue::{Task, lock};
use crate::shared::{Failure, Shared};
use crate::wire::{Links, Op};
use crate::work::{Blob, RECORD_BYTES, Sum};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::select;
use tokio::task::{spawn_local, yield_now};
use tokio::time::{sleep, timeout};

/// Accounted bytes of a worker's own buffers and connections.
pub(crate) const WORKER_BYTES: usize = 32 * 1024;
/// A slow agent does its work this many times over and stalls after each task.
const SLOW_TIMES: u32 = 4;
const SLOW_STALL: Duration = Duration::from_millis(25);

/// Keeps as many workers running as the parameters say.
pub(crate) async fn manage(agent: Rc<Agent>) {
    let mut parameters = agent.shared.parameters.subscribe();
    loop {
        let workers = parameters.borrow_and_update().workers;
        let idle: Vec<usize> = {
            let mut local = agent.local.borrow_mut();
            let most = workers.max(local.running.len());
            local.running.resize(most, false);
            let idle = (0..workers).filter(|i| !local.running[*i]).collect();
            local.running[..workers].fill(true);
            idle
        };
        for slot in idle {
            spawn_local(work(agent.clone(), slot));
        }
        agent.shared.boards[agent.index].workers.store(workers, Ordering::Relaxed);
        if parameters.changed().await.is_err() {
            return;
        }
    }
}

/// One worker: takes batches until there are fewer workers than its number.
async fn work(agent: Rc<Agent>, slot: usize) {
    let board = &agent.shared.boards[agent.index];
    let mut parameters = agent.shared.parameters.subscribe();
    let mut flags = agent.flags.clone();
    let mut links = Links::new(agent.shared.clone(), agent.index);
    let mut cache = Lru::new(0);
    let mut accounted = 0;
    loop {
        let p = parameters.borrow_and_update().clone();
        let flag = *flags.borrow_and_update();
        if slot >= p.workers {
            board.cache_bytes.fetch_sub(accounted, Ordering::Relaxed);
            agent.local.borrow_mut().running[slot] = false;
            return;
        }
        // Each worker has its own share of the cache: nothing is shared, nothing needs a lock.
        cache.resize(p.cache_size / p.workers + usize::from(slot < p.cache_size % p.workers));
        account(&agent, &mut accounted, cache.bytes());
        let batch = select! {
            batch = board.queue.pop(p.batch_size), if !flag.has(FaultKind::StuckQueue) => batch,
            changed = parameters.changed() => if changed.is_ok() { continue } else { return },
            changed = flags.changed() => if changed.is_ok() { continue } else { return },
        };
        board.in_flight.fetch_add(batch.len(), Ordering::Relaxed);
        let held = batch.into_iter().map(|t| Held { agent: agent.clone(), task: Some(t) }).collect();
        process(&agent, &mut links, &mut cache, held).await;
        account(&agent, &mut accounted, cache.bytes());
    }
}

fn account(agent: &Agent, accounted: &mut usize, bytes: usize) {
    let total = &agent.shared.boards[agent.index].cache_bytes;
    total.fetch_add(bytes, Ordering::Relaxed);
    total.fetch_sub(*accounted, Ordering::Relaxed);
    *accounted = bytes;
}

/// A task in hand. When it is dropped without a verdict, as in a crash, the task is lost and says so.
struct Held {
    agent: Rc<Agent>,
    task: Option<Task>,
}

impl Held {
    fn succeed(mut self, started: u64) {
        if let Some(task) = self.task.take() {
            let shared = &self.agent.shared;
            if shared.clock.now() > task.deadline {
                // Done, but nobody waits for it any more.
                shared.fail(self.agent.index, task, Failure::Timeout);
            } else {
                shared.succeed(self.agent.index, &task, started);
            }
        }
    }

    fn fail(mut self, why: Failure) {
        if let Some(task) = self.task.take() {
            self.agent.shared.fail(self.agent.index, task, why);
        }
    }

    fn deadline(&self) -> u64 {
        self.task.as_ref().map_or(0, |t| t.deadline)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let shared: &Shared = &self.agent.shared;
        shared.boards[self.agent.index].in_flight.fetch_sub(1, Ordering::Relaxed);
        if let Some(task) = self.task.take() {
            shared.fail(self.agent.index, task, Failure::Lost);
        }
    }
}

/// Gets the records, does the work, and enters the results into the shared ledger under its lock, once a batch.
async fn process(agent: &Rc<Agent>, links: &mut Links, cache: &mut Lru, held: Vec<Held>) {
    let shared = &agent.shared;
    let started = shared.clock.now();
    let (held, late): (Vec<Held>, Vec<Held>) = held.into_iter().partition(|h| h.deadline() > started);
    for h in late {
        h.fail(Failure::Timeout);
    }
    let Some(limit) = held.iter().map(Held::deadline).max() else { return };

    let mut blobs: BTreeMap<u64, Option<Arc<Blob>>> = BTreeMap::new();
    for task in held.iter().filter_map(|h| h.task.as_ref()) {
        blobs.entry(task.key).or_insert_with(|| cache.get(task.key));
    }
    let missing: Vec<u64> = blobs.iter().filter(|(_, b)| b.is_none()).map(|(k, _)| *k).collect();
    {
        let mut w = lock(&shared.boards[agent.index].window);
        w.lookups += blobs.len() as u64;
        w.hits += (blobs.len() - missing.len()) as u64;
    }
    if !missing.is_empty() {
        let wait = Duration::from_micros(limit - started);
        let Ok(records) = timeout(wait, fetch(agent, links, &missing)).await else {
            for h in held {
                h.fail(Failure::Timeout);
            }
            return;
        };
        for (key, record) in records {
            let blob = Arc::new(agent.busy(|| Blob::prepare(&record)));
            cache.insert(key, blob.clone());
            blobs.insert(key, Some(blob));
        }
    }

    let mut finished: Vec<(Held, Sum)> = Vec::with_capacity(held.len());
    for h in held {
        let Some((task, blob)) = h.task.as_ref().and_then(|t| Some((t, blobs.get(&t.key)?.as_ref()?))) else {
            continue;
        };
        let flags = *agent.flags.borrow();
        let slow = flags.has(FaultKind::SlowAgent);
        let is_corrupt = flags.has(FaultKind::ErrorBurst) && mix(task.nonce) % 5 < 2;
        let (sum, intact) = agent.busy(|| {
            let sum = shared.bench.perform(task.work, blob, task.nonce, if slow { SLOW_TIMES } else { 1 });
            let intact = if is_corrupt { blob.corrupted().is_intact() } else { blob.is_intact() };
            (sum, intact)
        });
        if intact {
            finished.push((h, sum));
        } else {
            h.fail(Failure::Corrupt);
        }
        if slow {
            sleep(SLOW_STALL).await;
        } else {
            // The agent's other tasks, such as answers to its peers, have their turn.
            yield_now().await;
        }
    }
    if finished.is_empty() {
        return;
    }

    let asked = shared.clock.now();
    let sums: Vec<Sum> = finished.iter().map(|(_, s)| *s).collect();
    {
        let mut chain = shared.ledger.lock().await;
        let waited = shared.clock.now() - asked;
        for sum in &sums {
            let mut h = Sha256::new();
            h.update(*chain);
            h.update(sum);
            *chain = h.finalize().into();
        }
        drop(chain);
        let mut w = lock(&shared.boards[agent.index].window);
        w.lock_wait_us += waited;
        w.lock_waits += 1;
    }
    agent.note(&sums);
    for (h, _) in finished {
        h.succeed(started);
    }
}

/// Reads records where they live. Requests go out together and are then waited for; an agent that does not answer is
/// stood in for by this one's own store, which holds a copy.
async fn fetch(agent: &Agent, links: &mut Links, keys: &[u64]) -> Vec<(u64, Vec<u8>)> {
    let n = agent.shared.boards.len() as u64;
    let mut homes: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for key in keys {
        homes.entry((mix(key ^ 0x686f_6d65) % n) as usize).or_default().push(*key);
    }
    let mut own = homes.remove(&agent.index).unwrap_or_default();
    let mut asked = Vec::with_capacity(homes.len());
    for (home, keys) in homes {
        let body: Vec<u8> = keys.iter().flat_map(|k| k.to_le_bytes()).collect();
        if agent.shared.is_up(home) && links.request(home, Op::Fetch, &body).await.is_ok() {
            asked.push((home, keys));
        } else {
            own.extend(keys);
        }
    }
    let mut out: Vec<(u64, Vec<u8>)> = Vec::with_capacity(keys.len());
    out.extend(own.iter().copied().zip(agent.read(&own).await));
    let mut unanswered = Vec::new();
    for (home, keys) in asked {
        match links.answer(home).await {
            Ok(body) if body.len() == keys.len() * RECORD_BYTES => {
                out.extend(keys.into_iter().zip(body.chunks_exact(RECORD_BYTES).map(<[u8]>::to_vec)));
            }
            _ => unanswered.extend(keys),
        }
    }
    out.extend(unanswered.iter().copied().zip(agent.read(&unanswered).await));
    out
}
