use crate::ModelError;
use foreglow_core::stats::mean;
use ndarray::{Array2, ArrayView2};

/// Scaled values are held inside ± this.
const CLIP: f64 = 1e6;

/// Mean and standard deviation of each signal in train; what detectors see is `(x - mean) / deviation`.
///
/// A signal that is constant in train is divided by a hundredth of its level (1 where that is 0): leaving the constant
/// is a deviation in proportion. One that is missing throughout stays missing.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scaling {
    pub(super) centre: Vec<f64>,
    pub(super) spread: Vec<f64>,
}

impl Scaling {
    pub(super) fn fit(rows: ArrayView2<'_, f64>) -> Self {
        let (mut centre, mut spread) = (Vec::with_capacity(rows.ncols()), Vec::with_capacity(rows.ncols()));
        for column in rows.columns() {
            let there: Vec<f64> = column.iter().copied().filter(|v| v.is_finite()).collect();
            // In units of the largest, so that sums and squares neither overflow nor vanish.
            let unit = there.iter().fold(0.0f64, |m, v| m.max(v.abs())).max(f64::MIN_POSITIVE);
            let c = mean(&there.iter().map(|v| v / unit).collect::<Vec<_>>());
            let square = mean(&there.iter().map(|v| (v / unit - c) * (v / unit - c)).collect::<Vec<_>>());
            let deviation = square.sqrt() * unit;
            let c = if c.is_finite() { c * unit } else { 0.0 };
            let moves = deviation.is_finite() && deviation > 1e-9 * unit && deviation > f64::MIN_POSITIVE * 1e9;
            let still = if c.abs() > f64::MIN_POSITIVE * 1e9 { 0.01 * c.abs() } else { 1.0 };
            centre.push(c);
            spread.push(if moves { deviation } else { still });
        }
        Self { centre, spread }
    }

    /// One scaled value; NaN where it is not finite.
    pub(super) fn apply(&self, signal: usize, x: f64) -> f64 {
        if !x.is_finite() {
            return f64::NAN;
        }
        let (c, s) = (self.centre[signal], self.spread[signal]);
        (x / s - c / s).clamp(-CLIP, CLIP)
    }

    /// A scaled table.
    pub(super) fn table(&self, rows: ArrayView2<'_, f64>) -> Array2<f64> {
        Array2::from_shape_fn(rows.dim(), |(t, i)| self.apply(i, rows[[t, i]]))
    }

    pub(super) fn write(&self, out: &mut Vec<f64>) {
        out.extend(&self.centre);
        out.extend(&self.spread);
    }

    pub(super) fn read(flat: &mut &[f64], signals: usize) -> Result<Self, ModelError> {
        let damaged = || ModelError::artifact("calibration", "a scaling is damaged; fit or fetch the artifact again");
        let (centre, rest) = flat.split_at_checked(signals).ok_or_else(damaged)?;
        let (spread, rest) = rest.split_at_checked(signals).ok_or_else(damaged)?;
        if !(centre.iter().all(|v| v.is_finite()) && spread.iter().all(|v| v.is_finite() && *v > 0.0)) {
            return Err(damaged());
        }
        *flat = rest;
        Ok(Self { centre: centre.to_vec(), spread: spread.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn hard_columns() {
        let rows = array![[1.0, 5.0, f64::NAN, 1e308, 0.0], [3.0, 5.0, f64::NAN, -1e308, 0.0]];
        let s = Scaling::fit(rows.view());
        assert_eq!((s.apply(0, 1.0), s.apply(0, 3.0)), (-1.0, 1.0));
        assert_eq!((s.apply(1, 5.0), s.apply(4, 2.0)), (0.0, 2.0));
        assert!((s.apply(1, 5.05) - 1.0).abs() < 1e-9);
        assert!((s.apply(3, 1e308) - 1.0).abs() < 1e-9 && s.apply(2, 7.0) == 7.0 && s.apply(0, f64::INFINITY).is_nan());
        let mut flat = Vec::new();
        s.write(&mut flat);
        assert_eq!(Scaling::read(&mut &flat[..], 5).unwrap(), s);
        assert!(Scaling::read(&mut &flat[1..], 5).is_err());
    }
}
