use super::calibrate::bucket;
use super::quantiles::{LEVELS, MEDIAN, Room};
use foreglow_core::QUANTILE_LEVELS;
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Learning rates of the experts, in logarithms of a width: what a forecast that misses everywhere adds.
const RATES: [f64; 5] = [0.0, 0.1, 0.25, 0.6, 1.2];
const EXPERTS: usize = RATES.len();
/// How many forecasts back the mixture of experts is to be good over.
const SPAN: f64 = 50.0;
/// No band is stretched by more than e to this, or squeezed by more than e to minus half of it.
const FAR: f64 = 3.0;
/// Steps of a stage that one forecast is judged at, at most: neighbours say nearly the same.
const EACH: usize = 48;

/// Intervals that adapt online to how often earlier ones of the same series held.
///
/// Each central band (1 %-99 %, 5 %-95 %, ...) has a width factor `e^θ` a stage of steps ahead (1-2, 3-8, 9-32, ...).
/// When what followed a forecast is known, with `s` the logarithm of the stretch that would just have held a value, `θ`
/// moves by `γ (share of s > θ - α)`, where `α` is what the band may miss: it grows after misses and shrinks after calm
/// (Gibbs and Candès 2021, arXiv 2106.00170). Five rates `γ` run side by side and are mixed by how well each followed
/// `s` in pinball loss, forgetting as DtACI does (Gibbs and Candès 2024, JMLR 25:162); one of them is 0, so that bands that
/// hold are left alone. Working on logarithms of widths keeps every band finite and needs no stored scores; the share of
/// misses still tends to `α` whatever the series does, as long as `s` stays inside the range that `θ` may have.
/// The median is never moved.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Adaptive {
    stages: Vec<[Band; MEDIAN]>,
}

/// The width factor of one central band at one stage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Band {
    /// Logarithm of the width that each expert proposes.
    widths: [f64; EXPERTS],
    /// Trust in each, summing to 1.
    trust: [f64; EXPERTS],
}

impl Default for Band {
    fn default() -> Self {
        Self { widths: [0.0; EXPERTS], trust: [1.0 / EXPERTS as f64; EXPERTS] }
    }
}

/// The stage of the `k`-th step ahead (0 = the next): 1-2, 3-8, 9-32, 33-128, ...
fn stage(k: usize) -> usize {
    bucket(k) / 2
}

/// What the band from level `j` to its mirror may miss.
fn allowed(j: usize) -> f64 {
    2.0 * QUANTILE_LEVELS[j]
}

/// How fast trust follows the losses: the rate that theorem 5 of the DtACI paper gives for stretches of [`SPAN`].
fn keenness(alpha: f64) -> f64 {
    let hold = 1.0 - alpha;
    let spread = hold * hold * alpha.powi(3) + alpha * alpha * hold.powi(3);
    (3.0 / SPAN * (libm::log(EXPERTS as f64 * SPAN) + 2.0) / spread).sqrt()
}

impl Band {
    fn width(&self) -> f64 {
        self.widths.iter().zip(&self.trust).map(|(w, p)| w * p).sum()
    }

    /// Learns from the stretches (logarithms) that would have held one forecast's values.
    fn learn(&mut self, stretches: &[f64], alpha: f64) {
        let n = stretches.len() as f64;
        let (keen, forget) = (keenness(alpha), 0.5 / SPAN);
        let mut trust = [0.0; EXPERTS];
        for (i, w) in self.widths.iter_mut().enumerate() {
            let (mut loss, mut missed) = (0.0, 0.0);
            for s in stretches {
                let over = s - *w;
                if over > 0.0 {
                    missed += 1.0;
                    loss += (1.0 - alpha) * over;
                } else {
                    loss -= alpha * over;
                }
            }
            trust[i] = self.trust[i] * libm::exp(-keen * loss / n);
            *w = (*w + RATES[i] * (missed / n - alpha)).clamp(-0.5 * FAR, FAR);
        }
        let total: f64 = trust.iter().sum();
        for (p, t) in self.trust.iter_mut().zip(trust) {
            // Every expert keeps a share, so that one that was wrong for long can come back.
            let share = if total > 0.0 { t / total } else { 1.0 / EXPERTS as f64 };
            *p = (1.0 - forget) * share + forget / EXPERTS as f64;
        }
    }
}

/// The logarithm of the factor by which a band from `low` to `high` around `median` would just hold `value`.
fn stretch(value: f64, low: f64, median: f64, high: f64) -> f64 {
    let (off, room) = if value >= median { (value - median, high - median) } else { (median - value, median - low) };
    if off <= 0.0 {
        -0.5 * FAR
    } else if room <= 0.0 {
        FAR
    } else {
        libm::log(off / room).clamp(-0.5 * FAR, FAR)
    }
}

impl Adaptive {
    /// Learns from a forecast as its model gave it, not as it was adapted: a row a step ahead, a column a level of
    /// [`QUANTILE_LEVELS`]. `actual` is what followed, NaN = missing; what is not known yet may be left out at the end.
    pub fn learn(&mut self, forecast: &Array2<f64>, actual: &[f64]) {
        let n = forecast.nrows().min(actual.len());
        if forecast.ncols() != LEVELS {
            return;
        }
        let mut stretches: [Vec<f64>; MEDIAN] = std::array::from_fn(|_| Vec::with_capacity(EACH));
        let mut from = 0;
        while from < n {
            let s = stage(from);
            let to = (from..n).find(|k| stage(*k) != s).unwrap_or(n);
            for k in (from..to).step_by((to - from).div_ceil(EACH)).filter(|k| actual[*k].is_finite()) {
                let q = forecast.row(k);
                for (j, column) in stretches.iter_mut().enumerate() {
                    column.push(stretch(actual[k], q[j], q[MEDIAN], q[LEVELS - 1 - j]));
                }
            }
            if self.stages.len() <= s {
                self.stages.resize(s + 1, [Band::default(); MEDIAN]);
            }
            for (j, column) in stretches.iter_mut().enumerate().filter(|(_, c)| !c.is_empty()) {
                self.stages[s][j].learn(column, allowed(j));
                column.clear();
            }
            from = to;
        }
    }

    /// A forecast from `past` with its bands as wide as was learned, held inside the range of the past and as much again.
    /// Stages further ahead than any outcome are moved as the last known.
    pub fn apply(&self, forecast: &mut Array2<f64>, past: &[f64]) {
        let Some(last) = self.stages.len().checked_sub(1) else { return };
        if forecast.ncols() != LEVELS {
            return;
        }
        let room = Room::around(past);
        for (k, mut row) in forecast.rows_mut().into_iter().enumerate() {
            let bands = &self.stages[stage(k).min(last)];
            let median = row[MEDIAN];
            // From the middle outwards: an outer band is never inside an inner one.
            for (j, band) in bands.iter().enumerate().rev() {
                let factor = libm::exp(band.width());
                let (low, high) = (j, LEVELS - 1 - j);
                row[low] = room.hold(median + (row[low] - median) * factor).min(row[low + 1]);
                row[high] = room.hold(median + (row[high] - median) * factor).max(row[high - 1]);
            }
        }
    }

    /// Forecasts of one series in order of time, adapted each by what was known when it was made: `windows` says which of
    /// the `values` each was made for, and one learns only from forecasts whose last value lies before it.
    pub fn replay(forecasts: &mut [Array2<f64>], windows: &[Range<usize>], values: &[f64]) {
        let mut state = Self::default();
        let raw = forecasts.to_vec();
        let mut learned = 0;
        for (k, forecast) in forecasts.iter_mut().enumerate() {
            while learned < k && windows[learned].end <= windows[k].start {
                state.learn(&raw[learned], &values[windows[learned].clone()]);
                learned += 1;
            }
            state.apply(forecast, &values[..windows[k].start]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreglow_core::Seed;
    use foreglow_core::stats::normal_quantile;
    use proptest::prelude::*;
    use rand::Rng;

    /// Normal quantiles around 0 with this spread.
    fn normal(horizon: usize, sd: f64) -> Array2<f64> {
        Array2::from_shape_fn((horizon, LEVELS), |(_, l)| {
            if l == MEDIAN { 0.0 } else { sd * normal_quantile(QUANTILE_LEVELS[l]) }
        })
    }

    fn noise(rng: &mut impl Rng) -> f64 {
        normal_quantile(rng.gen_range(1e-6..1.0 - 1e-6))
    }

    /// Share of values inside band `j` and mean width, of forecasts that are `narrow` times too narrow.
    fn run(windows: usize, horizon: usize, j: usize, narrow: impl Fn(usize) -> f64, seed: u64) -> (f64, f64) {
        let mut rng = Seed(seed).rng();
        let (mut state, mut inside, mut width) = (Adaptive::default(), 0, 0.0);
        for w in 0..windows {
            let raw = normal(horizon, 1.0 / narrow(w));
            let actual: Vec<f64> = (0..horizon).map(|_| noise(&mut rng)).collect();
            let mut adapted = raw.clone();
            state.apply(&mut adapted, &[]);
            for (k, y) in actual.iter().enumerate() {
                let (low, high) = (adapted[[k, j]], adapted[[k, LEVELS - 1 - j]]);
                inside += usize::from(low <= *y && *y <= high);
                width += high - low;
            }
            state.learn(&raw, &actual);
        }
        let n = (windows * horizon) as f64;
        (f64::from(inside as u32) / n, width / n)
    }

    #[test]
    fn wrong_bands_come_right() {
        for (j, nominal, slack) in [(2, 0.8, 0.03), (0, 0.98, 0.02)] {
            for narrow in [0.5, 1.0, 2.0, 4.0] {
                let (cover, _) = run(300, 24, j, |_| narrow, 1);
                assert!((cover - nominal).abs() < slack, "{nominal} {narrow}: {cover}");
            }
            // The spread doubles and falls back every 60 forecasts.
            let (cover, _) = run(600, 24, j, |w| if w / 60 % 2 == 0 { 1.0 } else { 2.0 }, 2);
            assert!((cover - nominal).abs() < slack, "{nominal}, changing: {cover}");
        }
    }

    #[test]
    fn right_bands_stay_nearly_as_they_are() {
        let (cover, width) = run(200, 48, 2, |_| 1.0, 3);
        let ideal = 2.0 * normal_quantile(0.9);
        assert!((cover - 0.8).abs() < 0.02 && (width / ideal - 1.0).abs() < 0.05, "{cover} {}", width / ideal);
    }

    #[test]
    fn a_forecast_learns_from_finished_ones_only() {
        let mut values: Vec<f64> = (0..40).map(|i| if i < 20 { 50.0 } else { 0.0 }).collect();
        values[0] = -500.0;
        let windows: Vec<Range<usize>> = [0..10, 5..15, 10..20, 12..22].into();
        let raw = vec![normal(10, 1.0); 4];
        let mut made = raw.clone();
        Adaptive::replay(&mut made, &windows, &values);
        // The second begins before the first has ended; the third knows the first, the fourth no more than it.
        assert_eq!((&made[0], &made[1]), (&raw[0], &raw[1]));
        assert!(made[2][[0, 0]] < raw[2][[0, 0]] && made[2] == made[3]);
    }

    proptest! {
        #[test]
        fn bands_stay_in_order_and_finite(
            values in proptest::collection::vec(proptest::num::f64::ANY, 0..60),
            scale in -300i32..300,
            rounds in 1usize..30,
        ) {
            let unit = libm::exp2(f64::from(scale));
            let raw = normal(40, unit);
            let mut state = Adaptive::default();
            for _ in 0..rounds {
                state.learn(&raw, &values);
                let mut adapted = raw.clone();
                state.apply(&mut adapted, &[]);
                for (row, before) in adapted.rows().into_iter().zip(raw.rows()) {
                    prop_assert!(row.iter().all(|v| v.is_finite()));
                    prop_assert!(row.windows(2).into_iter().all(|w| w[0] <= w[1]));
                    prop_assert_eq!(row[MEDIAN], before[MEDIAN]);
                }
            }
        }

        /// The unit of a series plays no part, nor does what lies behind the known end.
        #[test]
        fn scale_and_missing_values_do_not_matter(values in proptest::collection::vec(-5.0f64..5.0, 1..50), power in -40i32..40) {
            let unit = libm::exp2(f64::from(power));
            let (mut one, mut other) = (Adaptive::default(), Adaptive::default());
            one.learn(&normal(40, 1.0), &values);
            let mut scaled: Vec<f64> = values.iter().map(|v| v * unit).collect();
            scaled.push(f64::NAN);
            other.learn(&(normal(40, 1.0) * unit), &scaled[..values.len()]);
            prop_assert_eq!(&one, &other);
            let mut none = Adaptive::default();
            none.learn(&normal(3, 1.0), &[f64::NAN; 3]);
            prop_assert!(none.stages.iter().flatten().all(|b| *b == Band::default()));
        }
    }
}
