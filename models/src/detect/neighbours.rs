use super::drift::Drift;
use super::pca::principal_directions;
use super::spec::NeighboursParams;
use crate::ModelError;
use crate::artifact::TensorMap;
use foreglow_core::stats::median;
use foreglow_core::{Detector, RawScore, Row, Scope};
use ndarray::{Array2, ArrayBase, ArrayView2};
use std::ops::Range;

/// Directions count as if their variance were at least this share of the largest: what hardly varied in train would
/// otherwise decide alone. This and the defaults of [`NeighboursParams`] were chosen on faults put into train rows.
const LEAST_VARIANCE: f64 = 0.01;
/// Rows of the bank that are compared at a time.
const LANES: usize = 8;
/// Rows of train that the usual distance is taken from,
const PROBES: usize = 1000;
/// each from rows outside its own one of so many stretches of train.
const FOLDS: usize = 5;

/// Distance to the nearest remembered row of train, in whitened signals.
///
/// The distance to nearest neighbours is one of the strongest plain detectors (Ramaswamy, Rastogi and Shim 2000,
/// doi:10.1145/335191.335437) and the one that knows several usual states without being told their number. Rows are held
/// inside a clip, smoothed by a short running mean and whitened, so that a break between signals that always moved together
/// counts as much as a large value. A missing value counts as its last mean. O(signals x (signals + bank)) a row; state: a
/// mean of each signal, a slow centre of the distance, and the place where a row is whitened.
#[derive(Debug, Clone, PartialEq)]
pub struct NeighboursDetector {
    /// One direction a row, divided by the deviation along it.
    whitening: Array2<f64>,
    /// Deviation along each direction.
    deviations: Vec<f64>,
    /// Whitened rows in blocks of [`LANES`]: direction by direction, then row by row.
    bank: Vec<f32>,
    clip: f64,
    steps: f64,
    /// Median and deviation of the distance from other times of train.
    usual: (f64, f64),
    drift: Drift,
}

impl NeighboursDetector {
    /// Fits on the scaled rows (time, signal) of one group or of several that share it.
    ///
    /// # Errors
    /// [`ModelError::Data`] below 16 rows or without a signal.
    pub fn fit(groups: &[ArrayView2<'_, f64>], params: &NeighboursParams) -> Result<Self, ModelError> {
        let width = groups.first().map_or(0, ArrayBase::ncols);
        let total: usize = groups.iter().map(ArrayBase::nrows).sum();
        if total < 2 * LANES || width == 0 {
            let problem = format!("{total} rows of {width} signals: give at least {} rows of 1", 2 * LANES);
            return Err(ModelError::data("nearest neighbours", problem));
        }
        let mut it = Self {
            whitening: Array2::zeros((0, width)),
            deviations: Vec::new(),
            bank: Vec::new(),
            clip: params.clip,
            steps: params.steps as f64,
            usual: (0.0, 1.0),
            drift: Drift::new(params.adapt),
        };
        let mut smooth = Array2::zeros((total, width));
        let mut to = smooth.rows_mut().into_iter();
        for group in groups {
            let mut mean = vec![0.0; width];
            for (row, mut to) in group.rows().into_iter().zip(&mut to) {
                it.smooth(&mut mean, row.iter().copied());
                to.iter_mut().zip(&mean).for_each(|(t, m)| *t = *m);
            }
        }
        let covariance = smooth.t().dot(&smooth) / total as f64;
        let mut directions = principal_directions(&covariance, f64::INFINITY)?;
        if directions.ncols() == 0 {
            directions = Array2::eye(width);
        }
        let variance = |d: ndarray::ArrayView1<'_, f64>| d.dot(&covariance.dot(&d));
        let largest = directions.columns().into_iter().map(variance).fold(0.0, f64::max);
        // A train that is constant in all tells no direction from another.
        let least = if largest > 0.0 { LEAST_VARIANCE * largest } else { 1.0 };
        it.deviations = directions.columns().into_iter().map(|d| libm::sqrt(variance(d).max(least))).collect();
        it.whitening = directions.reversed_axes().as_standard_layout().to_owned();
        for (mut d, s) in it.whitening.rows_mut().into_iter().zip(&it.deviations) {
            d /= *s;
        }
        let white = smooth.dot(&it.whitening.t());
        let every = total.div_ceil(params.bank);
        let rows: Vec<usize> = (0..total).step_by(every).collect();
        let directions = it.deviations.len();
        it.bank = vec![0.0; rows.len().div_ceil(LANES) * LANES * directions];
        for at in 0..rows.len().div_ceil(LANES) * LANES {
            // The last block is filled up with its last row, which changes no minimum.
            let row = white.row(rows[at.min(rows.len() - 1)]);
            for (k, v) in row.iter().enumerate() {
                it.bank[(at / LANES * directions + k) * LANES + at % LANES] = *v as f32;
            }
        }
        // What is usual between rows of other times: neighbours in time are nearer than rows to come will ever be.
        let fold = |at: usize| at * FOLDS / total;
        let distances: Vec<f64> = (0..total)
            .step_by(total.div_ceil(PROBES))
            .map(|at| {
                let mut own =
                    rows.partition_point(|r| fold(*r) < fold(at))..rows.partition_point(|r| fold(*r) <= fold(at));
                if own.end == rows.len() {
                    own.end = usize::MAX;
                }
                libm::sqrt(it.nearest(&white.row(at).to_vec(), &own).1)
            })
            .collect();
        let usual = median(&distances);
        // Wild rows of train do not widen what is usual: deviations are held inside as those of the drift are.
        let capped = distances.iter().map(|d| (d - usual).powi(2).min(9.0 * usual * usual));
        let deviation = libm::sqrt(capped.sum::<f64>() / distances.len() as f64);
        it.usual = (usual, if deviation > 0.0 { deviation } else { 1.0 });
        Ok(it)
    }

    /// Moves the running mean of each signal.
    fn smooth(&self, mean: &mut [f64], values: impl Iterator<Item = f64>) {
        for (m, v) in mean.iter_mut().zip(values).filter(|(_, v)| !v.is_nan()) {
            *m += 2.0 / (self.steps + 1.0) * (v.clamp(-self.clip, self.clip) - *m);
        }
    }

    /// The nearest row of the bank, but for those to `skip`, and its squared distance.
    fn nearest(&self, white: &[f64], skip: &Range<usize>) -> (usize, f64) {
        let mut best = (0, f32::INFINITY);
        for (block, rows) in self.bank.chunks_exact(LANES * white.len()).enumerate() {
            let mut sums = [0.0f32; LANES];
            for (v, lanes) in white.iter().zip(rows.chunks_exact(LANES)) {
                let v = *v as f32;
                for (s, b) in sums.iter_mut().zip(lanes) {
                    *s += (v - b) * (v - b);
                }
            }
            for (lane, s) in sums.iter().enumerate() {
                let at = block * LANES + lane;
                if *s < best.1 && !skip.contains(&at) {
                    best = (at, *s);
                }
            }
        }
        (best.0, f64::from(best.1))
    }

    /// Saves it under `prefix`.
    pub fn save(&self, map: &mut TensorMap, prefix: &str) {
        let (k, d) = self.whitening.dim();
        map.put_f64(format!("{prefix}whitening"), &[k, d], self.whitening.iter().copied().collect());
        map.put_f64(format!("{prefix}deviations"), &[k], self.deviations.clone());
        map.put_f32(format!("{prefix}bank"), &[self.bank.len() / (k * LANES), k, LANES], self.bank.clone());
        let head = vec![self.clip, self.steps, self.usual.0, self.usual.1, self.drift.memory];
        map.put_f64(format!("{prefix}neighbours"), &[5], head);
    }

    /// Loads what [`NeighboursDetector::save`] wrote.
    ///
    /// # Errors
    /// [`ModelError::Artifact`] when a tensor is missing or damaged.
    pub fn load(map: &TensorMap, prefix: &str) -> Result<Self, ModelError> {
        let name = format!("{prefix}whitening");
        let (shape, values) = map.f64s(&name)?;
        let &[k, d] = shape else {
            return Err(ModelError::artifact(name, format!("shape {shape:?} is no table of directions")));
        };
        if values.iter().any(|v| !v.is_finite()) {
            return Err(ModelError::artifact(name, "a direction is not finite; fit the artifact again"));
        }
        let whitening =
            Array2::from_shape_vec((k, d), values.to_vec()).map_err(|e| ModelError::artifact(&name, e.to_string()))?;
        let deviations = map.f64s_of(&format!("{prefix}deviations"), k)?;
        let name = format!("{prefix}bank");
        let bank = map.f32s(&name)?.1.to_vec();
        if bank.is_empty() || bank.len() % (k * LANES).max(1) != 0 || bank.iter().any(|v| !v.is_finite()) {
            return Err(ModelError::artifact(name, "the remembered rows are damaged; fit the artifact again"));
        }
        let head = map.f64s_of(&format!("{prefix}neighbours"), 5)?;
        if !(head[0] > 0.0 && head[1] >= 1.0 && head[2] >= 0.0 && head[3] > 0.0 && head[4] >= 0.0) {
            return Err(ModelError::artifact(format!("{prefix}neighbours"), format!("{head:?} is out of range")));
        }
        Ok(Self {
            whitening,
            deviations,
            bank,
            clip: head[0],
            steps: head[1],
            usual: (head[2], head[3]),
            drift: Drift { memory: head[4] },
        })
    }
}

impl Detector for NeighboursDetector {
    fn name(&self) -> &'static str {
        "neighbours"
    }

    fn scope(&self) -> Scope {
        Scope::Group
    }

    fn state_len(&self) -> usize {
        self.whitening.ncols() + self.drift.state_len(1) + self.deviations.len()
    }

    fn reset(&self, state: &mut [f64]) {
        state.fill(0.0);
    }

    fn step(&self, state: &mut [f64], row: &Row<'_>, out: &mut RawScore) {
        if row.values.iter().all(|v| v.is_nan()) {
            return;
        }
        let (mean, rest) = state.split_at_mut(self.whitening.ncols());
        let (centre, white) = rest.split_at_mut(self.drift.state_len(1));
        self.smooth(mean, row.values.iter().copied());
        for (w, d) in white.iter_mut().zip(self.whitening.rows()) {
            *w = d.iter().zip(&*mean).map(|(a, m)| a * m).sum();
        }
        let (at, squared) = self.nearest(white, &(0..0));
        let (usual, deviation) = self.usual;
        let off = self.drift.off(centre, 0, (libm::sqrt(squared) - usual) / deviation);
        out.group = (off + usual / deviation).max(0.0);
        // What separates the row from its neighbour, in signals again.
        out.signals.fill(0.0);
        let block = &self.bank[at / LANES * LANES * white.len()..];
        for (k, (w, s)) in white.iter().zip(&self.deviations).enumerate() {
            let apart = (w - f64::from(block[k * LANES + at % LANES])) * s * s;
            for (o, d) in out.signals.iter_mut().zip(self.whitening.row(k)) {
                *o += apart * d;
            }
        }
        for (o, v) in out.signals.iter_mut().zip(row.values) {
            *o = if v.is_nan() { 0.0 } else { *o * *o };
        }
        white.fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreglow_core::{Seed, Timestamp};
    use rand::Rng;

    /// Two states, in each of which the signals move together; a third signal never moves.
    fn train() -> Array2<f64> {
        let mut rng = Seed(3).rng();
        let mut rows = Array2::zeros((600, 3));
        for (i, mut r) in rows.rows_mut().into_iter().enumerate() {
            let state = if i / 50 % 2 == 0 { -1.0 } else { 1.0 };
            let common = state + 0.2 * rng.r#gen::<f64>();
            r[0] = common + 0.02 * rng.r#gen::<f64>();
            r[1] = common + 0.02 * rng.r#gen::<f64>();
        }
        rows
    }

    fn after(d: &NeighboursDetector, z: &[f64], steps: usize) -> RawScore {
        let mut state = vec![0.0; d.state_len()];
        let mut out = RawScore::new(z.len());
        for _ in 0..steps {
            d.step(&mut state, &Row { time: Timestamp(0), values: z, gap: 0 }, &mut out);
        }
        out
    }

    #[test]
    fn knows_both_states_and_blames_who_left_them() {
        let rows = train();
        let d = NeighboursDetector::fit(&[rows.view()], &NeighboursParams { adapt: 0, ..Default::default() }).unwrap();
        let usual = after(&d, &[1.1, 1.1, 0.0], 40).group.max(after(&d, &[-0.9, -0.9, 0.0], 40).group);
        for (z, who) in [([1.1, -0.9, 0.0], 2), ([1.1, 1.1, 0.8], 2), ([2.9, 1.1, 0.0], 0)] {
            let out = after(&d, &z, 40);
            assert!(out.group > 3.0 * usual, "{z:?}: {} where {usual} is usual", out.group);
            let most = (0..3).max_by(|a, b| out.signals[*a].total_cmp(&out.signals[*b])).unwrap();
            // Of two that contradict one another either may be the one.
            assert!(most == who || (z[0] > 1.0 && z[1] < 0.0 && most < 2), "{z:?}: {:?}", out.signals);
        }
        let gap = after(&d, &[f64::NAN, 1.1, 0.0], 40);
        assert!(gap.group.is_finite() && gap.signals[0] == 0.0);
        assert!(after(&d, &[f64::NAN; 3], 2).group.is_nan(), "a row without values has no score");
    }

    #[test]
    fn survives_saving_and_refuses_damage() {
        let rows = train();
        let d = NeighboursDetector::fit(&[rows.view()], &NeighboursParams::default()).unwrap();
        let mut map = TensorMap::default();
        d.save(&mut map, "a/");
        assert_eq!(NeighboursDetector::load(&map, "a/").unwrap(), d);
        map.put_f32("a/bank", &[7], vec![f32::NAN; 7]);
        assert!(NeighboursDetector::load(&map, "a/").unwrap_err().to_string().contains("a/bank"));
    }

    #[test]
    fn bad_train_is_refused_or_judged() {
        let p = NeighboursParams::default();
        let few = Array2::zeros((15, 2));
        assert!(NeighboursDetector::fit(&[few.view()], &p).unwrap_err().to_string().contains("15 rows"));
        let constant = Array2::from_elem((40, 2), 1.0);
        let missing = Array2::from_elem((40, 2), f64::NAN);
        for rows in [constant, missing] {
            let d = NeighboursDetector::fit(&[rows.view()], &p).unwrap();
            assert!(after(&d, &[1e308, -1e308], 3).group.is_finite());
        }
    }
}
