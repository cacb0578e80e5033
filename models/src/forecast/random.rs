use super::quantiles::finite;
use foreglow_core::stats::quantile_sorted;
use foreglow_core::{Forecaster, History, Seed};
use ndarray::Array2;
use rand::Rng;

/// How many past values it draws from.
const CONTEXT: usize = 1024;

/// A past value, drawn anew for each step: the row of chance that every accuracy table has.
///
/// The median is a uniform draw from the last 1024 values that are there; the other quantiles are those of these values,
/// moved out of the median's way. Draws follow from the seed, the instant of the last value and the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RandomDraw {
    /// Where draws come from.
    pub seed: Seed,
}

impl Forecaster for RandomDraw {
    fn name(&self) -> &'static str {
        "random"
    }

    fn context(&self) -> usize {
        CONTEXT
    }

    fn forecast(&self, history: &History<'_>, horizon: usize, levels: &[f64]) -> Array2<f64> {
        let recent = &history.values[history.values.len().saturating_sub(CONTEXT)..];
        let mut sorted: Vec<f64> = recent.iter().copied().filter(|v| v.is_finite()).collect();
        if sorted.is_empty() {
            return Array2::zeros((horizon, levels.len()));
        }
        sorted.sort_unstable_by(f64::total_cmp);
        let known: Vec<f64> = levels.iter().map(|l| finite(quantile_sorted(&sorted, *l))).collect();
        let mut rng = self.seed.nth(history.last.ms() as u64).rng();
        let draws: Vec<f64> = (0..horizon).map(|_| sorted[rng.gen_range(0..sorted.len())]).collect();
        Array2::from_shape_fn((horizon, levels.len()), |(k, l)| {
            let (v, q) = (draws[k], known[l]);
            if levels[l] < 0.5 {
                q.min(v)
            } else if levels[l] > 0.5 {
                q.max(v)
            } else {
                v
            }
        })
    }
}
