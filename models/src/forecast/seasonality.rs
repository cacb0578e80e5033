use foreglow_core::stats::{moving_average, normal_quantile};

/// How a season sits on the rest of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pattern {
    /// There is none.
    Absent,
    /// Added to the level.
    Additive,
    /// A share of the level.
    Multiplicative,
}

/// Seasonal indices by classical decomposition, in phase with the *end* of the series: `indices[0]` is the phase of the
/// next value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seasonality {
    pub(super) pattern: Pattern,
    pub(super) indices: Vec<f64>,
}

impl Seasonality {
    /// No season.
    pub(super) fn absent() -> Self {
        Self { pattern: Pattern::Absent, indices: vec![0.0] }
    }

    /// Tests `values` (no gaps) for a season of `m` steps and measures it.
    pub(super) fn measure(values: &[f64], m: usize) -> Self {
        if Self::is_there(values, m) { Self::indices_of(values, m) } else { Self::absent() }
    }

    /// Whether `values` (no gaps) have a season of `m` steps: with `r` the autocorrelation, when `|r_m| > 1.645
    /// √((1 + 2 Σ_{i<m} r_i²)/n)` (Fiorucci et al. 2016, doi:10.1016/j.ijforecast.2015.12.004); never for `m` under 4 or less
    /// than two seasons of data. O(n m): for long seasons this costs more than any member's forecast.
    pub(super) fn is_there(values: &[f64], m: usize) -> bool {
        m >= 4 && values.len() >= 2 * m && is_seasonal(values, m)
    }

    /// Measures a season of `m` steps without asking whether it is there; absent with less than two seasons of data.
    ///
    /// Indices: means by phase of the values over (or minus) their centred moving average of `m`, normalised to mean 1 (or
    /// 0). Multiplicative where every value is positive and every index at least 0.01, else additive. O(n).
    pub(super) fn indices_of(values: &[f64], m: usize) -> Self {
        if values.len() < 2 * m {
            return Self::absent();
        }
        let trend = trend_of(values, m);
        if values.iter().all(|v| *v > 0.0)
            && let Some(indices) = phase_means(values, &trend, m, Pattern::Multiplicative)
            && indices.iter().all(|i| *i >= 0.01)
        {
            return Self { pattern: Pattern::Multiplicative, indices };
        }
        match phase_means(values, &trend, m, Pattern::Additive) {
            Some(indices) => Self { pattern: Pattern::Additive, indices },
            None => Self::absent(),
        }
    }

    /// The series without its season.
    pub(super) fn remove(&self, values: &[f64]) -> Vec<f64> {
        let seasoned =
            values.iter().zip(self.indices.iter().cycle().skip(first_phase(values.len(), self.indices.len())));
        match self.pattern {
            Pattern::Absent => values.to_vec(),
            Pattern::Additive => seasoned.map(|(v, i)| v - i).collect(),
            Pattern::Multiplicative => seasoned.map(|(v, i)| v / i).collect(),
        }
    }

    /// Puts the season back on the forecast of step `k` (0 = the next).
    pub(super) fn restore(&self, k: usize, value: f64) -> f64 {
        let index = self.indices[k % self.indices.len()];
        match self.pattern {
            Pattern::Absent => value,
            Pattern::Additive => value + index,
            Pattern::Multiplicative => value * index,
        }
    }

    /// How much the season stretches an error at step `k`.
    pub(super) fn stretch(&self, k: usize) -> f64 {
        match self.pattern {
            Pattern::Multiplicative => self.indices[k % self.indices.len()],
            Pattern::Absent | Pattern::Additive => 1.0,
        }
    }
}

/// The significance test alone. Long series are judged on their newest part: the test asks whether a season is there,
/// not how exactly. O(n m).
fn is_seasonal(values: &[f64], m: usize) -> bool {
    let values = &values[values.len() - values.len().min((8 * m).max(2048))..];
    let r = foreglow_core::stats::autocorrelation(values, m);
    let Some(&last) = r.get(m) else { return false };
    let squares: f64 = r[1..m].iter().map(|v| v * v).sum();
    let limit = normal_quantile(0.95) * ((1.0 + 2.0 * squares) / values.len() as f64).sqrt();
    last.abs() > limit
}

/// Centred moving average of `m` values (2 x m for even m); NaN at the ends, where it has no room.
fn trend_of(x: &[f64], m: usize) -> Vec<f64> {
    let mut trend = moving_average(x, m);
    let (n, half) = (x.len(), (m / 2).min(x.len()));
    trend[..half].fill(f64::NAN);
    trend[n - half..].fill(f64::NAN);
    trend
}

/// The phase of the first of `n` values, the next one behind them having phase 0.
fn first_phase(n: usize, m: usize) -> usize {
    (m - n % m) % m
}

/// Mean by phase of what is left beside the trend; `None` where a phase has no value or the indices are not finite.
fn phase_means(values: &[f64], trend: &[f64], m: usize, pattern: Pattern) -> Option<Vec<f64>> {
    let n = values.len();
    let (mut sums, mut counts) = (vec![0.0; m], vec![0usize; m]);
    let mut phase = first_phase(n, m);
    for (v, t) in values.iter().zip(trend) {
        let rest = if pattern == Pattern::Multiplicative { v / t } else { v - t };
        if rest.is_finite() {
            sums[phase] += rest;
            counts[phase] += 1;
        }
        phase = if phase + 1 == m { 0 } else { phase + 1 };
    }
    if counts.contains(&0) {
        return None;
    }
    let mut indices: Vec<f64> = sums.iter().zip(&counts).map(|(s, c)| s / *c as f64).collect();
    let mean = indices.iter().sum::<f64>() / m as f64;
    for i in &mut indices {
        *i = if pattern == Pattern::Multiplicative { *i / mean } else { *i - mean };
    }
    indices.iter().all(|i| i.is_finite()).then_some(indices)
}
