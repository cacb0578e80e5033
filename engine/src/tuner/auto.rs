//! Mode `auto`: the next change of a study that may change things by itself, made through a hook that the operator owns.

use super::advice::before_change;
use super::live_trials::Gathered;
use super::verify::ALPHA;
use super::{Completion, Decision, Entry, Kept, StudyState, Tuner};
use crate::EngineError;
use crate::compute::lock;
use crate::config::labels_json;
use crate::http::Problem;
use crate::store::ConfigurationRow;
use foreglow_core::{Labels, Timestamp};
use foreglow_search::cut::MOST_BLOCKS;
use foreglow_search::experiment::{BlockMean, GuardMean, guard_broken};
use foreglow_search::recommend::{Change, Status};
use foreglow_search::{Assignment, Measurement, Mode, Trial, TrialState};
use serde::Serialize;
use std::collections::BTreeMap;

/// Who asks for trials, and decides, in this mode.
const CLIENT: &str = "auto";

/// What a change is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    /// A configuration is measured.
    Trial,
    /// A recommendation is applied.
    Recommendation,
    /// What broke its promise, or something else, is undone.
    Rollback,
}

/// One change that the hook is asked to make: the body that is posted to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Step {
    pub(crate) tenant: String,
    /// The study's name.
    pub(crate) study: String,
    pub(crate) study_id: String,
    /// What is changed, as labels.
    pub(crate) entity: BTreeMap<String, String>,
    pub(crate) purpose: Purpose,
    /// The trial's number or the recommendation's id. The same step may be asked for twice: after an answer that was lost.
    pub(crate) id: String,
    /// The whole configuration that is to run.
    pub(crate) parameters: Assignment,
    /// How it differs from what runs.
    pub(crate) change: Vec<Change>,
    pub(crate) why: String,
}

/// A study in this mode as it stands.
struct Flight {
    tenant: String,
    /// The clock before its metrics were read: what came since then is not missed.
    now: Timestamp,
    e: Entry,
    kept: Vec<Kept>,
    gathered: Gathered,
    /// What it counts from.
    current: Assignment,
    /// What runs.
    runs: Assignment,
    frozen: bool,
}

impl Tuner {
    /// The next change of every study that may make one now; the studies that could not be asked are logged. Of the studies
    /// of one entity only one changes something at a time.
    pub(crate) fn next_steps(&self) -> Vec<Step> {
        let all: Vec<_> = lock(&self.studies).iter().map(|(k, e)| (k.clone(), e.clone())).collect();
        let auto = all.into_iter().filter(|(_, e)| lock(e).study.spec().mode == Mode::Auto);
        let flights: Vec<Flight> =
            auto.filter_map(|((tenant, id), _)| told(&id, self.look(&tenant, &id)).flatten()).collect();
        let mut owners: BTreeMap<(String, Labels), String> = BTreeMap::new();
        for f in flights.iter().filter(|f| f.under_way()) {
            owners.entry(f.place()).or_insert_with(|| f.e.id.clone());
        }
        let mut out = Vec::new();
        for f in &flights {
            let free = owners.get(&f.place()).is_none_or(|id| *id == f.e.id);
            let Some(step) = told(&f.e.id, self.next_step(f, free)).flatten() else { continue };
            owners.entry(f.place()).or_insert_with(|| f.e.id.clone());
            if step.change.is_empty() {
                // What runs is to be measured once more: that takes no change, but a beginning.
                told(&f.e.id, self.made(&step));
            } else {
                out.push(step);
            }
        }
        out
    }

    fn look(&self, tenant: &str, id: &str) -> Result<Option<Flight>, Problem> {
        let now = self.clock.now();
        let e = self.get(tenant, id)?;
        let (kept, _) = self.recommendations(tenant, Some(id), now)?;
        let Some(current) = e.study.space().current() else { return Ok(None) };
        let gathered = self.gather(tenant, &e, None)?;
        let running = gathered.running().and_then(|c| e.study.space().canonical(&c.parameters).ok());
        let runs = running.unwrap_or_else(|| current.clone());
        let frozen = self.frozen(tenant, &e, now)?.is_some();
        Ok(Some(Flight { tenant: tenant.to_owned(), now, e, kept, gathered, current, runs, frozen }))
    }

    /// The next change of a study, or none now: something is being measured, nothing is known to be better, or it is held
    /// back. What broke something is undone first, and at once; `free` says whether anything else may be begun.
    fn next_step(&self, f: &Flight, free: bool) -> Result<Option<Step>, Problem> {
        if f.e.state == StudyState::Stopped {
            // What it tried does not stay; nothing else is changed any more.
            return Ok(if f.tried() { f.back("the study was stopped") } else { None });
        }
        if let Some(t) = f.trial() {
            return self.go_on(f, t);
        }
        if let Some(undone) = f.undo() {
            return Ok(Some(undone));
        }
        if !free || f.measures() {
            return Ok(None);
        }
        self.begin(f)
    }

    /// What a trial that is under way needs.
    fn go_on(&self, f: &Flight, t: &Trial) -> Result<Option<Step>, Problem> {
        let id = &f.e.id;
        if t.parameters != f.runs {
            if f.e.made.contains(&t.id) {
                // Somebody took it back: that is not undone.
                self.stop_trial(&f.tenant, id, t.id, "something else was made to run while it was measured")?;
                return Ok(None);
            }
            let again = f.step(Purpose::Trial, t.id.to_string(), &t.parameters, &t.why);
            return Ok((!f.frozen).then_some(again));
        }
        let Some(since) = f.gathered.running().map(|c| c.since) else { return Ok(None) };
        if f.e.absorbed >= Some(since) {
            // Its stretch is over and was no measurement: an incident, or another change.
            self.stop_trial(&f.tenant, id, t.id, "something else happened while it was measured")?;
            return Ok(None);
        }
        let partial = f.gathered.cut_one(&f.e, since, &t.parameters)?.and_then(|c| c.measurement);
        let broke = partial.as_ref().and_then(|m| broken(&f.e, m));
        if let Some(reason) = broke.or_else(|| f.gathered.silent(&f.e.study.spec().objective.metric, since, f.now)) {
            let end = Completion { measurement: partial, broke: Some(reason), ..Completion::default() };
            self.complete(&f.tenant, id, t.id, end)?;
            // The same stretch must not come back as an observed trial.
            self.with(&f.tenant, id, |e| {
                e.absorbed = e.absorbed.max(Some(since));
                Ok(())
            })?;
        }
        Ok(None)
    }

    /// Something new: a trial, a recommendation once the trials are over, or the way back where there is none.
    fn begin(&self, f: &Flight) -> Result<Option<Step>, Problem> {
        let study = &f.e.study;
        let wanted = |k: &&Kept| matches!(k.recommendation.status, Status::Proposed | Status::Accepted);
        let advised = f.kept.iter().find(wanted);
        let tries = f.tries();
        if let Some(k) = advised.filter(|_| !tries || study.spec().budget.is_none()) {
            let r = &k.recommendation;
            if self.may_run(&f.tenant, &f.e, &r.parameters).is_err() {
                return Ok(None);
            }
            let why = r.effect.first().map_or_else(String::new, |f| format!("{} {}", f.metric, f.relative));
            return Ok(Some(f.step(Purpose::Recommendation, r.id.clone(), &r.parameters, &why)));
        }
        if !tries {
            let back = f.back("its trials are over, and nothing better is known");
            return Ok(back.filter(|_| !f.frozen));
        }
        match self.suggest(&f.tenant, &f.e.id, CLIENT, None) {
            Ok(t) => Ok(Some(f.step(Purpose::Trial, t.id.to_string(), &t.parameters, &t.why))),
            Err(p) if ["held_back", "wrong_state", "budget_spent"].contains(&p.code()) => Ok(None),
            Err(p) => Err(p),
        }
    }

    /// The hook made the change: it runs since now, or, where the sender's clock is ahead of this one, since the newest value:
    /// what was measured before the change is not measured of it.
    pub(crate) fn made(&self, s: &Step) -> Result<(), Problem> {
        let entry = self.entry(&s.tenant, &s.study_id)?;
        let e = lock(&entry).clone();
        let newest = self.gather(&s.tenant, &e, None)?.until();
        let at = newest.map_or(Timestamp(i64::MIN), |t| t.plus(1)).max(self.clock.now());
        if s.purpose == Purpose::Recommendation {
            let by = Some(CLIENT.to_owned());
            let d = Decision { status: Status::Applied, at, by, parameters: s.parameters.clone() };
            self.decide(&s.tenant, &s.id, d)?;
        } else {
            let purpose = if s.purpose == Purpose::Trial { "trial" } else { "rollback of" };
            self.runs_with(&s.tenant, &e, &s.parameters, at, format!("{purpose} {}", s.id))?;
        }
        if let (Purpose::Trial, Ok(n)) = (s.purpose, s.id.parse()) {
            self.with(&s.tenant, &s.study_id, |e| {
                e.made.insert(n);
                Ok(())
            })?;
        }
        if s.purpose == Purpose::Rollback {
            self.with(&s.tenant, &s.study_id, |e| Ok(e.study.set_current(&s.parameters)?))?;
        }
        let body = serde_json::to_string(s).map_err(EngineError::from)?;
        self.events.send(&s.tenant.as_str().into(), "auto", body);
        Ok(())
    }

    fn runs_with(
        &self,
        tenant: &str,
        e: &Entry,
        parameters: &Assignment,
        since: Timestamp,
        reference: String,
    ) -> Result<(), EngineError> {
        let row = ConfigurationRow {
            entity: labels_json(&e.entity()),
            since,
            parameters: serde_json::to_string(parameters)?,
            reference: Some(reference),
        };
        self.configure(tenant, &e.entity(), row)
    }
}

impl Flight {
    fn place(&self) -> (String, Labels) {
        (self.tenant.clone(), self.e.entity())
    }

    /// The trial that is under way in this mode.
    fn trial(&self) -> Option<&Trial> {
        let mine = |t: &&Trial| t.state == TrialState::Pending && t.client.as_deref() == Some(CLIENT);
        self.e.study.trials().iter().find(mine)
    }

    /// Whether the effect of a recommendation is still being measured.
    fn measures(&self) -> bool {
        self.kept.iter().any(Kept::is_measured)
    }

    /// Whether what runs is one of its trials.
    fn tried(&self) -> bool {
        self.e.made.iter().any(|n| self.e.study.trial(*n).is_ok_and(|t| t.parameters == self.runs))
    }

    /// Whether it has trials left.
    fn tries(&self) -> bool {
        let study = &self.e.study;
        self.e.state == StudyState::Active && (!study.is_spent() || study.is_confirming())
    }

    /// Whether other studies of its entity have to wait. Once it has begun they wait until it is done, also while it waits
    /// itself: in between they would change what its next trials run with, and those would not be comparable.
    fn under_way(&self) -> bool {
        let busy = self.trial().is_some() || self.measures();
        let begun = !self.e.made.is_empty() && self.e.study.held_back().is_none();
        let left = self.tries() && self.e.study.spec().budget.is_some();
        self.e.state != StudyState::Stopped && (busy || begun && (left || self.tried() && self.runs != self.current))
    }

    /// The way back from the newest recommendation where it broke its promise, or from a trial that was unsafe.
    fn undo(&self) -> Option<Step> {
        let at = |k: &Kept| k.history.iter().rev().find(|p| p.status == Status::Applied).map(|p| p.at);
        let newest = self.kept.iter().filter(|k| at(k).is_some()).max_by_key(|k| at(k));
        let runs = |k: &&Kept| k.applied.as_ref().unwrap_or(&k.recommendation.parameters) == &self.runs;
        if let Some(k) = newest.filter(|k| k.recommendation.status == Status::RollBack).filter(runs) {
            let why = k.verification.as_ref().map_or("", |v| v.reason.as_str());
            let before = before_change(&k.recommendation);
            return Some(self.step(Purpose::Rollback, k.recommendation.id.clone(), &before, why));
        }
        let last = self.e.study.trials().iter().rev().find(|t| t.parameters == self.runs)?;
        match &last.state {
            TrialState::Unsafe { reason } => self.back(reason),
            _ => None,
        }
    }

    /// Back to what it counts from, where something else runs.
    fn back(&self, why: &str) -> Option<Step> {
        let step = || self.step(Purpose::Rollback, "current".to_owned(), &self.current, why);
        (self.runs != self.current).then(step)
    }

    fn step(&self, purpose: Purpose, id: String, to: &Assignment, why: &str) -> Step {
        let space = self.e.study.space();
        let change = |i: usize| {
            let name = space.parameters()[i].name();
            Change { name: name.to_owned(), from: self.runs.get(name).cloned(), to: to.get(name).cloned() }
        };
        Step {
            tenant: self.tenant.clone(),
            study: self.e.study.spec().name.clone(),
            study_id: self.e.id.clone(),
            entity: self.e.study.spec().entity.clone(),
            purpose,
            id,
            parameters: to.clone(),
            change: space.changed(&self.runs, to).into_iter().map(change).collect(),
            why: why.to_owned(),
        }
    }
}

/// The guard-rail that a part of a trial has broken already, at all looks together.
fn broken(e: &Entry, m: &Measurement) -> Option<String> {
    let spec = e.study.spec();
    let blocks = m.replicates as usize;
    spec.guard_rails.iter().find_map(|g| {
        let (bound, sign) = g.limit();
        let (limit, v) = (bound.resolve(e.study.baseline(&g.metric))?, m.metric(&g.metric, &spec.objective.metric)?);
        let after = BlockMean { mean: v.value, se: v.se?, blocks };
        guard_broken(&GuardMean { metric: g.metric.clone(), after, limit, sign }, ALPHA, MOST_BLOCKS)
    })
}

fn told<T>(id: &str, asked: Result<T, Problem>) -> Option<T> {
    let told = |p: &Problem| tracing::error!(study = id, code = p.code(), "the next change of a study was not found");
    asked.inspect_err(told).ok()
}
