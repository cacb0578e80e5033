use super::gaussian::{Gaussian, log_density, mixture};
use super::spec::ClusterSpec;
use crate::ModelError;
use foreglow_core::Seed;
use linfa::DatasetBase;
use linfa::traits::{Fit, Predict};
use linfa_clustering::{GaussianMixtureModel, KMeans};
use ndarray::{Array1, Array2, Array3, Axis};

/// Rows that the silhouette is measured on.
const SILHOUETTE_ROWS: usize = 500;
/// A silhouette below this says that there is one state (Kaufman and Rousseeuw 1990 call 0.25 "no substantial structure").
const LEAST_SILHOUETTE: f64 = 0.25;

/// A k-means partition.
pub(super) struct Partition {
    pub(super) centres: Array2<f64>,
    pub(super) member: Array1<usize>,
}

/// k-means with `k` centres, the best of 5 seeded starts.
pub(super) fn kmeans(table: &Array2<f64>, k: usize, seed: Seed) -> Result<Partition, ModelError> {
    let data = DatasetBase::from(table.clone());
    let model = KMeans::params_with_rng(k, seed.child("kmeans").nth(k as u64).rng())
        .n_runs(5)
        .max_n_iterations(200)
        .tolerance(1e-6)
        .fit(&data)
        .map_err(|e| ModelError::data("k-means", format!("{e}; give other rows or fewer states")))?;
    let member = model.predict(table);
    Ok(Partition { centres: model.centroids().clone(), member })
}

/// k-means with the number of centres that the mean silhouette prefers (Rousseeuw 1987,
/// doi:10.1016/0377-0427(87)90125-7), 1 when no partition shows structure.
pub(super) fn choose_kmeans(table: &Array2<f64>, spec: &ClusterSpec, seed: Seed) -> Result<Partition, ModelError> {
    if spec.states > 0 {
        return kmeans(table, spec.states.min(table.nrows()), seed);
    }
    let mut best = (LEAST_SILHOUETTE, 1);
    for k in 2..=spec.max_states.min(table.nrows() / 5) {
        let width = silhouette(table, &kmeans(table, k, seed)?.member, k);
        if width > best.0 {
            best = (width, k);
        }
    }
    kmeans(table, best.1, seed)
}

/// A mixture with the number of components that the Bayesian information criterion prefers (Schwarz 1978,
/// doi:10.1214/aos/1176344136).
pub(super) fn choose_mixture(table: &Array2<f64>, spec: &ClusterSpec, seed: Seed) -> Result<Vec<Gaussian>, ModelError> {
    if spec.states > 0 {
        return gmm(table, spec.states.min(table.nrows() / 5).max(1), spec, seed);
    }
    let (n, d) = (table.nrows() as f64, table.ncols() as f64);
    let mut best: Option<(f64, Vec<Gaussian>)> = None;
    for k in 1..=spec.max_states.min(table.nrows() / 5).max(1) {
        let parts = gmm(table, k, spec, seed)?;
        let fit: f64 = table.rows().into_iter().map(|r| log_density(&parts, |j| r[j])).sum();
        let free = k as f64 * (1.0 + d + d * (d + 1.0) / 2.0) - 1.0;
        let bic = free * n.ln() - 2.0 * fit;
        if best.as_ref().is_none_or(|b| bic < b.0) {
            best = Some((bic, parts));
        }
    }
    best.map(|b| b.1).ok_or_else(|| ModelError::data("a Gaussian mixture", "no number of components could be fitted"))
}

/// A mixture of `k` Gaussians. linfa's step adds probabilities without scaling, which fails where all densities
/// underflow: then more regularisation is tried, at last the Gaussians of a k-means partition.
fn gmm(table: &Array2<f64>, k: usize, spec: &ClusterSpec, seed: Seed) -> Result<Vec<Gaussian>, ModelError> {
    let data = DatasetBase::from(table.clone());
    for factor in [1.0, 10.0, 100.0] {
        let model = GaussianMixtureModel::params_with_rng(k, seed.child("gmm").nth(k as u64).rng())
            .reg_covariance((spec.regularization * factor).min(1.0))
            .tolerance(1e-3)
            .max_n_iterations(300)
            .fit(&data);
        if let Ok(m) = model {
            let sound = m.means().iter().chain(m.covariances()).chain(m.weights()).all(|v| v.is_finite());
            if let (true, Ok(parts)) = (sound, mixture(m.weights(), m.means(), m.covariances())) {
                return Ok(parts);
            }
        }
    }
    let Partition { centres, member } = kmeans(table, k, seed)?;
    let (n, d) = table.dim();
    let mut weights = Array1::<f64>::zeros(k);
    let mut covariances = Array3::<f64>::zeros((k, d, d));
    for (row, s) in table.rows().into_iter().zip(&member) {
        weights[*s] += 1.0;
        let off = &row - &centres.row(*s);
        let mut c = covariances.index_axis_mut(Axis(0), *s);
        for i in 0..d {
            for j in 0..d {
                c[[i, j]] += off[i] * off[j];
            }
        }
    }
    for s in 0..k {
        let mut c = covariances.index_axis_mut(Axis(0), s);
        c /= weights[s].max(1.0);
        c.diag_mut().mapv_inplace(|v| v + spec.regularization);
    }
    weights.mapv_inplace(|w| w / n as f64);
    mixture(&weights, &centres, &covariances)
}

/// Mean silhouette width over an even sample.
fn silhouette(table: &Array2<f64>, member: &Array1<usize>, k: usize) -> f64 {
    let n = table.nrows().min(SILHOUETTE_ROWS);
    let picked: Vec<usize> = (0..n).map(|i| i * table.nrows() / n).collect();
    let mut count = vec![0usize; k];
    for i in &picked {
        count[member[*i]] += 1;
    }
    let mut sum = 0.0;
    let mut distance = vec![0.0; k];
    for a in &picked {
        distance.fill(0.0);
        for b in &picked {
            let square: f64 = table.row(*a).iter().zip(table.row(*b)).map(|(x, y)| (x - y) * (x - y)).sum();
            distance[member[*b]] += square.sqrt();
        }
        let own = member[*a];
        if count[own] < 2 {
            continue;
        }
        let inside = distance[own] / (count[own] - 1) as f64;
        let outside = (0..k)
            .filter(|s| *s != own && count[*s] > 0)
            .map(|s| distance[s] / count[s] as f64)
            .fold(f64::INFINITY, f64::min);
        if outside.is_finite() && inside.max(outside) > 0.0 {
            sum += (outside - inside) / inside.max(outside);
        }
    }
    sum / n as f64
}
