//! The vocabulary of foreglow: time, keys, batches, frames, scores, findings, forecasts, statistics.
//!
//! This crate imports none of ours and does no I/O: the clock is a value that is passed in, randomness is a
//! [`Seed`]. Everything here is deterministic: same input, same bytes.

mod batch;
mod counter;
mod error;
mod finding;
mod forecast;
mod frame;
mod key;
mod model;
mod score;
mod seed;
pub mod selector;
pub mod signals;
pub mod stats;
mod time;

pub use batch::{BatchSample, MetricBatch};
pub use counter::CounterRate;
pub use error::CoreError;
pub use finding::{Contribution, Finding, FindingKind, Incident, IncidentState};
pub use forecast::{Forecast, QUANTILE_LEVELS, SeriesForecast};
pub use frame::{Aggregation, Frame};
pub use key::{Labels, MetricKey};
pub use model::{Detector, Forecaster, History, RawScore, Row, Scope};
pub use score::{AlertLine, P_FLOOR};
pub use seed::Seed;
pub use selector::Selector;
pub use time::{DAY_MS, Step, TimeRange, Timestamp};
