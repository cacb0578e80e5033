use crate::ModelError;
use foreglow_core::stats::{median, quantile, std_dev};
use ndarray::Array2;

/// Scaled values are held inside ± this when fitting, so that few wild rows make no state of their own.
const FIT_CLIP: f64 = 10.0;
/// And inside ± this when scoring.
pub(super) const CLIP: f64 = 1e6;
/// Fewer usable rows than this are refused.
pub(super) const LEAST_ROWS: usize = 20;

/// Centre and spread of each signal.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scaling {
    pub(super) centre: Vec<f64>,
    pub(super) spread: Vec<f64>,
}

impl Scaling {
    /// Median and the distance of the 5 % and 95 % quantiles over 3.29 (a normal sample's standard deviation) of each
    /// column. States of a system lie far apart, so a measure of the middle half alone would see the commonest state
    /// only. Where the quantiles are equal the standard deviation counts, for a constant column 1.
    pub(super) fn fit(rows: &[f64], width: usize) -> Self {
        let (mut centre, mut spread) = (Vec::with_capacity(width), Vec::with_capacity(width));
        for j in 0..width {
            let column: Vec<f64> =
                rows.iter().skip(j).step_by(width).map(|v| if v.is_finite() { *v } else { f64::NAN }).collect();
            let c = median(&column);
            let floor = 1e-9 * column.iter().filter(|v| v.is_finite()).fold(0.0f64, |m, v| m.max(v.abs()));
            let robust = quantile(&column, 0.95) / 3.29 - quantile(&column, 0.05) / 3.29;
            let s = if robust > floor { robust } else { std_dev(&column) };
            centre.push(if c.is_finite() { c } else { 0.0 });
            spread.push(if s.is_finite() && s > floor { s } else { 1.0f64.max(floor) });
        }
        Self { centre, spread }
    }

    /// One scaled value; NaN where it is not finite.
    pub(super) fn apply(&self, j: usize, v: f64) -> f64 {
        if v.is_finite() { (v / self.spread[j] - self.centre[j] / self.spread[j]).clamp(-CLIP, CLIP) } else { f64::NAN }
    }

    /// The rows that fitting uses: at least half the signals there, spread evenly over `max_rows`, missing values at the
    /// centre, wild ones clipped. Every number is finite.
    pub(super) fn table(&self, rows: &[f64], max_rows: usize) -> Result<Array2<f64>, ModelError> {
        let width = self.centre.len();
        let usable: Vec<&[f64]> =
            rows.chunks_exact(width).filter(|r| r.iter().filter(|v| v.is_finite()).count() * 2 >= width).collect();
        if usable.len() < LEAST_ROWS {
            let problem = format!("{} rows with half their signals; at least {LEAST_ROWS} are needed", usable.len());
            return Err(ModelError::data("operating states", problem));
        }
        let n = usable.len().min(max_rows);
        Ok(Array2::from_shape_fn((n, width), |(i, j)| {
            let z = self.apply(j, usable[i * usable.len() / n][j]);
            if z.is_nan() { 0.0 } else { z.clamp(-FIT_CLIP, FIT_CLIP) }
        }))
    }
}

/// Refuses what is no table of rows.
pub(super) fn check_rows(rows: &[f64], width: usize) -> Result<(), ModelError> {
    if width == 0 || !rows.len().is_multiple_of(width) {
        let problem = format!("{} values are no rows of {width} signals", rows.len());
        return Err(ModelError::data("operating states", problem));
    }
    Ok(())
}
