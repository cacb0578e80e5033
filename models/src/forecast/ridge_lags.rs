use super::past::{Past, View};
use super::quantiles::{finite, normal_table};
use super::seasonal_naive::SeasonalNaive;
use super::spec::RidgeLagsParams;
use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use foreglow_core::{Forecaster, History};
use ndarray::Array2;

/// No more rows are fitted on than this, the newest ones.
const ROWS: usize = 2048;

/// Ridge regression on lags, fitted anew on each history: an autoregression of seasonal changes.
///
/// With `d_t = x_t - x_{t-m}` the model is `d_t = a + Σ φ_i d_{t-i} + Σ θ_j d_{t-m+j} + ρ (x_{t-m} - mean)`, `i = 1..lags`,
/// `j = -1, 0, 1` (left out without a season), with a second season the same three around it. Coefficients minimise `Σ e² + penalty n Σ β²` over standardised inputs
/// (Hoerl and Kennard 1970, doi:10.1080/00401706.1970.10488634), solved by a Cholesky factorisation; shrunk to nothing,
/// the model is seasonal naive. Several steps ahead by recursion, held inside the history's range and as much again.
/// Quantiles are normal, the variance at step `k` being `σ² Σ ψ_i²` with the model's own impulse response. Missing values
/// are read as seasonal naive for the recursion and left out of the fit. Less than three rows a coefficient: seasonal naive.
/// O(n p² + p³ + horizon p).
#[derive(Debug, Clone, PartialEq)]
pub struct RidgeLags {
    /// Checked parameters.
    pub params: RidgeLagsParams,
    /// Steps of a season, 1 = none.
    pub season: usize,
    /// Steps of a second season whose lags enter beside the first's, 0 = none.
    pub second: usize,
}

/// What a fit on one history gives: coefficients of an autoregression of seasonal changes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Coefficients {
    season: usize,
    /// One a lag of `d`, with the lag.
    lags: Vec<(usize, f64)>,
    /// Of the distance of `x_{t-m}` from the mean.
    level: f64,
    mean: f64,
    constant: f64,
    sd: f64,
}

impl Coefficients {
    /// Point forecasts and standard deviations of `horizon` steps behind `past`; `None` when it is too short for the lags.
    pub(super) fn points(&self, past: View<'_>, horizon: usize) -> Option<(Vec<f64>, Vec<f64>)> {
        let m = self.season;
        let reach = self.lags.last().map_or(0, |l| l.0) + m;
        if past.len() < reach {
            return None;
        }
        let (low, high) = past.range();
        let room = high - low;
        let mut x = past.filled[past.len() - reach..].to_vec();
        for _ in 0..horizon {
            let t = x.len();
            let mut d = self.constant + self.level * (x[t - m] - self.mean);
            for (lag, w) in &self.lags {
                d += w * (x[t - lag] - x[t - lag - m]);
            }
            x.push((x[t - m] + d).clamp(low - room, high + room));
        }
        // Impulse response of the linear recursion.
        let mut psi = vec![0.0f64; horizon];
        for k in 0..horizon {
            let past = |back: usize| if back <= k { psi[k - back] } else { 0.0 };
            let mut v = if k == 0 { 1.0 } else { past(m) * (1.0 + self.level) };
            for (lag, w) in &self.lags {
                v += w * (past(*lag) - past(lag + m));
            }
            psi[k] = v.clamp(-1e3, 1e3);
        }
        let mut sum = 0.0;
        let sds = psi.iter().map(|p| {
            sum += p * p;
            (self.sd * f64::sqrt(sum)).min(room)
        });
        let sds = sds.collect();
        Some((x.split_off(reach), sds))
    }
}

impl RidgeLags {
    /// Point forecasts and standard deviations of `horizon` steps; `None` when the history is too short or constant.
    pub fn points(&self, values: &[f64], horizon: usize) -> Option<(Vec<f64>, Vec<f64>)> {
        let values = &values[values.len().saturating_sub(self.context())..];
        let past = Past::read(values, self.season)?;
        let view = past.until(past.len());
        let (points, sds) = self.estimate(view)?.points(view, horizon)?;
        let unit = past.unit();
        Some((points.iter().map(|v| finite(v * unit)).collect(), sds.iter().map(|v| v * unit).collect()))
    }

    /// Fits on the newest rows of `past`; `None` with less than three rows a coefficient.
    pub(super) fn estimate(&self, past: View<'_>) -> Option<Coefficients> {
        let past = past.last(self.context());
        let x = past.raw;
        let m = self.season;
        let mut lags: Vec<usize> = (1..=self.params.lags).collect();
        for s in [m, self.second] {
            if s > 1 {
                lags.extend([s - 1, s, s + 1]);
            }
        }
        lags.sort_unstable();
        lags.dedup();
        lags.retain(|l| *l > 0);
        let reach = lags.last()? + m;
        let (width, mut rows) = (lags.len() + 1, 0usize);
        let observed = x.iter().filter(|v| v.is_finite());
        let mean = observed.clone().sum::<f64>() / observed.count() as f64;
        let mut design: Vec<f64> = Vec::new();
        let mut goal: Vec<f64> = Vec::new();
        let mut row = vec![0.0; width];
        for t in reach..x.len() {
            let y = x[t] - x[t - m];
            for (r, l) in row.iter_mut().zip(&lags) {
                *r = x[t - l] - x[t - l - m];
            }
            row[width - 1] = x[t - m] - mean;
            if y.is_finite() && row.iter().all(|v| v.is_finite()) {
                design.extend_from_slice(&row);
                goal.push(y);
                rows += 1;
            }
        }
        if rows < 3 * (width + 1) {
            return None;
        }
        let n = rows as f64;
        let centre: Vec<f64> = (0..width).map(|j| column(&design, width, j).sum::<f64>() / n).collect();
        let sd: Vec<f64> = (0..width)
            .map(|j| (column(&design, width, j).map(|v| (v - centre[j]).powi(2)).sum::<f64>() / n).sqrt())
            .collect();
        let goal_mean = goal.iter().sum::<f64>() / n;
        let mut gram = Mat::<f64>::zeros(width, width);
        let mut right = Mat::<f64>::zeros(width, 1);
        let mut z = vec![0.0; width];
        for (r, y) in design.chunks_exact(width).zip(&goal) {
            for j in 0..width {
                z[j] = if sd[j] > 1e-12 { (r[j] - centre[j]) / sd[j] } else { 0.0 };
            }
            for j in 0..width {
                for k in 0..=j {
                    gram[(j, k)] += z[j] * z[k];
                }
                right[(j, 0)] += z[j] * (y - goal_mean);
            }
        }
        for j in 0..width {
            gram[(j, j)] += self.params.penalty.max(1e-9) * n;
        }
        let solved = gram.llt(Side::Lower).ok()?.solve(&right);
        let beta: Vec<f64> = (0..width).map(|j| if sd[j] > 1e-12 { solved[(j, 0)] / sd[j] } else { 0.0 }).collect();
        let constant = goal_mean - beta.iter().zip(&centre).map(|(b, c)| b * c).sum::<f64>();
        if !beta.iter().all(|b| b.is_finite()) {
            return None;
        }
        let mut errors = 0.0;
        for (r, y) in design.chunks_exact(width).zip(&goal) {
            let e = y - constant - beta.iter().zip(r).map(|(b, v)| b * v).sum::<f64>();
            errors += e * e;
        }
        let sd = (errors / (n - width as f64 - 1.0)).sqrt();
        let level = beta[width - 1];
        Some(Coefficients { season: m, lags: lags.into_iter().zip(beta).collect(), level, mean, constant, sd })
    }
}

fn column(design: &[f64], width: usize, j: usize) -> impl Iterator<Item = f64> + Clone + '_ {
    design.iter().skip(j).step_by(width).copied()
}

impl Forecaster for RidgeLags {
    fn name(&self) -> &'static str {
        "ridge_lags"
    }

    fn context(&self) -> usize {
        ROWS + self.season + self.season.max(self.second).max(self.params.lags) + 1
    }

    fn forecast(&self, history: &History<'_>, horizon: usize, levels: &[f64]) -> Array2<f64> {
        match self.points(history.values, horizon) {
            Some((points, sds)) => normal_table(horizon, levels, |k| points[k], |k| sds[k]),
            None => SeasonalNaive { season: self.season }.forecast(history, horizon, levels),
        }
    }
}
