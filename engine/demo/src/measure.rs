//! Figures of one configuration, and the difference between two, with intervals that do not pretend to know more than the
//! ticks tell.

use crate::player::series;
use crate::summary::{EffectSummary, Level};
use foreglow_core::stats::{integrated_autocorrelation_time, mean, student_t_quantile};
use foreglow_lab::Tick;
use std::sync::Arc;

/// The means over `ticks`.
pub(crate) fn level(ticks: &[Arc<Tick>]) -> Level {
    let of = |name| mean(&series(ticks, name));
    Level { throughput_per_s: of("throughput_per_s"), p95_ms: of("latency_p95_ms"), error_ratio: of("error_ratio") }
}

/// A mean over whole days, its squared standard error, and the independent values behind it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DayMean {
    /// The mean.
    pub(crate) mean: f64,
    /// Variance of the mean.
    pub(crate) variance: f64,
    /// Independent values, at least 1.
    pub(crate) independent: f64,
}

/// The mean of `values`, which cover whole days of `day` steps.
///
/// The day's shape is no uncertainty of a mean over whole days. It is taken out with its first harmonic (a straight mean a
/// step would fit the noise as well, with days so few), and what is left is correlated: `n` values count as `n / tau`.
pub(crate) fn day_mean(values: &[f64], day: usize) -> DayMean {
    let known: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    let n = known.len() as f64;
    let centre = mean(&known);
    let angle = |i: usize| std::f64::consts::TAU * i as f64 / day.max(1) as f64;
    let wave = |f: fn(f64) -> f64| {
        values
            .iter()
            .enumerate()
            .filter(|(_, v)| v.is_finite())
            .map(|(i, v)| 2.0 * (v - centre) * f(angle(i)))
            .sum::<f64>()
            / n
    };
    let (sine, cosine) = (wave(f64::sin), wave(f64::cos));
    let rest: Vec<f64> =
        values.iter().enumerate().map(|(i, v)| v - centre - sine * angle(i).sin() - cosine * angle(i).cos()).collect();
    let squares: f64 = rest.iter().filter(|r| r.is_finite()).map(|r| r * r).sum();
    let independent = (n / integrated_autocorrelation_time(&rest)).max(1.0);
    DayMean { mean: centre, variance: squares / (n - 3.0).max(1.0) / independent, independent }
}

/// The relative effect `after / before - 1` on a mean, with t intervals by the delta method.
pub(crate) fn effect(before: &[f64], after: &[f64], day: usize) -> EffectSummary {
    let (b, a) = (day_mean(before, day), day_mean(after, day));
    let ratio = a.mean / b.mean;
    let sd = ratio.abs() * (a.variance / a.mean.powi(2) + b.variance / b.mean.powi(2)).sqrt();
    let freedom = (a.independent + b.independent - 2.0).max(1.0);
    let interval = |level: f64| {
        let t = student_t_quantile(0.5 + level / 2.0, freedom);
        [ratio - 1.0 - t * sd, ratio - 1.0 + t * sd]
    };
    EffectSummary { mean: ratio - 1.0, i80: interval(0.8), i95: interval(0.95) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreglow_core::Seed;
    use foreglow_core::stats::normal_quantile;

    /// `n` ticks of a day's wave around `level`, with noise of standard deviation 3.
    fn wave(level: f64, n: usize, seed: u64) -> Vec<f64> {
        let noise = Seed(seed);
        (0..n)
            .map(|i| {
                let u = (noise.nth(i as u64).0 >> 11) as f64 / (1u64 << 53) as f64;
                level
                    + 10.0 * (std::f64::consts::TAU * i as f64 / 24.0).sin()
                    + 3.0 * normal_quantile(u.clamp(1e-9, 1.0 - 1e-9))
            })
            .collect()
    }

    #[test]
    fn the_days_shape_is_no_uncertainty() {
        let m = day_mean(&wave(40.0, 48, 1), 24);
        assert!((m.mean - 40.0).abs() < 2.0, "{m:?}");
        // 9 / 48 for independent noise; the wave alone would give 50 / 48.
        assert!(m.variance > 0.08 && m.variance < 0.6, "{m:?}");
    }

    #[test]
    fn the_interval_holds_the_truth_and_knows_no_effect() {
        let held = |truth: f64| {
            (0..200u64)
                .filter(|s| {
                    let e = effect(&wave(40.0, 48, 2 * s), &wave(40.0 * (1.0 + truth), 48, 2 * s + 1), 24);
                    e.i95[0] <= truth && truth <= e.i95[1] && e.i80[0] >= e.i95[0] && e.i80[1] <= e.i95[1]
                })
                .count()
        };
        assert!(held(-0.3) >= 180 && held(0.0) >= 180, "{} {}", held(-0.3), held(0.0));
    }

    #[test]
    fn nothing_measured_is_no_number() {
        let e = effect(&[f64::NAN; 24], &[1.0; 24], 24);
        assert!(e.mean.is_nan() && e.i95[0].is_nan());
        assert_eq!(serde_json::to_value(e).unwrap()["mean"], serde_json::Value::Null);
    }
}
