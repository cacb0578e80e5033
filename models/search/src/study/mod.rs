//! A search in progress.

mod contradiction;
mod safety;
mod spec;
#[cfg(test)]
mod tests;
mod triggers;
mod turns;

pub(crate) use contradiction::to_settle;
pub use safety::{AppliedChange, Drift, SafetySpec};
pub use spec::{Kind, Mode, StudySpec, TrialBudget};
pub use triggers::{Trigger, TriggerKind, TriggerSpec};
pub use turns::Turn;

use crate::context::Context;
use crate::designers::{Ask, Proposal};
use crate::trial::{Mark, Measurement, Source, Trial, TrialState};
use crate::{Assignment, SearchError, SearchSpace, Value, assignment_key};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A search in progress: a checked specification and its trials.
///
/// The next suggestion is a pure function of the specification and the trials, so a study that is saved
/// ([`Study::to_json`]) and restored goes on exactly as the one that never stopped.
#[derive(Debug, Clone, PartialEq)]
pub struct Study {
    spec: StudySpec,
    space: SearchSpace,
    trials: Vec<Trial>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "version")]
enum Saved {
    #[serde(rename = "1")]
    V1 { spec: StudySpec, trials: Vec<Trial> },
}

impl Study {
    pub(crate) fn new(spec: StudySpec, space: SearchSpace) -> Self {
        Self { spec, space, trials: Vec::new() }
    }

    /// The specification.
    pub fn spec(&self) -> &StudySpec {
        &self.spec
    }

    /// The checked space.
    pub fn space(&self) -> &SearchSpace {
        &self.space
    }

    /// All trials, by number.
    pub fn trials(&self) -> &[Trial] {
        &self.trials
    }

    /// The trial of that number.
    pub fn trial(&self, id: u64) -> Result<&Trial, SearchError> {
        self.trials.get(id as usize).ok_or_else(|| SearchError::Trial {
            id,
            problem: format!("does not exist: the study has {} trials, counted from 0", self.trials.len()),
        })
    }

    /// How many trials were suggested so far.
    pub fn suggested(&self) -> usize {
        self.trials.iter().filter(|t| t.source == Source::Suggested).count()
    }

    /// The completed trial with the best value as measured. For reports only: under noise the best of many measured
    /// values promises too much, which is why recommendations use the posterior instead.
    pub fn best_measured(&self) -> Option<&Trial> {
        let sign = self.spec.objective.goal.sign();
        let value = |t: &&Trial| t.usable().map(|m| sign * m.value);
        self.trials
            .iter()
            .filter(|t| t.state == TrialState::Completed && t.usable().is_some())
            .min_by(|a, b| value(a).unwrap_or(f64::INFINITY).total_cmp(&value(b).unwrap_or(f64::INFINITY)))
    }

    /// What designers see; the coming trial's context is that of the newest trial that has one.
    pub fn view(&self) -> Ask<'_> {
        static NONE: Context = Context::new();
        self.view_in(self.trials.iter().rev().map(|t| &t.context).find(|c| !c.is_empty()).unwrap_or(&NONE))
    }

    /// What designers see when the coming trial's context is known.
    pub fn view_in<'a>(&'a self, context: &'a Context) -> Ask<'a> {
        Ask {
            space: &self.space,
            objective: &self.spec.objective,
            also: &self.spec.also,
            guard_rails: &self.spec.guard_rails,
            context,
            seed: self.spec.seed,
            careful: self.spec.mode.is_careful().then_some(self.spec.safety.confidence),
            remeasure_every: self.spec.remeasure_every.unwrap_or(safety::REMEASURE_EVERY),
            trials: &self.trials,
            budget: self.spec.budget.map(|b| b.trials),
        }
    }

    /// A new suggestion, pending until told. The first one is the current configuration when it is known and not yet
    /// measured, so that every later effect has something to be relative to.
    ///
    /// # Errors
    /// The budget is spent, the mode is `observe`, or the designer cannot work on this space.
    pub fn ask(&mut self) -> Result<&Trial, SearchError> {
        self.propose(None, None)
    }

    /// The same for a trial whose context (workload, version, host) is known; it is recorded with the trial.
    pub fn ask_in(&mut self, context: Context) -> Result<&Trial, SearchError> {
        self.propose(None, Some(context))
    }

    /// The pending trial of `client`, or a new one: asking twice without telling gives the same trial.
    pub fn suggest(&mut self, client: &str) -> Result<&Trial, SearchError> {
        self.suggest_in(client, None)
    }

    /// [`Study::suggest`] for a trial whose context is known.
    pub fn suggest_in(&mut self, client: &str, context: Option<Context>) -> Result<&Trial, SearchError> {
        let pending = |t: &Trial| t.state == TrialState::Pending && t.client.as_deref() == Some(client);
        match self.trials.iter().position(pending) {
            Some(i) => Ok(&self.trials[i]),
            None => self.propose(Some(client.to_owned()), context),
        }
    }

    fn propose(&mut self, client: Option<String>, context: Option<Context>) -> Result<&Trial, SearchError> {
        if self.spec.mode == Mode::Observe {
            return Err(SearchError::Study {
                field: "mode",
                problem: "is `observe`, which suggests nothing: use `recommend`".to_owned(),
            });
        }
        if let Some(because) = self.held_back() {
            return Err(SearchError::HeldBack { because });
        }
        let (turn, p) = if let Some(b) = self.spec.budget.filter(|_| self.is_spent()) {
            let (turn, parameters, why) = self.next_turn().ok_or(SearchError::Budget { trials: b.trials })?;
            (Some(turn), Proposal::plain(parameters, why))
        } else {
            let ask = context.as_ref().map_or_else(|| self.view(), |c| self.view_in(c));
            (None, ask.next(self.spec.designer)?)
        };
        let id = self.trials.len() as u64;
        self.trials.push(Trial {
            id,
            parameters: p.parameters,
            state: TrialState::Pending,
            measurement: None,
            context: context.unwrap_or_default(),
            source: Source::Suggested,
            client,
            replicate_of: p.replicate_of,
            turn,
            propensity: p.propensity,
            why: p.why,
            predicted: p.predicted,
            marks: Vec::new(),
        });
        Ok(&self.trials[id as usize])
    }

    fn pending(&mut self, id: u64) -> Result<&mut Trial, SearchError> {
        let state = self.trial(id)?.state.clone();
        if state != TrialState::Pending {
            let word = match state {
                TrialState::Failed { .. } => "failed",
                TrialState::Unsafe { .. } => "unsafe",
                _ => "completed",
            };
            return Err(SearchError::Trial { id, problem: format!("is already {word}: ask for a new one") });
        }
        Ok(&mut self.trials[id as usize])
    }

    /// Completes a pending trial. A measured guard-rail above its limit makes it [`TrialState::Unsafe`]; the
    /// measurement is kept.
    pub fn tell(&mut self, id: u64, measurement: Measurement) -> Result<&Trial, SearchError> {
        measurement.check(&self.spec.objective.metric)?;
        let state = self.state_of(&measurement);
        let trial = self.pending(id)?;
        trial.state = state;
        trial.measurement = Some(measurement);
        self.contradict(id);
        self.trial(id)
    }

    /// Completes a pending trial that ran with other parameters than suggested.
    pub fn tell_applied(
        &mut self,
        id: u64,
        applied: &Assignment,
        measurement: Measurement,
    ) -> Result<&Trial, SearchError> {
        measurement.check(&self.spec.objective.metric)?;
        let applied = self.space.canonical(applied)?;
        let trial = self.pending(id)?;
        if assignment_key(&applied) != assignment_key(&trial.parameters) {
            trial.parameters = applied;
            trial.predicted = None;
        }
        self.tell(id, measurement)
    }

    /// Ends a pending trial that could not be measured.
    pub fn fail(&mut self, id: u64, reason: &str) -> Result<&Trial, SearchError> {
        self.pending(id)?.state = TrialState::Failed { reason: reason.to_owned() };
        self.trial(id)
    }

    /// Ends a pending trial that broke something, with what was measured until then.
    pub fn mark_unsafe(
        &mut self,
        id: u64,
        reason: &str,
        measurement: Option<Measurement>,
    ) -> Result<&Trial, SearchError> {
        if let Some(m) = &measurement {
            m.check(&self.spec.objective.metric)?;
        }
        let trial = self.pending(id)?;
        trial.state = TrialState::Unsafe { reason: reason.to_owned() };
        trial.measurement = measurement;
        self.trial(id)
    }

    /// Ends a pending trial for reasons that are not its own: nobody waits for it, and it teaches nothing.
    ///
    /// # Errors
    /// [`SearchError::Trial`] where it is not pending.
    pub fn stop_trial(&mut self, id: u64, reason: &str) -> Result<&Trial, SearchError> {
        let trial = self.pending(id)?;
        trial.state = TrialState::Failed { reason: reason.to_owned() };
        trial.marks = vec![Mark::Stopped];
        self.trial(id)
    }

    /// Makes a completed suggestion pending again, without what was measured: somebody knows better.
    ///
    /// # Errors
    /// [`SearchError::Trial`] where there is no such trial, or it was not completed.
    pub fn reopen(&mut self, id: u64) -> Result<&Trial, SearchError> {
        let bad = |problem: &str| SearchError::Trial { id, problem: problem.to_owned() };
        let trial = self.trials.get_mut(id as usize).ok_or_else(|| bad("does not exist"))?;
        if trial.source != Source::Suggested || trial.measurement.is_none() {
            return Err(bad("has no measurement of a suggestion to replace"));
        }
        trial.state = TrialState::Pending;
        trial.measurement = None;
        trial.marks.clear();
        self.trial(id)
    }

    /// Adds what somebody else ran and what broke something, with what was measured until then.
    pub fn add_unsafe(
        &mut self,
        parameters: &Assignment,
        measurement: Option<Measurement>,
        reason: &str,
    ) -> Result<&Trial, SearchError> {
        let id = self.add(parameters, measurement, BTreeMap::new(), Vec::new())?.id;
        self.trials[id as usize].state = TrialState::Unsafe { reason: reason.to_owned() };
        self.trial(id)
    }

    /// Adds what somebody else ran: measured, or failed when there is no measurement.
    pub fn add(
        &mut self,
        parameters: &Assignment,
        measurement: Option<Measurement>,
        context: BTreeMap<String, Value>,
        marks: Vec<Mark>,
    ) -> Result<&Trial, SearchError> {
        let parameters = self.space.canonical(parameters)?;
        let state = match &measurement {
            Some(m) => {
                m.check(&self.spec.objective.metric)?;
                self.state_of(m)
            }
            None => TrialState::Failed { reason: "nothing was measured".to_owned() },
        };
        let id = self.trials.len() as u64;
        self.trials.push(Trial {
            id,
            parameters,
            state,
            measurement,
            context,
            source: Source::Observed,
            client: None,
            replicate_of: None,
            turn: None,
            propensity: None,
            why: String::new(),
            predicted: None,
            marks,
        });
        self.contradict(id);
        Ok(&self.trials[id as usize])
    }

    /// Records what surrounded a trial (workload, version, host).
    pub fn set_context(&mut self, id: u64, context: BTreeMap<String, Value>) -> Result<(), SearchError> {
        self.trial(id)?;
        self.trials[id as usize].context = context;
        Ok(())
    }

    /// Says what runs now; `max_step`, baselines and recommendations count from it.
    pub fn set_current(&mut self, current: &Assignment) -> Result<(), SearchError> {
        self.space = self.space.with_current(current)?;
        self.spec.parameters = self.space.clone().into();
        Ok(())
    }

    /// The mean of a guard metric (or the objective) over usable trials of the current configuration.
    pub fn baseline(&self, metric: &str) -> Option<f64> {
        self.view().baseline(metric)
    }

    fn state_of(&self, m: &Measurement) -> TrialState {
        let ask = self.view();
        match ask.broken(m, &ask.limits()) {
            Some((g, value, limit)) => TrialState::Unsafe {
                reason: format!("{} was {value}, the limit is {limit}: {}", g.metric, g.describe()),
            },
            None => TrialState::Completed,
        }
    }

    /// The whole study as JSON, version 1.
    pub fn to_json(&self) -> Result<String, SearchError> {
        let saved = Saved::V1 { spec: self.spec.clone(), trials: self.trials.clone() };
        serde_json::to_string(&saved).map_err(|e| SearchError::Snapshot { problem: e.to_string() })
    }

    /// A study saved by [`Study::to_json`], checked again from the beginning.
    pub fn from_json(text: &str) -> Result<Self, SearchError> {
        let bad = |problem: String| SearchError::Snapshot { problem };
        let Saved::V1 { spec, trials } = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        Self::restore(spec, trials)
    }

    /// A study that goes on from `trials`, for callers that keep them one by one (a journal): the next suggestion is the
    /// one that the study would have made had it never stopped.
    ///
    /// # Errors
    /// As [`StudySpec::check`]; [`SearchError::Snapshot`] for trials that are not numbered from 0, and the error of the
    /// first trial whose parameters or measurement do not fit the specification.
    pub fn restore(spec: StudySpec, trials: Vec<Trial>) -> Result<Self, SearchError> {
        let bad = |problem: String| SearchError::Snapshot { problem };
        let mut study = spec.check()?;
        for (i, t) in trials.iter().enumerate() {
            if t.id != i as u64 {
                return Err(bad(format!("trial {} stands at place {i}: trials must be numbered from 0", t.id)));
            }
            if let Some(m) = &t.measurement {
                m.check(&study.spec.objective.metric)?;
            }
            study.space.canonical(&t.parameters)?;
        }
        study.trials = trials;
        // Kept one by one, a trial does not know what later ones said of it.
        study.contradict_all();
        Ok(study)
    }
}
