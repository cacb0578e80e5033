//! The monitors of one part of all groups, and the work that waits for them.

use super::router::shard_of;
use super::sink::Sink;
use super::{Scope, Suppressions};
use crate::EngineError;
use crate::compute::{Compute, lock};
use crate::registry::Loaded;
use crate::store::{GroupBlob, ask};
use foreglow_core::{Labels, MetricBatch, Timestamp};
use foreglow_models::monitor::{GroupInfo, Monitor, MonitorOptions, Observation, StepResult};
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

/// Bytes of state that a shard hands over to be saved at once.
const AT_ONCE: usize = 2 << 20;

/// Work for a shard, done in the order it came.
pub(super) type Task = Box<dyn FnOnce(&mut ShardState) + Send>;

#[derive(Default)]
struct Queue {
    tasks: VecDeque<Task>,
    /// Whether a thread of the pool is at it.
    running: bool,
}

/// A queue and the monitors behind it: one thread of the pool at a time works it off.
pub(super) struct Shard {
    queue: Mutex<Queue>,
    state: Mutex<ShardState>,
}

impl Shard {
    pub(super) fn new(state: ShardState) -> Arc<Self> {
        Arc::new(Self { queue: Mutex::default(), state: Mutex::new(state) })
    }

    /// Appends work. What waits is bounded by the permits of those who ask, not here.
    pub(super) fn push(self: &Arc<Self>, compute: &Compute, task: Task) {
        let start = {
            let mut q = lock(&self.queue);
            q.tasks.push_back(task);
            !std::mem::replace(&mut q.running, true)
        };
        if start {
            let shard = self.clone();
            compute.spawn(move || shard.work());
        }
    }

    fn work(&self) {
        loop {
            let task = {
                let mut q = lock(&self.queue);
                let Some(task) = q.tasks.pop_front() else {
                    q.running = false;
                    return;
                };
                task
            };
            let mut state = lock(&self.state);
            if catch_unwind(AssertUnwindSafe(|| task(&mut state))).is_err() {
                tracing::error!("work on a shard panicked; its request is answered with 500");
            }
        }
    }
}

/// The monitors of one scope.
#[derive(Default)]
pub(super) struct ScopeState {
    pub(super) monitors: HashMap<Arc<str>, Served>,
    /// The last closed step of each group, for `/metrics`.
    pub(super) latest: HashMap<String, Latest>,
}

/// A monitor with what it serves.
pub(super) struct Served {
    pub(super) loaded: Arc<Loaded>,
    pub(super) monitor: Monitor,
    pub(super) members: Arc<Vec<String>>,
    labels: HashMap<String, Labels>,
}

/// A step with the labels of its group.
pub(super) struct Latest {
    pub(super) step: StepResult,
    pub(super) labels: Labels,
}

impl Served {
    fn new(loaded: Arc<Loaded>, monitor: Monitor) -> Self {
        let members = Arc::new(monitor.pipeline().member_names());
        Self { loaded, monitor, members, labels: HashMap::new() }
    }

    /// The labels of a group by its id.
    pub(super) fn labels(&mut self, id: &str) -> Labels {
        if let Some(l) = self.labels.get(id) {
            return l.clone();
        }
        let labels = self.monitor.group(id).map(|g| g.labels).unwrap_or_default();
        self.labels.insert(id.to_owned(), labels.clone());
        labels
    }
}

/// A group by scope, pipeline and id.
pub(super) type Name = (Scope, Arc<str>, String);

/// Everything one shard owns.
pub(super) struct ShardState {
    pub(super) place: usize,
    pub(super) shards: usize,
    pub(super) options: MonitorOptions,
    pub(super) latest_most: usize,
    pub(super) scopes: HashMap<Scope, ScopeState>,
    pub(super) suppressions: Suppressions,
    pub(super) sink: Sink,
    /// Groups that changed and are not saved yet.
    pub(super) unsaved: Vec<Name>,
}

impl ShardState {
    /// The monitor of a scope and pipeline, opened where it is not yet: start state, then saved groups (not of sessions).
    pub(super) fn open(&mut self, scope: &Scope, loaded: &Arc<Loaded>) -> Result<&mut Served, EngineError> {
        let there = self.scopes.get(scope).is_some_and(|s| s.monitors.contains_key(&loaded.state_key));
        if !there {
            let monitor = self.restored(scope, loaded)?;
            let served = Served::new(loaded.clone(), monitor);
            self.scopes.entry(scope.clone()).or_default().monitors.insert(loaded.state_key.clone(), served);
        }
        self.scopes
            .get_mut(scope)
            .and_then(|s| s.monitors.get_mut(&loaded.state_key))
            .ok_or(EngineError::Stopped("a shard"))
    }

    fn restored(&self, scope: &Scope, loaded: &Arc<Loaded>) -> Result<Monitor, EngineError> {
        let start = loaded.monitor(self.options)?;
        let mine = |id: &str| shard_of(id, self.shards) == self.place;
        let mut monitor = Monitor::new(loaded.pipeline.clone(), self.options);
        for g in start.groups().iter().filter(|g| mine(&g.id)) {
            if let Some(bytes) = start.export_group(&g.id) {
                monitor.import_group(&bytes)?;
            }
        }
        if scope.session.is_none() {
            let (tenant, key) = (scope.tenant.clone(), loaded.state_key.clone());
            for (id, bytes) in self.sink.store.wait(move |c| ask::group_states(c, &tenant, &key))? {
                if mine(&id)
                    && let Err(e) = monitor.import_group(&bytes)
                {
                    tracing::warn!(group = id, error = %e, "saved state does not fit and is left out");
                }
            }
        }
        monitor.take_dirty();
        for (_, s) in lock(&self.suppressions).iter().filter(|(t, _)| *t == scope.tenant) {
            monitor.suppress(&s.selector, s.range, &s.reason);
        }
        Ok(monitor)
    }

    /// Takes a batch: scores, learns, writes down.
    pub(super) fn observe(
        &mut self,
        scope: &Scope,
        loaded: &Arc<Loaded>,
        batch: &MetricBatch,
        now: Timestamp,
        dry: bool,
    ) -> Result<(Observation, &mut Served), EngineError> {
        let served = self.open(scope, loaded)?;
        if dry {
            let o = served.monitor.preview(batch, now);
            return Ok((o, self.open(scope, loaded)?));
        }
        let seen = catch_unwind(AssertUnwindSafe(|| served.monitor.observe(batch, now)));
        let Ok(observation) = seen else {
            // Half a step may be in it: the saved state is whole.
            if let Some(s) = self.scopes.get_mut(scope) {
                s.monitors.remove(&loaded.state_key);
            }
            tracing::error!(
                tenant = &*scope.tenant,
                model = &*loaded.model,
                "a monitor panicked; back to its saved state"
            );
            return Err(EngineError::Stopped("a monitor"));
        };
        self.write_down(scope, loaded, &observation, now)?;
        Ok((observation, self.open(scope, loaded)?))
    }

    fn write_down(
        &mut self,
        scope: &Scope,
        loaded: &Arc<Loaded>,
        o: &Observation,
        now: Timestamp,
    ) -> Result<(), EngineError> {
        if scope.session.is_some() {
            return Ok(());
        }
        let most = self.latest_most;
        let Some(state) = self.scopes.get_mut(scope) else { return Ok(()) };
        let ScopeState { monitors, latest } = state;
        let Some(served) = monitors.get_mut(&loaded.state_key) else { return Ok(()) };
        for r in o.results.iter().filter(|r| crate::view::is_new(r)) {
            if latest.len() < most || latest.contains_key(&r.group) {
                let labels = served.labels(&r.group);
                latest.insert(r.group.clone(), Latest { step: r.clone(), labels });
            }
        }
        self.sink.put(scope, served, o, now)
    }

    /// Notices silence and notes which groups changed.
    pub(super) fn tick(&mut self, now: Timestamp) {
        let live: Vec<(Scope, Arc<Loaded>)> = self
            .scopes
            .iter()
            .filter(|(s, _)| s.session.is_none())
            .flat_map(|(s, state)| state.monitors.values().map(|m| (s.clone(), m.loaded.clone())))
            .collect();
        for (scope, loaded) in live {
            let Some(served) = self.scopes.get_mut(&scope).and_then(|s| s.monitors.get_mut(&loaded.state_key)) else {
                continue;
            };
            let o = served.monitor.tick(now);
            if let Err(e) = self.write_down(&scope, &loaded, &o, now) {
                tracing::error!(error = %e, "silence could not be written down");
            }
        }
        self.note_changed();
    }

    /// Notes which groups changed since the last call, for [`ShardState::take_unsaved`].
    pub(super) fn note_changed(&mut self) {
        for (scope, state) in self.scopes.iter_mut().filter(|(s, _)| s.session.is_none()) {
            for served in state.monitors.values_mut() {
                let dirty = served.monitor.take_dirty();
                let key = &served.loaded.state_key;
                self.unsaved.extend(dirty.into_iter().map(|id| (scope.clone(), key.clone(), id)));
            }
        }
    }

    /// Notes groups again: their states could not be saved.
    pub(super) fn note_again(&mut self, names: Vec<Name>) {
        self.unsaved.extend(names);
    }

    /// Some of the noted groups and their states, about [`AT_ONCE`] bytes; none when all were taken.
    pub(super) fn take_unsaved(&mut self) -> (Vec<Name>, Vec<GroupBlob>) {
        let (mut names, mut out, mut bytes) = (Vec::new(), Vec::new(), 0);
        while bytes < AT_ONCE
            && let Some((scope, key, id)) = self.unsaved.pop()
        {
            // A monitor that panicked is gone with what it had not saved.
            let served = self.scopes.get(&scope).and_then(|s| s.monitors.get(&key));
            if let Some(blob) = served.and_then(|s| blob(&scope, s, id.clone())) {
                bytes += blob.state.len();
                out.push(blob);
                names.push((scope, key, id));
            }
        }
        (names, out)
    }

    /// Closes monitors whose pipeline is no longer served; gives their last states.
    pub(super) fn retire(&mut self, scope: &Scope, served: &HashSet<Arc<str>>) -> Vec<GroupBlob> {
        let Some(state) = self.scopes.get_mut(scope) else { return Vec::new() };
        let mut out = Vec::new();
        for (_, mut gone) in state.monitors.extract_if(|key, _| !served.contains(key)) {
            if scope.session.is_none() {
                let key = gone.loaded.state_key.clone();
                let noted = self.unsaved.extract_if(.., |(s, k, _)| s == scope && *k == key).map(|n| n.2);
                let ids: BTreeSet<String> = noted.chain(gone.monitor.take_dirty()).collect();
                out.extend(ids.into_iter().filter_map(|id| blob(scope, &gone, id)));
            }
        }
        out
    }

    /// Forgets a group that another pipeline serves now.
    pub(super) fn forget(&mut self, scope: &Scope, key: &str, group: &str) {
        let Some(state) = self.scopes.get_mut(scope) else { return };
        if let Some(served) = state.monitors.get_mut(key) {
            served.monitor.remove_group(group);
            served.labels.remove(group);
        }
        if !state.monitors.values().any(|s| s.monitor.group(group).is_some()) {
            state.latest.remove(group);
        }
    }

    /// The incidents that go on, by tenant and id.
    pub(super) fn open_incidents(&self) -> Vec<(String, String)> {
        let kept = self.scopes.iter().filter(|(s, _)| s.session.is_none());
        let of = |s: &Served| s.monitor.incidents_open().into_iter().map(|i| i.id).collect::<Vec<_>>();
        kept.flat_map(|(scope, state)| {
            state.monitors.values().flat_map(of).map(|id| (scope.tenant.to_string(), id)).collect::<Vec<_>>()
        })
        .collect()
    }

    /// All groups of a scope with their models.
    pub(super) fn groups(&self, scope: &Scope) -> Vec<(GroupInfo, Arc<Loaded>)> {
        let Some(state) = self.scopes.get(scope) else { return Vec::new() };
        let of = |s: &Served| s.monitor.groups().into_iter().map(|g| (g, s.loaded.clone())).collect::<Vec<_>>();
        state.monitors.values().flat_map(of).collect()
    }
}

fn blob(scope: &Scope, served: &Served, id: String) -> Option<GroupBlob> {
    let state = served.monitor.export_group(&id)?;
    Some(GroupBlob {
        tenant: scope.tenant.to_string(),
        pipeline: served.loaded.state_key.to_string(),
        group: id,
        state,
    })
}
