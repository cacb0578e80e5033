//! Mode `auto`: the next change of a study that may change things by itself, made through a hook that the operator owns.

use super::advice::before_change;
use super::verify::Verdict;
use super::{Decision, Entry, Kept, StudyState, Tuner};
use crate::EngineError;
use crate::compute::lock;
use crate::config::labels_json;
use crate::http::Problem;
use crate::store::ConfigurationRow;
use foreglow_core::Timestamp;
use foreglow_search::recommend::{Change, Status};
use foreglow_search::{Assignment, Mode, Trial, TrialState};
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

impl Tuner {
    /// The next change of every study that may make one now; the studies that could not be asked are logged.
    pub(crate) fn next_steps(&self) -> Vec<Step> {
        let all: Vec<_> = lock(&self.studies).iter().map(|(k, e)| (k.clone(), e.clone())).collect();
        let auto = all.into_iter().filter(|(_, e)| lock(e).study.spec().mode == Mode::Auto);
        let asked = auto.filter_map(|((tenant, id), _)| match self.next_step(&tenant, &id) {
            Ok(step) => step,
            Err(p) => {
                tracing::error!(study = id, code = p.code(), "the next change of a study was not found");
                None
            }
        });
        asked.collect()
    }

    /// The next change of a study, or none now: something is being measured, nothing is known to be better, or it is held
    /// back. One change at a time; what broke its promise is undone first, and at once.
    fn next_step(&self, tenant: &str, id: &str) -> Result<Option<Step>, Problem> {
        let now = self.clock.now();
        let e = self.get(tenant, id)?;
        let (kept, _) = self.recommendations(tenant, Some(id), now)?;
        let Some(current) = e.study.space().current() else { return Ok(None) };
        let gathered = self.gather(tenant, &e, None)?;
        let running = gathered.running().and_then(|c| e.study.space().canonical(&c.parameters).ok());
        let runs = running.unwrap_or_else(|| current.clone());
        let step =
            |purpose, id: String, to: &Assignment, why: String| Some(step(tenant, &e, purpose, id, &runs, to, why));

        let back = |why: &str| step(Purpose::Rollback, "current".to_owned(), &current, why.to_owned());
        if e.state == StudyState::Stopped {
            // What it tried does not stay; nothing else is changed any more.
            let tried = e.made.iter().any(|n| e.study.trial(*n).is_ok_and(|t| t.parameters == runs));
            return Ok((tried && runs != current).then(|| back("the study was stopped")).flatten());
        }
        let pending = mine(&e);
        let at = |k: &Kept| k.history.iter().rev().find(|p| p.status == Status::Applied).map(|p| p.at);
        let newest = kept.iter().filter(|k| at(k).is_some()).max_by_key(|k| at(k));
        let applied = |k: &&Kept| k.applied.as_ref().unwrap_or(&k.recommendation.parameters) == &runs;
        let broke = newest.filter(|k| k.recommendation.status == Status::RollBack && pending.is_none());
        if let Some(k) = broke.filter(applied) {
            let why = k.verification.as_ref().map_or_else(String::new, |v| v.reason.clone());
            return Ok(step(Purpose::Rollback, k.recommendation.id.clone(), &before_change(&k.recommendation), why));
        }
        let frozen = self.frozen(tenant, &e, now)?.is_some();
        if let Some(t) = pending {
            if t.parameters != runs && e.made.contains(&t.id) {
                // Somebody took it back: that is not undone.
                self.stop_trial(tenant, id, t.id, "something else was made to run while it was measured")?;
                return Ok(None);
            }
            if t.parameters != runs {
                let again = || step(Purpose::Trial, t.id.to_string(), &t.parameters, t.why.clone());
                return Ok((!frozen).then(again).flatten());
            }
            // Its stretch is over and was no measurement: an incident, or another change.
            if gathered.running().is_some_and(|c| e.absorbed >= Some(c.since)) {
                self.stop_trial(tenant, id, t.id, "something else happened while it was measured")?;
            }
            return Ok(None);
        }
        let last = e.study.trials().iter().rev().find(|t| t.parameters == runs);
        if let Some(TrialState::Unsafe { reason }) = last.map(|t| &t.state)
            && runs != current
        {
            return Ok(back(reason));
        }
        let measuring = |k: &Kept| {
            let undecided = k.verification.as_ref().is_none_or(|v| v.verdict == Verdict::Measuring);
            k.recommendation.status == Status::Applied && undecided
        };
        if kept.iter().any(measuring) {
            return Ok(None);
        }
        let wanted = |k: &&Kept| matches!(k.recommendation.status, Status::Proposed | Status::Accepted);
        let advised = kept.iter().find(wanted);
        let tries = e.state == StudyState::Active && (!e.study.is_spent() || e.study.is_confirming());
        if let Some(k) = advised.filter(|_| !tries || e.study.spec().budget.is_none()) {
            let r = &k.recommendation;
            if self.may_run(tenant, &e, &r.parameters).is_err() {
                return Ok(None);
            }
            let why = r.effect.first().map_or_else(String::new, |f| format!("{} {}", f.metric, f.relative));
            return Ok(step(Purpose::Recommendation, r.id.clone(), &r.parameters, why));
        }
        if tries {
            return match self.suggest(tenant, id, CLIENT, None) {
                Ok(t) if t.parameters != runs => Ok(step(Purpose::Trial, t.id.to_string(), &t.parameters, t.why)),
                // What runs is to be measured once more: that takes no change, but a beginning.
                Ok(t) => {
                    if let Some(s) = step(Purpose::Trial, t.id.to_string(), &t.parameters, t.why) {
                        self.made(&s, now)?;
                    }
                    Ok(None)
                }
                Err(p) if ["held_back", "wrong_state", "budget_spent"].contains(&p.code()) => Ok(None),
                Err(p) => Err(p),
            };
        }
        let over = || back("its trials are over, and nothing better is known");
        Ok((runs != current && !frozen).then(over).flatten())
    }

    /// The hook made the change: it runs since `at`.
    pub(crate) fn made(&self, s: &Step, at: Timestamp) -> Result<(), Problem> {
        if s.purpose == Purpose::Recommendation {
            let by = Some(CLIENT.to_owned());
            let d = Decision { status: Status::Applied, at, by, parameters: s.parameters.clone() };
            self.decide(&s.tenant, &s.id, d)?;
        } else {
            let entry = self.entry(&s.tenant, &s.study_id)?;
            let e = lock(&entry).clone();
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

/// The trial that is under way in this mode.
fn mine(e: &Entry) -> Option<&Trial> {
    e.study.trials().iter().find(|t| t.state == TrialState::Pending && t.client.as_deref() == Some(CLIENT))
}

fn step(
    tenant: &str,
    e: &Entry,
    purpose: Purpose,
    id: String,
    runs: &Assignment,
    to: &Assignment,
    why: String,
) -> Step {
    let space = e.study.space();
    let change = |i: usize| {
        let name = space.parameters()[i].name();
        Change { name: name.to_owned(), from: runs.get(name).cloned(), to: to.get(name).cloned() }
    };
    Step {
        tenant: tenant.to_owned(),
        study: e.study.spec().name.clone(),
        study_id: e.id.clone(),
        entity: e.study.spec().entity.clone(),
        purpose,
        id,
        parameters: to.clone(),
        change: space.changed(runs, to).into_iter().map(change).collect(),
        why,
    }
}
