//! Measures of anomaly detection: threshold-free ranking measures, events at the alert line, blamed metrics.

mod blame;
mod events;
mod ranking;
mod vus;

pub use blame::{BlameMeasures, Blamed, blame_measures, hit_rate, ndcg};
pub use events::{EventMeasures, event_measures, segments};
pub use ranking::{RankMeasures, auc_pr, auc_roc, rank_measures};
pub use vus::{DEFAULT_VUS_WINDOW, vus, vus_window};
