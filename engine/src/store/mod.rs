//! The embedded store (`SQLite`, one file): what survives a restart, and what readers read.
//!
//! One thread owns the connection. Work reaches it through a bounded channel in order, so a reader sees everything
//! written before it asked, and a store that falls behind slows scoring down instead of filling memory. What waits is
//! committed together.

mod changes;
mod experiments;
mod groups;
mod history;
mod incidents;
mod results;
mod schema;
mod tuning;

pub(crate) use changes::{ConfigurationRow, NewChange};
pub(crate) use experiments::ObservationRow;
pub(crate) use groups::{Gone, GroupBlob};
pub(crate) use history::{HistoryPoint, HistoryRow};
pub(crate) use incidents::{FeedbackRow, IncidentFilter, IncidentRow};
pub(crate) use results::{AnomalyFilter, ResultRow};

/// The questions and writes, by topic: plain functions of a connection.
pub(crate) mod ask {
    pub(crate) use super::changes::{
        active_changes, add_change, add_configuration, changes, changes_within, configurations, entities, last_changes,
    };
    pub(crate) use super::experiments::{add_observations, experiments, observations, put_experiment};
    pub(crate) use super::groups::{
        drop_group, forget_idle_groups, forget_old_groups, group_pipelines, group_states, save_groups,
    };
    pub(crate) use super::history::{append_history, forget_old_history, history, history_where};
    pub(crate) use super::incidents::{
        add_feedback, end_incident, incident, incidents, incidents_within, open_incidents, put_incident,
    };
    pub(crate) use super::results::{add_anomalies, add_results, anomalies, forget_old_results, recent_results};
    pub(crate) use super::tuning::{put_recommendation, put_study, recommendations, studies};
}

use crate::EngineError;
use crate::compute::lock;
use rusqlite::Connection;
use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// Work that may wait.
const WAITING: usize = 1024;
/// Work that is committed together.
const TOGETHER: usize = 256;

/// Called with whether what was written is committed.
type Done = Box<dyn FnOnce(bool) + Send>;
/// Says whether it succeeded: what fails halfway is taken back alone.
type Work = Box<dyn FnOnce(&Connection) -> (bool, Done) + Send>;

/// A handle on the store; cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    work: Mutex<Option<SyncSender<Work>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Held as long as the store is open: one process a folder.
    _lock: File,
}

impl Store {
    /// Opens or makes the store in `folder`.
    ///
    /// # Errors
    /// [`EngineError::State`] when another process has it, [`EngineError::Io`] and [`EngineError::Store`].
    pub(crate) fn open(folder: &Path) -> Result<Self, EngineError> {
        let place = |e| EngineError::io(folder.display().to_string(), e);
        std::fs::create_dir_all(folder).map_err(place)?;
        let guard = File::create(folder.join("lock")).map_err(place)?;
        if guard.try_lock().is_err() {
            let problem = "another process uses it: stop that one, or name another folder with --state".to_owned();
            return Err(EngineError::State { path: folder.to_owned(), problem });
        }
        let conn = schema::open(folder, &folder.join("foreglow.sqlite"))?;
        let (send, receive) = sync_channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || serve(&conn, &receive))
            .map_err(|e| EngineError::io("store thread", e))?;
        let inner = Inner { work: Mutex::new(Some(send)), thread: Mutex::new(Some(thread)), _lock: guard };
        Ok(Self { inner: Arc::new(inner) })
    }

    fn send(&self, work: Work) -> Result<(), EngineError> {
        let sender = lock(&self.inner.work).clone().ok_or(EngineError::Stopped("the store"))?;
        sender.send(work).map_err(|_| EngineError::Stopped("the store"))
    }

    /// Asks or writes, and waits until it is committed.
    ///
    /// # Errors
    /// [`EngineError::Store`] from the work itself, [`EngineError::Stopped`] when it could not be committed.
    pub(crate) async fn call<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<R, EngineError> + Send + 'static,
    ) -> Result<R, EngineError> {
        let (send, receive) = oneshot::channel();
        let store = self.clone();
        let work: Work = Box::new(move |conn| {
            let result = work(conn);
            let good = result.is_ok();
            let done: Done = Box::new(move |committed| {
                let _ = send.send(if committed { result } else { Err(EngineError::Stopped("the store")) });
            });
            (good, done)
        });
        // A full channel blocks, which no thread that serves connections may do.
        tokio::task::spawn_blocking(move || store.send(work))
            .await
            .map_err(|_| EngineError::Stopped("the store"))??;
        receive.await.map_err(|_| EngineError::Stopped("the store"))?
    }

    /// As [`Store::call`] for threads that may wait.
    pub(crate) fn wait<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<R, EngineError> + Send + 'static,
    ) -> Result<R, EngineError> {
        let (send, receive) = sync_channel(1);
        self.send(Box::new(move |conn| {
            let result = work(conn);
            let good = result.is_ok();
            let done: Done = Box::new(move |committed| {
                let _ = send.send(if committed { result } else { Err(EngineError::Stopped("the store")) });
            });
            (good, done)
        }))?;
        receive.recv().map_err(|_| EngineError::Stopped("the store"))?
    }

    /// Writes without waiting for the commit; blocks while too much waits. `failed` is called when it was not written.
    pub(crate) fn post(
        &self,
        work: impl FnOnce(&Connection) -> Result<(), EngineError> + Send + 'static,
        failed: impl FnOnce() + Send + 'static,
    ) -> Result<(), EngineError> {
        self.send(Box::new(move |conn| {
            let result = work(conn);
            if let Err(e) = &result {
                tracing::error!(error = %e, "the store refused a write");
            }
            let good = result.is_ok();
            let done: Done = Box::new(move |committed| {
                if !(committed && good) {
                    failed();
                }
            });
            (good, done)
        }))
    }

    /// Finishes what waits and closes the file. Work that comes later is refused.
    pub(crate) fn close(&self) {
        lock(&self.inner.work).take();
        let thread = lock(&self.inner.thread).take();
        if let Some(t) = thread
            && t.join().is_err()
        {
            tracing::error!("the store's thread panicked");
        }
    }
}

fn serve(conn: &Connection, work: &Receiver<Work>) {
    while let Ok(first) = work.recv() {
        let mut done = Vec::new();
        let begun = conn.execute_batch("BEGIN IMMEDIATE");
        let mut next = Some(first);
        while let Some(w) = next {
            done.push(one(conn, w));
            next = if done.len() < TOGETHER { work.try_recv().ok() } else { None };
        }
        let committed = match begun.and_then(|()| conn.execute_batch("COMMIT")) {
            Ok(()) => true,
            Err(e) => {
                tracing::error!(error = %e, "the store could not commit");
                let _ = conn.execute_batch("ROLLBACK");
                false
            }
        };
        for d in done {
            d(committed);
        }
    }
    // Leaves one plain file behind.
    let _ = conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
}

/// One piece of work; an error or a panic takes back that piece alone.
fn one(conn: &Connection, work: Work) -> Done {
    let marked = conn.execute_batch("SAVEPOINT piece").is_ok();
    let (good, done) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(conn))).unwrap_or_else(|_| {
        tracing::error!("work in the store panicked");
        let done: Done = Box::new(|_| ());
        (false, done)
    });
    if marked {
        let end = if good { "RELEASE piece" } else { "ROLLBACK TO piece; RELEASE piece" };
        if let Err(e) = conn.execute_batch(end) {
            tracing::error!(error = %e, "the store could not end a piece of work");
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_a_folder_and_no_newer_schema() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let second = Store::open(dir.path()).map(|_| ()).unwrap_err().to_string();
        assert!(second.contains("another process uses it"), "{second}");
        store.wait(|c| Ok(c.pragma_update(None, "user_version", 99)?)).unwrap();
        store.close();
        assert!(matches!(store.wait(|_| Ok(())), Err(EngineError::Stopped(_))));
        drop(store);
        let newer = Store::open(dir.path()).map(|_| ()).unwrap_err().to_string();
        assert!(newer.contains("version 99"), "{newer}");
    }

    #[test]
    fn a_failed_piece_does_not_take_others_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let bad = store.wait(|c| {
            c.execute("INSERT INTO study VALUES ('t', 'i', 'b')", [])?;
            Ok(c.execute("INSERT INTO nowhere VALUES (1)", [])?)
        });
        assert!(matches!(bad, Err(EngineError::Store(_))));
        assert!(store.wait::<()>(|_| panic!("on purpose")).is_err());
        let left = store.wait(|c| Ok(c.query_row("SELECT count(*) FROM study", [], |r| r.get::<_, i64>(0))?));
        assert_eq!(left.unwrap(), 0, "what failed halfway is taken back");
    }
}
