//! Forecasters: from the last value to a global net, one closed list with one dispatch.
//!
//! Local models (naive, seasonal naive, ridge on lags, random, automatic choice) hold parameters only and estimate from
//! the history they are given; global ones (the LSTM) are fitted once over many series. Every forecast is a table of
//! quantiles, ascending, finite for any input, and depends on its history alone.

mod auto_local;
mod fitted;
mod lstm;
mod naive;
mod quantiles;
mod random;
mod ridge_lags;
mod seasonal_naive;
mod series;
mod spec;

pub use auto_local::AutoLocal;
pub use fitted::{FittedForecaster, ForecasterFit, fit, fit_from};
pub use lstm::LstmForecaster;
pub use naive::Naive;
pub use quantiles::at_levels;
pub use random::RandomDraw;
pub use ridge_lags::RidgeLags;
pub use seasonal_naive::SeasonalNaive;
pub use series::TrainSeries;
pub use spec::{AutoLocalParams, ForecasterSpec, RidgeLagsParams};

#[cfg(test)]
mod tests;
