use crate::FaultKind;
use crate::agent::Agent;
use crate::wire::{Links, Op};
use std::hint::black_box;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

/// How long the culprit holds the lock each time.
const HOLD: Duration = Duration::from_millis(25);
const STORM_EVERY: Duration = Duration::from_millis(10);
const STORM_BYTES: usize = 4096;
const LEAK_EVERY: Duration = Duration::from_millis(50);
const LEAK_BYTES_PER_S: f64 = 512.0 * 1024.0;
/// A leak stops growing here, so that a long one does not take the machine down.
const LEAK_MAX: usize = 256 << 20;

/// Starts the tasks that do harm while their fault is active; they cost nothing else.
pub(crate) fn spawn(agent: &Rc<Agent>) {
    spawn_local(hold(agent.clone()));
    spawn_local(storm(agent.clone()));
    spawn_local(leak(agent.clone()));
}

/// Waits until the fault is active.
async fn until(agent: &Agent, kind: FaultKind) {
    let mut flags = agent.flags.clone();
    // The sender lives as long as the swarm.
    let _ = flags.wait_for(|f| f.has(kind)).await;
}

fn is_active(agent: &Agent, kind: FaultKind) -> bool {
    agent.flags.borrow().has(kind)
}

async fn hold(agent: Rc<Agent>) {
    loop {
        until(&agent, FaultKind::LockContention).await;
        // The lock is fair: between two turns of the culprit everybody who waits has one.
        let held = agent.shared.ledger.lock().await;
        sleep(HOLD).await;
        drop(held);
        tokio::task::yield_now().await;
    }
}

async fn storm(agent: Rc<Agent>) {
    let n = agent.shared.boards.len();
    let mut links = Links::new(agent.shared.clone(), agent.index);
    let noise = vec![0xa5; STORM_BYTES];
    loop {
        until(&agent, FaultKind::MessageStorm).await;
        let begin = Instant::now();
        let mut asked = Vec::with_capacity(n);
        for peer in (0..n).filter(|p| *p != agent.index) {
            if agent.shared.is_up(peer) && links.request(peer, Op::Noise, &noise).await.is_ok() {
                asked.push(peer);
            }
        }
        for peer in asked {
            let _ = timeout(Duration::from_secs(1), links.answer(peer)).await;
        }
        sleep(STORM_EVERY.saturating_sub(begin.elapsed())).await;
    }
}

async fn leak(agent: Rc<Agent>) {
    let leaked = &agent.shared.boards[agent.index].leak_bytes;
    loop {
        until(&agent, FaultKind::MemoryLeak).await;
        let begin = Instant::now();
        let mut hoard: Vec<Vec<u8>> = Vec::new();
        let mut bytes = 0;
        while is_active(&agent, FaultKind::MemoryLeak) {
            let due = ((begin.elapsed().as_secs_f64() * LEAK_BYTES_PER_S) as usize).min(LEAK_MAX);
            if due > bytes {
                // Written, not only reserved: the pages are really taken.
                hoard.push(black_box(vec![1; due - bytes]));
                bytes = due;
                leaked.store(bytes, Ordering::Relaxed);
            }
            sleep(LEAK_EVERY).await;
        }
        leaked.store(0, Ordering::Relaxed);
    }
}
