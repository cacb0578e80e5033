//! What happened, for `--summary`. Everything is as measured; what did not happen is null or empty.

use foreglow_core::Timestamp;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// One whole demo.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Summary {
    /// Seed of the swarm's arrivals and of fit and search.
    pub(crate) seed: u64,
    /// From start to end.
    pub(crate) seconds: f64,
    /// The normal stretch and the fit.
    pub(crate) learned: Learned,
    /// The labelled faults, in order.
    pub(crate) faults: Vec<FaultOutcome>,
    /// Incidents that no fault explains.
    pub(crate) false_alarms: usize,
    /// What they were.
    pub(crate) false_incidents: Vec<IncidentSummary>,
    /// How long the server watched.
    pub(crate) watched_seconds: f64,
    /// What was forecast and what came.
    pub(crate) forecast: Option<ForecastOutcome>,
    /// The search and its effect.
    pub(crate) tuning: Option<TuningOutcome>,
    /// Answers of the server to one tick (98 values), milliseconds.
    pub(crate) score_ms: Quantiles,
    /// Points the server refused.
    pub(crate) refused: usize,
    /// Whether every part was reached.
    pub(crate) complete: bool,
}

/// What the artifact was made of.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Learned {
    /// Rows a group.
    pub(crate) ticks: usize,
    /// Groups.
    pub(crate) groups: usize,
    /// Signals over all groups.
    pub(crate) series: usize,
    /// Wall time of the fit.
    pub(crate) fit_seconds: f64,
    /// The artifacts, `name/id`.
    pub(crate) artifacts: Vec<String>,
    /// From `put` to the first step that they score.
    pub(crate) loaded_after_seconds: Option<f64>,
}

/// An incident in short.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct IncidentSummary {
    /// The group.
    pub(crate) group: String,
    /// When it opened.
    pub(crate) opened_at: Timestamp,
    /// When it was over.
    pub(crate) resolved_at: Option<Timestamp>,
    /// Its highest score; 1 is the alert line.
    pub(crate) peak_score: f64,
    /// What it looks like.
    pub(crate) kind: String,
    /// Signals by share.
    pub(crate) contributors: Vec<ContributorSummary>,
}

/// One signal's part in an incident.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ContributorSummary {
    /// The metric.
    pub(crate) metric: String,
    /// 0 to 1.
    pub(crate) share: f64,
    /// What was measured at the peak.
    pub(crate) actual: Option<f64>,
    /// What was expected.
    pub(crate) expected: Option<f64>,
}

/// One injected fault and whether it was found.
#[derive(Debug, Serialize)]
pub(crate) struct FaultOutcome {
    /// What went wrong.
    pub(crate) kind: String,
    /// Where; null for the whole swarm.
    pub(crate) agent: Option<String>,
    /// When it began.
    pub(crate) start: Timestamp,
    /// When it ended.
    pub(crate) end: Timestamp,
    /// Whether an incident opened while it lasted (or within the aftermath).
    pub(crate) found: bool,
    /// From its beginning to the first incident.
    pub(crate) delay_seconds: Option<f64>,
    /// The incidents, in the order in which they opened.
    pub(crate) incidents: Vec<IncidentSummary>,
}

/// A forecast beside what came.
#[derive(Debug, Serialize)]
pub(crate) struct ForecastOutcome {
    /// The metric.
    pub(crate) metric: String,
    /// Steps ahead.
    pub(crate) horizon: usize,
    /// Steps within the band of 80 %.
    pub(crate) inside_80: usize,
    /// Mean absolute error of the median.
    pub(crate) mean_error: f64,
    /// The same of "as it was a day ago".
    pub(crate) seasonal_naive_error: f64,
}

/// Figures of one configuration over whole days.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Level {
    /// Tasks that succeeded, a second.
    pub(crate) throughput_per_s: f64,
    /// 95th percentile of latency, mean over ticks, milliseconds.
    pub(crate) p95_ms: f64,
    /// Failed attempts out of all.
    pub(crate) error_ratio: f64,
}

/// A relative effect with its intervals; -0.3 is 30 % less.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct EffectSummary {
    /// The middle.
    pub(crate) mean: f64,
    /// 80 % interval.
    pub(crate) i80: [f64; 2],
    /// 95 % interval.
    pub(crate) i95: [f64; 2],
}

/// The search.
#[derive(Debug, Serialize)]
pub(crate) struct TuningOutcome {
    /// Configurations tried, the first one not counted.
    pub(crate) trials: usize,
    /// With the parameters that the swarm started with.
    pub(crate) before: Level,
    /// With those it ends with; null when nothing was recommended.
    pub(crate) after: Option<Level>,
    /// Name, from, to.
    pub(crate) change: Vec<Value>,
    /// Why there is no recommendation, where there is none.
    pub(crate) none_because: Option<String>,
    /// The parameters the swarm ends with.
    pub(crate) parameters: BTreeMap<String, Value>,
    /// The effect on p95 that the server promised.
    pub(crate) predicted: Option<EffectSummary>,
    /// The effect that was measured.
    pub(crate) measured: Option<EffectSummary>,
    /// What the server itself says about the change after it was applied.
    pub(crate) status: Option<String>,
}

/// Quantiles of a time.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Quantiles {
    /// Median.
    pub(crate) p50: f64,
    /// 95th percentile.
    pub(crate) p95: f64,
    /// Largest.
    pub(crate) max: f64,
}
