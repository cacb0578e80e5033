//! Statistics that models, search and reports share: pure functions of `f64` slices.
//!
//! **Missing values.** `NaN` means missing. Functions of one sample skip missing values; functions of pairs skip pairs
//! with a missing half; functions of a time series (autocorrelation, season) keep the time index and leave missing
//! points out of every product. Where nothing is left the answer is `NaN` (or `None`), never a panic.
//!
//! Sums run in index order, so the same input gives the same bytes.

mod boundary;
mod correlation;
mod distribution;
mod regression;
mod resample;
mod season;
mod summary;

pub use boundary::Boundary;
pub use correlation::{autocorrelation, correlation, integrated_autocorrelation_time};
pub use distribution::{beta_inc, normal_cdf, normal_quantile, normal_sf, student_t_cdf, student_t_quantile};
pub use regression::{Line, least_squares, theil_sen};
pub use resample::{Interval, MeanError, block_means, blocked_mean, bootstrap_mean, paired_bootstrap};
pub use season::{detect_season, detect_season_among, moving_average, season_skill};
pub use summary::{
    MAD_TO_SD, jain_index, log_sum_exp, mad, mean, median, quantile, quantile_sorted, std_dev, variance,
    weighted_quantile,
};
