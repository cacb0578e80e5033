//! What has to be done now and then: reload, save, make room.

use super::router::shard_of;
use super::shard::ShardState;
use super::sink::resolved;
use super::{Live, Scope, ScopeEntry};
use crate::EngineError;
use crate::compute::lock;
use crate::store::{Gone, ask};
use crate::telemetry::add;
use foreglow_core::{IncidentState, Timestamp};
use rusqlite::Connection;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How often a tenant makes room at most, milliseconds.
const BETWEEN_MS: i64 = 60_000;

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
            Ok::<bool, EngineError>(changed)
        };
        let changed = tokio::task::spawn_blocking(work).await.map_err(|_| EngineError::Stopped("the reload"))??;
        if changed {
            self.settle_incidents().await?;
        }
        Ok(changed)
    }

    /// Ends the incidents that no monitor holds any more, at their last step above the line: of groups that another model
    /// serves now or that were let go, and those of the last moment before a crash.
    pub(crate) async fn settle_incidents(&self) -> Result<(), EngineError> {
        // The store is asked first: what opens after that is no candidate.
        let open = self.store.call(ask::open_incidents).await?;
        if open.is_empty() {
            return Ok(());
        }
        let held: HashSet<(String, String)> =
            self.on_all(|shard| shard.open_incidents()).await?.into_iter().flatten().collect();
        for (tenant, model, mut incident) in open {
            if held.contains(&(tenant.clone(), incident.id.clone())) {
                continue;
            }
            incident.state = IncidentState::Resolved;
            incident.resolved_at = Some(incident.finding.end);
            let (t, i) = (tenant.clone(), incident.clone());
            if self.store.call(move |c| ask::end_incident(c, &t, &i)).await? {
                tracing::info!(tenant, id = incident.id, "an incident ends: nothing watches it any more");
                self.events.send(&tenant.as_str().into(), "incident", resolved(&model, &incident)?);
            }
        }
        Ok(())
    }

    /// Lets go of groups that the store has forgotten.
    pub(crate) fn let_go(&self, gone: &[Gone]) {
        let tenants: HashSet<&str> = gone.iter().map(|g| g.tenant.as_str()).collect();
        for tenant in tenants {
            let scope = Scope { tenant: tenant.into(), session: None };
            let Some(entry) = lock(&self.scopes).get(&scope).cloned() else { continue };
            let mine: Vec<&Gone> = gone.iter().filter(|g| g.tenant == tenant).collect();
            let mut router = lock(&entry.router);
            router.forget(&mine.iter().map(|g| (g.pipeline.as_str(), g.group.as_str())).collect());
            // Under the router's lock: what is routed anew comes behind it.
            for g in mine {
                let (scope, key, group) = (scope.clone(), g.pipeline.clone(), g.group.clone());
                let forget = move |shard: &mut ShardState| shard.forget(&scope, &key, &group);
                self.shards[shard_of(&g.group, self.shards.len())].push(&self.compute, Box::new(forget));
            }
        }
        if !gone.is_empty() {
            tracing::info!(groups = gone.len(), "groups that no longer send were let go");
        }
    }

    /// Of tenants that reached a limit, groups that have sent nothing for a day make room, those silent for longest first.
    async fn make_room(&self, now: Timestamp) -> Result<(), EngineError> {
        let full: Vec<(Scope, Arc<ScopeEntry>)> = lock(&self.scopes)
            .iter()
            .filter(|(s, e)| s.session.is_none() && e.full.load(Ordering::Relaxed))
            .filter(|(_, e)| now.ms().saturating_sub(e.made_room.load(Ordering::Relaxed)) >= BETWEEN_MS)
            .map(|(s, e)| (s.clone(), e.clone()))
            .collect();
        for (scope, entry) in full {
            entry.full.store(false, Ordering::Relaxed);
            entry.made_room.store(now.ms(), Ordering::Relaxed);
            lock(&entry.router).forget_series();
            let (tenant, most) = (scope.tenant, self.limits.max_groups.div_ceil(10));
            let idle =
                move |c: &Connection| ask::forget_idle_groups(c, &tenant, now.plus(-foreglow_core::DAY_MS), most);
            self.let_go(&self.store.call(idle).await?);
            self.settle_incidents().await?;
        }
        Ok(())
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
        self.save(now).await?;
        self.make_room(now).await
    }

    /// Saves the groups that were noted as changed, some at a time: all at once would be as large as all state. Each shard
    /// hands its states to the store itself, so that what it forgets later is dropped later, too. What could not be saved
    /// is noted again.
    async fn save(&self, now: Timestamp) -> Result<(), EngineError> {
        let failed = Arc::new(AtomicBool::new(false));
        loop {
            let (store, flag) = (self.store.clone(), failed.clone());
            let hand_over = move |shard: &mut ShardState| {
                let (names, blobs) = shard.take_unsaved();
                if !blobs.is_empty() {
                    let (flag, lost) = (flag.clone(), flag.clone());
                    let failed = move || flag.store(true, Ordering::Relaxed);
                    if store.post(move |c| ask::save_groups(c, &blobs, now), failed).is_err() {
                        lost.store(true, Ordering::Relaxed);
                    }
                }
                names
            };
            let names = self.on_all(hand_over).await?;
            let saved = names.iter().map(Vec::len).sum();
            if saved == 0 {
                return Ok(());
            }
            // Behind what was handed over: then it is committed.
            let committed = self.store.call(|_| Ok(())).await;
            if committed.is_err() || failed.load(Ordering::Relaxed) {
                for (shard, names) in names.into_iter().enumerate() {
                    self.on(shard, move |s| s.note_again(names)).await?;
                }
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
