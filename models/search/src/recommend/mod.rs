//! What to change, what to expect of it, how sure that is, and how to undo it; or why nothing is recommended.
//!
//! A recommendation never quotes the best value seen: under noise that is the luckiest one. It quotes the posterior
//! difference between candidate and current configuration, in which what is unknown about both cancels.

mod advise;
mod confirm;
mod importance;
mod judge;
mod partial;

pub use advise::AdviceOptions;
pub use confirm::{
    ConfirmVerdict, Confirmation, FEWEST_ROUNDS, MOST_ROUNDS, Round, RoundFailure, Runs, recommended_first,
    rounds_at_most, rounds_needed,
};
pub use partial::{Curve, CurvePoint, PartialEffect};

use crate::{Assignment, ChangeCost, Kind, SearchError, Value};
use foreglow_core::Timestamp;
use serde::{Deserialize, Serialize};

/// Effects below this are not worth a change.
const SMALLEST_EFFECT: f64 = 0.005;

/// One parameter's change; `None` where the parameter is not active on that side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The parameter.
    pub name: String,
    /// Its value now.
    pub from: Option<Value>,
    /// Its recommended value.
    pub to: Option<Value>,
}

/// A relative change with intervals: 0.1 is 10 % more.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Relative {
    /// The posterior mean.
    pub mean: f64,
    /// The 80 % interval.
    pub i80: [f64; 2],
    /// The 95 % interval.
    pub i95: [f64; 2],
}

impl Relative {
    /// Whether the 80 % interval holds 0.
    pub fn may_be_none(&self) -> bool {
        self.i80[0] <= 0.0 && self.i80[1] >= 0.0
    }
}

impl std::fmt::Display for Relative {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [mean, low, high] = [self.mean, self.i80[0], self.i80[1]].map(|v| 100.0 * v);
        write!(f, "{mean:+.1} % with an 80 % interval from {low:+.1} % to {high:+.1} %")
    }
}

/// What is expected of one metric, relative to the current configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricEffect {
    /// The metric.
    pub metric: String,
    /// The change.
    pub relative: Relative,
}

/// How likely a guard-rail breaks under the recommended configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BreakRisk {
    /// The guard-rail's metric.
    pub metric: String,
    /// The limit as a number.
    pub limit: f64,
    /// The probability.
    pub probability: f64,
}

/// The measured trial closest to the recommended configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Nearest {
    /// Its number.
    pub trial: u64,
    /// Root mean squared distance over parameters in unit ranges: 0 means that very configuration was measured.
    pub distance: f64,
    /// Its configuration.
    pub parameters: Assignment,
}

/// How the trials behind a recommendation came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// A designer chose them all: differences are effects.
    Randomised,
    /// Some were chosen, some only watched.
    Mixed,
    /// All were only watched: something else may have caused the differences.
    Observational,
}

/// What a recommendation rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Usable trials.
    pub trials: usize,
    /// Independent blocks or repeats in all of them.
    pub replicates: u32,
    /// The closest measured configuration.
    pub nearest: Nearest,
    /// How the trials came about.
    pub basis: Basis,
    /// Different contexts (workloads, environments) among them.
    #[serde(default)]
    pub contexts: usize,
    /// Whether the promise is unchecked: it rests on observation alone and nothing was tried on purpose, or it was to be
    /// measured in turn with the current configuration and was not.
    #[serde(default)]
    pub unverified: bool,
}

/// How much a parameter matters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Driver {
    /// The parameter.
    pub name: String,
    /// Total-effect Sobol index of the posterior mean over the space: the share of its variance that goes with this
    /// parameter, interactions included.
    pub importance: f64,
    /// For a changed parameter: the expected relative change of the objective when only this one stays as it is,
    /// compared with the whole recommendation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without: Option<f64>,
}

/// How careful to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RiskLevel {
    /// Nothing speaks against it.
    Low,
    /// Something does.
    Medium,
    /// Several things do, or one that weighs.
    High,
}

/// How careful to be, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Risk {
    /// The level.
    pub level: RiskLevel,
    /// The reasons, in words.
    pub reasons: Vec<String>,
    /// What the reasons weigh together: 0 is a low risk, 1 and 2 a medium one.
    #[serde(default)]
    pub weight: u32,
}

/// How to find out whether it kept its promise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerifyPlan {
    /// The method: blocks of 5 autocorrelation times before against after.
    pub method: String,
    /// The metric to compare.
    pub metric: String,
    /// Blocks needed on each side to tell the expected effect from none (5 % two-sided, 80 % power), 4 to 200.
    pub blocks: usize,
    /// The relative change that keeps the promise: the 80 % interval.
    pub expect: [f64; 2],
    /// Stop and roll back when one of these breaks.
    pub stop_when_broken: Vec<String>,
}

/// Where a recommendation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waiting for a decision.
    #[default]
    Proposed,
    /// Somebody wants it.
    Accepted,
    /// Somebody does not want it.
    Rejected,
    /// It runs; its effect is being measured.
    Applied,
    /// Measured: it kept its promise.
    Kept,
    /// Measured: undo it.
    RollBack,
    /// Nobody decided in time.
    Expired,
}

/// A change worth making, with everything needed to decide on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recommendation {
    /// Hash of what is said, without `status`, `trigger`, `confirmation` and `expires`: the same trials give the same id.
    pub id: String,
    /// The study's name.
    pub study: String,
    /// Whether the thing itself is configured, or work is allocated.
    #[serde(default)]
    pub kind: Kind,
    /// Where it stands.
    pub status: Status,
    /// What made somebody ask.
    pub trigger: String,
    /// What to change, as little as possible.
    pub change: Vec<Change>,
    /// The whole configuration that results.
    pub parameters: Assignment,
    /// What to expect: the objective first, then guard-rails that can be modelled.
    pub effect: Vec<MetricEffect>,
    /// How likely each guard-rail breaks.
    pub p_break: Vec<BreakRisk>,
    /// What it rests on.
    pub evidence: Evidence,
    /// What matters, most important first.
    pub drivers: Vec<Driver>,
    /// How careful to be.
    pub risk: Risk,
    /// What the change takes: the dearest of its parts.
    pub cost: ChangeCost,
    /// How to check it.
    pub verify: VerifyPlan,
    /// How to undo it.
    pub rollback: Vec<Change>,
    /// What measuring it in turn with the current configuration gave, where somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmation: Option<Confirmation>,
    /// When it stops being valid, when the caller gave a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// A recommendation, or the reason why there is none; in JSON the recommendation itself or `{"none_because":".."}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Advice {
    /// Change something.
    Change(Box<Recommendation>),
    /// Leave everything as it is.
    None {
        /// Why.
        none_because: String,
    },
}

impl From<Result<Recommendation, String>> for Advice {
    fn from(found: Result<Recommendation, String>) -> Self {
        match found {
            Ok(r) => Self::Change(Box::new(r)),
            Err(none_because) => Self::None { none_because },
        }
    }
}

impl Recommendation {
    /// Moves on to `next`.
    ///
    /// # Errors
    /// The step is not one of proposed -> accepted, rejected, applied or expired; accepted -> applied, rejected or
    /// expired; applied -> kept or roll back.
    pub fn advance(&mut self, next: Status) -> Result<(), SearchError> {
        use Status::{Accepted, Applied, Expired, Kept, Proposed, Rejected, RollBack};
        let fine = matches!(
            (self.status, next),
            (Proposed, Accepted | Rejected | Applied | Expired)
                | (Accepted, Applied | Rejected | Expired)
                | (Applied, Kept | RollBack)
        );
        if !fine {
            return Err(SearchError::Study {
                field: "status",
                problem: format!("recommendation {} is {:?} and cannot become {next:?}", self.id, self.status),
            });
        }
        self.status = next;
        Ok(())
    }
}
