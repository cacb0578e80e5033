use crate::work::Work;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Locks, also where a thread died holding the lock: every value behind these locks is whole between two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One task and one attempt at it. Times are microseconds since the swarm's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) key: u64,
    pub(crate) work: Work,
    pub(crate) nonce: u64,
    /// When it was due to arrive: waiting for the dispatcher counts.
    pub(crate) arrived: u64,
    /// When the current attempt is given up.
    pub(crate) deadline: u64,
    /// Attempts before this one.
    pub(crate) retries: u32,
    /// The agent of the attempt before this one.
    pub(crate) last: Option<usize>,
}

/// Why a queue did not take a task.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Full(Task),
    Closed(Task),
}

/// A bounded queue between the dispatcher and the workers of one agent.
#[derive(Debug, Default)]
pub(crate) struct TaskQueue {
    inner: Mutex<Inner>,
    ready: Notify,
    length: AtomicUsize,
}

#[derive(Debug, Default)]
struct Inner {
    open: bool,
    items: VecDeque<Task>,
}

impl TaskQueue {
    pub(crate) fn open(&self) {
        lock(&self.inner).open = true;
    }

    /// Takes no more tasks and gives back those that waited.
    pub(crate) fn close(&self) -> Vec<Task> {
        let mut inner = lock(&self.inner);
        inner.open = false;
        self.length.store(0, Ordering::Relaxed);
        inner.items.drain(..).collect()
    }

    pub(crate) fn push(&self, task: Task, bound: usize) -> Result<(), Refusal> {
        let mut inner = lock(&self.inner);
        if !inner.open {
            return Err(Refusal::Closed(task));
        }
        if inner.items.len() >= bound {
            return Err(Refusal::Full(task));
        }
        inner.items.push_back(task);
        self.length.store(inner.items.len(), Ordering::Relaxed);
        drop(inner);
        self.ready.notify_one();
        Ok(())
    }

    /// Takes up to `most` tasks; waits while there is none. May be dropped while it waits.
    pub(crate) async fn pop(&self, most: usize) -> Vec<Task> {
        loop {
            let (batch, left) = {
                let mut inner = lock(&self.inner);
                let n = most.min(inner.items.len());
                let batch: Vec<Task> = inner.items.drain(..n).collect();
                self.length.store(inner.items.len(), Ordering::Relaxed);
                (batch, inner.items.len())
            };
            if left > 0 {
                // Two pushes may have left one wake-up only: hand it on.
                self.ready.notify_one();
            }
            if !batch.is_empty() {
                return batch;
            }
            self.ready.notified().await;
        }
    }

    /// Removes the tasks that nobody waits for any more.
    pub(crate) fn expire(&self, now: u64) -> Vec<Task> {
        let mut inner = lock(&self.inner);
        if inner.items.iter().all(|t| t.deadline > now) {
            return Vec::new();
        }
        let (late, kept) = inner.items.drain(..).partition(|t| t.deadline <= now);
        inner.items = kept;
        self.length.store(inner.items.len(), Ordering::Relaxed);
        late.into()
    }

    pub(crate) fn len(&self) -> usize {
        self.length.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(key: u64) -> Task {
        Task { key, work: Work::Hash, nonce: 0, arrived: 0, deadline: key * 10, retries: 0, last: None }
    }

    #[test]
    fn bounds_order_and_expiry() {
        let q = TaskQueue::default();
        assert_eq!(q.push(task(1), 9), Err(Refusal::Closed(task(1))));
        q.open();
        for k in 1..=3 {
            q.push(task(k), 3).unwrap();
        }
        assert_eq!(q.push(task(4), 3), Err(Refusal::Full(task(4))));
        assert_eq!(q.expire(10), vec![task(1)]);
        assert_eq!(q.len(), 2);
        let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(rt.block_on(q.pop(8)), vec![task(2), task(3)]);
        q.push(task(5), 3).unwrap();
        assert_eq!(q.close(), vec![task(5)]);
        assert_eq!(q.len(), 0);
    }

    #[test]
    fn no_wake_up_is_lost() {
        let q = std::sync::Arc::new(TaskQueue::default());
        q.open();
        let consumer = q.clone();
        let thread = std::thread::spawn(move || {
            let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
            rt.block_on(async {
                let (a, b) = tokio::join!(consumer.pop(1), consumer.pop(1));
                a[0].key + b[0].key
            })
        });
        q.push(task(1), 9).unwrap();
        q.push(task(2), 9).unwrap();
        assert_eq!(thread.join().unwrap(), 3);
    }
}
