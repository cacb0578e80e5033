use crate::ModelError;
use faer::{Mat, Side};
use ndarray::{Array1, Array2, Array3, ArrayView1, ArrayView2, Axis};
use std::f64::consts::PI;

/// One Gaussian: mean, the inverse of the covariance's Cholesky factor (lower, row-major), and what is constant in the
/// log density.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Gaussian {
    pub(super) mean: Vec<f64>,
    pub(super) whiten: Vec<f64>,
    pub(super) constant: f64,
}

impl Gaussian {
    /// From mean, covariance and weight in the mixture. `None` when the covariance is not positive definite.
    pub(super) fn new(mean: ArrayView1<'_, f64>, covariance: ArrayView2<'_, f64>, weight: f64) -> Option<Self> {
        let d = mean.len();
        let full = Mat::<f64>::from_fn(d, d, |i, j| covariance[[i, j]]);
        let factor = full.llt(Side::Lower).ok()?;
        let lower = factor.L();
        let mut whiten = vec![0.0; d * d];
        let mut log_det = 0.0;
        for i in 0..d {
            log_det += lower[(i, i)].ln();
            for j in 0..=i {
                let mut v = if i == j { 1.0 } else { 0.0 };
                for k in j..i {
                    v -= lower[(i, k)] * whiten[k * d + j];
                }
                whiten[i * d + j] = v / lower[(i, i)];
            }
        }
        let constant = weight.max(1e-300).ln() - log_det - 0.5 * d as f64 * (2.0 * PI).ln();
        let sound = constant.is_finite() && whiten.iter().all(|v| v.is_finite());
        sound.then(|| Self { mean: mean.to_vec(), whiten, constant })
    }

    /// `ln(weight) + ln N(z; mean, covariance)`. A missing value counts as the mean.
    pub(super) fn log_density(&self, z: impl Fn(usize) -> f64) -> f64 {
        let d = self.mean.len();
        let mut square = 0.0;
        for i in 0..d {
            let mut v = 0.0;
            for j in 0..=i {
                let off = z(j) - self.mean[j];
                v += self.whiten[i * d + j] * if off.is_nan() { 0.0 } else { off };
            }
            square += v * v;
        }
        self.constant - 0.5 * square
    }
}

/// Gaussians of a mixture from weights, means and covariances.
pub(super) fn mixture(
    weights: &Array1<f64>,
    means: &Array2<f64>,
    covariances: &Array3<f64>,
) -> Result<Vec<Gaussian>, ModelError> {
    (means.axis_iter(Axis(0)).zip(covariances.axis_iter(Axis(0))).zip(weights))
        .map(|((m, c), w)| {
            Gaussian::new(m, c, *w).ok_or_else(|| {
                ModelError::data("a Gaussian mixture", "a covariance is singular; set cluster.regularization higher")
            })
        })
        .collect()
}

/// `ln Σ exp` of the components' weighted log densities.
pub(super) fn log_density(parts: &[Gaussian], z: impl Fn(usize) -> f64) -> f64 {
    let (mut top, mut sum) = (f64::NEG_INFINITY, 0.0);
    for g in parts {
        let l = g.log_density(&z);
        if l > top {
            sum = sum * (top - l).exp() + 1.0;
            top = l;
        } else {
            sum += (l - top).exp();
        }
    }
    top + sum.ln()
}
