use super::drift::Drift;
use super::spec::{Judge, PcaParams};
use crate::ModelError;
use crate::artifact::TensorMap;
use faer::{Mat, Side};
use foreglow_core::{Detector, RawScore, Row, Scope};
use ndarray::{Array2, ArrayView2};

/// Rows are held inside ± this many train deviations when directions are sought, so that few wild rows do not own one.
const FIT_CLIP: f64 = 20.0;

/// Eigenvectors of the largest eigenvalues of a covariance that together explain `share` of the variance, one a column.
///
/// # Errors
/// [`ModelError::Data`] when the decomposition fails (a covariance that is not finite).
pub(crate) fn principal_directions(covariance: &Array2<f64>, share: f64) -> Result<Array2<f64>, ModelError> {
    let d = covariance.nrows();
    let matrix = Mat::from_fn(d, d, |i, j| covariance[[i, j]]);
    let eigen = matrix
        .self_adjoint_eigen(Side::Lower)
        .map_err(|e| ModelError::data("principal components", format!("no eigenvectors of the covariance: {e:?}")))?;
    let values: Vec<f64> = (0..d).map(|i| eigen.S().column_vector()[i].max(0.0)).collect();
    let total: f64 = values.iter().sum();
    let mut kept = 0;
    let mut sum = 0.0;
    while kept < d && total > 0.0 && sum < share * total {
        kept += 1;
        sum += values[d - kept];
    }
    // faer sorts ascending: the last column is the leading direction.
    Ok(Array2::from_shape_fn((d, kept), |(i, k)| eigen.U()[(i, d - 1 - k)]))
}

/// Linear PCA of each row: what the main directions of train leave over (Jackson and Mudholkar 1979,
/// doi:10.1080/00401706.1979.10489779, for the squared residual of a row).
///
/// Works on scaled rows (mean 0, deviation 1 in train); a missing value counts as the train mean and gets no score.
/// O(signals x directions) a row;
/// state: a slow centre of each signal's residual.
#[derive(Debug, Clone, PartialEq)]
pub struct PcaDetector {
    /// One row a direction.
    directions: Array2<f64>,
    /// What makes a squared residual the signal's part in it, see [`PcaDetector::blame`].
    blame: Vec<f64>,
    clip: f64,
    judge: Judge,
    drift: Drift,
}

impl PcaDetector {
    /// Fits on scaled rows (time, signal).
    ///
    /// # Errors
    /// [`ModelError::Data`] below two rows or without a signal.
    pub fn fit(rows: ArrayView2<'_, f64>, params: &PcaParams) -> Result<Self, ModelError> {
        if rows.nrows() < 2 || rows.ncols() == 0 {
            let problem = format!("{} rows of {} signals: give at least 2 rows of 1", rows.nrows(), rows.ncols());
            return Err(ModelError::data("principal components", problem));
        }
        let z = rows.mapv(|v| if v.is_nan() { 0.0 } else { v.clamp(-FIT_CLIP, FIT_CLIP) });
        let covariance = z.t().dot(&z) / z.nrows() as f64;
        let directions = principal_directions(&covariance, params.variance)?.reversed_axes();
        let directions = directions.as_standard_layout().to_owned();
        Ok(Self {
            blame: blame(&directions),
            directions,
            clip: params.clip,
            judge: params.judge,
            drift: Drift::new(params.adapt),
        })
    }

    /// One factor a signal: a squared residual times it is how much of the row's squared residual would go if that
    /// signal alone were put right (reconstruction-based contribution, Alcala and Qin 2009,
    /// doi:10.1016/j.automatica.2009.02.027). The plain residual smears: a signal that leads others shows in theirs. With
    /// one signal at fault this one is the largest.
    pub fn blame(&self) -> &[f64] {
        &self.blame
    }

    /// Number of kept directions.
    pub fn rank(&self) -> usize {
        self.directions.nrows()
    }

    fn value(&self, v: f64) -> f64 {
        if v.is_nan() { 0.0 } else { v.clamp(-self.clip, self.clip) }
    }

    /// Saves the directions under `prefix`.
    pub fn save(&self, map: &mut TensorMap, prefix: &str) {
        let (k, d) = self.directions.dim();
        map.put_f64(format!("{prefix}directions"), &[k, d], self.directions.iter().copied().collect());
        let judge = f64::from(u8::from(self.judge == Judge::Row));
        map.put_f64(format!("{prefix}pca"), &[3], vec![self.clip, judge, self.drift.memory]);
    }

    /// Loads what [`PcaDetector::save`] wrote.
    ///
    /// # Errors
    /// [`ModelError::Artifact`] when a tensor is missing or damaged.
    pub fn load(map: &TensorMap, prefix: &str) -> Result<Self, ModelError> {
        let name = format!("{prefix}directions");
        let (shape, values) = map.f64s(&name)?;
        let &[k, d] = shape else {
            return Err(ModelError::artifact(name, format!("shape {shape:?} is no table of directions")));
        };
        if values.iter().any(|v| !v.is_finite()) {
            return Err(ModelError::artifact(name, "a direction is not finite; fit the artifact again"));
        }
        let directions =
            Array2::from_shape_vec((k, d), values.to_vec()).map_err(|e| ModelError::artifact(&name, e.to_string()))?;
        let head = map.f64s_of(&format!("{prefix}pca"), 3)?;
        if !(head[0] > 0.0 && head[2] >= 0.0) {
            return Err(ModelError::artifact(format!("{prefix}pca"), format!("clip {}, memory {}", head[0], head[2])));
        }
        let judge = if head[1] == 0.0 { Judge::Signals } else { Judge::Row };
        Ok(Self { blame: blame(&directions), directions, clip: head[0], judge, drift: Drift { memory: head[2] } })
    }
}

/// `1 / (1 - squared length of the signal's row of directions)`: of a signal that the directions explain wholly nothing
/// is left over, and it gets no blame.
fn blame(directions: &Array2<f64>) -> Vec<f64> {
    directions
        .columns()
        .into_iter()
        .map(|c| {
            let left = 1.0 - c.iter().map(|v| v * v).sum::<f64>();
            if left > 1e-9 { 1.0 / left } else { 0.0 }
        })
        .collect()
}

impl Detector for PcaDetector {
    fn name(&self) -> &'static str {
        "pca"
    }

    fn scope(&self) -> Scope {
        if self.judge == Judge::Row { Scope::Group } else { Scope::Signal }
    }

    fn state_len(&self) -> usize {
        self.drift.state_len(self.directions.ncols())
    }

    fn reset(&self, state: &mut [f64]) {
        state.fill(0.0);
    }

    fn step(&self, state: &mut [f64], row: &Row<'_>, out: &mut RawScore) {
        let z = row.values;
        if z.iter().all(|v| v.is_nan()) {
            return;
        }
        for (o, v) in out.signals.iter_mut().zip(z) {
            *o = self.value(*v);
        }
        for direction in self.directions.rows() {
            let along: f64 = direction.iter().zip(z).map(|(a, v)| a * self.value(*v)).sum();
            for (o, a) in out.signals.iter_mut().zip(direction) {
                *o -= along * a;
            }
        }
        let mut sum = 0.0;
        for (i, (o, v)) in out.signals.iter_mut().zip(z).enumerate() {
            if v.is_nan() {
                *o = f64::NAN;
            } else {
                *o = self.drift.off(state, i, *o).abs();
                sum += *o * *o;
            }
        }
        if self.judge == Judge::Row {
            out.group = sum;
            for (o, w) in out.signals.iter_mut().zip(&self.blame) {
                *o = if o.is_nan() { 0.0 } else { *o * *o * w };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreglow_core::{Seed, Timestamp};
    use rand::Rng;

    #[test]
    fn blames_the_one_signal_that_left() {
        let mut rng = Seed(3).rng();
        let rows = Array2::from_shape_fn((400, 1), |_| rng.r#gen::<f64>() * 3.4 - 1.7)
            .dot(&ndarray::array![[1.0, 1.0, 1.0]])
            + Array2::from_shape_fn((400, 3), |_| 0.1 * rng.r#gen::<f64>());
        for judge in [Judge::Signals, Judge::Row] {
            let fitted = PcaDetector::fit(rows.view(), &PcaParams { judge, adapt: 0, ..PcaParams::default() }).unwrap();
            assert_eq!(fitted.rank(), 1);
            for strange in 0..3 {
                let mut z = [0.2; 3];
                z[strange] += 15.0;
                let mut out = RawScore::new(3);
                fitted.step(&mut [], &Row { time: Timestamp(0), values: &z, gap: 0 }, &mut out);
                let part = |i: usize| {
                    if judge == Judge::Row {
                        out.signals[i]
                    } else {
                        out.signals[i] * out.signals[i] * fitted.blame()[i]
                    }
                };
                assert!((0..3).all(|i| i == strange || part(i) < 0.5 * part(strange)), "{:?}", out.signals);
            }
        }
    }
}
