//! The generalised Pareto tail past a threshold.

use argmin::core::{CostFunction, Error, Executor, State};
use argmin::solver::brent::BrentOpt;
use foreglow_core::stats::median;

/// Heaviest tail that is believed: at 1 the mean excess is infinite.
const HEAVIEST: f64 = 1.0;
/// Scale and shape of the excesses over a threshold, shape at least the lightest that was allowed (0 = exponential) and at most 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pareto {
    pub(super) scale: f64,
    pub(super) shape: f64,
}

struct Profile<'a> {
    excesses: &'a [f64],
    /// A typical excess: the mean of a heavy tail is not one.
    unit: f64,
}

impl Profile<'_> {
    /// For `theta = shape / scale` the best shape is the mean of `ln(1 + theta y)`.
    fn shape(&self, theta: f64) -> f64 {
        let sum: f64 = self.excesses.iter().map(|y| libm::log1p(theta * y)).sum();
        sum / self.excesses.len() as f64
    }
}

impl CostFunction for Profile<'_> {
    type Param = f64;
    type Output = f64;

    /// Mean negative log likelihood at `theta = exp(u) / unit`.
    fn cost(&self, u: &f64) -> Result<f64, Error> {
        let theta = libm::exp(*u) / self.unit;
        let shape = self.shape(theta);
        Ok(libm::log(shape / theta) + 1.0 + shape)
    }
}

impl Pareto {
    /// Most likely tail of excesses >= 0 (Grimshaw 1993, doi:10.1080/00401706.1993.10485040: one parameter is left once
    /// the other is profiled out), the minimum by Brent's method. `least` holds the scale above 0, `lightest` is the smallest
    /// shape that is believed.
    pub(super) fn fit(excesses: &[f64], least: f64, lightest: f64) -> Self {
        let mean = (excesses.iter().map(|e| e / excesses.len() as f64).sum::<f64>()).min(1e300);
        let unit = median(excesses).max(1e-6 * mean);
        // A shape from a handful of excesses is noise.
        if excesses.len() < 10 || !(unit > 0.0 && unit.is_finite()) {
            return Self::with_shape(lightest, excesses, mean, least);
        }
        let profile = Profile { excesses, unit };
        let run = Executor::new(Profile { excesses, unit }, BrentOpt::new(-8.0, 8.0))
            .configure(|s| s.max_iters(60))
            .timer(false)
            .run();
        let best = run.ok().and_then(|r| r.state().get_best_param().map(|u| (*u, r.state().get_best_cost())));
        // An exponential tail that is as likely leaves nothing for a shape to explain.
        let Some((u, _)) = best.filter(|(_, cost)| *cost < libm::log(mean) + 1.0) else {
            return Self::with_shape(lightest, excesses, unit, least);
        };
        let theta = libm::exp(u) / unit;
        let shape = profile.shape(theta);
        if (lightest.max(1e-9)..=HEAVIEST).contains(&shape) {
            return Self { scale: (shape / theta).max(least), shape };
        }
        let shape = if shape > HEAVIEST { HEAVIEST } else { lightest };
        Self::with_shape(shape, excesses, unit, least)
    }

    /// The most likely scale where the shape is given: `mean((1 + shape) y / (scale + shape y)) = 1` as a fixed point from
    /// `start`.
    fn with_shape(shape: f64, excesses: &[f64], start: f64, least: f64) -> Self {
        let mut scale = if start.is_finite() { start.max(least) } else { least };
        if !excesses.is_empty() {
            for _ in 0..50 {
                let sum: f64 = excesses.iter().map(|y| (1.0 + shape) * (y / (scale + shape * y))).sum();
                scale = (scale * sum / excesses.len() as f64).max(f64::MIN_POSITIVE);
            }
        }
        Self { scale: scale.max(least), shape }
    }

    /// `-ln` of the share of excesses beyond `y >= 0`.
    pub(super) fn neg_ln_survival(self, y: f64) -> f64 {
        let e = y / self.scale;
        if self.shape > 1e-9 { libm::log1p(self.shape * e) / self.shape } else { e }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreglow_core::Seed;
    use rand::Rng;

    fn sample(shape: f64, n: usize, seed: u64) -> Vec<f64> {
        let mut rng = Seed(seed).rng();
        (0..n)
            .map(|_| {
                let u: f64 = rng.r#gen::<f64>().max(1e-12);
                2.0 * if shape > 0.0 { (u.powf(-shape) - 1.0) / shape } else { -u.ln() }
            })
            .collect()
    }

    #[test]
    fn finds_scale_and_shape() {
        for (i, shape) in [0.0, 0.3, 0.7].into_iter().enumerate() {
            let p = Pareto::fit(&sample(shape, 5000, i as u64), 1e-9, 0.0);
            assert!((p.shape - shape).abs() < 0.08 && (p.scale - 2.0).abs() < 0.2, "{shape}: {p:?}");
        }
        let light: Vec<f64> = (0..1000).map(|i| f64::from(i) / 1000.0).collect();
        assert_eq!(Pareto::fit(&light, 1e-9, 0.0).shape, 0.0);
        assert_eq!(Pareto::fit(&light, 1e-9, 0.1).shape, 0.1);
        let exponential = Pareto::fit(&sample(0.0, 5000, 0), 1e-9, 0.1);
        let share = libm::exp(-exponential.neg_ln_survival(4.0 * 2f64.ln()));
        assert!(exponential.shape == 0.1 && (share - 0.25).abs() < 0.03, "{exponential:?} {share}");
        let heavy = Pareto::fit(&sample(2.5, 3000, 9), 1e-9, 0.0);
        assert!(heavy.shape == HEAVIEST && heavy.scale.is_finite(), "{heavy:?}");
        assert_eq!(Pareto::fit(&[0.0; 30], 0.5, 0.0), Pareto { scale: 0.5, shape: 0.0 });
        assert!(Pareto::fit(&[], 0.5, 0.0).scale == 0.5);
    }
}
