use crate::{MetricKey, Timestamp};
use serde::{Deserialize, Serialize};

/// What an anomaly looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// Briefly above the expected band.
    Spike,
    /// Briefly below the expected band.
    Dip,
    /// A new level that stays.
    LevelShift,
    /// The same level, another spread.
    Variance,
    /// Values that should be there and are not.
    Missing,
    /// A new level of one part of a group, while the same metric of its other parts, two at least, is as expected.
    Peer,
    /// A combination of values, each of which is usual.
    Shape,
}

/// How much one signal has to do with a score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contribution {
    /// The signal.
    pub key: MetricKey,
    /// Its share of the explanation, 0..1; shares of a group sum to 1.
    pub share: f64,
    /// The value that was seen, NaN (null) if missing.
    pub actual: Option<f64>,
    /// The value that was expected.
    pub expected: Option<f64>,
}

/// One stretch of one group above the alert line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The group.
    pub group: String,
    /// First step above the line.
    pub start: Timestamp,
    /// Last step above the line so far.
    pub end: Timestamp,
    /// The highest score in the stretch.
    pub peak_score: f64,
    /// When that was.
    pub peak_at: Timestamp,
    /// What it looks like.
    pub kind: FindingKind,
    /// Signals by share, at the peak, largest first, at most 10.
    pub contributors: Vec<Contribution>,
}

/// Where an incident stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentState {
    /// Going on.
    Open,
    /// Over.
    Resolved,
}

/// Findings that belong together and carry one alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Stable id: group and time of opening, hashed.
    pub id: String,
    /// Open or resolved.
    pub state: IncidentState,
    /// The step at which it opened.
    pub opened_at: Timestamp,
    /// The step at which it was resolved.
    pub resolved_at: Option<Timestamp>,
    /// What it consists of.
    pub finding: Finding,
}
