use super::past::View;
use super::quantiles::rms;
use super::seasonality::{Pattern, Seasonality};
use argmin::core::{CostFunction, Error, Executor, State as _};
use argmin::solver::neldermead::NelderMead;

/// Damping of the trend: with no damping a trend of an hour would be carried on for a day.
const DAMPING: (f64, f64) = (0.8, 0.98);
/// Values that parameters are estimated on, at least; with a season, four of them.
const VALUES: usize = 1024;
/// Steps of the simplex search.
const ITERATIONS: u64 = 60;

/// Damped Holt, with an additive season where there is one: exponential smoothing of level, trend and season (Holt 2004,
/// doi:10.1016/j.ijforecast.2003.09.015; Gardner and McKenzie 1985, doi:10.1287/mnsc.31.10.1237; Hyndman and
/// Athanasopoulos 2021, section 8.5).
///
/// With the error `e_t = y_t - (ℓ + φ b + s_{t-m})`: `ℓ += φ b + α e`, `b = φ b + αβ e`, `s_{t-m} += (1-α) γ e`. Where a value is
/// missing the level moves on with the trend and nothing is learned. `α`, `β`, `γ` in 0 to 1 and `φ` in 0.8 to 0.98 minimise
/// the squared one-step errors by a simplex search (Nelder and Mead 1965). A multiplicative season is taken out before
/// and put back after, by [`Seasonality`], and smoothing corrects what is left. O(n) a try, about 110 tries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Holt {
    alpha: f64,
    beta: f64,
    gamma: f64,
    phi: f64,
}

/// Level, trend and season behind the last value, with the errors on the way.
struct Track {
    level: f64,
    trend: f64,
    /// In phase with the end: `[0]` belongs to the next value.
    season: Vec<f64>,
    squares: f64,
    errors: Vec<f64>,
}

struct Problem<'a> {
    y: &'a [f64],
    season: &'a [f64],
}

impl CostFunction for Problem<'_> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, x: &Self::Param) -> Result<f64, Error> {
        Ok(Holt::bounded(x).run(self.y, self.season, false).squares)
    }
}

impl Holt {
    /// Parameters from the search's free numbers: the logistic function brings any number inside its range.
    fn bounded(x: &[f64]) -> Self {
        let share = |v: f64| 1.0 / (1.0 + libm::exp(-v));
        let phi = DAMPING.0 + (DAMPING.1 - DAMPING.0) * share(x[2]);
        Self { alpha: share(x[0]), beta: share(x[1]), gamma: x.get(3).map_or(0.0, |v| share(*v)), phi }
    }

    /// Estimates the parameters on the end of `past`; `None` for a series too short to say.
    pub(super) fn estimate(past: View<'_>, season: &Seasonality) -> Option<Self> {
        if past.len() < 8 {
            return None;
        }
        let past = past.last(VALUES.max(4 * season.indices.len()));
        let (y, first, _) = prepare(past, season);
        let problem = Problem { y: &y, season: &first };
        let start = if first.len() > 1 { vec![-1.0, -3.0, 1.0, -2.0] } else { vec![-1.0, -3.0, 1.0] };
        let simplex: Vec<Vec<f64>> = std::iter::once(start.clone())
            .chain((0..start.len()).map(|i| {
                let mut x = start.clone();
                x[i] += 2.0;
                x
            }))
            .collect();
        let solver = NelderMead::new(simplex).with_sd_tolerance(1e-9).ok()?;
        let run = Executor::new(problem, solver).configure(|s| s.max_iters(ITERATIONS)).run().ok()?;
        let found = Self::bounded(run.state().get_best_param()?);
        run.state().get_best_cost().is_finite().then_some(found)
    }

    /// Runs the recursion over `y` (NaN = missing) from a start that the first values give. `season` is in phase with
    /// the first value; one number means none.
    fn run(&self, y: &[f64], season: &[f64], keep: bool) -> Track {
        self.run_from(start(y, season), y, season, keep)
    }

    fn run_from(&self, (mut level, mut trend): (f64, f64), y: &[f64], season: &[f64], keep: bool) -> Track {
        let m = season.len();
        let mut s = season.to_vec();
        let (alpha, slope) = (self.alpha, self.alpha * self.beta);
        let gamma = if m > 1 { (1.0 - alpha) * self.gamma } else { 0.0 };
        let (mut squares, mut errors, mut phase) = (0.0, Vec::new(), 0);
        for v in y {
            let base = level + self.phi * trend;
            let e = v - base - s[phase];
            if e.is_nan() {
                level = base;
                trend *= self.phi;
            } else {
                level = base + alpha * e;
                trend = self.phi * trend + slope * e;
                s[phase] += gamma * e;
                squares += e * e;
            }
            if keep {
                errors.push(e);
            }
            phase += 1;
            if phase == m {
                phase = 0;
            }
        }
        s.rotate_left(phase);
        Track { level, trend, season: s, squares, errors }
    }

    /// Point forecasts and standard deviations of `horizon` steps behind `past` with these parameters.
    ///
    /// Variance at step `k` from the model's impulse response: `σ² Σ c_j²`, `c_j = α (1 + β (φ + … + φ^j))`, and `(1-α) γ` more
    /// where `j` is a whole season (Hyndman et al. 2008, chapter 6).
    pub(super) fn points(&self, past: View<'_>, season: &Seasonality, horizon: usize) -> (Vec<f64>, Vec<f64>) {
        let past = past.last(VALUES.max(4 * season.indices.len()));
        let (y, first, outer) = prepare(past, season);
        let track = self.run(&y, &first, true);
        let sd = rms(track.errors.iter().copied());
        let m = track.season.len();
        let gamma = if m > 1 { (1.0 - self.alpha) * self.gamma } else { 0.0 };
        let (mut damp, mut carried, mut variance) = (0.0, 1.0, 1.0f64);
        (0..horizon)
            .map(|k| {
                if k > 0 {
                    let seasonal = if k % m == 0 { gamma } else { 0.0 };
                    let c = self.alpha * (1.0 + self.beta * damp) + seasonal;
                    variance += c * c;
                }
                carried *= self.phi;
                damp += carried;
                let value = track.level + damp * track.trend + track.season[k % m];
                (outer.restore(k, value), sd * variance.sqrt() * outer.stretch(k))
            })
            .unzip()
    }
}

/// The series without a multiplicative season, the additive season to start from (in phase with the first value) and
/// the season that was taken out.
fn prepare(past: View<'_>, seasonality: &Seasonality) -> (Vec<f64>, Vec<f64>, Seasonality) {
    let mut y = match seasonality.pattern {
        Pattern::Multiplicative => seasonality.remove(past.filled),
        Pattern::Absent | Pattern::Additive => past.filled.to_vec(),
    };
    for (v, raw) in y.iter_mut().zip(past.raw) {
        if raw.is_nan() {
            *v = f64::NAN;
        }
    }
    let m = seasonality.indices.len();
    match seasonality.pattern {
        Pattern::Absent => (y, vec![0.0], Seasonality::absent()),
        Pattern::Multiplicative => (y, vec![0.0; m], seasonality.clone()),
        Pattern::Additive => {
            let mut first = seasonality.indices.clone();
            first.rotate_right(past.len() % m);
            (y, first, Seasonality::absent())
        }
    }
}

/// First level and trend: a line through the first ten values without their season.
fn start(y: &[f64], season: &[f64]) -> (f64, f64) {
    let (mut n, mut st, mut sy, mut stt, mut sty) = (0.0, 0.0, 0.0, 0.0, 0.0);
    let there = y.iter().enumerate().map(|(t, v)| (t as f64 + 1.0, v - season[t % season.len()]));
    for (t, v) in there.filter(|(_, v)| v.is_finite()).take(10) {
        n += 1.0;
        st += t;
        sy += v;
        stt += t * t;
        sty += t * v;
    }
    if n == 0.0 {
        return (0.0, 0.0);
    }
    let spread = stt - st * st / n;
    let trend = if spread > 0.0 { (sty - st * sy / n) / spread } else { 0.0 };
    ((sy - trend * st) / n, trend)
}

#[cfg(test)]
mod tests {
    use super::super::golden::{cases, scale};
    use super::super::past::Past;
    use super::*;

    #[test]
    fn recursion_agrees_with_statsmodels() {
        for c in cases() {
            let g = &c.holt;
            let holt = Holt { alpha: g.alpha, beta: g.beta, gamma: g.gamma, phi: g.phi };
            let track = holt.run_from((g.level, g.trend), &c.values, &g.season, false);
            assert!((track.squares / g.squares - 1.0).abs() < 1e-9, "{}: {} {}", c.name, track.squares, g.squares);
            let (mut carried, mut damp) = (1.0, 0.0);
            for (k, f) in g.forecast.iter().enumerate() {
                carried *= holt.phi;
                damp += carried;
                let ours = track.level + damp * track.trend + track.season[k % g.season.len()];
                assert!((ours - f).abs() < 1e-9 * scale(&c.values), "{}: {ours} {f}", c.name);
            }
        }
    }

    #[test]
    fn search_beats_what_it_starts_from() {
        for c in cases() {
            let past = Past::read(&c.values, c.season).unwrap();
            let view = past.until(past.len());
            let season = Seasonality::measure(view.filled, c.season);
            let found = Holt::estimate(view, &season).unwrap();
            let (y, first, _) = prepare(view, &season);
            let start = Holt::bounded(&[-1.0, -3.0, 1.0, -2.0]);
            assert!(found.run(&y, &first, false).squares < start.run(&y, &first, false).squares, "{}", c.name);
        }
    }
}
