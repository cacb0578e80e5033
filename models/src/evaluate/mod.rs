//! Everything that judges a model: measures of detection and forecasting, the baselines that stand beside every result,
//! paired comparisons, and the report that carries them.
//!
//! All functions are pure and take slices or arrays; the same input and seed give the same bytes. `NaN` in a score or
//! forecast counts against the model, it is never dropped silently: see each measure.

mod baselines;
mod compare;
mod detection;
mod forecast;
mod judge;
mod replay;
pub mod report;
mod rolling;

pub use baselines::{
    DetectionBaselines, PcaBaseline, detection_baselines, first_varying_column, median_distance_scores, random_scores,
};
pub use compare::{Difference, mean_present, paired_difference};
pub use detection::{
    BlameMeasures, Blamed, DEFAULT_VUS_WINDOW, EventMeasures, RankMeasures, auc_pr, auc_roc, blame_measures,
    event_measures, hit_rate, ndcg, rank_measures, segments, vus, vus_window,
};
pub use forecast::{
    CoverageRow, ForecastMeasures, ForecastTally, WindowInput, WindowMeasures, pinball, seasonal_error, smape,
    window_measures,
};
pub use judge::{BaselineRows, BlameTally, Said, Truth, judge, judge_baselines, judge_window};
pub use replay::{ReplaySeries, ReplayStatus, ReplaySummary, ReplayedRow, replay};
pub use rolling::{RollingPlan, RollingWindows, calendar_season, gift_windows, ltsf_windows};
