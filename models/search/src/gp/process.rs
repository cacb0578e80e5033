use super::Hyper;
use super::kernel::{matern, matern_slope};
use faer::linalg::solvers::{DenseSolveCore, Llt};
use faer::{Mat, Side};
use std::sync::Arc;

/// Points, values and the known variance of each value.
#[derive(Debug, Clone, Default)]
pub(crate) struct Data {
    /// Features of each point.
    pub(crate) x: Vec<Vec<f64>>,
    /// Values, about mean 0 and variance 1.
    pub(crate) y: Vec<f64>,
    /// Variance that the measurement itself declares, in the values' unit.
    pub(crate) known: Vec<f64>,
}

/// Processes learned elsewhere, whose posterior means may explain part of this one: `f(q) = sum_j b_j h_j(q) + g(q)` with
/// weights `b_j` that are normal before data come in.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    /// The processes, in this one's features and about the same scale.
    pub(crate) processes: Vec<Gp>,
    /// Prior mean and variance of every weight.
    pub(crate) weight: (f64, f64),
}

impl Sources {
    fn values(&self, q: &[f64]) -> Vec<f64> {
        self.processes.iter().map(|p| p.mean(q)).collect()
    }
}

/// A Gaussian process conditioned on data.
#[derive(Debug, Clone)]
pub(crate) struct Gp {
    n: usize,
    d: usize,
    /// Points, row-major.
    x: Vec<f64>,
    /// 1 / length^2 of each feature.
    inverse_squared: Vec<f64>,
    signal: f64,
    mean: f64,
    alpha: Vec<f64>,
    /// Inverse of the covariance with noise, row-major.
    inverse: Vec<f64>,
    sources: Option<Arc<Sources>>,
    /// The sources' values at each point, row-major.
    h: Vec<f64>,
}

/// Cholesky factor's half log determinant and the inverse; a growing jitter for matrices that are numerically singular.
pub(crate) fn factor(k: &[f64], n: usize) -> Option<(f64, Vec<f64>)> {
    let scale = (0..n).map(|i| k[i * n + i]).fold(0.0, f64::max);
    for jitter in [0.0, 1e-10, 1e-8, 1e-6, 1e-4] {
        let m = Mat::<f64>::from_fn(n, n, |i, j| k[i * n + j] + if i == j { jitter * scale } else { 0.0 });
        let Ok(llt) = Llt::new(m.as_ref(), Side::Lower) else { continue };
        let half_log_det: f64 = (0..n).map(|i| llt.L()[(i, i)].ln()).sum();
        let inverse = llt.inverse();
        let mut out = Vec::with_capacity(n * n);
        for j in 0..n {
            // Columns are contiguous and the inverse is symmetric.
            out.extend((0..n).map(|i| inverse[(i, j)]));
        }
        if half_log_det.is_finite() && out.iter().all(|v| v.is_finite()) {
            return Some((half_log_det, out));
        }
    }
    None
}

/// Cholesky factor's half log determinant and `y' K^-1 y` from the lower triangle of `k`.
pub(crate) fn solve_lower(k: &[f64], y: &[f64]) -> Option<(f64, f64)> {
    let n = y.len();
    let m = Mat::<f64>::from_fn(n, n, |i, j| if i >= j { k[i * n + j] } else { 0.0 });
    let llt = Llt::new(m.as_ref(), Side::Lower).ok()?;
    let l = llt.L();
    let mut z = vec![0.0; n];
    let (mut half_log_det, mut fit) = (0.0, 0.0);
    for i in 0..n {
        let known: f64 = (0..i).map(|j| l[(i, j)] * z[j]).sum();
        z[i] = (y[i] - known) / l[(i, i)];
        half_log_det += l[(i, i)].ln();
        fit += z[i] * z[i];
    }
    (half_log_det.is_finite() && fit.is_finite()).then_some((half_log_det, fit))
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

impl Gp {
    /// Conditions on `data`; `groups` gives the parameter of each feature. The constant mean is the generalised
    /// least-squares one. `None` when the covariance cannot be factored.
    pub(crate) fn new(hyper: &Hyper, groups: &[usize], data: &Data) -> Option<Self> {
        Self::with_sources(hyper, groups, data, None)
    }

    /// The same with processes learned elsewhere as a linear part.
    pub(crate) fn with_sources(
        hyper: &Hyper,
        groups: &[usize],
        data: &Data,
        sources: Option<Arc<Sources>>,
    ) -> Option<Self> {
        let n = data.y.len();
        let d = groups.len();
        let inverse_squared: Vec<f64> = groups.iter().map(|g| 1.0 / (hyper.lengths[*g] * hyper.lengths[*g])).collect();
        let x: Vec<f64> = data.x.iter().flatten().copied().collect();
        let h: Vec<f64> = sources.iter().flat_map(|s| data.x.iter().flat_map(|q| s.values(q))).collect();
        let mut gp = Self {
            n,
            d,
            x,
            inverse_squared,
            signal: hyper.signal,
            mean: 0.0,
            alpha: Vec::new(),
            inverse: Vec::new(),
            sources,
            h,
        };
        let mut k = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..i {
                let v = hyper.signal * matern(gp.distance(&data.x[i], j)) + gp.linear(gp.row(i), j);
                k[i * n + j] = v;
                k[j * n + i] = v;
            }
            k[i * n + i] = hyper.signal + hyper.noise + data.known[i] + gp.linear(gp.row(i), i);
        }
        let y: Vec<f64> = (0..n).map(|i| data.y[i] - gp.before(gp.row(i))).collect();
        gp.inverse = factor(&k, n)?.1;
        let ones: Vec<f64> = gp.inverse.chunks_exact(n).map(|row| row.iter().sum()).collect();
        let total: f64 = ones.iter().sum();
        gp.mean = if total > 1e-12 { dot(&ones, &y) / total } else { 0.0 };
        let centred: Vec<f64> = y.iter().map(|y| y - gp.mean).collect();
        gp.alpha = gp.inverse.chunks_exact(n).map(|row| dot(row, &centred)).collect();
        Some(gp)
    }

    fn distance(&self, q: &[f64], j: usize) -> f64 {
        let p = &self.x[j * self.d..(j + 1) * self.d];
        p.iter().zip(q).zip(&self.inverse_squared).map(|((a, b), s)| (a - b) * (a - b) * s).sum()
    }

    /// The sources' values at data point `i`.
    fn row(&self, i: usize) -> &[f64] {
        let width = self.sources.as_ref().map_or(0, |s| s.processes.len());
        &self.h[i * width..(i + 1) * width]
    }

    fn source_values(&self, q: &[f64]) -> Vec<f64> {
        self.sources.as_ref().map_or_else(Vec::new, |s| s.values(q))
    }

    /// The linear part of the covariance between a point of source values `h` and data point `j`.
    fn linear(&self, h: &[f64], j: usize) -> f64 {
        self.sources.as_ref().map_or(0.0, |s| s.weight.1 * dot(h, self.row(j)))
    }

    /// The expectation before data came in.
    fn before(&self, h: &[f64]) -> f64 {
        self.sources.as_ref().map_or(0.0, |s| s.weight.0 * h.iter().sum::<f64>())
    }

    /// The variance before data came in.
    fn variance_before(&self, h: &[f64]) -> f64 {
        self.signal + self.sources.as_ref().map_or(0.0, |s| s.weight.1 * dot(h, h))
    }

    /// Posterior mean of each source's weight: how much of what it says holds here.
    pub(crate) fn source_weights(&self) -> Vec<f64> {
        let Some(s) = &self.sources else { return Vec::new() };
        let pulled = |j: usize| (0..self.n).map(|i| self.row(i)[j] * self.alpha[i]).sum::<f64>();
        (0..s.processes.len()).map(|j| s.weight.0 + s.weight.1 * pulled(j)).collect()
    }

    fn covariances(&self, q: &[f64], h: &[f64]) -> Vec<f64> {
        (0..self.n).map(|j| self.signal * matern(self.distance(q, j)) + self.linear(h, j)).collect()
    }

    /// Posterior mean.
    pub(crate) fn mean(&self, q: &[f64]) -> f64 {
        let h = self.source_values(q);
        dot(&self.covariances(q, &h), &self.alpha) + self.mean + self.before(&h)
    }

    /// Posterior mean and its gradient; O(n d), for processes without sources of their own.
    fn mean_gradient(&self, q: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; self.d];
        for j in 0..self.n {
            let pull = self.signal * matern_slope(self.distance(q, j)).1 * self.alpha[j];
            let p = &self.x[j * self.d..(j + 1) * self.d];
            for i in 0..self.d {
                out[i] -= pull * (q[i] - p[i]) * self.inverse_squared[i];
            }
        }
        out
    }

    /// Posterior mean and standard deviation of the function, without noise.
    pub(crate) fn posterior(&self, q: &[f64]) -> (f64, f64) {
        let h = self.source_values(q);
        let k = self.covariances(q, &h);
        let explained: f64 = self.inverse.chunks_exact(self.n).zip(&k).map(|(row, ki)| ki * dot(row, &k)).sum();
        let variance = (self.variance_before(&h) - explained).max(1e-12 * self.signal);
        (dot(&k, &self.alpha) + self.mean + self.before(&h), variance.sqrt())
    }

    /// Posterior means of two points and the variances and covariance of the function there.
    pub(crate) fn joint(&self, a: &[f64], b: &[f64]) -> ([f64; 2], [f64; 3]) {
        let (ha, hb) = (self.source_values(a), self.source_values(b));
        let (ka, kb) = (self.covariances(a, &ha), self.covariances(b, &hb));
        let shared = self.sources.as_ref().map_or(0.0, |s| s.weight.1 * dot(&ha, &hb));
        let wb: Vec<f64> = self.inverse.chunks_exact(self.n).map(|row| dot(row, &kb)).collect();
        let wa: Vec<f64> = self.inverse.chunks_exact(self.n).map(|row| dot(row, &ka)).collect();
        let r2: f64 = a.iter().zip(b).zip(&self.inverse_squared).map(|((x, y), s)| (x - y) * (x - y) * s).sum();
        let floor = 1e-12 * self.signal;
        (
            [
                dot(&ka, &self.alpha) + self.mean + self.before(&ha),
                dot(&kb, &self.alpha) + self.mean + self.before(&hb),
            ],
            [
                (self.variance_before(&ha) - dot(&ka, &wa)).max(floor),
                (self.variance_before(&hb) - dot(&kb, &wb)).max(floor),
                self.signal * matern(r2) + shared - dot(&ka, &wb),
            ],
        )
    }

    /// Posterior mean, standard deviation and their gradients with respect to the features.
    pub(crate) fn posterior_gradient(&self, q: &[f64]) -> (f64, f64, Vec<f64>, Vec<f64>) {
        let (n, d) = (self.n, self.d);
        let h = self.source_values(q);
        let mut k = vec![0.0; n];
        let mut slope = vec![0.0; n];
        for j in 0..n {
            let (c, s) = matern_slope(self.distance(q, j));
            k[j] = self.signal * c + self.linear(&h, j);
            slope[j] = self.signal * s;
        }
        let w: Vec<f64> = self.inverse.chunks_exact(n).map(|row| dot(row, &k)).collect();
        let sd = (self.variance_before(&h) - dot(&k, &w)).max(1e-12 * self.signal).sqrt();
        let mut dm = vec![0.0; d];
        let mut ds = vec![0.0; d];
        for j in 0..n {
            let p = &self.x[j * d..(j + 1) * d];
            let (a, b) = (slope[j] * self.alpha[j], slope[j] * w[j] / sd);
            for i in 0..d {
                let along = (q[i] - p[i]) * self.inverse_squared[i];
                dm[i] -= a * along;
                ds[i] += b * along;
            }
        }
        if let Some(s) = &self.sources {
            let weights = self.source_weights();
            for (j, p) in s.processes.iter().enumerate() {
                let known: f64 = (0..n).map(|i| w[i] * self.row(i)[j]).sum();
                let spread = s.weight.1 * (h[j] - known) / sd;
                for (i, g) in p.mean_gradient(q).into_iter().enumerate() {
                    dm[i] += weights[j] * g;
                    ds[i] += spread * g;
                }
            }
        }
        (dot(&k, &self.alpha) + self.mean + self.before(&h), sd, dm, ds)
    }

    /// Log density of each value when it is left out, summed: what tells a better model from a worse one on the same
    /// values (Rasmussen and Williams, section 5.4.2), without the constant.
    pub(crate) fn leave_one_out_density(&self) -> f64 {
        let z = self.leave_one_out();
        (0..self.n).map(|i| 0.5 * self.inverse[i * self.n + i].ln() - 0.5 * z[i] * z[i]).sum()
    }

    /// Leave-one-out residuals and their predicted variances, with noise.
    pub(crate) fn left_out(&self) -> Vec<(f64, f64)> {
        let variance = |i: usize| 1.0 / self.inverse[i * self.n + i];
        (0..self.n).map(|i| (self.alpha[i] * variance(i), variance(i))).collect()
    }

    /// Leave-one-out residuals divided by their predicted standard deviation (Rasmussen and Williams, section 5.4.2).
    pub(crate) fn leave_one_out(&self) -> Vec<f64> {
        (0..self.n).map(|i| self.alpha[i] / self.inverse[i * self.n + i].sqrt()).collect()
    }
}
