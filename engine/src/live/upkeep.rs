//! What has to be done now and then: reload, save, make room.

use super::shard::ShardState;
use super::{Live, Scope, ScopeEntry};
use crate::EngineError;
use crate::compute::lock;
use crate::store::ask;
use crate::telemetry::add;
use foreglow_core::Timestamp;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

impl Live {
    /// Loads the registry anew if it changed (or `force`), and lets every scope choose again. Requests go on meanwhile:
    /// what was handed over before is scored by the model it was meant for.
    pub(crate) async fn reload(self: &Arc<Self>, force: bool, now: Timestamp) -> Result<bool, EngineError> {
        let live = self.clone();
        let work = move || {
            let changed = live.registry.reload(force)?;
            if changed {
                live.choose_again(now);
            }
            Ok(changed)
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| EngineError::Stopped("the reload"))?
    }

    fn choose_again(&self, now: Timestamp) {
        let scopes: Vec<(Scope, Arc<ScopeEntry>)> =
            lock(&self.scopes).iter().map(|(s, e)| (s.clone(), e.clone())).collect();
        for (scope, entry) in scopes {
            let mut router = lock(&entry.router);
            let catalogue = self.registry.catalogue();
            let moved = router.refresh(&catalogue);
            self.apply(&scope, moved);
            let served: Arc<HashSet<Arc<str>>> = Arc::new(
                std::iter::once(&catalogue.online).chain(&catalogue.artifacts).map(|l| l.state_key.clone()).collect(),
            );
            for shard in &self.shards {
                let (scope, served, store) = (scope.clone(), served.clone(), self.store.clone());
                shard.push(
                    &self.compute,
                    Box::new(move |state| {
                        let blobs = state.retire(&scope, &served);
                        if let Err(e) = store.post(move |c| ask::save_groups(c, &blobs, now), || ()) {
                            tracing::error!(error = %e, "state of a retired model was not saved");
                        }
                    }),
                );
            }
        }
    }

    /// Once a second: notices silence, saves what changed, drops idle sessions.
    pub(crate) async fn tick(&self, now: Timestamp) -> Result<(), EngineError> {
        let idle = self.limits.session_idle.ms();
        let gone: Vec<Scope> = {
            let mut scopes = lock(&self.scopes);
            let old = |s: &Scope, e: &Arc<ScopeEntry>| {
                s.session.is_some() && now.ms() - e.used.load(Ordering::Relaxed) > idle
            };
            scopes.extract_if(|s, e| old(s, e)).map(|(s, _)| s).collect()
        };
        self.on_all(move |shard| {
            for s in &gone {
                shard.scopes.remove(s);
            }
            shard.tick(now);
        })
        .await?;
        self.save(now).await
    }

    /// Saves the groups that were noted as changed, some at a time: all at once would be as large as all state. Each shard
    /// hands its states to the store itself, so that what it forgets later is dropped later, too.
    async fn save(&self, now: Timestamp) -> Result<(), EngineError> {
        let failed = Arc::new(AtomicBool::new(false));
        loop {
            let (store, flag) = (self.store.clone(), failed.clone());
            let hand_over = move |shard: &mut ShardState| {
                let blobs = shard.take_unsaved();
                let n = blobs.len();
                if n > 0 {
                    let flag = flag.clone();
                    let failed = move || flag.store(true, Ordering::Relaxed);
                    store.post(move |c| ask::save_groups(c, &blobs, now), failed)?;
                }
                Ok::<_, EngineError>(n)
            };
            let saved = self.on_all(hand_over).await?.into_iter().sum::<Result<usize, _>>()?;
            if saved == 0 {
                return Ok(());
            }
            // Behind what was handed over: then it is committed.
            self.store.call(|_| Ok(())).await?;
            if failed.load(Ordering::Relaxed) {
                return Err(EngineError::Stopped("the saving of states"));
            }
            add(&self.telemetry.saved_groups, saved);
        }
    }

    /// Waits until everything handed over is done, and saves all state. New bodies are refused from now on.
    pub(crate) async fn finish(&self, now: Timestamp) -> Result<(), EngineError> {
        let all = self.limits.queue as u32;
        if let Ok(permits) = self.permits.clone().acquire_many_owned(all).await {
            permits.forget();
        }
        self.on_all(ShardState::note_changed).await?;
        self.save(now).await
    }
}
