use super::choose::{choose_kmeans, choose_mixture};
use super::gaussian::{Gaussian, log_density};
use super::scaling::{Scaling, check_rows};
use super::spec::{ClusterKind, ClusterSpec};
use crate::ModelError;
use crate::artifact::TensorMap;
use foreglow_core::Seed;

/// The states a group was seen in, ordered by how much of the time they took.
///
/// Signals are scaled inside, by median and the span of the middle 90 %. k-means: the state is the nearest centre, the distance is over the
/// signals that are there (Euclidean, per signal). Mixture: the state is the component with the largest weighted
/// density; a missing signal counts as the component's mean. Scoring allocates nothing and is O(states · signals) or
/// O(states · signals²).
#[derive(Debug, Clone, PartialEq)]
pub struct OperatingStates {
    scaling: Scaling,
    shares: Vec<f64>,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    /// Centres, and the root mean square distance (per signal) of each state's rows from its centre.
    Kmeans {
        centres: Vec<Vec<f64>>,
        spread: Vec<f64>,
    },
    Mixture(Vec<Gaussian>),
}

/// A state narrower than this (scaled units) is taken to be this wide.
const LEAST_SPREAD: f64 = 0.05;

impl OperatingStates {
    /// Fits on `rows` (row-major, `width` signals a row, NaN = missing). Rows with less than half their signals are left
    /// out.
    ///
    /// # Errors
    /// [`ModelError::Parameter`] for a field out of range, [`ModelError::Data`] for fewer than 20 usable rows.
    pub fn fit(rows: &[f64], width: usize, spec: &ClusterSpec, seed: Seed) -> Result<Self, ModelError> {
        spec.check()?;
        check_rows(rows, width)?;
        let scaling = Scaling::fit(rows, width);
        let table = scaling.table(rows, spec.max_rows)?;
        let seed = seed.child("operating states");
        let kind = match spec.kind {
            ClusterKind::Kmeans => {
                let p = choose_kmeans(&table, spec, seed)?;
                let mut spread = vec![0.0; p.centres.nrows()];
                let mut count = vec![0.0f64; p.centres.nrows()];
                for (row, s) in table.rows().into_iter().zip(&p.member) {
                    let off = row.iter().zip(p.centres.row(*s)).map(|(a, b)| (a - b) * (a - b));
                    spread[*s] += off.sum::<f64>() / width as f64;
                    count[*s] += 1.0;
                }
                for (s, c) in spread.iter_mut().zip(&count) {
                    *s = (*s / c.max(1.0)).sqrt().max(LEAST_SPREAD);
                }
                Kind::Kmeans { centres: p.centres.rows().into_iter().map(|r| r.to_vec()).collect(), spread }
            }
            ClusterKind::Gmm => Kind::Mixture(choose_mixture(&table, spec, seed)?),
        };
        let mut states = Self { scaling, shares: Vec::new(), kind };
        let mut taken = vec![0.0; states.count()];
        for row in table.rows() {
            taken[states.nearest(|j| row[j]).0] += 1.0 / table.nrows() as f64;
        }
        let mut order: Vec<usize> = (0..taken.len()).filter(|s| taken[*s] > 0.0).collect();
        order.sort_by(|a, b| taken[*b].total_cmp(&taken[*a]).then(a.cmp(b)));
        states.shares = order.iter().map(|s| taken[*s]).collect();
        states.kind = match states.kind {
            Kind::Kmeans { centres, spread } => Kind::Kmeans {
                centres: order.iter().map(|s| centres[*s].clone()).collect(),
                spread: order.iter().map(|s| spread[*s]).collect(),
            },
            Kind::Mixture(parts) => Kind::Mixture(order.iter().map(|s| parts[*s].clone()).collect()),
        };
        Ok(states)
    }

    /// How many states.
    pub fn count(&self) -> usize {
        match &self.kind {
            Kind::Kmeans { centres, .. } => centres.len(),
            Kind::Mixture(parts) => parts.len(),
        }
    }

    /// How many signals a row has.
    pub fn width(&self) -> usize {
        self.scaling.centre.len()
    }

    /// Which clusterer it was.
    pub fn kind(&self) -> ClusterKind {
        match self.kind {
            Kind::Kmeans { .. } => ClusterKind::Kmeans,
            Kind::Mixture(_) => ClusterKind::Gmm,
        }
    }

    /// Share of the fitted rows in each state, falling.
    pub fn shares(&self) -> &[f64] {
        &self.shares
    }

    /// The middle of a state in the signals' own units.
    pub fn centre(&self, state: usize) -> Vec<f64> {
        let scaled = match &self.kind {
            Kind::Kmeans { centres, .. } => &centres[state],
            Kind::Mixture(parts) => &parts[state].mean,
        };
        scaled.iter().enumerate().map(|(j, z)| self.scaling.centre[j] + z * self.scaling.spread[j]).collect()
    }

    /// The state of a row; `None` when every value is missing.
    pub fn state_of(&self, row: &[f64]) -> Option<usize> {
        row.iter().any(|v| v.is_finite()).then(|| self.nearest(|j| self.scaling.apply(j, row[j])).0)
    }

    /// How unlike all states a row is, larger is stranger. k-means: the smallest distance in units of that state's own
    /// spread; mixture: minus the natural logarithm of the density. NaN when every value is missing.
    pub fn strangeness(&self, row: &[f64]) -> f64 {
        if row.iter().any(|v| v.is_finite()) { self.nearest(|j| self.scaling.apply(j, row[j])).1 } else { f64::NAN }
    }

    /// [`OperatingStates::state_of`] and [`OperatingStates::strangeness`] at once, in one pass; `scaled` (one number a
    /// signal) is where the scaled row is kept meanwhile.
    pub fn judge(&self, row: &[f64], scaled: &mut [f64]) -> Option<(usize, f64)> {
        for (j, (s, v)) in scaled.iter_mut().zip(row).enumerate() {
            *s = self.scaling.apply(j, *v);
        }
        scaled.iter().any(|v| !v.is_nan()).then(|| self.nearest(|j| scaled[j]))
    }

    /// Natural logarithm of the mixture's density in scaled units; `None` for k-means.
    pub fn log_density(&self, row: &[f64]) -> Option<f64> {
        match &self.kind {
            Kind::Mixture(parts) => Some(log_density(parts, |j| self.scaling.apply(j, row[j]))),
            Kind::Kmeans { .. } => None,
        }
    }

    /// Writes how far each signal is from the middle of `state`, in scaled units, 0 for a missing one.
    pub fn deviations(&self, row: &[f64], state: usize, out: &mut [f64]) {
        let centre = match &self.kind {
            Kind::Kmeans { centres, .. } => &centres[state],
            Kind::Mixture(parts) => &parts[state].mean,
        };
        for (j, o) in out.iter_mut().enumerate() {
            let z = self.scaling.apply(j, row[j]) - centre[j];
            *o = if z.is_nan() { 0.0 } else { z };
        }
    }

    /// State and strangeness of a scaled row.
    fn nearest(&self, z: impl Fn(usize) -> f64) -> (usize, f64) {
        match &self.kind {
            Kind::Kmeans { centres, spread } => {
                let mut best = (0, f64::INFINITY, f64::INFINITY);
                for (s, centre) in centres.iter().enumerate() {
                    let (mut sum, mut n) = (0.0, 0usize);
                    for (j, c) in centre.iter().enumerate() {
                        let off = z(j) - c;
                        if !off.is_nan() {
                            sum += off * off;
                            n += 1;
                        }
                    }
                    let distance = (sum / n.max(1) as f64).sqrt();
                    if distance < best.1 {
                        best = (s, distance, best.2);
                    }
                    best.2 = best.2.min(distance / spread[s]);
                }
                (best.0, best.2)
            }
            Kind::Mixture(parts) => {
                // As `log_density`, which sums in the same order.
                let (mut best, mut top, mut sum) = (0, f64::NEG_INFINITY, 0.0);
                for (s, g) in parts.iter().enumerate() {
                    let l = g.log_density(&z);
                    if l > top {
                        sum = sum * (top - l).exp() + 1.0;
                        (best, top) = (s, l);
                    } else {
                        sum += (l - top).exp();
                    }
                }
                (best, -(top + sum.ln()))
            }
        }
    }

    /// Saves the states under `prefix`.
    pub fn save(&self, map: &mut TensorMap, prefix: &str) {
        let (k, d) = (self.count(), self.width());
        map.put_f64(format!("{prefix}centre"), &[d], self.scaling.centre.clone());
        map.put_f64(format!("{prefix}spread"), &[d], self.scaling.spread.clone());
        map.put_f64(format!("{prefix}shares"), &[k], self.shares.clone());
        match &self.kind {
            Kind::Kmeans { centres, spread } => {
                map.put_f64(format!("{prefix}kmeans.centres"), &[k, d], centres.concat());
                map.put_f64(format!("{prefix}kmeans.spread"), &[k], spread.clone());
            }
            Kind::Mixture(parts) => {
                let means = parts.iter().flat_map(|g| g.mean.iter().copied()).collect();
                let whiten = parts.iter().flat_map(|g| g.whiten.iter().copied()).collect();
                map.put_f64(format!("{prefix}gmm.means"), &[k, d], means);
                map.put_f64(format!("{prefix}gmm.whiten"), &[k, d, d], whiten);
                map.put_f64(format!("{prefix}gmm.constants"), &[k], parts.iter().map(|g| g.constant).collect());
            }
        }
    }

    /// Loads what [`OperatingStates::save`] wrote.
    ///
    /// # Errors
    /// [`ModelError::Artifact`] when a tensor is missing, of another length, or not finite.
    pub fn load(map: &TensorMap, prefix: &str) -> Result<Self, ModelError> {
        let read = |name: &str, len: usize| {
            let key = format!("{prefix}{name}");
            let v = map.f64s_of(&key, len)?;
            if v.iter().all(|x| x.is_finite()) {
                Ok(v)
            } else {
                Err(ModelError::artifact(key, "a number is not finite; fit the artifact again"))
            }
        };
        let d = map.f64s(&format!("{prefix}centre"))?.1.len();
        let k = map.f64s(&format!("{prefix}shares"))?.1.len();
        if d == 0 || k == 0 {
            return Err(ModelError::artifact(format!("{prefix}shares"), "operating states without a state or signal"));
        }
        let scaling = Scaling { centre: read("centre", d)?, spread: read("spread", d)? };
        let shares = read("shares", k)?;
        let kind = if map.contains(&format!("{prefix}kmeans.centres")) {
            let centres = read("kmeans.centres", k * d)?.chunks_exact(d).map(<[f64]>::to_vec).collect();
            Kind::Kmeans { centres, spread: read("kmeans.spread", k)? }
        } else {
            let (means, whiten) = (read("gmm.means", k * d)?, read("gmm.whiten", k * d * d)?);
            let constants = read("gmm.constants", k)?;
            let part = |s: usize| Gaussian {
                mean: means[s * d..(s + 1) * d].to_vec(),
                whiten: whiten[s * d * d..(s + 1) * d * d].to_vec(),
                constant: constants[s],
            };
            Kind::Mixture((0..k).map(part).collect())
        };
        Ok(Self { scaling, shares, kind })
    }
}

#[cfg(test)]
#[path = "states_tests.rs"]
mod tests;
