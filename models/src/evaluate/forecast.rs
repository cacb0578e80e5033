use foreglow_core::stats::mean;
use serde::{Deserialize, Serialize};

/// A window whose seasonal error is under this share of the mean absolute past is near-constant: MASE has no meaning.
const NEAR_CONSTANT: f64 = 1e-5;

/// The levels that SQL and WQL average over.
const DECILES: [f64; 9] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];

fn same_level(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

/// Pinball (quantile) loss of forecast `q` at `level` for the value `y`: `(y - q) level` above, `(q - y)(1 - level)` below.
pub fn pinball(y: f64, q: f64, level: f64) -> f64 {
    if y >= q { (y - q) * level } else { (q - y) * (1.0 - level) }
}

/// Mean absolute seasonal difference of the past, `mean |y_t - y_{t-m}|` over the pairs present: the scale of MASE and
/// SQL (Hyndman and Koehler 2006, doi:10.1016/j.ijforecast.2006.03.001).
///
/// Where the past is no longer than `season` (or `season` is 0), lag 1 is used, as GluonTS does. `NaN` without a pair.
pub fn seasonal_error(past: &[f64], season: usize) -> f64 {
    let lag = if season == 0 || past.len() <= season { 1 } else { season };
    let steps: Vec<f64> = past.iter().skip(lag).zip(past).map(|(now, then)| (now - then).abs()).collect();
    mean(&steps)
}

/// Symmetric mean absolute percentage error on M4's scale, 0..=200: `200 mean(|y - f| / (|y| + |f|))`, a pair of zeros
/// counts 0. Missing values of `actual` are left out; `NaN` when none is left.
pub fn smape(actual: &[f64], forecast: &[f64]) -> f64 {
    let terms: Vec<f64> = actual
        .iter()
        .zip(forecast)
        .filter(|(y, _)| !y.is_nan())
        .map(|(y, f)| {
            let size = y.abs() + f.abs();
            if f.is_nan() {
                200.0
            } else if size == 0.0 {
                0.0
            } else {
                200.0 * (y - f).abs() / size
            }
        })
        .collect();
    mean(&terms)
}

/// What one window is judged from.
#[derive(Debug, Clone, Copy)]
pub struct WindowInput<'a> {
    /// What happened, one value a step; `NaN` is missing and left out of every measure.
    pub actual: &'a [f64],
    /// One row a step, one value a level, as in `SeriesForecast`.
    pub quantiles: &'a [Vec<f64>],
    /// Ascending levels of the columns; 0.5 must be among them.
    pub levels: &'a [f64],
    /// Everything known before the window (for the scale).
    pub past: &'a [f64],
    /// Season length in steps (for the scale).
    pub season: usize,
}

/// Measures of one window of one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WindowMeasures {
    /// Mean absolute error of the median over the seasonal error; absent in a near-constant window.
    pub mase: Option<f64>,
    /// Scaled quantile loss: mean over deciles and steps of twice the pinball loss, over the seasonal error; absent in a
    /// near-constant window.
    pub sql: Option<f64>,
    /// sMAPE of the median, 0..=200.
    pub smape: f64,
    /// Mean absolute error of the median.
    pub mae: f64,
    /// Mean squared error of the median.
    pub mse: f64,
    /// The seasonal error that scaled the window.
    pub seasonal_error: f64,
    /// Whether the past was near-constant.
    pub near_constant: bool,
    /// Steps that were judged.
    pub steps: usize,
    /// Twice the pinball loss, mean over deciles, summed over steps: the numerator of WQL.
    pub quantile_loss: f64,
    /// Sum of absolute values: the denominator of WQL and ND.
    pub absolute: f64,
    /// A level each: `(level, steps at or under that quantile)`.
    pub under: Vec<(f64, usize)>,
    /// A symmetric band each: `(nominal cover, steps inside, ends included)`.
    pub inside: Vec<(f64, usize)>,
}

/// Judges one window; `None` when no step has an actual value, no column is the 0.5 level, or the shapes disagree.
///
/// A missing forecast of a known value makes the errors `NaN`, which the tally counts as a failed window: it is never
/// left out to a model's advantage. Near-constant: seasonal error at most 1e-5 of the mean absolute past.
pub fn window_measures(input: &WindowInput) -> Option<WindowMeasures> {
    let WindowInput { actual, quantiles, levels, past, season } = *input;
    let middle = levels.iter().position(|l| same_level(*l, 0.5))?;
    if actual.len() != quantiles.len() || quantiles.iter().any(|row| row.len() != levels.len()) {
        return None;
    }
    let deciles: Vec<usize> = DECILES.iter().filter_map(|d| levels.iter().position(|l| same_level(*l, *d))).collect();
    let bands: Vec<(f64, usize, usize)> = levels
        .iter()
        .enumerate()
        .filter(|(_, l)| **l < 0.5)
        .filter_map(|(low, l)| {
            let high = levels.iter().position(|u| same_level(*u, 1.0 - l))?;
            Some((((1.0 - 2.0 * l) * 1e6).round() / 1e6, low, high))
        })
        .collect();
    let mut m = WindowMeasures {
        mase: None,
        sql: None,
        smape: 0.0,
        mae: 0.0,
        mse: 0.0,
        seasonal_error: seasonal_error(past, season),
        near_constant: false,
        steps: 0,
        quantile_loss: 0.0,
        absolute: 0.0,
        under: levels.iter().map(|l| (*l, 0)).collect(),
        inside: bands.iter().map(|b| (b.0, 0)).collect(),
    };
    let mut medians = Vec::with_capacity(actual.len());
    for (&y, row) in actual.iter().zip(quantiles) {
        medians.push(row[middle]);
        if y.is_nan() {
            continue;
        }
        m.steps += 1;
        m.absolute += y.abs();
        m.mae += (y - row[middle]).abs();
        m.mse += (y - row[middle]).powi(2);
        let loss: f64 = deciles.iter().map(|&k| 2.0 * pinball(y, row[k], levels[k])).sum();
        m.quantile_loss += loss / deciles.len() as f64;
        for (cell, q) in m.under.iter_mut().zip(row) {
            cell.1 += usize::from(y <= *q);
        }
        for (cell, &(_, low, high)) in m.inside.iter_mut().zip(&bands) {
            cell.1 += usize::from(row[low] <= y && y <= row[high]);
        }
    }
    if m.steps == 0 {
        return None;
    }
    let steps = m.steps as f64;
    m.smape = smape(actual, &medians);
    m.mae /= steps;
    m.mse /= steps;
    let size: Vec<f64> = past.iter().map(|v| v.abs()).collect();
    // A past without a pair has no scale either: `NaN` counts as near-constant.
    m.near_constant = m.seasonal_error.is_nan() || m.seasonal_error <= NEAR_CONSTANT * mean(&size);
    if !m.near_constant {
        m.mase = Some(m.mae / m.seasonal_error);
        m.sql = Some(m.quantile_loss / steps / m.seasonal_error);
    }
    Some(m)
}

/// How often a band or quantile held.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CoverageRow {
    /// Nominal: the band's cover or the quantile's level.
    pub nominal: f64,
    /// Share of steps inside the band, or at or under the quantile.
    pub measured: f64,
}

/// Measures over many windows.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ForecastMeasures {
    /// Windows judged.
    pub windows: usize,
    /// Windows with a missing or non-finite forecast; means that they spoil are absent.
    pub failed: usize,
    /// Near-constant windows, left out of everything below but their own mean absolute error.
    pub near_constant: usize,
    /// Their mean absolute error.
    pub near_constant_mae: Option<f64>,
    /// Mean MASE over windows.
    pub mase: Option<f64>,
    /// Mean sMAPE over windows, 0..=200.
    pub smape: Option<f64>,
    /// Mean scaled quantile loss over windows.
    pub sql: Option<f64>,
    /// Weighted quantile loss (GIFT-Eval's CRPS): mean over deciles of twice the pinball loss, summed over all windows,
    /// over the sum of absolute values.
    pub wql: Option<f64>,
    /// Mean absolute error over all steps.
    pub mae: Option<f64>,
    /// Mean squared error over all steps.
    pub mse: Option<f64>,
    /// Normalised deviation: summed absolute error of the median over the sum of absolute values.
    pub nd: Option<f64>,
    /// A symmetric band each, widest first.
    pub bands: Vec<CoverageRow>,
    /// A quantile level each, ascending.
    pub quantiles: Vec<CoverageRow>,
}

/// Adds up windows; the order of `push` fixes the sums, so push in a fixed order.
#[derive(Debug, Clone, Default)]
pub struct ForecastTally {
    windows: Vec<WindowMeasures>,
}

impl ForecastTally {
    /// Adds one window.
    pub fn push(&mut self, window: WindowMeasures) {
        self.windows.push(window);
    }

    /// The windows so far, in order: MASE of each serves paired comparisons.
    pub fn windows(&self) -> &[WindowMeasures] {
        &self.windows
    }

    /// Means over the windows so far.
    pub fn measures(&self) -> ForecastMeasures {
        let failed = |m: &&WindowMeasures| !m.mae.is_finite() || !m.quantile_loss.is_finite();
        // Near-constant windows are judged apart: a band that holds there says nothing of the others.
        let w: Vec<&WindowMeasures> = self.windows.iter().filter(|m| !m.near_constant).collect();
        let steps: usize = w.iter().map(|m| m.steps).sum();
        let absolute: f64 = w.iter().map(|m| m.absolute).sum();
        let error: f64 = w.iter().map(|m| m.mae * m.steps as f64).sum();
        let square: f64 = w.iter().map(|m| m.mse * m.steps as f64).sum();
        let loss: f64 = w.iter().map(|m| m.quantile_loss).sum();
        let present = |v: f64| v.is_finite().then_some(v);
        // Not `stats::mean`, which would skip the NaN of a failed window.
        let plain = |v: Vec<f64>| present(v.iter().sum::<f64>() / v.len() as f64);
        ForecastMeasures {
            windows: self.windows.len(),
            failed: self.windows.iter().filter(failed).count(),
            near_constant: self.windows.len() - w.len(),
            near_constant_mae: plain(self.windows.iter().filter(|m| m.near_constant).map(|m| m.mae).collect()),
            mase: plain(w.iter().filter_map(|m| m.mase).collect()),
            smape: plain(w.iter().map(|m| m.smape).collect()),
            sql: plain(w.iter().filter_map(|m| m.sql).collect()),
            wql: present(loss / absolute),
            mae: present(error / steps as f64),
            mse: present(square / steps as f64),
            nd: present(error / absolute),
            bands: cover(w.iter().map(|m| (m.inside.as_slice(), m.steps))),
            quantiles: cover(w.iter().map(|m| (m.under.as_slice(), m.steps))),
        }
    }
}

/// Pools counts by nominal level in order of first appearance.
fn cover<'a>(counts: impl Iterator<Item = (&'a [(f64, usize)], usize)>) -> Vec<CoverageRow> {
    let mut rows: Vec<(f64, usize, usize)> = Vec::new();
    for (cells, steps) in counts {
        for &(nominal, held) in cells {
            match rows.iter_mut().find(|r| same_level(r.0, nominal)) {
                Some(row) => {
                    row.1 += held;
                    row.2 += steps;
                }
                None => rows.push((nominal, held, steps)),
            }
        }
    }
    rows.into_iter()
        .map(|(nominal, held, steps)| CoverageRow { nominal, measured: held as f64 / steps as f64 })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreglow_core::QUANTILE_LEVELS;
    use proptest::prelude::*;

    fn point(values: &[f64]) -> Vec<Vec<f64>> {
        values.iter().map(|v| vec![*v; QUANTILE_LEVELS.len()]).collect()
    }

    fn judge(actual: &[f64], rows: &[Vec<f64>], past: &[f64], season: usize) -> WindowMeasures {
        window_measures(&WindowInput { actual, quantiles: rows, levels: &QUANTILE_LEVELS, past, season }).expect("fits")
    }

    #[test]
    fn by_hand() {
        assert_eq!(pinball(3.0, 1.0, 0.9), 1.8);
        assert!((pinball(1.0, 3.0, 0.9) - 0.2).abs() < 1e-12);
        assert_eq!(seasonal_error(&[1.0, 2.0, 4.0, 3.0], 2), 2.0);
        assert_eq!(seasonal_error(&[1.0, 2.0, 4.0], 3), 1.5);
        assert_eq!(seasonal_error(&[1.0, f64::NAN, 4.0, 8.0], 1), 4.0);
        assert_eq!(smape(&[0.0, 1.0], &[0.0, 3.0]), 50.0);

        let m = judge(&[2.0, f64::NAN, 6.0], &point(&[3.0, 9.0, 3.0]), &[1.0, 2.0, 4.0, 3.0], 2);
        assert_eq!((m.steps, m.mae, m.mse), (2, 2.0, 5.0));
        assert_eq!(m.mase, Some(1.0));
        // A point forecast: twice the pinball loss averages to the absolute error over symmetric deciles.
        assert!((m.sql.expect("scaled") - 1.0).abs() < 1e-12);
        assert!((m.quantile_loss - 4.0).abs() < 1e-12 && m.absolute == 8.0);
    }

    #[test]
    fn near_constant_windows_stand_apart() {
        let mut tally = ForecastTally::default();
        tally.push(judge(&[5.0], &point(&[5.5]), &[5.0; 9], 1));
        tally.push(judge(&[2.0], &point(&[3.0]), &[1.0, 2.0, 3.0], 1));
        let all = tally.measures();
        assert_eq!((all.windows, all.near_constant, all.failed), (2, 1, 0));
        assert_eq!((all.near_constant_mae, all.mase, all.mae), (Some(0.5), Some(1.0), Some(1.0)));
        assert_eq!(all.wql, Some(0.5));
        assert!(all.bands.iter().chain(&all.quantiles).all(|r| [0.0, 1.0].contains(&r.measured)), "of one window");
        assert_eq!(all.nd, all.wql);
    }

    #[test]
    fn coverage_counts_ends() {
        let row: Vec<f64> = QUANTILE_LEVELS.iter().map(|l| l * 10.0).collect();
        let rows = vec![row; 3];
        let mut tally = ForecastTally::default();
        tally.push(judge(&[1.0, 9.5, 20.0], &rows, &[1.0, 2.0], 1));
        let all = tally.measures();
        let band = |c: f64| all.bands.iter().find(|b| same_level(b.nominal, c)).expect("a band").measured;
        assert_eq!(all.bands[0].nominal, 0.98);
        assert!((band(0.98) - 2.0 / 3.0).abs() < 1e-12 && (band(0.8) - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(all.quantiles.len(), 13);
    }

    #[test]
    fn a_missing_forecast_is_no_advantage() {
        let mut tally = ForecastTally::default();
        tally.push(judge(&[1.0], &point(&[f64::NAN]), &[1.0, 2.0], 1));
        tally.push(judge(&[1.0], &point(&[1.0]), &[1.0, 2.0], 1));
        let all = tally.measures();
        assert_eq!(all.failed, 1);
        assert_eq!((all.mase, all.wql, all.mae), (None, None, None));
        let bad = WindowInput { actual: &[1.0], quantiles: &[], levels: &[0.5], past: &[], season: 1 };
        assert!(window_measures(&bad).is_none());
    }

    proptest! {
        #[test]
        fn scale_free(
            y in prop::collection::vec(1.0f64..10.0, 4..12),
            f in prop::collection::vec(1.0f64..10.0, 12),
            past in prop::collection::vec(1.0f64..10.0, 6..20),
            factor in 0.1f64..10.0,
        ) {
            let times = |v: &[f64]| v.iter().map(|x| x * factor).collect::<Vec<_>>();
            let a = judge(&y, &point(&f[..y.len()]), &past, 3);
            let b = judge(&times(&y), &point(&times(&f[..y.len()])), &times(&past), 3);
            prop_assert!((a.smape - b.smape).abs() < 1e-9);
            if let (Some(p), Some(q)) = (a.mase, b.mase) {
                prop_assert!((p - q).abs() < 1e-9 * (1.0 + p));
            }
            prop_assert!(a.smape >= 0.0 && a.smape <= 200.0);
        }
    }
}
