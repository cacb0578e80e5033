use super::past::View;
use super::quantiles::rms;
use super::seasonality::Seasonality;

/// Range of the smoothing parameter. The paper stops at 0.1; noisy metrics of machines want a slower level.
const ALPHA: (f64, f64) = (0.02, 0.99);
/// First errors that do not count: the dynamic line is not settled yet.
const BURN_IN: usize = 3;
/// Smoothing parameters of the coarse search; the best is refined between its neighbours.
const GRID: [f64; 11] = [0.02, 0.05, 0.1, 0.18, 0.28, 0.4, 0.52, 0.65, 0.78, 0.9, 0.99];
/// Steps of the refinement (golden section): each leaves 0.62 of the interval.
const REFINE: usize = 10;

/// The dynamic optimised theta model (Fiorucci et al. 2016, doi:10.1016/j.ijforecast.2015.12.004).
///
/// A series (without its season, see [`Seasonality`]) is the mean of a level by exponential smoothing and of a line
/// through all values so far, re-estimated at every step:
/// `μ_t = ℓ_{t-1} + (1 - 1/θ) ((1-α)^{t-1} A_{t-1} + (1 - (1-α)^t)/α B_{t-1})`, `ℓ_t = α y_t + (1-α) ℓ_{t-1}`. `α`, `θ >= 1`
/// and the first level minimise the squared one-step errors. For a given `α` the model is linear in the first level and
/// in `1 - 1/θ`, so these two are solved for exactly and only `α` is searched. O(n) a try, 21 tries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Theta {
    alpha: f64,
    /// `1 - 1/θ`, 0 to 1.
    omega: f64,
    /// The level before the first value.
    level: f64,
}

/// Where the recursion stands behind the last value.
#[derive(Debug, Clone, Copy)]
struct State {
    /// How many values were seen.
    n: f64,
    level: f64,
    mean: f64,
    intercept: f64,
    slope: f64,
    /// `(1-α)^n`.
    decay: f64,
}

impl State {
    fn first(y: f64, alpha: f64, level: f64) -> Self {
        Self { n: 1.0, level: alpha * y + (1.0 - alpha) * level, mean: y, intercept: y, slope: 0.0, decay: 1.0 - alpha }
    }

    /// What the line adds to the level for the next value, for `1 - 1/θ = 1`.
    fn line(&self, alpha: f64) -> f64 {
        self.decay * self.intercept + (1.0 - self.decay * (1.0 - alpha)) / alpha * self.slope
    }

    fn push(&mut self, y: f64, alpha: f64) {
        let n = self.n;
        self.level += alpha * (y - self.level);
        self.slope = ((n - 1.0) * self.slope + 6.0 * (y - self.mean) / (n + 1.0)) / (n + 2.0);
        self.mean += (y - self.mean) / (n + 1.0);
        self.intercept = self.mean - self.slope * (n + 2.0) / 2.0;
        self.decay *= 1.0 - alpha;
        self.n += 1.0;
    }
}

impl Theta {
    /// Estimates the parameters on the end of `past`; `None` for a series too short to say.
    pub(super) fn estimate(past: View<'_>, season: &Seasonality) -> Option<Self> {
        Self::estimate_within(past, season, ALPHA.0)
    }

    /// The same with `α` at or above `least`.
    fn estimate_within(past: View<'_>, season: &Seasonality, least: f64) -> Option<Self> {
        if past.len() < BURN_IN + 5 {
            return None;
        }
        let y = season.remove(past.filled);
        let grid = GRID.map(|a| a.max(least));
        let tried: Vec<(f64, Self)> = grid.iter().map(|a| Self::at(&y, *a)).collect();
        let best = (0..grid.len()).min_by(|a, b| tried[*a].0.total_cmp(&tried[*b].0))?;
        let (mut low, mut high) = (grid[best.saturating_sub(1)], grid[(best + 1).min(grid.len() - 1)]);
        let mut found = tried[best];
        let golden = (5.0f64.sqrt() - 1.0) / 2.0;
        let (mut a, mut b) = (high - golden * (high - low), low + golden * (high - low));
        let (mut at_a, mut at_b) = (Self::at(&y, a), Self::at(&y, b));
        for _ in 0..REFINE {
            for t in [at_a, at_b] {
                if t.0 < found.0 {
                    found = t;
                }
            }
            if at_a.0 <= at_b.0 {
                (high, b, at_b) = (b, a, at_a);
                a = high - golden * (high - low);
                at_a = Self::at(&y, a);
            } else {
                (low, a, at_a) = (a, b, at_b);
                b = low + golden * (high - low);
                at_b = Self::at(&y, b);
            }
        }
        found.0.is_finite().then_some(found.1)
    }

    /// The best first level and `1 - 1/θ` at `alpha` with their sum of squared errors.
    fn at(y: &[f64], alpha: f64) -> (f64, Self) {
        let alpha = alpha.clamp(ALPHA.0, ALPHA.1);
        // Residual r = level p + omega d + e with p, d known: two-variable least squares.
        let (mut pp, mut pd, mut dd, mut pr, mut dr, mut rr) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
        let mut s = State::first(y[0], alpha, 0.0);
        for (t, v) in y.iter().enumerate().skip(1) {
            if t >= BURN_IN {
                let (p, d, r) = (s.decay, s.line(alpha), v - s.level);
                pp += p * p;
                pd += p * d;
                dd += d * d;
                pr += p * r;
                dr += d * r;
                rr += r * r;
            }
            s.push(*v, alpha);
        }
        let sse = |l: f64, o: f64| rr - 2.0 * (l * pr + o * dr) + l * l * pp + 2.0 * l * o * pd + o * o * dd;
        let level_for = |o: f64| if pp > 0.0 { (pr - o * pd) / pp } else { 0.0 };
        let det = pp * dd - pd * pd;
        let mut choice = (f64::INFINITY, 0.0, 0.0);
        let free = if det > 1e-12 * pp * dd { (dr * pp - pr * pd) / det } else { 0.0 };
        for omega in [free.clamp(0.0, 1.0), 0.0, 1.0] {
            let level = level_for(omega);
            let e = sse(level, omega);
            if e < choice.0 && level.is_finite() {
                choice = (e, level, omega);
            }
        }
        (choice.0, Self { alpha, omega: choice.2, level: choice.1 })
    }

    /// Point forecasts and standard deviations of `horizon` steps behind `past` with these parameters.
    ///
    /// The level and the line are carried on over their own forecasts, as the dynamic model has it. Variance at step `k`:
    /// `σ² (1 + (k-1) α²)`, that of exponential smoothing.
    pub(super) fn points(&self, past: View<'_>, season: &Seasonality, horizon: usize) -> (Vec<f64>, Vec<f64>) {
        let y = season.remove(past.filled);
        let mut s = State::first(y[0], self.alpha, self.level);
        let mut errors = Vec::with_capacity(y.len());
        for (t, v) in y.iter().enumerate().skip(1) {
            if t >= BURN_IN && past.raw[t].is_finite() {
                errors.push(v - s.level - self.omega * s.line(self.alpha));
            }
            s.push(*v, self.alpha);
        }
        let sd = rms(errors.iter().copied());
        (0..horizon)
            .map(|k| {
                let value = s.level + self.omega * s.line(self.alpha);
                s.push(value, self.alpha);
                let spread = sd * (1.0 + k as f64 * self.alpha * self.alpha).sqrt();
                (season.restore(k, value), spread * season.stretch(k))
            })
            .unzip()
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{cases, scale};
    use super::super::past::Past;
    use super::*;

    #[test]
    fn agrees_with_statsforecast() {
        for c in cases() {
            let past = Past::read(&c.values, c.season).unwrap();
            let view = past.until(past.len());
            let season = Seasonality::measure(view.filled, c.season);
            assert_eq!(season.indices.len() > 1, c.theta.seasonal, "{}", c.name);
            let found = Theta::estimate_within(view, &season, 0.1).unwrap();
            // Their simplex stops early where the optimum is flat (of a random walk, θ says little): ours may not be
            // worse, and the forecasts stay near.
            let y = season.remove(view.filled);
            let theirs =
                Theta { alpha: c.theta.alpha, omega: 1.0 - 1.0 / c.theta.theta, level: c.theta.level / past.unit() };
            assert!(errors(&found, &y) <= errors(&theirs, &y) * (1.0 + 1e-9), "{}", c.name);
            let (same, _) = theirs.points(view, &season, c.theta.forecast.len());
            let (ours, _) = found.points(view, &season, c.theta.forecast.len());
            let size = scale(&c.values);
            for ((f, s), o) in c.theta.forecast.iter().zip(&same).zip(&ours) {
                assert!((s * past.unit() - f).abs() < 1e-6 * size, "{}: {} {f}", c.name, s * past.unit());
                assert!((o * past.unit() - f).abs() < 0.15 * size, "{}: {} {f}", c.name, o * past.unit());
            }
        }
    }

    fn errors(t: &Theta, y: &[f64]) -> f64 {
        let mut s = State::first(y[0], t.alpha, t.level);
        let mut sum = 0.0;
        for (i, v) in y.iter().enumerate().skip(1) {
            let e = v - s.level - t.omega * s.line(t.alpha);
            sum += if i >= BURN_IN { e * e } else { 0.0 };
            s.push(*v, t.alpha);
        }
        sum
    }
}
