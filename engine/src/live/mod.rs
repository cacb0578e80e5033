//! Live scoring: batches go through a bounded queue to shards of monitors on the CPU pool.
//!
//! A batch is taken apart by group; each group lives in one shard, and a shard does its work in the order it came. So the
//! samples of a group are observed in the order they were sent, whatever else is in the batch and on any number of
//! threads. Who asks holds a permit until the answer is written: more bodies than permits are refused, nothing grows.

mod collect;
mod questions;
mod router;
mod shard;
mod sink;
mod upkeep;

pub(crate) use collect::{Answer, Judged};
pub(crate) use questions::{Past, ServedGroup};

use crate::EngineError;
use crate::compute::{Compute, lock};
use crate::config::Limits;
use crate::events::Events;
use crate::http::Problem;
use crate::registry::Registry;
use crate::store::{HistoryPoint, Store, ask};
use crate::telemetry::{Telemetry, add};
use crate::tuner::Tuner;
use axum::http::StatusCode;
use collect::{Collector, Finish};
use foreglow_core::{MetricBatch, Selector, Step, TimeRange, Timestamp};
use foreglow_models::monitor::{GroupInfo, MonitorOptions, refusal};
use router::{Moved, Router};
use shard::{Shard, ShardState};
use sink::Sink;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Ranges of a tenant that are kept quiet, as many as a monitor remembers; those that end first go first.
pub(crate) const MOST_SUPPRESSIONS: usize = 1_000;
/// Tenants at most: each has memory of its own.
const MOST_TENANTS: usize = 1000;

/// Whose state: a tenant's, or that of one of its sessions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    pub(crate) tenant: Arc<str>,
    pub(crate) session: Option<Arc<str>>,
}

/// A range in which nothing is raised.
#[derive(Debug, Clone)]
pub(crate) struct Suppression {
    pub(crate) selector: Selector,
    pub(crate) range: TimeRange,
    pub(crate) reason: String,
}

/// All of them, each with its tenant.
type Suppressions = Arc<Mutex<Vec<(Arc<str>, Suppression)>>>;

struct ScopeEntry {
    router: Mutex<Router>,
    /// When it was last asked, epoch milliseconds.
    used: AtomicI64,
    /// Something was refused because there are too many groups or series.
    full: AtomicBool,
    /// When room was last made, epoch milliseconds.
    made_room: AtomicI64,
}

/// The live part of the server.
pub(crate) struct Live {
    compute: Compute,
    registry: Arc<Registry>,
    shards: Vec<Arc<Shard>>,
    scopes: Mutex<HashMap<Scope, Arc<ScopeEntry>>>,
    suppressions: Suppressions,
    permits: Arc<Semaphore>,
    tuner: Arc<Tuner>,
    store: Store,
    events: Arc<Events>,
    telemetry: Arc<Telemetry>,
    limits: Limits,
}

impl Live {
    pub(crate) fn new(
        compute: Compute,
        registry: Arc<Registry>,
        tuner: Arc<Tuner>,
        store: Store,
        events: Arc<Events>,
        telemetry: Arc<Telemetry>,
        limits: Limits,
    ) -> Self {
        let options = MonitorOptions {
            max_groups: limits.max_groups,
            max_signals_per_group: limits.max_signals_per_group,
            max_future: limits.max_future.0.map(Step::ms),
            ..MonitorOptions::default()
        };
        let suppressions = Arc::default();
        let sink = Sink { store: store.clone(), events: events.clone(), telemetry: telemetry.clone() };
        let shards = compute.threads();
        let state = |place| ShardState {
            place,
            shards,
            options,
            latest_most: limits.metrics_groups,
            scopes: HashMap::new(),
            suppressions: Arc::clone(&suppressions),
            sink: sink.clone(),
            unsaved: Vec::new(),
        };
        Self {
            shards: (0..shards).map(|i| Shard::new(state(i))).collect(),
            scopes: Mutex::default(),
            suppressions,
            permits: Arc::new(Semaphore::new(limits.queue)),
            compute,
            registry,
            tuner,
            store,
            events,
            telemetry,
            limits,
        }
    }

    /// Takes up every group that the store has state of.
    ///
    /// # Errors
    /// From the store. State of a pipeline that is not served waits for it.
    pub(crate) async fn restore(&self, now: Timestamp) -> Result<(), EngineError> {
        let catalogue = self.registry.catalogue();
        for (tenant, key) in self.store.call(ask::group_pipelines).await? {
            let Some(loaded) = catalogue.by_key(&key).cloned() else {
                tracing::warn!(tenant, model = key, "there is state of a model that is not served; it is kept");
                continue;
            };
            let scope = Scope { tenant: tenant.into(), session: None };
            let entry = self.entry(&scope, now).map_err(|p| EngineError::config("state", p.code()))?;
            let (s, l) = (scope.clone(), loaded.clone());
            let groups = self.on_all(move |shard| Ok(shard.open(&s, &l)?.monitor.groups())).await?;
            let groups: Vec<GroupInfo> = groups.into_iter().collect::<Result<Vec<_>, EngineError>>()?.concat();
            lock(&entry.router).restore(&loaded, &groups);
        }
        Ok(())
    }

    /// A place in the queue, to be had before a body is read.
    ///
    /// # Errors
    /// 503 when all are taken.
    pub(crate) fn permit(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.permits.clone().try_acquire_owned().map_err(|_| {
            add(&self.telemetry.busy, 1);
            Problem::busy(format!("{} bodies are being worked on already: try again", self.limits.queue))
        })
    }

    fn entry(&self, scope: &Scope, now: Timestamp) -> Result<Arc<ScopeEntry>, Problem> {
        let mut scopes = lock(&self.scopes);
        if let Some(e) = scopes.get(scope) {
            e.used.store(now.ms(), Ordering::Relaxed);
            return Ok(e.clone());
        }
        let count = scopes.keys().filter(|s| s.session.is_some() == scope.session.is_some()).count();
        let (most, what) = match &scope.session {
            Some(_) => (self.limits.max_sessions, "sessions"),
            None => (MOST_TENANTS, "tenants"),
        };
        if count >= most {
            let detail = format!("there are {count} {what} already");
            let p = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_scopes", detail);
            return Err(p.retry_after((self.limits.session_idle.ms() / 1000).clamp(1, 3600) as u32));
        }
        let router = Router::new(self.shards.len(), self.limits.max_groups, self.registry.catalogue());
        let e = Arc::new(ScopeEntry {
            router: Mutex::new(router),
            used: AtomicI64::new(now.ms()),
            full: AtomicBool::new(false),
            made_room: AtomicI64::new(i64::MIN),
        });
        scopes.insert(scope.clone(), e.clone());
        Ok(e)
    }

    /// Hands a batch to the shards; `finish` gets what they say. Called on the pool.
    ///
    /// # Errors
    /// 429 when there are too many sessions or tenants.
    pub(crate) fn submit(
        &self,
        scope: &Scope,
        batch: &MetricBatch,
        now: Timestamp,
        dry: bool,
        finish: impl FnOnce(Answer) + Send + 'static,
    ) -> Result<(), Problem> {
        let entry = self.entry(scope, now)?;
        let mut router = lock(&entry.router);
        let moved = router.refresh(&self.registry.catalogue());
        self.apply(scope, moved);
        let routed = if dry {
            // Where it would go: nothing moves there.
            router.beside(&batch.keys).route(scope, batch, &self.tuner.watch)
        } else {
            let mut routed = router.route(scope, batch, &self.tuner.watch);
            self.apply(scope, std::mem::take(&mut routed.moved));
            self.keep(scope, std::mem::take(&mut routed.watched));
            if routed.refused.iter().any(|r| r.code == refusal::TOO_MANY_GROUPS) {
                entry.full.store(true, Ordering::Relaxed);
            }
            routed
        };
        let telemetry = self.telemetry.clone();
        let finish: Finish = Box::new(move |answer| {
            add(&telemetry.accepted, answer.accepted);
            for r in &answer.refused {
                telemetry.refuse(r.code, 1);
            }
            finish(answer);
        });
        let collector = Collector::new(routed.parts.len(), routed.refused, finish);
        // Still under the router's lock: two batches reach every shard in the same order.
        for part in routed.parts {
            let (collector, scope) = (collector.clone(), scope.clone());
            self.shards[part.shard].push(
                &self.compute,
                Box::new(move |shard| match shard.observe(&scope, &part.loaded, &part.batch, now, dry) {
                    Ok((o, served)) => {
                        let results = o.results.into_iter().map(|r| (served.labels(&r.group), r));
                        let results = results.map(|(l, r)| (r, l)).collect();
                        let judged = Judged { loaded: part.loaded.clone(), members: served.members.clone(), results };
                        collector.add(judged, o.accepted, o.refused, part.first());
                    }
                    Err(e) => tracing::error!(error = %e, model = &*part.loaded.model, "a batch could not be scored"),
                }),
            );
        }
        Ok(())
    }

    /// Writes down the values of watched series.
    fn keep(&self, scope: &Scope, watched: MetricBatch) {
        if watched.is_empty() {
            return;
        }
        let points: Vec<HistoryPoint> = watched
            .samples
            .iter()
            .map(|s| HistoryPoint { series: s.series as usize, timestamp: s.timestamp, value: s.value })
            .collect();
        let (tenant, telemetry) = (scope.tenant.clone(), self.telemetry.clone());
        let posted = self.store.post(
            move |c| ask::append_history(c, &tenant, &watched.keys, &points),
            move || add(&telemetry.store_errors, 1),
        );
        if let Err(e) = posted {
            tracing::error!(error = %e, "metrics of a watched entity were not kept");
        }
    }

    fn apply(&self, scope: &Scope, moved: Vec<Moved>) {
        let catalogue = self.registry.catalogue();
        for m in moved {
            // State of a model that is no longer served stays, so that going back to it goes on where it was.
            if catalogue.by_key(&m.from.state_key).is_none() {
                continue;
            }
            let (s, store) = (scope.clone(), self.store.clone());
            let (key, group) = (m.from.state_key.clone(), m.group);
            let forget = move |shard: &mut ShardState| {
                shard.forget(&s, &key, &group);
                if s.session.is_none() {
                    // Handed over by the shard, as its states are: what it saved before is written before.
                    let _ = store.post(move |c| ask::drop_group(c, &s.tenant, &key, &group), || ());
                }
            };
            self.shards[m.shard].push(&self.compute, Box::new(forget));
        }
    }

    /// Asks one shard after everything that was handed to it before.
    async fn on<R: Send + 'static>(
        &self,
        shard: usize,
        question: impl FnOnce(&mut ShardState) -> R + Send + 'static,
    ) -> Result<R, EngineError> {
        let (send, receive) = oneshot::channel();
        let task = Box::new(move |s: &mut ShardState| {
            let _ = send.send(question(s));
        });
        self.shards[shard].push(&self.compute, task);
        receive.await.map_err(|_| EngineError::Stopped("a shard"))
    }

    /// Asks all shards, in order.
    async fn on_all<R: Send + 'static>(
        &self,
        question: impl Fn(&mut ShardState) -> R + Send + Sync + 'static,
    ) -> Result<Vec<R>, EngineError> {
        let question = Arc::new(question);
        let asked: Vec<_> = (0..self.shards.len())
            .map(|i| {
                let q = question.clone();
                self.on(i, move |s| q(s))
            })
            .collect();
        futures_util::future::try_join_all(asked).await
    }

    /// Raises nothing for what a selector matches during a range; also for monitors that open later.
    pub(crate) fn suppress(&self, tenant: &Arc<str>, s: &Suppression) {
        {
            let mut all = lock(&self.suppressions);
            let same = |(t, o): &(Arc<str>, Suppression)| {
                t == tenant && o.selector == s.selector && o.reason == s.reason && o.range.start == s.range.start
            };
            all.retain(|o| !same(o));
            all.push((tenant.clone(), s.clone()));
            let mine: Vec<usize> = (0..all.len()).filter(|i| all[*i].0 == *tenant).collect();
            if mine.len() > MOST_SUPPRESSIONS
                && let Some(first) = mine.into_iter().min_by_key(|i| all[*i].1.range.end)
            {
                all.remove(first);
            }
        }
        for shard in &self.shards {
            let (tenant, s) = (tenant.clone(), s.clone());
            shard.push(
                &self.compute,
                Box::new(move |state| {
                    for (_, scope) in state.scopes.iter_mut().filter(|(k, _)| k.tenant == tenant) {
                        for m in scope.monitors.values_mut() {
                            m.monitor.suppress(&s.selector, s.range, &s.reason);
                        }
                    }
                }),
            );
        }
    }

    /// Whether the queue has room.
    pub(crate) fn has_room(&self) -> bool {
        self.permits.available_permits() > 0
    }
}
