//! Forecasters: from the last value to a global net, one closed list with one dispatch.
//!
//! Local models (naive, seasonal naive and median, theta, damped Holt-Winters, ridge on lags and by distance ahead, random) hold parameters
//! only and estimate from the history they are given; the LSTM is fitted once over many series. Two put them together:
//! `auto_local` takes the best of the cheap ones at rolling origins of the history, in a few milliseconds; the ensemble
//! weighs all of them and the LSTM, series by series, with what was learned over all series at fitting, and costs tens of
//! times as much unless its plan is kept. Every forecast is a table of quantiles, ascending, finite for any input, and
//! depends on its history alone.

mod adaptive;
mod auto_local;
mod calibrate;
mod combine;
mod company;
mod ensemble;
mod fitted;
mod holt;
mod judge;
mod judgement;
mod known;
mod local;
mod lstm;
mod naive;
mod past;
mod plan;
mod quantiles;
mod random;
mod ridge_direct;
mod ridge_lags;
mod season;
mod seasonal_naive;
mod seasonality;
mod series;
mod spec;
mod stack;
mod theta;
mod weights;

pub use adaptive::Adaptive;
pub use auto_local::AutoLocal;
pub use ensemble::Ensemble;
pub use fitted::{FittedForecaster, ForecasterFit, fit, fit_from};
pub use local::{LocalForecaster, LocalKind};
pub use lstm::LstmForecaster;
pub use naive::Naive;
pub use plan::Plan;
pub use quantiles::at_levels;
pub use random::RandomDraw;
pub use ridge_lags::RidgeLags;
pub use seasonal_naive::SeasonalNaive;
pub use series::TrainSeries;
pub use spec::{AutoLocalParams, EnsembleParams, ForecasterSpec, RidgeLagsParams};

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
