use foreglow_core::{Finding, Incident, Labels, MetricKey, Step, Timestamp};
use serde::{Deserialize, Serialize};

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// Closed and scored.
    Scored,
    /// Still open: its score comes with the request that closes it.
    Pending,
    /// Closed and learnt from; there is too little history for a score that counts.
    WarmingUp,
    /// Closed before; the recorded score is given again and nothing is learnt.
    Duplicate,
    /// Scored inside a suppressed range: no alert, no incident.
    Suppressed,
    /// Closed without a single value, or noticed as silence.
    Missing,
}

impl StepStatus {
    /// The name in replies and files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scored => "scored",
            Self::Pending => "pending",
            Self::WarmingUp => "warming_up",
            Self::Duplicate => "duplicate",
            Self::Suppressed => "suppressed",
            Self::Missing => "missing",
        }
    }
}

/// One signal of a step. NaN stands for missing or not said.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalScore {
    /// The signal within its group.
    pub key: MetricKey,
    /// The value (of a counter: its rate a second).
    pub actual: f64,
    /// What was expected.
    pub expected: f64,
    /// Lower end of the expected band.
    pub lower: f64,
    /// Upper end of the expected band.
    pub upper: f64,
    /// The signal's own score; 1 is the alert line.
    pub score: f64,
    /// Its share of the group's score, 0..1.
    pub share: f64,
}

/// One step of one group. NaN stands for no opinion.
#[derive(Debug, Clone, PartialEq)]
pub struct StepResult {
    /// The group's id.
    pub group: String,
    /// The step's instant on the group's grid; of a step that waits for the grid to be found, the sample's own.
    pub timestamp: Timestamp,
    /// What became of it.
    pub status: StepStatus,
    /// `ln p / ln p_alert`; 1 is the alert line.
    pub score: f64,
    /// `-log10 p`.
    pub surprise: f64,
    /// Calibrated tail probability, at least 1e-300.
    pub p_value: f64,
    /// Scored at or above the alert line.
    pub is_anomaly: bool,
    /// Scores of the members, in the order of the pipeline's `member_names`; empty for duplicates and open steps.
    pub members: Vec<f64>,
    /// The signals; empty for duplicates and open steps.
    pub signals: Vec<SignalScore>,
    /// Whether the group was unknown at fit time and is served by the shared parts.
    pub inherited: bool,
    /// When warm-up will be over, while it lasts.
    pub ready_at: Option<Timestamp>,
}

impl StepResult {
    /// A step without an opinion.
    pub(super) fn silent(group: &str, timestamp: Timestamp, status: StepStatus, inherited: bool) -> Self {
        Self {
            group: group.to_owned(),
            timestamp,
            status,
            score: f64::NAN,
            surprise: f64::NAN,
            p_value: f64::NAN,
            is_anomaly: false,
            members: Vec::new(),
            signals: Vec::new(),
            inherited,
            ready_at: None,
        }
    }
}

/// A sample that could not be taken. The rest of its batch is scored all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The sample's `index` in the batch.
    pub index: u32,
    /// A stable code, see [`super::refusal`].
    pub code: &'static str,
    /// What is wrong, with the value, and what to do.
    pub detail: String,
}

/// What happened to an incident.
#[derive(Debug, Clone, PartialEq)]
pub enum IncidentEvent {
    /// It began.
    Opened(Incident),
    /// Another step above the line.
    Updated(Incident),
    /// It is over.
    Resolved(Incident),
}

impl IncidentEvent {
    /// The incident as it stands after the event.
    pub fn incident(&self) -> &Incident {
        match self {
            Self::Opened(i) | Self::Updated(i) | Self::Resolved(i) => i,
        }
    }
}

/// What a monitor says about a batch.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observation {
    /// Steps: groups in the order of their first sample, steps of a group in the order of time.
    pub results: Vec<StepResult>,
    /// Samples that were taken, duplicates included.
    pub accepted: usize,
    /// Samples that were not.
    pub refused: Vec<Refusal>,
    /// Incidents that opened, went on or resolved.
    pub incidents: Vec<IncidentEvent>,
    /// Stretches above the line that got a step in this batch, as they stand at its end; a later one with the same group
    /// and start replaces it.
    pub findings: Vec<Finding>,
}

/// A group as the monitor knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupInfo {
    /// Its id.
    pub id: String,
    /// Its labels.
    pub labels: Labels,
    /// Its signals, in the order of columns.
    pub signals: Vec<MetricKey>,
    /// Its step; `None` while it is being found.
    pub step: Option<Step>,
    /// The newest closed step.
    pub newest: Option<Timestamp>,
    /// When warm-up will be over, while it lasts.
    pub ready_at: Option<Timestamp>,
    /// What became of the newest closed step; `Pending` before the first, `Missing` while the group is silent.
    pub status: StepStatus,
    /// Score of the newest closed step, NaN = none.
    pub score: f64,
    /// Whether the group was unknown at fit time.
    pub inherited: bool,
    /// Id of the open incident.
    pub incident: Option<String>,
}

/// The past of one signal.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalHistory {
    /// Values, oldest first, NaN = missing.
    pub values: Vec<f64>,
    /// The instant of the last value.
    pub last: Timestamp,
    /// The distance of values.
    pub step: Step,
}
