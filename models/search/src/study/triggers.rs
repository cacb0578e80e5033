use super::{Study, TrialBudget};
use crate::{SearchError, Value, stats};
use foreglow_core::{Step, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Values of the workload that a judgement of it needs.
const FEWEST: usize = 20;
/// Trials whose workload has to be known.
const FEWEST_TRIALS: usize = 4;

/// What opens a study, and resumes it when its trials are spent. Nothing by default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TriggerSpec {
    /// An incident in which the objective is worse than expected.
    pub degraded: bool,
    /// The forecast of the objective or of a guard-rail's metric crosses its limit.
    pub limit: bool,
    /// The workload leaves what the trials have seen by this share of it, such as 0.2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<f64>,
    /// So much time has passed since the last trigger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Step>,
    /// Trials that a trigger adds when the budget is spent. Default the budget itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trials: Option<usize>,
    /// Whether the study waits for the first trigger. Default it begins at once.
    pub wait: bool,
    /// The least time between two triggers. Default an hour.
    pub cooldown: Step,
}

impl Default for TriggerSpec {
    fn default() -> Self {
        Self {
            degraded: false,
            limit: false,
            workload: None,
            every: None,
            trials: None,
            wait: false,
            cooldown: Step::from_ms(3_600_000).expect("an hour is positive"),
        }
    }
}

/// What made somebody ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TriggerKind {
    /// The objective is worse than expected.
    ObjectiveDegraded,
    /// A limit is about to be reached.
    LimitNears,
    /// The workload is another one.
    WorkloadChanged,
    /// It was time.
    Schedule,
}

/// A trigger that went off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trigger {
    /// Which.
    pub kind: TriggerKind,
    /// When what it speaks of happened, in the time of the metrics.
    pub at: Timestamp,
    /// When it was noticed.
    pub noticed_at: Timestamp,
    /// In words.
    pub why: String,
}

impl fmt::Display for TriggerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ObjectiveDegraded => "objective_degraded",
            Self::LimitNears => "limit_nears",
            Self::WorkloadChanged => "workload_changed",
            Self::Schedule => "schedule",
        })
    }
}

impl TriggerSpec {
    /// Whether anything triggers.
    pub fn is_any(&self) -> bool {
        self.degraded || self.limit || self.workload.is_some() || self.every.is_some()
    }

    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn check(&self, workload: bool) -> Result<(), SearchError> {
        let bad = |problem: &str| Err(SearchError::Study { field: "triggers", problem: problem.to_owned() });
        match self.workload {
            Some(share) if !(share > 0.0 && share.is_finite()) => {
                return bad("`workload` is to be a share above 0, such as 0.2");
            }
            Some(_) if !workload => {
                return bad("`workload` needs the study's own `workload`: the metric that is the load");
            }
            _ => {}
        }
        if self.trials == Some(0) {
            return bad("`trials` is 0: a trigger would open nothing");
        }
        if self.wait && !self.is_any() {
            return bad("`wait` without a trigger would wait for ever");
        }
        Ok(())
    }
}

impl Study {
    /// Adds so many trials to what was searched so far; as many as the budget had when `trials` is `None`. Nothing happens
    /// while trials are left, or without a budget.
    pub fn extend(&mut self, trials: Option<usize>) {
        if let Some(b) = self.spec.budget.filter(|_| self.is_spent()) {
            self.spec.budget = Some(TrialBudget { trials: self.searched() + trials.unwrap_or(b.trials) });
        }
    }

    /// Whether the workload is one that the trials have not seen: in words, when the mean of `recent` lies outside of what
    /// trials had, by more than `share` of it.
    pub fn workload_changed(&self, recent: &[f64], share: f64) -> Option<String> {
        let recent: Vec<f64> = recent.iter().copied().filter(|v| v.is_finite()).collect();
        let load = |v: &Value| v.as_number().filter(|v| v.is_finite());
        let seen: Vec<f64> = self
            .trials
            .iter()
            .filter(|t| t.usable().is_some())
            .filter_map(|t| t.context.get("workload").and_then(load))
            .collect();
        if recent.len() < FEWEST || seen.len() < FEWEST_TRIALS {
            return None;
        }
        let now = stats::mean(&recent);
        let (low, high) = seen.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
        let (below, above) = (low - share * low.abs(), high + share * high.abs());
        (now < below || now > above)
            .then(|| format!("the workload is {now:.4}, and the trials have seen {low:.4} to {high:.4}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Goal, Measurement, Objective, ParameterSpec, SpaceSpec, StudySpec};

    fn study(triggers: TriggerSpec) -> Result<Study, SearchError> {
        let space = SpaceSpec(vec![ParameterSpec::int("workers", 1, 64).current(8)]);
        let objective = Objective { metric: "y".into(), aggregate: crate::Aggregate::Mean, goal: Goal::Min };
        let spec = StudySpec::new("s", space, objective);
        StudySpec { workload: Some("load".into()), budget: Some(TrialBudget { trials: 4 }), triggers, ..spec }.check()
    }

    #[test]
    fn a_spent_study_goes_on_and_remembers_its_load() {
        let mut s = study(TriggerSpec { workload: Some(0.2), ..TriggerSpec::default() }).unwrap();
        for load in [90.0, 100.0, 110.0, 100.0] {
            let id = s.ask().unwrap().id;
            s.tell(id, Measurement::of(load)).unwrap();
            assert_eq!(s.workload_changed(&[500.0; 20], 0.2), None, "too few trials");
            s.set_context(id, [("workload".to_owned(), load.into())].into()).unwrap();
        }
        assert!(s.ask().is_err());
        assert_eq!(s.workload_changed(&[130.0; 20], 0.2), None, "within a fifth of what was seen");
        assert_eq!(s.workload_changed(&[500.0; 19], 0.2), None, "too short");
        let why = s.workload_changed(&[133.0; 20], 0.2).unwrap();
        assert!(why.contains("133") && why.contains("110"), "{why}");
        s.extend(None);
        assert_eq!(s.spec().budget.map(|b| b.trials), Some(8));
        s.extend(Some(50));
        assert_eq!(s.spec().budget.map(|b| b.trials), Some(8), "trials are left");
        assert_eq!(s.ask().unwrap().id, 4);
    }

    #[test]
    fn mistakes_name_the_field() {
        let bad = |t: TriggerSpec| study(t).unwrap_err().to_string();
        assert!(bad(TriggerSpec { wait: true, ..TriggerSpec::default() }).contains("for ever"));
        assert!(bad(TriggerSpec { workload: Some(0.0), ..TriggerSpec::default() }).contains("triggers"));
        assert!(bad(TriggerSpec { trials: Some(0), degraded: true, ..TriggerSpec::default() }).contains("`trials`"));
        let read: TriggerSpec = serde_json::from_str(r#"{"degraded":true,"every":"1d","cooldown":"5m"}"#).unwrap();
        assert!(read.is_any() && read.cooldown.ms() == 300_000);
        assert_eq!(TriggerKind::LimitNears.to_string(), "limit_nears");
    }
}
