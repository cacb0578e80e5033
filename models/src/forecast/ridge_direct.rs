use super::past::View;
use super::quantiles::rms;
use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use foreglow_core::stats::median;

/// Seasons that an estimate needs.
pub(super) const LEAST_SEASONS: usize = 4;
/// Seasons that the profile of a phase is taken from.
const SEASONS: usize = 7;
/// The newest of them that have a mean of their own.
const RECENT: usize = 4;
/// Rows that a bucket is fitted on, spread over the past.
const ROWS: usize = 512;
/// Under this many starts of a row a bucket says nothing of its own.
const LEAST: usize = 40;
/// Penalty a row over inputs of unit size.
const PENALTY: f64 = 0.03;
/// The penalty grows by this over the number of stretches as long as the lead that the past holds: rows of which each
/// shares its truth with the next say less than they count.
const OVERLAP: f64 = 4.0;
/// Rounds of reweighting towards least absolute errors.
const ROUNDS: usize = 3;
/// Errors under this share of their median count as squares.
const CORE: f64 = 0.5;

/// Ridge regression made for each distance ahead, for series with a season.
///
/// A value `k` steps ahead is the mean of its phase over the last seven seasons, the largest and smallest left out, and
/// what a regression makes of how the present differs from it: the phase one and two seasons before and its neighbours, the
/// mean of four, the week before, and how far the newest value and the newest 48th, twelfth, quarter and whole of a season
/// lay from the means of theirs. Coefficients are one set for half an octave of `k` (1, 2, 3, 4-5, 6-7, 8-11, ...): a
/// surprise just now says much of the next value and little of tomorrow's, and how much is learned, not assumed, without a
/// recursion that carries its own errors on (direct against recursive forecasts: Marcellino, Stock and Watson 2006,
/// doi:10.1016/j.jeconom.2005.07.020). They go after absolute errors by reweighting (Huber 1964,
/// doi:10.1214/aoms/1177703732) under a ridge penalty that shrinks to the profile.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RidgeDirect {
    season: usize,
    /// One a bucket of steps ahead; absent where the past was too short for one.
    buckets: Vec<Option<Bucket>>,
}

#[derive(Debug, Clone, PartialEq)]
struct Bucket {
    /// Steps of the week, 0 = not used.
    week: usize,
    recent: usize,
    weights: Vec<f64>,
    constant: f64,
    sd: f64,
}

/// The half octave of the `k`-th step ahead (0 = the next).
fn bucket(k: usize) -> usize {
    let octave = (k + 1).ilog2();
    2 * octave as usize + usize::from((k + 1).pow(2) >= 1 << (2 * octave + 1))
}

/// The steps ahead of a bucket; none of the second, since no whole number lies between 1.4 and 2.
fn steps(bucket: usize) -> std::ops::Range<usize> {
    let first = |b: usize| {
        let low = if b.is_multiple_of(2) { 1usize << (b / 2) } else { ((1u64 << b) as f64).sqrt().ceil() as usize };
        low - 1
    };
    first(bucket)..first(bucket + 1)
}

/// Values with what their phase usually is taken off, added up from the front: what any stretch lay from usual, at once.
struct Surprise {
    from: usize,
    sums: Vec<f64>,
}

impl Surprise {
    fn new(x: &[f64], season: usize, from: usize) -> Self {
        let mut sum = 0.0;
        let sums = (from..x.len()).map(|t| {
            sum += profile(x, season, t, 1).map_or(0.0, |p| x[t] - p);
            sum
        });
        Self { from, sums: std::iter::once(0.0).chain(sums).collect() }
    }

    /// The mean over the `n` values before `t`.
    fn mean(&self, t: usize, n: usize) -> f64 {
        let at = t - self.from;
        (self.sums[at] - self.sums[at.saturating_sub(n)]) / n as f64
    }
}

/// The mean of the phase of `t` in up to seven seasons, of which `back` before is the newest; of four or more the largest
/// and the smallest do not count.
fn profile(x: &[f64], season: usize, t: usize, back: usize) -> Option<f64> {
    let (mut sum, mut n, mut low, mut high) = (0.0, 0usize, f64::INFINITY, f64::NEG_INFINITY);
    for lag in (back..back + SEASONS).map(|s| s * season).take_while(|lag| *lag <= t) {
        let v = x[t - lag];
        (sum, n, low, high) = (sum + v, n + 1, low.min(v), high.max(v));
    }
    match n {
        0 => None,
        1..4 => Some(sum / n as f64),
        _ => Some((sum - low - high) / (n - 2) as f64),
    }
}

/// Stretches behind now that surprises are averaged over, for a season.
fn stretches(season: usize) -> Vec<usize> {
    let mut all = vec![1, season / 48, season / 12, season / 4, season];
    all.retain(|n| *n > 0);
    all.dedup();
    all
}

/// What a regression is made from.
struct Inputs<'a> {
    x: &'a [f64],
    season: usize,
    week: usize,
    recent: usize,
    surprise: &'a Surprise,
    stretches: &'a [usize],
}

impl Inputs<'_> {
    /// Appends the inputs for the `k`-th value ahead of the first `t`, and says what is usual there.
    fn push(&self, t: usize, k: usize, row: &mut Vec<f64>) -> f64 {
        let (x, m) = (self.x, self.season);
        let (at, back) = (t + k, k / m + 1);
        let usual = profile(x, m, at, back).unwrap_or(x[t - 1]);
        let before = x[at - back * m];
        row.push(before - usual);
        row.push(x[at - (back + 1) * m] - usual);
        let recent = (0..self.recent).map(|s| x[at - (back + s) * m]).sum::<f64>() / self.recent as f64;
        row.push(recent - usual);
        let reach = (m / 48).max(1);
        let near = &x[at - back * m - reach..(at - back * m + reach + 1).min(t)];
        row.push(near.iter().sum::<f64>() / near.len() as f64 - before);
        if let Some(weeks) = k.checked_div(self.week) {
            row.push(x[at - (weeks + 1) * self.week] - usual);
        }
        row.extend(self.stretches.iter().map(|n| self.surprise.mean(t, *n)));
        usual
    }
}

impl RidgeDirect {
    /// Fits on `past` with a season and a week (0 = none), in steps, for forecasts of `horizon` steps; `None` without a
    /// season or with less than four.
    pub(super) fn estimate(past: View<'_>, season: usize, week: usize, horizon: usize) -> Option<Self> {
        let n = past.len();
        if season < 2 || n < LEAST_SEASONS * season {
            return None;
        }
        let surprise = Surprise::new(past.filled, season, 0);
        let stretches = stretches(season);
        let fit = |b: usize| {
            let steps = steps(b);
            let last = steps.end.checked_sub(1).filter(|_| !steps.is_empty())?;
            let back = last / season + 1;
            let recent = RECENT.min((n / season).checked_sub(back + 1)?);
            let from = (recent.max(2) + back) * season + season / 48 + 2;
            let until = n.checked_sub(last)?;
            let weekly = week * (last / week.max(1) + 1) + 1;
            let week = if week > 0 && weekly + 2 * season <= until { week } else { 0 };
            let from = if week > 0 { from.max(weekly) } else { from };
            let starts = until.checked_sub(from).filter(|s| recent > 0 && *s >= LEAST)?;
            let inputs = Inputs { x: past.filled, season, week, recent, surprise: &surprise, stretches: &stretches };
            let rows = starts.min(ROWS);
            let (mut design, mut goal) = (Vec::new(), Vec::with_capacity(rows));
            for i in 0..rows {
                // Every step of the bucket has its turn, in an order that no season follows.
                let (t, k) = (from + i * starts / rows, steps.start + i * 7919 % steps.len());
                if past.raw[t + k].is_finite() {
                    let usual = inputs.push(t, k, &mut design);
                    goal.push(past.raw[t + k] - usual);
                }
            }
            if goal.len() < LEAST {
                return None;
            }
            let stretches = starts as f64 / (0.5 * (steps.start + last) as f64 + 1.0);
            let (weights, constant, sd) = regress(&design, &goal, PENALTY + OVERLAP / stretches)?;
            // What is fitted on few stretches errs more on the next one.
            let sd = sd * (1.0 + (weights.len() + 1) as f64 / stretches).min(4.0).sqrt();
            Some(Bucket { week, recent, weights, constant, sd })
        };
        let mut buckets: Vec<Option<Bucket>> = (0..=bucket(horizon.clamp(1, n / 4) - 1)).map(fit).collect();
        while buckets.last().is_some_and(Option::is_none) {
            buckets.pop();
        }
        (!buckets.is_empty()).then_some(Self { season, buckets })
    }

    /// Values that a forecast looks back on, at most.
    fn reach(&self) -> usize {
        let week = self.buckets.iter().flatten().map(|b| b.week).max().unwrap_or(0);
        (SEASONS * self.season).max(week) + self.season
    }

    /// Point forecasts and standard deviations behind `past`, those further ahead than there were rows for with the
    /// coefficients of the furthest; `None` when it is too short.
    pub(super) fn points(&self, past: View<'_>, horizon: usize) -> Option<(Vec<f64>, Vec<f64>)> {
        let m = self.season;
        let x = past.last(self.reach()).filled;
        let n = x.len();
        let needs = |b: &Bucket| (b.recent.max(2) * m + m / 48 + 2).max(b.week);
        if self.buckets.iter().flatten().any(|b| n < needs(b)) {
            return None;
        }
        let surprise = Surprise::new(x, m, n - m);
        let stretches = stretches(m);
        let mut row = Vec::new();
        let made = (0..horizon).map(|k| {
            let at = bucket(k).min(self.buckets.len() - 1);
            let b = self.buckets[..=at].iter().rev().flatten().next()?;
            let inputs =
                Inputs { x, season: m, week: b.week, recent: b.recent, surprise: &surprise, stretches: &stretches };
            row.clear();
            let usual = inputs.push(n, k, &mut row);
            let moved: f64 = b.weights.iter().zip(&row).map(|(w, v)| w * v).sum();
            Some((usual + moved + b.constant, b.sd))
        });
        made.collect::<Option<Vec<_>>>().map(|all| all.into_iter().unzip())
    }
}

/// Weights of the inputs, a constant and the size of the errors, from rows of `design`.
///
/// Inputs are brought to unit size but not centred, so that what is shrunk away is the difference from usual itself. The
/// constant is an input like the others.
fn regress(design: &[f64], goal: &[f64], penalty: f64) -> Option<(Vec<f64>, f64, f64)> {
    let (rows, inputs) = (goal.len(), design.len() / goal.len());
    let width = inputs + 1;
    let size: Vec<f64> = (0..inputs).map(|j| rms(design.iter().skip(j).step_by(inputs).copied())).collect();
    let scaled: Vec<f64> = design
        .chunks_exact(inputs)
        .flat_map(|r| r.iter().zip(&size).map(|(v, s)| if *s > 1e-12 { v / s } else { 0.0 }).chain([1.0]))
        .collect();
    let mut weight = vec![1.0; rows];
    let mut error = vec![0.0; rows];
    let mut beta = vec![0.0; width];
    for _ in 0..ROUNDS {
        let (mut gram, mut right) = (vec![0.0; width * width], vec![0.0; width]);
        for ((z, y), w) in scaled.chunks_exact(width).zip(goal).zip(&weight) {
            for ((row, r), v) in gram.chunks_exact_mut(width).zip(&mut right).zip(z) {
                let v = w * v;
                for (g, u) in row.iter_mut().zip(z) {
                    *g += v * u;
                }
                *r += v * y;
            }
        }
        let shrink = penalty * weight.iter().sum::<f64>();
        let gram = Mat::from_fn(width, width, |j, k| gram[j * width + k] + if j == k { shrink } else { 0.0 });
        let right = Mat::from_fn(width, 1, |j, _| right[j]);
        let solved = gram.llt(Side::Lower).ok()?.solve(&right);
        for (j, b) in beta.iter_mut().enumerate() {
            *b = solved[(j, 0)];
        }
        for ((e, z), y) in error.iter_mut().zip(scaled.chunks_exact(width)).zip(goal) {
            *e = (y - z.iter().zip(&beta).map(|(v, b)| v * b).sum::<f64>()).abs();
        }
        let core = (CORE * median(&error)).max(1e-9);
        let mean = error.iter().map(|e| 1.0 / e.max(core)).sum::<f64>() / rows as f64;
        for (w, e) in weight.iter_mut().zip(&error) {
            *w = 1.0 / (e.max(core) * mean);
        }
    }
    let constant = beta[inputs];
    let weights: Vec<f64> = beta.iter().zip(&size).map(|(b, s)| if *s > 1e-12 { b / s } else { 0.0 }).collect();
    let sd = rms(error.iter().copied());
    (weights.iter().all(|w| w.is_finite()) && constant.is_finite()).then_some((weights, constant, sd))
}

#[cfg(test)]
mod tests {
    use super::super::past::Past;
    use super::*;
    use foreglow_core::Seed;
    use foreglow_core::stats::normal_quantile;
    use rand::Rng;

    const SEASON: usize = 24;

    /// A season with an autoregression of `phi` around it, its innovations of size 1.
    fn series(n: usize, phi: f64) -> Vec<f64> {
        let mut rng = Seed(5).rng();
        let mut ar = 0.0;
        let value = |t: usize| {
            ar = phi * ar + normal_quantile(rng.gen_range(1e-6..1.0 - 1e-6));
            let phase = std::f64::consts::TAU * (t % SEASON) as f64 / SEASON as f64;
            100.0 + 10.0 * libm::sin(phase) + ar
        };
        (0..n).map(value).collect()
    }

    fn forecast(values: &[f64], horizon: usize) -> Option<(Vec<f64>, Vec<f64>)> {
        let past = Past::read(values, SEASON)?;
        let view = past.until(past.len());
        let (points, sds) = RidgeDirect::estimate(view, SEASON, 0, horizon)?.points(view, horizon)?;
        let scale = |all: Vec<f64>| all.into_iter().map(|v| v * past.unit()).collect();
        Some((scale(points), scale(sds)))
    }

    #[test]
    fn every_step_lies_in_its_bucket() {
        let mut next = 0;
        for b in 0..30 {
            for k in steps(b) {
                assert_eq!((k, bucket(k)), (next, b));
                next += 1;
            }
        }
        assert!(next > 30_000 && steps(1).is_empty());
    }

    /// What is known of an autoregression is `phi` to the power of the lead; the errors that are left and their size are
    /// known too.
    #[test]
    fn it_learns_how_fast_a_surprise_fades() {
        let (values, phi) = (series(6000, 0.9), 0.9f64);
        let (mut ours, mut profiles, mut promised) = ([0.0; SEASON], [0.0; SEASON], [0.0; SEASON]);
        let cuts: Vec<usize> = (0..60).map(|o| 3000 + o * 49).collect();
        for cut in &cuts {
            let (points, sds) = forecast(&values[cut - 1200..*cut], SEASON).unwrap();
            for k in 0..SEASON {
                ours[k] += (values[cut + k] - points[k]).powi(2) / cuts.len() as f64;
                profiles[k] +=
                    (values[cut + k] - profile(&values, SEASON, cut + k, 1).unwrap()).powi(2) / cuts.len() as f64;
                promised[k] += sds[k] * sds[k] / cuts.len() as f64;
            }
        }
        let best = |k: usize| (1.0 - phi.powi(2 * (k as i32 + 1))) / (1.0 - phi * phi);
        let sum = |all: &[f64], range: std::ops::Range<usize>| all[range].iter().sum::<f64>();
        let bests: Vec<f64> = (0..SEASON).map(best).collect();
        for range in [0..3, 3..12] {
            let (mine, least) = (sum(&ours, range.clone()), sum(&bests, range.clone()));
            assert!(mine < 1.5 * least, "{range:?}: {mine} where {least} is possible");
            let said = sum(&promised, range.clone());
            assert!(said > 0.6 * mine && said < 1.8 * mine, "{range:?}: {said} promised, {mine} measured");
        }
        assert!(sum(&ours, 0..3) < 0.5 * sum(&profiles, 0..3) && sum(&ours, 12..24) < 1.1 * sum(&profiles, 12..24));
    }

    #[test]
    fn a_pure_season_is_carried_on_and_further_than_was_fitted() {
        let values: Vec<f64> = (0..400).map(|t| ((t % SEASON) * (t % SEASON)) as f64).collect();
        let (points, _) = forecast(&values, 600).unwrap();
        for (k, p) in points.iter().enumerate() {
            let want = ((400 + k) % SEASON).pow(2) as f64;
            assert!((p - want).abs() < 1e-6, "{k}: {p} for {want}");
        }
    }

    #[test]
    fn what_is_forecast_of_a_step_does_not_hang_on_how_many_are_asked_for() {
        let values = series(900, 0.5);
        let (few, many) = (forecast(&values, 30).unwrap().0, forecast(&values, 200).unwrap().0);
        assert_eq!(few[..], many[..30]);
    }

    #[test]
    fn gaps_are_left_out_and_too_little_is_said_to_be() {
        let mut values = series(900, 0.9);
        let whole = forecast(&values, 12).unwrap().0;
        for t in (0..900).step_by(7) {
            values[t] = f64::NAN;
        }
        let gappy = forecast(&values, 12).unwrap().0;
        assert!(gappy.iter().zip(&whole).all(|(a, b)| (a - b).abs() < 2.0));
        assert!(forecast(&values[..3 * SEASON], 12).is_none() && forecast(&[1.0; 900], 12).is_some());
        let past = Past::read(&values, 1).unwrap();
        assert!(RidgeDirect::estimate(past.until(past.len()), 1, 0, 12).is_none());
    }
}
