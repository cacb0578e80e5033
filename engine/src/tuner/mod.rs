//! Studies and recommendations: asks `foreglow_search`, keeps what it says, and cuts trials from live metrics.
//!
//! Everything here may take many milliseconds and is called from threads that may wait.

mod advice;
mod arms;
mod auto;
mod entry;
pub(crate) mod experiments;
mod live_trials;
mod running;
mod triggers;
mod verify;
mod watch;

pub(crate) use advice::{Decision, Kept};
pub(crate) use auto::Step;
pub(crate) use entry::{Entry, StudyState};
use experiments::Experiments;
pub(crate) use verify::Verification;
pub(crate) use watch::Watch;

use crate::EngineError;
use crate::clock::Clock;
use crate::compute::lock;
use crate::events::Events;
use crate::http::Problem;
use crate::store::{ConfigurationRow, Store, ask};
use entry::mean_of;
use foreglow_core::signals::Signals;
use foreglow_core::{Labels, MetricKey, Timestamp};
use foreglow_search::{
    Assignment, ChangeCost, Context, Measurement, SearchError, SearchSpace, StudySpec, Trial, Value, assignment_key,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Tenant and id.
type Key = (String, String);

/// All studies and recommendations of the server.
pub(crate) struct Tuner {
    store: Store,
    events: Arc<Events>,
    clock: Clock,
    /// Limits, loads and units of signals.
    pub(crate) signals: Signals,
    pub(crate) watch: Arc<Watch>,
    pub(crate) experiments: Experiments,
    studies: Mutex<BTreeMap<Key, Arc<Mutex<Entry>>>>,
    kept: Mutex<BTreeMap<Key, Kept>>,
    /// Held by decisions and by what verification writes, so that neither overwrites the other.
    deciding: Mutex<()>,
}

/// How a pending trial ends.
#[derive(Debug, Default)]
pub(crate) struct Completion {
    /// What was measured; `None`: what was reported before, else what the metrics showed.
    pub(crate) measurement: Option<Measurement>,
    /// Set when it could not be measured.
    pub(crate) failed: Option<String>,
    /// Set when it broke something.
    pub(crate) broke: Option<String>,
    /// The parameters that really ran.
    pub(crate) applied: Option<Assignment>,
    /// What surrounded it.
    pub(crate) context: BTreeMap<String, Value>,
}

impl Tuner {
    /// What the store holds.
    pub(crate) fn open(store: Store, events: Arc<Events>, clock: Clock, signals: Signals) -> Result<Self, EngineError> {
        let (studies, kept, entities) =
            store.wait(|c| Ok((ask::studies(c)?, ask::recommendations(c)?, ask::entities(c)?)))?;
        let watch = Arc::new(Watch::default());
        for (tenant, entity) in entities {
            let entity: Labels = serde_json::from_str(&entity)?;
            watch.entity(&tenant, &entity);
        }
        let mut all = BTreeMap::new();
        for (tenant, body) in studies {
            let e = Entry::from_json(&body)?;
            watch.metrics(&tenant, &e.entity(), e.kept_metrics());
            all.insert((tenant, e.id.clone()), Arc::new(Mutex::new(e)));
        }
        let mut recommendations = BTreeMap::new();
        for (tenant, body) in kept {
            let k: Kept = serde_json::from_str(&body)?;
            recommendations.insert((tenant, k.recommendation.id.clone()), k);
        }
        let experiments = Experiments::open(store.clone(), watch.clone())?;
        Ok(Self {
            store,
            events,
            clock,
            signals,
            watch,
            experiments,
            studies: Mutex::new(all),
            kept: Mutex::new(recommendations),
            deciding: Mutex::default(),
        })
    }

    fn entry(&self, tenant: &str, id: &str) -> Result<Arc<Mutex<Entry>>, Problem> {
        lock(&self.studies)
            .get(&(tenant.to_owned(), id.to_owned()))
            .cloned()
            .ok_or_else(|| Problem::not_found(format!("there is no study {id:?}")))
    }

    fn save(&self, tenant: &str, e: &Entry) -> Result<(), EngineError> {
        let (tenant, id, body) = (tenant.to_owned(), e.id.clone(), e.to_json()?);
        self.store.wait(move |c| ask::put_study(c, &tenant, &id, &body))
    }

    /// Opens a study; the same study again is the one that is there. The flag says whether it is new.
    ///
    /// # Errors
    /// 422 for a specification that does not hold, 409 when another study has the name.
    pub(crate) fn create(&self, tenant: &str, spec: StudySpec, now: Timestamp) -> Result<(Entry, bool), Problem> {
        let asked = spec.clone();
        let objective = MetricKey::new(&spec.objective.metric, Labels::from(spec.entity.clone()));
        // What `signals.toml` calls the objective's load is the workload of a study that names none.
        let workload = spec.workload.clone().or_else(|| self.signals.load_of(&objective).map(str::to_owned));
        let mut entry = Entry::new(tenant, StudySpec { workload, ..spec }.check()?, now);
        let key = (tenant.to_owned(), entry.id.clone());
        let there = lock(&self.studies).get(&key).cloned();
        if let Some(there) = there {
            let there = lock(&there).clone();
            if [entry.study.spec(), &asked].iter().any(|s| same_spec(there.study.spec(), s)) {
                return Ok((there, false));
            }
            let detail =
                format!("study {:?} exists with another specification: choose another name", entry.study.spec().name);
            return Err(Problem::conflict("study_exists", "exists", detail).at("/name"));
        }
        self.watch.metrics(tenant, &entry.entity(), entry.kept_metrics());
        self.begin_watching(tenant, &mut entry)?;
        self.save(tenant, &entry)?;
        lock(&self.studies).insert(key, Arc::new(Mutex::new(entry.clone())));
        Ok((entry, true))
    }

    /// All studies of a tenant, by id.
    pub(crate) fn list(&self, tenant: &str) -> Vec<Entry> {
        let all: Vec<Arc<Mutex<Entry>>> =
            lock(&self.studies).iter().filter(|(k, _)| k.0 == tenant).map(|(_, e)| e.clone()).collect();
        all.iter().map(|e| lock(e).clone()).collect()
    }

    /// A study with the trials that its metrics gave until now.
    pub(crate) fn get(&self, tenant: &str, id: &str) -> Result<Entry, Problem> {
        self.with(tenant, id, |_| Ok(()))
    }

    /// Changes a study after it learned what was measured, and writes it down.
    fn with(
        &self,
        tenant: &str,
        id: &str,
        change: impl FnOnce(&mut Entry) -> Result<(), Problem>,
    ) -> Result<Entry, Problem> {
        let entry = self.entry(tenant, id)?;
        let mut guard = lock(&entry);
        let mut e = guard.clone();
        self.absorb(tenant, &mut e)?;
        change(&mut e)?;
        triggers::rest(&mut e);
        if e.to_json()? != guard.to_json()? {
            e.advice = None;
            self.save(tenant, &e)?;
        }
        *guard = e.clone();
        Ok(e)
    }

    fn absorb(&self, tenant: &str, e: &mut Entry) -> Result<(), EngineError> {
        if e.state == StudyState::Stopped {
            return Ok(());
        }
        let gathered = self.gather(tenant, e, e.absorbed)?;
        if live_trials::absorb(e, &gathered)? {
            e.advice = None;
        }
        self.look_at_triggers(tenant, e, &gathered)
    }

    fn gather(&self, tenant: &str, e: &Entry, from: Option<Timestamp>) -> Result<live_trials::Gathered, EngineError> {
        let (tenant, e) = (tenant.to_owned(), e.clone());
        self.store.wait(move |c| live_trials::gather(c, &tenant, &e, from))
    }

    /// The pending trial of a client, or a new one for a trial in `context`.
    ///
    /// # Errors
    /// 409 inside a freeze, and where a careful study may not change anything now.
    pub(crate) fn suggest(
        &self,
        tenant: &str,
        id: &str,
        client: &str,
        context: Option<Context>,
    ) -> Result<Trial, Problem> {
        let mut trial = None;
        self.with(tenant, id, |e| {
            active(e)?;
            let mut next = e.study.clone();
            let made = next.suggest_in(client, context)?.clone();
            if next.trials().len() > e.study.trials().len() {
                self.may_run(tenant, e, &made.parameters)?;
            }
            e.study = next;
            trial = Some(made);
            Ok(())
        })?;
        trial.ok_or_else(|| EngineError::Stopped("a study").into())
    }

    /// Whether the entity may be made to run with these parameters now: outside every freeze, and in the modes that are
    /// careful after the cooldown and within the restarts of a day.
    fn may_run(&self, tenant: &str, e: &Entry, parameters: &Assignment) -> Result<(), Problem> {
        let now = self.clock.now();
        let held = |because: String| Problem::from(SearchError::HeldBack { because });
        if let Some(until) = self.frozen(tenant, e, now)? {
            return Err(held(format!("nothing is changed inside a freeze, which lasts until {until}")));
        }
        if !e.study.spec().mode.is_careful() {
            return Ok(());
        }
        let gathered = self.gather(tenant, e, None)?;
        let space = e.study.space();
        let runs = gathered.running().and_then(|c| space.canonical(&c.parameters).ok()).or_else(|| space.current());
        let Some(cost) = runs.and_then(|runs| cost_of(space, &runs, parameters)) else { return Ok(()) };
        e.study.may_change(now, cost, &gathered.changes_made(e), &[]).map_err(held)
    }

    /// Adds a measurement to a pending trial.
    pub(crate) fn report(&self, tenant: &str, id: &str, n: u64, m: Measurement) -> Result<Trial, Problem> {
        let e = self.with(tenant, id, |e| {
            active(e)?;
            let mut trial = e.study.clone();
            // Refused now rather than when the trial is completed.
            trial.tell(n, m.clone())?;
            e.reports.entry(n).or_default().push(m);
            Ok(())
        })?;
        Ok(e.study.trial(n)?.clone())
    }

    /// Ends a pending trial.
    pub(crate) fn complete(&self, tenant: &str, id: &str, n: u64, c: Completion) -> Result<Trial, Problem> {
        let e = self.with(tenant, id, |e| {
            active(e)?;
            let reported = mean_of(e.reports.get(&n).map_or(&[][..], Vec::as_slice));
            let given = c.measurement.or(reported);
            // The metrics may have ended it a moment before: what the client says counts more.
            if e.by_metrics.contains(&n) {
                if given.is_none() && c.failed.is_none() && c.broke.is_none() && c.applied.is_none() {
                    if !c.context.is_empty() {
                        e.study.set_context(n, c.context)?;
                    }
                    return Ok(());
                }
                e.study.reopen(n)?;
                e.by_metrics.remove(&n);
            }
            if let Some(reason) = &c.failed {
                e.study.fail(n, reason)?;
            } else if let Some(reason) = &c.broke {
                e.study.mark_unsafe(n, reason, given)?;
            } else {
                let measurement = match given {
                    Some(m) => m,
                    None => self.measured(tenant, e, n, c.applied.as_ref())?,
                };
                match &c.applied {
                    Some(applied) => e.study.tell_applied(n, applied, measurement)?,
                    None => e.study.tell(n, measurement)?,
                };
            }
            if !c.context.is_empty() {
                e.study.set_context(n, c.context)?;
            }
            e.reports.remove(&n);
            Ok(())
        })?;
        Ok(e.study.trial(n)?.clone())
    }

    /// What the metrics showed since the trial's configuration was posted.
    fn measured(
        &self,
        tenant: &str,
        e: &mut Entry,
        n: u64,
        applied: Option<&Assignment>,
    ) -> Result<Measurement, Problem> {
        let parameters = applied.unwrap_or(&e.study.trial(n)?.parameters).clone();
        let gathered = self.gather(tenant, e, None)?;
        let refuse = |why: String| {
            let detail = format!("trial {n} has no measurement: {why}; or send value, or failed with a reason");
            Problem::meaningless("nothing_measured", detail)
        };
        let running = gathered.running().filter(|c| {
            e.study.space().canonical(&c.parameters).is_ok_and(|p| assignment_key(&p) == assignment_key(&parameters))
        });
        let Some(running) = running else {
            return Err(refuse("its configuration does not run (POST /v1/configurations when it starts)".to_owned()));
        };
        let trial = gathered.cut_one(e, running.since, &running.parameters)?;
        if let Some(why) = live_trials::unusable(trial.as_ref()) {
            return Err(refuse(why));
        }
        // The same stretch must not come back as an observed trial.
        e.absorbed = e.absorbed.max(Some(running.since));
        trial.and_then(|t| t.measurement).ok_or_else(|| refuse("nothing was measured".to_owned()))
    }

    /// Ends a pending trial without a measurement, which says nothing of its configuration.
    pub(crate) fn stop_trial(&self, tenant: &str, id: &str, n: u64, reason: &str) -> Result<Trial, Problem> {
        let e = self.with(tenant, id, |e| {
            active(e)?;
            e.study.stop_trial(n, if reason.is_empty() { "stopped" } else { reason })?;
            e.reports.remove(&n);
            Ok(())
        })?;
        Ok(e.study.trial(n)?.clone())
    }

    /// Ends a study: it suggests and recommends nothing any more.
    pub(crate) fn stop(&self, tenant: &str, id: &str) -> Result<Entry, Problem> {
        self.with(tenant, id, |e| {
            e.state = StudyState::Stopped;
            Ok(())
        })
    }

    /// Writes down what an entity runs with; its metrics are kept from now on.
    pub(crate) fn configure(&self, tenant: &str, entity: &Labels, row: ConfigurationRow) -> Result<(), EngineError> {
        self.watch.entity(tenant, entity);
        let tenant = tenant.to_owned();
        self.store.wait(move |c| ask::add_configuration(c, &tenant, &row))
    }
}

/// What it costs to go from one configuration to another; `None` where they are the same.
fn cost_of(space: &SearchSpace, from: &Assignment, to: &Assignment) -> Option<ChangeCost> {
    space.changed(from, to).into_iter().map(|i| space.parameters()[i].spec().cost).max()
}

fn active(e: &Entry) -> Result<(), Problem> {
    match e.state {
        StudyState::Active => Ok(()),
        StudyState::Waiting => {
            let detail = format!("study {} waits for one of its triggers", e.id);
            Err(Problem::conflict("wrong_state", "waiting", detail))
        }
        StudyState::Stopped => Err(Problem::conflict("wrong_state", "stopped", format!("study {} is stopped", e.id))),
    }
}

/// Whether two specifications say the same; current values move on and do not count, nor does a budget that triggers
/// extend.
fn same_spec(a: &StudySpec, b: &StudySpec) -> bool {
    let plain = |s: &StudySpec| {
        let mut s = s.clone();
        for p in &mut s.parameters.0 {
            p.current = None;
        }
        if s.triggers.is_any() {
            s.budget = None;
        }
        s
    };
    plain(a) == plain(b)
}
