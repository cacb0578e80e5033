use super::Hyper;
use super::kernel::{matern, matern_slope};
use super::process::{Data, factor, solve_lower};
use crate::minimise::minimise;

/// Penalties in the logarithm, as normal densities (mean, sd): they keep lengths, signal and noise sensible while data
/// are few. Lengths grow with the root of the dimension, so that the prior's complexity does not (Hvarfner, Hellsten
/// and Nardi 2024, arXiv 2402.02229).
struct Priors {
    length: (f64, f64),
    signal: (f64, f64),
    noise: (f64, f64),
}

impl Priors {
    fn of(parameters: usize) -> Self {
        Self { length: (-0.3 + 0.5 * (parameters as f64).ln(), 1.0), signal: (0.3, 1.0), noise: (-7.0, 2.5) }
    }
}

/// Logarithms are held in this range; the noise floor of 1e-6 also keeps the covariance well conditioned.
const RANGE: (f64, f64) = (-13.8, 6.0);

/// The hyper-parameters of largest posterior density for `parameters` parameters: L-BFGS from two starts, one that trusts
/// the data and one that takes them for noisy.
///
/// Cost: O(n^3) an evaluation, 55 evaluations.
pub(crate) fn fit_hyper(data: &Data, groups: &[usize], parameters: usize) -> Hyper {
    let likelihood = Likelihood::new(data, groups, parameters);
    let f = |theta: &[f64]| likelihood.value_gradient(theta);
    let p = &likelihood.priors;
    let start = |length: f64, noise: f64| {
        let mut t = vec![p.length.0 + length; parameters];
        t.extend([0.0, noise]);
        t
    };
    let (a, va) = minimise(&f, start(0.0, -7.0), 35);
    let (b, vb) = minimise(&f, start(-0.7, -2.0), 20);
    let best = if vb < va { b } else { a };
    Hyper::of_logarithms(&best, parameters)
}

impl Hyper {
    /// From logarithms, in the order of lengths, signal, noise.
    pub(super) fn of_logarithms(theta: &[f64], parameters: usize) -> Self {
        Self {
            lengths: theta[..parameters].iter().map(|t| bounded(*t).exp()).collect(),
            signal: bounded(theta[parameters]).exp(),
            noise: bounded(theta[parameters + 1]).exp(),
        }
    }

    /// The logarithms that give it.
    pub(super) fn logarithms(&self) -> Vec<f64> {
        self.lengths.iter().chain([&self.signal, &self.noise]).map(|v| v.ln()).collect()
    }
}

fn bounded(t: f64) -> f64 {
    t.clamp(RANGE.0, RANGE.1)
}

pub(super) struct Likelihood<'a> {
    data: &'a Data,
    n: usize,
    parameters: usize,
    /// Squared distance of each pair i > j along each parameter: `pairs x parameters`.
    squares: Vec<f64>,
    priors: Priors,
}

impl<'a> Likelihood<'a> {
    pub(super) fn new(data: &'a Data, groups: &[usize], parameters: usize) -> Self {
        let n = data.y.len();
        let mut squares = Vec::with_capacity(n * n.saturating_sub(1) / 2 * parameters);
        for i in 0..n {
            for j in 0..i {
                let at = squares.len();
                squares.resize(at + parameters, 0.0);
                for (k, g) in groups.iter().enumerate() {
                    let e = data.x[i][k] - data.x[j][k];
                    squares[at + g] += e * e;
                }
            }
        }
        Self { data, n, parameters, squares, priors: Priors::of(parameters) }
    }

    /// Log posterior density at the logarithms `theta`, up to a constant; minus infinity where it cannot be had. A third
    /// of the cost of [`Self::value_gradient`].
    pub(super) fn log_density(&self, theta: &[f64]) -> f64 {
        let (n, g) = (self.n, self.parameters);
        let scale: Vec<f64> = theta[..g].iter().map(|t| (-2.0 * bounded(*t)).exp()).collect();
        let (signal, noise) = (bounded(theta[g]).exp(), bounded(theta[g + 1]).exp());
        let mut k = vec![0.0; n * n];
        let mut pairs = self.squares.chunks_exact(g);
        for i in 0..n {
            for j in 0..i {
                let r2 = pairs.next().map_or(0.0, |s| s.iter().zip(&scale).map(|(a, b)| a * b).sum());
                k[i * n + j] = signal * matern(r2);
            }
            k[i * n + i] = signal + noise + self.data.known[i];
        }
        let Some((half_log_det, fit)) = solve_lower(&k, &self.data.y) else { return f64::NEG_INFINITY };
        let p = &self.priors;
        let priors = std::iter::repeat_n(p.length, g).chain([p.signal, p.noise]);
        let before: f64 = theta.iter().zip(priors).map(|(t, (mean, sd))| 0.5 * ((t - mean) / sd).powi(2)).sum();
        -0.5 * fit - half_log_det - before
    }

    /// Negative log posterior density a point, and its gradient, at the logarithms `theta`.
    fn value_gradient(&self, theta: &[f64]) -> (f64, Vec<f64>) {
        let (n, g) = (self.n, self.parameters);
        let scale: Vec<f64> = theta[..g].iter().map(|t| (-2.0 * bounded(*t)).exp()).collect();
        let (signal, noise) = (bounded(theta[g]).exp(), bounded(theta[g + 1]).exp());
        let mut k = vec![0.0; n * n];
        let mut slopes = Vec::with_capacity(self.squares.len() / g.max(1));
        let mut pairs = self.squares.chunks_exact(g);
        for i in 0..n {
            for j in 0..i {
                let r2 = pairs.next().map_or(0.0, |s| s.iter().zip(&scale).map(|(a, b)| a * b).sum());
                let (c, s) = matern_slope(r2);
                k[i * n + j] = signal * c;
                k[j * n + i] = signal * c;
                slopes.push(signal * s);
            }
            k[i * n + i] = signal + noise + self.data.known[i];
        }
        let Some((half_log_det, inverse)) = factor(&k, n) else { return (f64::NAN, vec![0.0; g + 2]) };
        let y = &self.data.y;
        let alpha: Vec<f64> = inverse.chunks_exact(n).map(|row| row.iter().zip(y).map(|(a, b)| a * b).sum()).collect();
        let fit: f64 = alpha.iter().zip(y).map(|(a, b)| a * b).sum();
        let mut value = 0.5 * fit + half_log_det;
        let mut gradient = vec![0.0; g + 2];
        let mut pairs = self.squares.chunks_exact(g).zip(&slopes);
        for i in 0..n {
            for j in 0..i {
                let w = alpha[i] * alpha[j] - inverse[i * n + j];
                gradient[g] -= w * k[i * n + j];
                if let Some((s, slope)) = pairs.next() {
                    let ws = w * slope;
                    for (a, (b, c)) in gradient.iter_mut().zip(s.iter().zip(&scale)) {
                        *a -= ws * b * c;
                    }
                }
            }
            let w = alpha[i] * alpha[i] - inverse[i * n + i];
            gradient[g] -= 0.5 * w * signal;
            gradient[g + 1] -= 0.5 * w * noise;
        }
        let mut prior = |index: usize, (mean, sd): (f64, f64)| {
            let z = (theta[index] - mean) / sd;
            value += 0.5 * z * z;
            gradient[index] += z / sd;
        };
        for i in 0..g {
            prior(i, self.priors.length);
        }
        prior(g, self.priors.signal);
        prior(g + 1, self.priors.noise);
        let scale = 1.0 / n as f64;
        (value * scale, gradient.iter().map(|v| v * scale).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Gp;
    use super::*;
    use foreglow_core::Seed;
    use rand::Rng;
    use rand_distr::{Distribution, StandardNormal};

    fn data(n: usize, noise: f64) -> Data {
        let mut rng = Seed(5).rng();
        let x: Vec<Vec<f64>> = (0..n).map(|_| vec![rng.r#gen(), rng.r#gen(), rng.r#gen()]).collect();
        let y = x
            .iter()
            .map(|p: &Vec<f64>| {
                let z: f64 = StandardNormal.sample(&mut rng);
                (6.0 * p[0]).sin() + 0.5 * p[1] + noise * z
            })
            .collect();
        Data { known: vec![0.0; n], x, y }
    }

    #[test]
    fn gradient_matches_differences() {
        let d = data(12, 0.1);
        let l = Likelihood::new(&d, &[0, 1, 2], 3);
        let theta = vec![-0.5, 0.2, 0.9, 0.1, -3.0];
        let (_, g) = l.value_gradient(&theta);
        // The same density, but for sign and scale.
        let moved: Vec<f64> = theta.iter().map(|t| t + 0.3).collect();
        let (a, b) = (l.value_gradient(&theta).0, l.value_gradient(&moved).0);
        assert!((l.log_density(&moved) - l.log_density(&theta) - 12.0 * (a - b)).abs() < 1e-9);
        for i in 0..5 {
            let h = 1e-5;
            let (mut a, mut b) = (theta.clone(), theta.clone());
            a[i] += h;
            b[i] -= h;
            let numeric = (l.value_gradient(&a).0 - l.value_gradient(&b).0) / (2.0 * h);
            assert!((numeric - g[i]).abs() < 1e-6, "{i}: {numeric} {}", g[i]);
        }
    }

    #[test]
    fn relevance_noise_and_prediction_are_learned() {
        let d = data(60, 0.1);
        let h = fit_hyper(&d, &[0, 1, 2], 3);
        assert!(h.lengths[0] < h.lengths[2], "{h:?}");
        assert!((0.04..0.25).contains(&h.noise.sqrt()), "{h:?}");
        let gp = Gp::new(&h, &[0, 1, 2], &d).unwrap();
        let mut worst: f64 = 0.0;
        for i in 0..20 {
            let q = [0.1 + 0.04 * i as f64, 0.5, 0.3];
            let (m, s) = gp.posterior(&q);
            assert!(s > 0.0 && s < 0.3);
            worst = worst.max((m - (6.0 * q[0]).sin() - 0.25).abs());
        }
        assert!(worst < 0.25, "{worst}");
    }

    #[test]
    fn posterior_gradient_and_joint_agree_with_posterior() {
        let d = data(25, 0.05);
        let h = fit_hyper(&d, &[0, 1, 2], 3);
        let gp = Gp::new(&h, &[0, 1, 2], &d).unwrap();
        let q = [0.3, 0.6, 0.2];
        let (m, s, dm, ds) = gp.posterior_gradient(&q);
        let (m2, s2) = gp.posterior(&q);
        assert!((m - m2).abs() < 1e-9 && (s - s2).abs() < 1e-9 && (gp.mean(&q) - m).abs() < 1e-9);
        for i in 0..3 {
            let (mut a, mut b) = (q, q);
            a[i] += 1e-5;
            b[i] -= 1e-5;
            let (pa, pb) = (gp.posterior(&a), gp.posterior(&b));
            assert!(((pa.0 - pb.0) / 2e-5 - dm[i]).abs() < 1e-4);
            assert!(((pa.1 - pb.1) / 2e-5 - ds[i]).abs() < 1e-3);
        }
        let (means, cov) = gp.joint(&q, &q);
        assert!((means[0] - m).abs() < 1e-9 && (cov[0] - cov[2]).abs() < 1e-9);
    }

    #[test]
    fn sources_explain_what_they_can() {
        // The target is minus twice the source plus something of its own.
        let source = data(40, 0.02);
        let h = fit_hyper(&source, &[0, 1, 2], 3);
        let learned = Gp::new(&h, &[0, 1, 2], &source).unwrap();
        let x: Vec<Vec<f64>> = source.x[..10].iter().map(|p| p.iter().map(|v| 1.0 - v).collect()).collect();
        let y = x.iter().map(|p| -2.0 * learned.mean(p) + 0.3 * p[2]).collect();
        let target = Data { known: vec![0.0; 10], x, y };
        let flat = Hyper { lengths: vec![1.0; 3], signal: 0.1, noise: 1e-4 };
        let sources = std::sync::Arc::new(super::super::Sources { processes: vec![learned], weight: (0.5, 4.0) });
        let gp = Gp::with_sources(&flat, &[0, 1, 2], &target, Some(sources)).unwrap();
        assert!((gp.source_weights()[0] + 2.0).abs() < 0.25, "{:?}", gp.source_weights());
        let alone = Gp::new(&flat, &[0, 1, 2], &target).unwrap();
        assert!(gp.leave_one_out_density() > alone.leave_one_out_density());
        let q = [0.3, 0.6, 0.2];
        let (m, s, dm, ds) = gp.posterior_gradient(&q);
        let (m2, s2) = gp.posterior(&q);
        assert!((m - m2).abs() < 1e-9 && (s - s2).abs() < 1e-9 && (gp.mean(&q) - m).abs() < 1e-9);
        for i in 0..3 {
            let (mut a, mut b) = (q, q);
            a[i] += 1e-5;
            b[i] -= 1e-5;
            let (pa, pb) = (gp.posterior(&a), gp.posterior(&b));
            assert!(((pa.0 - pb.0) / 2e-5 - dm[i]).abs() < 1e-4, "{i}");
            assert!(((pa.1 - pb.1) / 2e-5 - ds[i]).abs() < 1e-3, "{i}");
        }
        let (means, cov) = gp.joint(&q, &q);
        assert!((means[0] - m).abs() < 1e-9 && (cov[0] - cov[2]).abs() < 1e-9);
    }
}
