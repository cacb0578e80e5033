use super::scaling::{Scaling, check_rows};
use crate::ModelError;
use crate::nn::dense::within;
use foreglow_core::stats::quantile;
use linfa::traits::Transformer;
use linfa_clustering::Dbscan;
use ndarray::Array2;
use serde::{Deserialize, Serialize};

/// Rows that the radius is chosen on.
const RADIUS_ROWS: usize = 800;

/// Unchecked parameters of [`density_noise`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DensityParams {
    /// Rows within the radius that make a core row, 2 to 1000, default 10.
    pub min_points: usize,
    /// The radius in scaled units, 0 (default: the distance within which 95 % of the rows have `min_points` neighbours)
    /// to 1e6.
    pub radius: f64,
    /// No more rows than this, spread evenly, 50 to 100,000, default 3000.
    pub max_rows: usize,
}

impl Default for DensityParams {
    fn default() -> Self {
        Self { min_points: 10, radius: 0.0, max_rows: 3000 }
    }
}

/// What DBSCAN says of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct DensityNoise {
    /// How many dense regions there are.
    pub clusters: usize,
    /// Share of the rows that lie in none.
    pub noise_share: f64,
    /// The radius that was used, in scaled units.
    pub radius: f64,
    /// The dense region of each row looked at, `None` = noise.
    pub member: Vec<Option<usize>>,
}

/// DBSCAN (Ester et al. 1996, KDD-96) over a whole table, offline: how many dense regions there are and how much lies
/// outside them. Scaling and missing values as in [`OperatingStates`](super::OperatingStates). O(n²) at worst.
///
/// # Errors
/// [`ModelError::Parameter`] for a field out of range, [`ModelError::Data`] for fewer than 20 usable rows.
pub fn density_noise(rows: &[f64], width: usize, params: &DensityParams) -> Result<DensityNoise, ModelError> {
    within("dbscan.min_points", params.min_points as f64, 2.0, 1000.0)?;
    within("dbscan.radius", params.radius, 0.0, 1e6)?;
    within("dbscan.max_rows", params.max_rows as f64, 50.0, 1e5)?;
    check_rows(rows, width)?;
    let table = Scaling::fit(rows, width).table(rows, params.max_rows)?;
    let radius = if params.radius > 0.0 { params.radius } else { usual_radius(&table, params.min_points) };
    let member = Dbscan::params(params.min_points)
        .tolerance(radius)
        .transform(&table)
        .map_err(|e| ModelError::data("DBSCAN", e.to_string()))?
        .to_vec();
    let clusters = member.iter().flatten().max().map_or(0, |m| m + 1);
    let noise = member.iter().filter(|m| m.is_none()).count();
    Ok(DensityNoise { clusters, noise_share: noise as f64 / member.len() as f64, radius, member })
}

/// The 95 % quantile of the distance to the `k`-th nearest row.
fn usual_radius(table: &Array2<f64>, k: usize) -> f64 {
    let n = table.nrows();
    let some = n.min(RADIUS_ROWS);
    let nearest: Vec<f64> = (0..some)
        .map(|i| {
            let a = table.row(i * n / some);
            let mut d: Vec<f64> = table
                .rows()
                .into_iter()
                .map(|b| a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f64>())
                .collect();
            let k = k.min(d.len()) - 1;
            let (_, v, _) = d.select_nth_unstable_by(k, f64::total_cmp);
            v.sqrt()
        })
        .collect();
    quantile(&nearest, 0.95).max(1e-6)
}
