use super::quantiles::{normal_table, rms};
use crate::transform::{last_observed, value_seasons_back};
use foreglow_core::{Forecaster, History};
use ndarray::Array2;

/// How many seasons the spread is estimated from.
const SEASONS: usize = 20;

/// The value one season before, as M4 and GIFT-Eval define it: step `k` gets the value `season ⌈k/season⌉` steps before
/// it. Where that is missing the season before is asked, at last the newest value. A season of 1 is the last value.
///
/// Quantiles are normal with standard deviation `σ √⌈k/season⌉`, `σ` the root mean square of the seasonal changes of the
/// last 20 seasons (Hyndman and Athanasopoulos 2021, Forecasting: Principles and Practice, section 5.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeasonalNaive {
    /// Steps of a season, 1 or more.
    pub season: usize,
}

impl SeasonalNaive {
    /// The point forecast of `horizon` steps.
    pub fn points(&self, values: &[f64], horizon: usize) -> Vec<f64> {
        let newest = last_observed(values).map_or(0.0, |l| l.1);
        (1..=horizon).map(|k| value_seasons_back(values, self.season, k, 0).unwrap_or(newest)).collect()
    }
}

impl Forecaster for SeasonalNaive {
    fn name(&self) -> &'static str {
        "seasonal_naive"
    }

    fn context(&self) -> usize {
        (SEASONS + 1) * self.season.max(1) + 1
    }

    fn forecast(&self, history: &History<'_>, horizon: usize, levels: &[f64]) -> Array2<f64> {
        let values = &history.values[history.values.len().saturating_sub(self.context())..];
        let m = self.season;
        let points = self.points(values, horizon);
        // A history shorter than a season still has one-step changes.
        let lag = if values.len() > m { m } else { 1 };
        let sd = rms((lag..values.len()).map(|t| values[t] - values[t - lag]));
        normal_table(horizon, levels, |k| points[k], |k| sd * ((k + 1).div_ceil(m) as f64).sqrt())
    }
}
