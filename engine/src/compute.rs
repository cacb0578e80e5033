use crate::EngineError;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Locks, also where a thread died holding the lock: values behind the engine's locks are whole between two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The CPU pool: decoding, scoring and searching run here and never on the threads that serve connections.
#[derive(Debug, Clone)]
pub(crate) struct Compute(Arc<ThreadPool>);

impl Compute {
    pub(crate) fn new(threads: usize) -> Result<Self, EngineError> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("compute-{i}"))
            .build()
            .map_err(|e| EngineError::config("threads", e.to_string()))?;
        Ok(Self(Arc::new(pool)))
    }

    /// Threads of the pool.
    pub(crate) fn threads(&self) -> usize {
        self.0.current_num_threads()
    }

    /// Runs `work` on the pool; its result as a future. Dropping the future does not stop the work.
    ///
    /// # Errors
    /// [`EngineError::Stopped`] when the work panicked.
    pub(crate) async fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, EngineError> {
        let (send, receive) = oneshot::channel();
        self.spawn(move || {
            let _ = send.send(work());
        });
        receive.await.map_err(|_| EngineError::Stopped("a computation"))
    }

    /// Runs `work` on the pool and forgets it. A panic is logged and ends that work alone.
    pub(crate) fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        self.0.spawn(move || {
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                tracing::error!("a computation panicked; its request is answered with 500");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_one_computation_only() {
        let c = Compute::new(1).unwrap();
        let e = c.run(|| panic!("on purpose")).await.unwrap_err();
        assert!(matches!(e, EngineError::Stopped(_)));
        assert_eq!(c.run(|| 1 + 1).await.unwrap(), 2);
    }
}
