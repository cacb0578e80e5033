use crate::{MetricKey, Step, Timestamp};
use serde::{Deserialize, Serialize};

/// The quantile levels that every probabilistic forecast carries, in this order.
pub const QUANTILE_LEVELS: [f64; 13] = [0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99];

/// The forecast of one series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeriesForecast {
    /// Which series.
    pub key: MetricKey,
    /// The last known step.
    pub cutoff: Timestamp,
    /// Distance of the forecast steps.
    pub step: Step,
    /// Quantile levels, ascending.
    pub levels: Vec<f64>,
    /// One row a step ahead (the first is `cutoff + step`), one value a level, ascending within a row.
    pub quantiles: Vec<Vec<f64>>,
    /// Which model made it.
    pub model: String,
    /// What to know about it: `cold_start`, `constant`, `short_history`, `gaps`, ...
    pub flags: Vec<String>,
}

/// Forecasts of several series.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Forecast {
    /// One entry a series.
    pub series: Vec<SeriesForecast>,
}
