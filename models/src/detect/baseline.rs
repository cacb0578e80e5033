//! The online seasonal robust baseline of one series.

use super::profile::{Phase, ProfileShape, Usual};
use crate::calibrate::RunningTail;
use foreglow_core::signals::Worse;
use foreglow_core::stats::MAD_TO_SD;
use foreglow_core::{Step, Timestamp};

/// The newest values that level and spread begin, and begin again, from.
const RECENT: usize = 16;
/// Values seen before it has an opinion.
const WARM_UP: f64 = 60.0;
/// Share of a new value in the short level: it follows within about ten steps.
const SHORT: f64 = 0.15;
/// Share of a new deviation in the spreads of short level and drift.
const SPREAD: f64 = 0.01;
/// A deviation moves the long level, and counts in a spread, for no more than this many spreads (Huber 1964, doi:10.1214/aoms/1177703732).
const HUBER: f64 = 3.0;
/// Deviations beyond so many spreads count towards beginning again.
const FAR: f64 = 4.0;
/// An error counts for no more than this many spreads where it is asked whether the calendar helps: enough for a peak that
/// comes every day and is far outside the usual spread.
const MOST_ERROR: f64 = 8.0;
/// So many far values in a row (fewer where near ones lie between count back) make a new level.
const RELEARN: f64 = 60.0;
/// Spreads are held above this share of the level, so that a constant series has one.
const FLOOR: f64 = 1e-3;
/// Deviations are held inside ± this many spreads.
const WILD: f64 = 1e6;

// Places in the state of a series.
const SEEN: usize = 0;
const LONG: usize = 1;
const LONG_SPREAD: usize = 2;
const NEAR: usize = 3;
const NEAR_SPREAD: usize = 4;
const DRIFT_SPREAD: usize = 5;
const SIZE: usize = 6;
const ERRORS: usize = 7;
const STREAK: usize = 10;
const STEPS: usize = 11;
const LAYERS: usize = 12;
/// Whether the hour joined.
const HOUR: usize = 13;
/// Mean of the last hour, its spread of errors without and with the hour's profile.
const HOUR_MEAN: usize = 14;
const HOUR_ERRORS: usize = 15;
const RING: usize = 17;
const TAILS: usize = RING + RECENT;
const HEAD: usize = TAILS + 4 * RunningTail::LEN;

/// The baseline of series with one step: constants and layout, shared; the state is the caller's.
///
/// A value is compared with three expectations, each learnt from the values before it: the long level (memory two days,
/// moved by at most three spreads a step) plus the calendar profile; the short level (about ten steps) plus the profile;
/// and the short level itself with the long one, which sees a slow drift. Day, week and hour of the profile join only
/// while they make the errors at least a tenth smaller. Each distance in units of its running spread becomes `-ln p` by a
/// [`RunningTail`], their mean by another one: no alert line is chosen by hand. A value that stays far away for an hour
/// of steps (60) becomes the new level, so a shift alerts and is then accepted. O(1) a value, under 5 KiB a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BaselineShape {
    profile: ProfileShape,
    /// Steps of the long memory.
    memory: f64,
}

/// What the baseline says of one value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SeriesScore {
    /// Calibrated tail probability as `-ln p`; NaN while warming up or when the value is missing.
    pub neg_ln_p: f64,
    /// Expected value; NaN before the first sixteen values.
    pub expected: f64,
    /// Lower end of the 98 % band.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
    /// Values still needed for an opinion.
    pub ready_in: usize,
}

impl SeriesScore {
    fn silent(ready_in: usize) -> Self {
        Self { neg_ln_p: f64::NAN, expected: f64::NAN, lower: f64::NAN, upper: f64::NAN, ready_in }
    }
}

impl BaselineShape {
    /// The baseline of series with this step.
    pub fn new(step: Step) -> Self {
        let profile = ProfileShape::new(step);
        let memory = if profile.per_day() > 0 { (2 * profile.per_day()).clamp(200, 2880) } else { 500 };
        Self { profile, memory: memory as f64 }
    }

    /// Numbers of state of one series.
    pub fn len(&self) -> usize {
        HEAD + self.profile.len()
    }

    /// Whether there is no state; never.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Writes the state of a series that has seen nothing.
    pub fn reset(&self, state: &mut [f64]) {
        state.fill(0.0);
        for k in 0..3 {
            RunningTail::reset_half_normal(&mut state[TAILS + k * RunningTail::LEN..]);
        }
        RunningTail::reset_exponential(&mut state[TAILS + 3 * RunningTail::LEN..]);
    }

    /// Whether day (1) or day and week (2) are known well enough to be used.
    fn layers(&self, state: &[f64]) -> usize {
        let days = if self.profile.per_day() > 0 { state[STEPS] / self.profile.per_day() as f64 } else { 0.0 };
        let [none, day, week] = [state[ERRORS], state[ERRORS + 1], state[ERRORS + 2]];
        if days >= 8.0 && week < 0.9 * none && week < 0.9 * day {
            2
        } else {
            usize::from(days >= 2.0 && day < 0.9 * none)
        }
    }

    /// Whether the hour is known well enough to be used.
    fn knows_hour(&self, state: &[f64]) -> bool {
        let per_hour = self.profile.per_hour() as f64;
        per_hour > 0.0 && state[STEPS] >= 4.0 * per_hour && state[HOUR_ERRORS + 1] < 0.9 * state[HOUR_ERRORS]
    }

    /// Scores `x` (NaN or infinite = missing) with what was known before it, then learns from it. `gap` whole steps are
    /// missing before it.
    pub fn step(&self, state: &mut [f64], time: Timestamp, gap: usize, x: f64, worse: Worse) -> SeriesScore {
        state[STEPS] += 1.0 + gap as f64;
        if gap > 0 && state[SEEN] >= RECENT as f64 {
            // What was near before a gap says less the longer it lasted.
            let keep = libm::pow(1.0 - SHORT, gap.min(1000) as f64);
            state[NEAR] = state[LONG] + (state[NEAR] - state[LONG]) * keep;
        }
        let seen = state[SEEN];
        if seen < RECENT as f64 {
            if x.is_finite() {
                state[RING + seen as usize] = x;
                state[SEEN] += 1.0;
                if state[SEEN] >= RECENT as f64 {
                    begin(state);
                }
            }
            return SeriesScore::silent((WARM_UP - state[SEEN]) as usize);
        }
        let (head, profile) = state.split_at_mut(HEAD);
        let phase = self.profile.phase(time);
        let Usual { day, week, hour } = self.profile.value(profile, phase);
        let layers = self.layers(head);
        let with_hour = self.knows_hour(head);
        if layers as f64 > head[LAYERS] || (with_hour && head[HOUR] == 0.0) {
            // With the profile come smaller errors: what the tails know of the larger ones must not linger.
            head[LAYERS] = head[LAYERS].max(layers as f64);
            head[HOUR] = head[HOUR].max(f64::from(u8::from(with_hour)));
            for k in 0..4 {
                RunningTail::new(&mut head[TAILS + k * RunningTail::LEN..]).doubt();
            }
        }
        let of_day = match layers {
            0 => 0.0,
            1 => day,
            _ => day + week,
        };
        let usual = if with_hour { of_day + hour } else { of_day };
        let expected = bounded(usual + head[NEAR]);
        let floor = (FLOOR * head[LONG].abs()).max(1e-12 * head[SIZE]).max(f64::MIN_POSITIVE * 1e6);
        let near_spread = head[NEAR_SPREAD].max(floor);
        let half = RunningTail::new(&mut head[TAILS + RunningTail::LEN..]).high() * near_spread;
        let ready_in = (WARM_UP - seen).max(0.0) as usize;
        let mut out = SeriesScore {
            neg_ln_p: f64::NAN,
            expected,
            lower: bounded(expected - half),
            upper: bounded(expected + half),
            ready_in,
        };
        if !x.is_finite() {
            return out;
        }

        // Three distances, each in its own spread.
        let long_spread = head[LONG_SPREAD].max(floor);
        let far = apart(x, usual + head[LONG], long_spread);
        let near = apart(x, usual + head[NEAR], near_spread);
        let near_after = bounded(head[NEAR] + SHORT * near.clamp(-FAR, FAR) * near_spread);
        let drift = apart(near_after, head[LONG], head[DRIFT_SPREAD].max(floor));
        let mut sum = 0.0;
        for (k, z) in [far, near, drift].into_iter().enumerate() {
            let mut tail = RunningTail::new(&mut head[TAILS + k * RunningTail::LEN..]);
            let raw = in_direction(z, worse);
            sum += tail.neg_ln_p(raw);
            tail.learn(raw);
        }
        let mut tail = RunningTail::new(&mut head[TAILS + 3 * RunningTail::LEN..]);
        if ready_in == 0 {
            out.neg_ln_p = tail.neg_ln_p(sum / 3.0);
        }
        tail.learn(sum / 3.0);

        // Learning. A spread may grow from nothing once values of another size have come.
        let least = 0.01 * head[SIZE];
        head[SIZE] += SPREAD * (x.abs() - head[SIZE]);
        let grow = |spread: f64, z: f64, unit: f64, rate: f64| {
            let seen = bounded(z.abs() * unit).min(HUBER * spread.max(least).max(floor));
            // 1.2533 mean absolute deviations make a normal standard deviation.
            spread + rate * (1.2533 * seen - spread)
        };
        let rate = (1.0 / self.memory).max(1.0 / (seen + 1.0));
        head[LONG] = bounded(head[LONG] + rate * far.clamp(-HUBER, HUBER) * long_spread);
        head[LONG_SPREAD] = grow(head[LONG_SPREAD], far, long_spread, rate.max(SPREAD / 4.0));
        head[NEAR_SPREAD] = grow(head[NEAR_SPREAD], near, near_spread, SPREAD);
        head[DRIFT_SPREAD] = grow(head[DRIFT_SPREAD], drift, head[DRIFT_SPREAD].max(floor), SPREAD / 4.0);
        head[NEAR] = near_after;
        head[RING + (seen as usize) % RECENT] = x;
        head[SEEN] += 1.0;
        if self.profile.per_day() > 0 {
            let off = x - head[LONG];
            let limit = FAR * long_spread.max(head[ERRORS]);
            let most = MOST_ERROR * long_spread;
            let rate = (1.0 / self.profile.per_day() as f64).max(1.0 / (head[STEPS] + 1.0));
            for (k, e) in [off, off - day, off - day - week].into_iter().enumerate() {
                head[ERRORS + k] += rate * (e.abs().min(most) - head[ERRORS + k]);
            }
            self.profile.learn(profile, phase, bounded(off), limit);
            self.learn_hour(head, profile, phase, x - of_day, hour);
        }
        head[STREAK] = if far.abs() > FAR { head[STREAK] + 1.0 } else { (head[STREAK] - 1.0).max(0.0) };
        if head[STREAK] >= RELEARN {
            for v in &mut head[RING..RING + RECENT] {
                *v = bounded(*v - usual);
            }
            let (near_spread, drift_spread) = (head[NEAR_SPREAD], head[DRIFT_SPREAD]);
            begin(head);
            head[NEAR_SPREAD] = head[NEAR_SPREAD].max(near_spread.min(head[LONG_SPREAD]));
            head[DRIFT_SPREAD] = drift_spread.min(head[LONG_SPREAD]);
            head[RING..RING + RECENT].fill(x);
        }
        out
    }

    /// The hour learns what the mean of the last hour, day and week leave over.
    fn learn_hour(&self, head: &mut [f64], profile: &mut [f64], phase: Phase, x: f64, hour: f64) {
        let per_hour = self.profile.per_hour() as f64;
        if per_hour == 0.0 {
            return;
        }
        let off = bounded(x - head[HOUR_MEAN]);
        let limit = FAR * head[HOUR_ERRORS].max(head[LONG_SPREAD]);
        let most = MOST_ERROR * head[LONG_SPREAD];
        // The errors of a few hours decide: the hour comes and goes with what the system runs.
        let rate = (1.0 / (8.0 * per_hour)).max(1.0 / (head[STEPS] + 1.0));
        for (k, e) in [off, off - hour].into_iter().enumerate() {
            head[HOUR_ERRORS + k] += rate * (e.abs().min(most) - head[HOUR_ERRORS + k]);
        }
        self.profile.learn_hour(profile, phase, off, limit, head[STEPS]);
        head[HOUR_MEAN] += (1.0 / per_hour) * off.clamp(-limit, limit);
    }
}

/// Level and spread from the recent values alone.
fn begin(state: &mut [f64]) {
    let mut ring = [0.0; RECENT];
    ring.copy_from_slice(&state[RING..RING + RECENT]);
    // Sums of halves, so that values near the largest number do not overflow.
    let centre = middle(ring);
    let spread = MAD_TO_SD * middle(ring.map(|v| bounded((v - centre).abs())));
    let mean = ring.iter().map(|v| bounded((v - centre).abs()) / RECENT as f64).sum::<f64>();
    let spread = bounded(if spread > 0.0 { spread } else { mean });
    state[LONG] = centre;
    state[NEAR] = centre;
    state[HOUR_MEAN] = centre;
    state[LONG_SPREAD] = spread;
    state[NEAR_SPREAD] = spread;
    state[DRIFT_SPREAD] = spread / 3.0;
    state[SIZE] = centre.abs().max(mean);
    state[STREAK] = 0.0;
}

fn middle(mut values: [f64; RECENT]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[RECENT / 2 - 1] / 2.0 + values[RECENT / 2] / 2.0
}

/// Held inside the finite range.
fn bounded(v: f64) -> f64 {
    v.clamp(-1e308, 1e308)
}

/// `(x - centre) / spread` without overflow.
fn apart(x: f64, centre: f64, spread: f64) -> f64 {
    let d = x - centre;
    let z = if d.is_finite() { d / spread } else { x / spread - centre / spread };
    if z.is_nan() { WILD } else { z.clamp(-WILD, WILD) }
}

/// The size of a deviation in the direction that is worse, else 0.
fn in_direction(z: f64, worse: Worse) -> f64 {
    match worse {
        Worse::Up => z.max(0.0),
        Worse::Down => (-z).max(0.0),
        Worse::Both => z.abs(),
    }
}
