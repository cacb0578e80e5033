use super::quantiles::{normal_table, rms};
use crate::transform::last_observed;
use foreglow_core::{Forecaster, History};
use ndarray::Array2;

/// How many past values the spread is estimated from.
const CONTEXT: usize = 1024;

/// The last value, for ever: the forecast of a random walk.
///
/// Quantiles are normal around it with standard deviation `σ √(k + g)` at step `k`, where `σ` is the root mean square of
/// the one-step changes of the last 1024 values and `g` counts the missing values at the end of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Naive;

impl Forecaster for Naive {
    fn name(&self) -> &'static str {
        "naive"
    }

    fn context(&self) -> usize {
        CONTEXT
    }

    fn forecast(&self, history: &History<'_>, horizon: usize, levels: &[f64]) -> Array2<f64> {
        let values = &history.values[history.values.len().saturating_sub(CONTEXT)..];
        let (at, centre) = last_observed(values).unwrap_or((0, 0.0));
        let gap = values.len().saturating_sub(at + 1);
        let sd = rms(values.windows(2).map(|w| w[1] - w[0]));
        normal_table(horizon, levels, |_| centre, |k| sd * ((k + 1 + gap) as f64).sqrt())
    }
}
