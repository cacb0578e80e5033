use foreglow_core::QUANTILE_LEVELS;
use foreglow_core::stats::normal_quantile;
use ndarray::Array2;

/// How many quantiles a forecast carries.
pub(super) const LEVELS: usize = QUANTILE_LEVELS.len();
/// Place of the median among them.
pub(super) const MEDIAN: usize = 6;

/// Quantiles at any levels from quantiles at [`QUANTILE_LEVELS`]: linear in the level between two of them, the outermost
/// ones beyond. At a known level the known value, to the bit.
pub fn at_levels(known: &[f64], levels: &[f64], mut out: impl FnMut(usize, f64)) {
    for (i, level) in levels.iter().enumerate() {
        let above = QUANTILE_LEVELS.partition_point(|l| l < level).min(QUANTILE_LEVELS.len() - 1);
        let below = above.saturating_sub(1);
        let (a, b) = (QUANTILE_LEVELS[below], QUANTILE_LEVELS[above]);
        let value = if above == below || *level >= b {
            known[above]
        } else {
            let share = (level - a) / (b - a);
            known[below] * (1.0 - share) + known[above] * share
        };
        out(i, value);
    }
}

/// Where the quantiles of a forecast may lie: inside the range of the past and as much again on either side, and not below
/// 0 where the past never was. An incident right before a forecast widens what it is sure of, not without bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Room {
    low: f64,
    high: f64,
}

impl Room {
    /// From the past, in its own units; everywhere where nothing of it is known.
    pub(super) fn around(past: &[f64]) -> Self {
        let known = past.iter().copied().filter(|v| v.is_finite());
        let (low, high) = known.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            return Self { low: f64::MIN, high: f64::MAX };
        }
        let room = high - low;
        let least = if low >= 0.0 { 0.0 } else { f64::MIN };
        Self { low: finite(low - room).max(least), high: finite(high + room) }
    }

    pub(super) fn hold(self, v: f64) -> f64 {
        v.clamp(self.low, self.high)
    }
}

/// A table of normal quantiles around `centre(k)` with standard deviation `sd(k)`, `k` = 0 for the first step ahead.
pub(super) fn normal_table(
    horizon: usize,
    levels: &[f64],
    centre: impl Fn(usize) -> f64,
    sd: impl Fn(usize) -> f64,
) -> Array2<f64> {
    let z: Vec<f64> = levels.iter().map(|l| normal_quantile(l.clamp(1e-9, 1.0 - 1e-9))).collect();
    Array2::from_shape_fn((horizon, levels.len()), |(k, l)| finite(centre(k) + finite(sd(k)) * z[l]))
}

/// Inside the finite range; 0 for NaN.
pub(super) fn finite(x: f64) -> f64 {
    if x.is_nan() { 0.0 } else { x.clamp(f64::MIN, f64::MAX) }
}

/// Root mean square of the finite values, without overflow; 0 when there is none.
pub(super) fn rms(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let top = values.clone().filter(|v| v.is_finite()).fold(0.0f64, |m, v| m.max(v.abs()));
    if top == 0.0 {
        return 0.0;
    }
    let (mut sum, mut n) = (0.0, 0usize);
    for v in values.filter(|v| v.is_finite()) {
        sum += (v / top) * (v / top);
        n += 1;
    }
    top * (sum / n as f64).sqrt()
}
