//! What a backtest found: figures as serde structs (`report.json`) and a page with plots (`report.html`).
//!
//! The page is one self-contained file: inline SVG and CSS, no script, no network, readable in light and dark. Everything
//! here is a pure function of its input; timings are the only figures that differ between equal runs.

mod alerts;
mod anomaly;
mod forecast;
mod page;
mod plot;
mod table;

pub use alerts::{Alert, Alerts};
pub use anomaly::{AnomalyReport, DetectorMeans, DetectorReport, SeriesDetection};
pub use forecast::{ForecastEntry, ForecastReport, ModelReport, SeriesMeasures};
pub use page::{anomaly_html, forecast_html};
pub use plot::{FanPlot, ScorePlot};

use super::Difference;
use serde::{Deserialize, Serialize};

/// How a row of a report is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// What is served: the subject of the report.
    Subject,
    /// One part of it, alone.
    Member,
    /// A yardstick.
    Baseline,
}

/// Which rows a model may see before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Fitted and calibrated on train rows, the score of t uses rows up to t, test rows are judged.
    Causal,
    /// As TSB-AD runs it: the whole range is scored and judged, members may look ahead.
    Tsb,
    /// Windows that count back from the last row, models fitted before the first cutoff.
    RollingOrigin,
    /// Stride 1 over the test range, z-scored by train.
    Ltsf,
}

/// Where the figures come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Name of the data set.
    pub data: String,
    /// Name of the recipe, or id of the artifact.
    pub model: String,
    /// What the models might see.
    pub protocol: Protocol,
    /// Seeds of the runs behind the figures.
    pub seeds: Vec<u64>,
    /// Version of the program.
    pub version: String,
    /// Settings worth reading beside the figures, in order (horizon, windows, season, budget, ...).
    pub settings: Vec<(String, String)>,
}

/// What the run cost.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Wall seconds of fitting and calibrating.
    pub fit_seconds: f64,
    /// Wall seconds of scoring or forecasting.
    pub score_seconds: f64,
    /// Highest resident memory of the process, bytes, where the system tells it.
    pub peak_memory_bytes: Option<u64>,
    /// Threads that were allowed.
    pub threads: usize,
}

/// The subject against one other row in one measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Name of the other row.
    pub against: String,
    /// The measure, as named in the report.
    pub measure: String,
    /// Subject minus other, with a paired bootstrap 95 % interval.
    pub difference: Difference,
}
