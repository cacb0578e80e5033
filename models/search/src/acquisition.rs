//! How promising a point is: log expected improvement, times the probabilities that it works and breaks no guard-rail.

use crate::gp::Gp;
use crate::stats::{LN_SQRT_2PI, erfcx, ln_normal_cdf};
use std::f64::consts::SQRT_2;

/// Something that must hold with good probability: `sign * value <= sign * limit` in the process's own scale.
pub(crate) struct Constraint {
    pub(crate) gp: Gp,
    pub(crate) limit: f64,
    pub(crate) sign: f64,
    /// How much of the recent trials broke it, 0 to 1. Expected improvement alone would try the boundary again and
    /// again, half of the time on its wrong side; the more trials are lost there, the further inside it has to stay.
    pub(crate) lost: f64,
}

impl Constraint {
    /// `(z, weight)`: the point counts as `weight ln Phi(z)`.
    fn caution(&self, mean: f64, sd: f64) -> (f64, f64) {
        (self.sign * (self.limit - mean) / sd - 3.0 * self.lost, 1.0 + 20.0 * self.lost * self.lost)
    }
}

/// The acquisition function over features.
pub(crate) struct Acquisition {
    pub(crate) gp: Gp,
    /// The loss to improve on: the best posterior mean at a tried point.
    pub(crate) best: f64,
    pub(crate) constraints: Vec<Constraint>,
}

/// `ln(phi(z) + z Phi(z))` without loss of digits for very negative z (Ament et al. 2023, arXiv 2310.20708, eq. 9), and
/// its derivative `Phi / (phi + z Phi)`.
pub(crate) fn ln_h(z: f64) -> (f64, f64) {
    let value = if z > -1.0 {
        let phi = (-z * z / 2.0 - LN_SQRT_2PI).exp();
        (phi + z * crate::stats::normal_cdf(z)).ln()
    } else if z > -1e5 {
        // phi(z) (1 - |z| Phi(z)/phi(z)) with Phi/phi = sqrt(pi/2) erfcx(|z|/sqrt2).
        let t = -z;
        let ratio = t * (std::f64::consts::PI / 2.0).sqrt() * erfcx(t / SQRT_2);
        // The difference from 1 tends to 1/t^2; the series takes over where it would cancel.
        let rest = if t < 30.0 { 1.0 - ratio } else { (1.0 - 3.0 / (t * t)) / (t * t) };
        -z * z / 2.0 - LN_SQRT_2PI + rest.ln()
    } else {
        -z * z / 2.0 - LN_SQRT_2PI - 2.0 * (-z).ln()
    };
    (value, (ln_normal_cdf(z) - value).exp())
}

impl Acquisition {
    /// The logarithm of the acquisition.
    pub(crate) fn value(&self, q: &[f64]) -> f64 {
        let (m, s) = self.gp.posterior(q);
        s.ln() + ln_h((self.best - m) / s).0 + self.ln_works(q)
    }

    /// The logarithm of what the constraints multiply the improvement by.
    pub(crate) fn ln_works(&self, q: &[f64]) -> f64 {
        let of = |c: &Constraint| {
            let (m, s) = c.gp.posterior(q);
            let (z, weight) = c.caution(m, s);
            weight * ln_normal_cdf(z)
        };
        self.constraints.iter().map(of).sum()
    }

    /// The logarithm of the acquisition and its gradient over features.
    pub(crate) fn value_gradient(&self, q: &[f64]) -> (f64, Vec<f64>) {
        let (m, s, dm, ds) = self.gp.posterior_gradient(q);
        let z = (self.best - m) / s;
        let (h, slope) = ln_h(z);
        let mut value = s.ln() + h;
        let mut gradient: Vec<f64> = dm.iter().zip(&ds).map(|(a, b)| b / s - slope * (a + z * b) / s).collect();
        for c in &self.constraints {
            let (m, s, dm, ds) = c.gp.posterior_gradient(q);
            let (z, weight) = c.caution(m, s);
            let ln_cdf = ln_normal_cdf(z);
            let slope = weight * (-z * z / 2.0 - LN_SQRT_2PI - ln_cdf).exp();
            value += weight * ln_cdf;
            let plain = c.sign * (c.limit - m) / s;
            for (g, (a, b)) in gradient.iter_mut().zip(dm.iter().zip(&ds)) {
                *g -= slope * (c.sign * a + plain * b) / s;
            }
        }
        (value, gradient)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gp::{Data, fit_hyper};

    #[test]
    fn ln_h_is_smooth_everywhere() {
        for z in [-1.0, -30.0, -1e5] {
            let (a, b) = (ln_h(z * (1.0 + 1e-7)).0, ln_h(z * (1.0 - 1e-7)).0);
            assert!(((a - b) / a).abs() < 1e-5, "jump at {z}: {a} {b}");
        }
        // By quadrature of max(z + x, 0) under the normal density: h(-2) = 0.008490702617...
        assert!((ln_h(-2.0).0.exp() / 0.008_490_702_617 - 1.0).abs() < 1e-8);
        for z in [-40.0, -5.0, -1.5, 0.0, 2.0] {
            let numeric = (ln_h(z + 1e-5).0 - ln_h(z - 1e-5).0) / 2e-5;
            assert!((numeric / ln_h(z).1 - 1.0).abs() < 1e-4, "{z}");
        }
    }

    #[test]
    fn gradient_matches_differences() {
        let x: Vec<Vec<f64>> = (0..12).map(|i| vec![(i as f64 * 0.37) % 1.0, (i as f64 * 0.61) % 1.0]).collect();
        let y: Vec<f64> = x.iter().map(|p| (5.0 * p[0]).sin() + p[1]).collect();
        let data = Data { x, y, known: vec![0.0; 12] };
        let h = fit_hyper(&data, &[0, 1], 2);
        let gp = Gp::new(&h, &[0, 1], &data).unwrap();
        let a = Acquisition {
            gp: gp.clone(),
            best: -0.8,
            constraints: vec![Constraint { gp, limit: 0.5, sign: 1.0, lost: 0.3 }],
        };
        let q = [0.45, 0.3];
        let (v, g) = a.value_gradient(&q);
        assert!((v - a.value(&q)).abs() < 1e-9);
        for i in 0..2 {
            let (mut l, mut r) = (q, q);
            l[i] -= 1e-5;
            r[i] += 1e-5;
            let numeric = (a.value(&r) - a.value(&l)) / 2e-5;
            assert!((numeric - g[i]).abs() < 1e-3 * g[i].abs().max(1.0), "{numeric} {}", g[i]);
        }
    }
}
