use crate::study::Turn;
use crate::{Assignment, SearchError, Value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a trial stands. A failure is a state, never a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrialState {
    /// Suggested, not yet measured.
    Pending,
    /// Measured.
    Completed,
    /// Could not be measured.
    Failed {
        /// What happened.
        reason: String,
    },
    /// Ran, but broke a guard-rail or had to be stopped.
    Unsafe {
        /// What happened.
        reason: String,
    },
}

/// Where a trial came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A designer proposed it, so the choice does not depend on what the system was doing.
    Suggested,
    /// Somebody ran it; it was watched.
    Observed,
}

/// Why a trial's measurement is kept out of models and promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// Fewer than 4 independent blocks.
    TooShort,
    /// Something else changed at the same time.
    TwoChanges,
    /// An incident overlapped it.
    Incident,
    /// The metric was missing over the stretch.
    NoData,
    /// Other measurements of the same configuration agree with one another and not with this one.
    Contradicted,
    /// It was ended for reasons that are not its own.
    Stopped,
}

/// A metric of a trial beside the objective.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MetricValue {
    /// The aggregated value.
    pub value: f64,
    /// Its standard error, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub se: Option<f64>,
}

/// What was measured in a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The objective's value, in its own unit and direction.
    pub value: f64,
    /// Its standard error, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub se: Option<f64>,
    /// How many independent blocks or repeats the value is the mean of. Default 1.
    #[serde(default = "one")]
    pub replicates: u32,
    /// Other metrics by name; guard-rails look here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, MetricValue>,
}

fn one() -> u32 {
    1
}

impl Measurement {
    /// A value without standard error, measured once.
    pub fn of(value: f64) -> Self {
        Self { value, se: None, replicates: 1, metrics: BTreeMap::new() }
    }

    /// With a standard error.
    pub fn with_se(self, se: f64) -> Self {
        Self { se: Some(se), ..self }
    }

    /// With another metric.
    pub fn with_metric(mut self, name: &str, value: f64) -> Self {
        self.metrics.insert(name.to_owned(), MetricValue { value, se: None });
        self
    }

    /// The value and standard error of `metric`; `objective` names the main one.
    pub fn metric(&self, metric: &str, objective: &str) -> Option<MetricValue> {
        if metric == objective {
            return Some(MetricValue { value: self.value, se: self.se });
        }
        self.metrics.get(metric).copied()
    }

    pub(crate) fn check(&self, objective: &str) -> Result<(), SearchError> {
        let named = std::iter::once((objective, self.value, self.se))
            .chain(self.metrics.iter().map(|(k, m)| (k.as_str(), m.value, m.se)));
        for (name, value, se) in named {
            let problem = if !value.is_finite() {
                format!("{value} is not a number: report the trial as failed instead")
            } else if value.abs() > 1e150 {
                format!("{value} is too large to compute with: report the trial as failed instead")
            } else if se.is_some_and(|s| !(s.is_finite() && s >= 0.0)) {
                "the standard error must be 0 or above: leave it out when it is not known".to_owned()
            } else {
                continue;
            };
            return Err(SearchError::Measurement { metric: name.to_owned(), problem });
        }
        if self.replicates == 0 {
            return Err(SearchError::Measurement {
                metric: objective.to_owned(),
                problem: "`replicates` is 0: a measurement has at least 1".to_owned(),
            });
        }
        Ok(())
    }
}

/// What a model expected of a configuration when it was suggested, in the objective's own unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Posterior mean.
    pub mean: f64,
    /// Posterior standard deviation, without measurement noise.
    pub sd: f64,
}

/// One configuration, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Its number in the study, from 0.
    pub id: u64,
    /// The configuration.
    pub parameters: Assignment,
    /// Where it stands.
    pub state: TrialState,
    /// What was measured, for completed trials and for unsafe ones that were measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measurement: Option<Measurement>,
    /// What surrounded it: workload, version, host.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, Value>,
    /// Where it came from.
    pub source: Source,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The trial that this one repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicate_of: Option<u64>,
    /// Its place among those that compare a recommendation with what runs, where it is one of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<Turn>,
    /// The probability with which it was drawn, from designers that draw among a few arms: what judging another policy on
    /// the same trials needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propensity: Option<f64>,
    /// Why it was suggested.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What was expected of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<Prediction>,
    /// Reasons to keep its measurement out of models and promises.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Mark>,
}

impl Trial {
    /// The measurement, when models may use it: measured (completed, or unsafe and measured) and without marks.
    pub fn usable(&self) -> Option<&Measurement> {
        match self.state {
            TrialState::Completed | TrialState::Unsafe { .. } if self.marks.is_empty() => self.measurement.as_ref(),
            _ => None,
        }
    }

    /// Whether it could not be measured, or broke something.
    pub fn went_wrong(&self) -> bool {
        matches!(self.state, TrialState::Failed { .. } | TrialState::Unsafe { .. }) && !self.was_stopped()
    }

    /// Whether it ended for reasons that are not its own, and so says nothing.
    pub fn was_stopped(&self) -> bool {
        self.marks.contains(&Mark::Stopped)
    }
}
