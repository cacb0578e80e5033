use crate::transform::has_calendar;
use foreglow_core::{DAY_MS, Step, Timestamp};

/// Milliseconds of an hour.
const HOUR_MS: i64 = DAY_MS / 24;
/// Most bins of an hour: one a minute, as timed jobs are set.
const HOUR_BINS: usize = 60;
/// Share of its distance to this hour's value that a bin goes an hour, once it has seen a few.
const HOURLY_RATE: f64 = 0.1;

/// Most knots of a day.
const DAY_KNOTS: usize = 48;
/// Most bins of a week: one an hour.
const WEEK_BINS: usize = 168;
/// Share of its distance to today's value that a knot goes a day, once it has seen a few days.
const DAILY_RATE: f64 = 0.3;

/// Shape of a calendar profile: how a series usually differs from its level at this time of day, of the week and of the
/// hour, learnt online.
///
/// The day is a line through up to 48 knots, the week adds up to 168 bins of what the day leaves over, the hour up to 60
/// of what timed jobs do each hour (or every 5, 10, 20 minutes: whatever an hour holds a whole number of). Without a
/// calendar (the step divides no day into four or more parts) the profile has no state and is 0; without four steps an
/// hour it has no hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProfileShape {
    knots: usize,
    bins: usize,
    per_day: usize,
    minutes: usize,
    per_hour: usize,
}

/// What the calendar adds to the level.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Usual {
    pub(super) day: f64,
    pub(super) week: f64,
    pub(super) hour: f64,
}

/// Where an instant lies in a profile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Phase {
    left: usize,
    right: usize,
    /// Weight of the right knot.
    share: f64,
    bin: usize,
    minute: usize,
}

impl ProfileShape {
    pub(super) fn new(step: Step) -> Self {
        if !has_calendar(step) {
            return Self { knots: 0, bins: 0, per_day: 0, minutes: 0, per_hour: 0 };
        }
        let per_day = step.per_day();
        let per_hour = if per_day.is_multiple_of(24) && per_day >= 96 { per_day / 24 } else { 0 };
        let minutes = per_hour.min(HOUR_BINS);
        Self { knots: per_day.min(DAY_KNOTS), bins: (7 * per_day).min(WEEK_BINS), per_day, minutes, per_hour }
    }

    /// Numbers of state: a value and a weight of each knot and bin of day and week, a value of each bin of the hour.
    pub(super) fn len(self) -> usize {
        2 * (self.knots + self.bins) + self.minutes
    }

    /// Steps of an hour, 0 where the hour has no profile.
    pub(super) fn per_hour(self) -> usize {
        self.per_hour
    }

    /// Steps of a day, 0 without a calendar.
    pub(super) fn per_day(self) -> usize {
        self.per_day
    }

    pub(super) fn phase(self, t: Timestamp) -> Phase {
        if self.knots == 0 {
            return Phase { left: 0, right: 0, share: 0.0, bin: 0, minute: 0 };
        }
        let at = t.ms_of_day() as f64 / DAY_MS as f64 * self.knots as f64;
        let left = (at as usize).min(self.knots - 1);
        let week = t.ms_of_week() as f64 / (7 * DAY_MS) as f64;
        let hour = t.ms_of_day() % HOUR_MS;
        Phase {
            left,
            right: (left + 1) % self.knots,
            share: at - left as f64,
            bin: ((week * self.bins as f64) as usize).min(self.bins - 1),
            minute: hour as usize * self.minutes / HOUR_MS as usize,
        }
    }

    /// What the calendar adds to the level.
    pub(super) fn value(self, state: &[f64], at: Phase) -> Usual {
        if self.knots == 0 {
            return Usual::default();
        }
        let day = state[at.left] * (1.0 - at.share) + state[at.right] * at.share;
        let hours = 2 * (self.knots + self.bins);
        let hour = if self.minutes > 0 { state[hours + at.minute] } else { 0.0 };
        Usual { day, week: state[2 * self.knots + at.bin], hour }
    }

    /// Learns the deviation from the level that was seen at a phase, for day and week. What is new in it counts for no more
    /// than `limit`, so that one incident is no season, and what comes back every day is.
    pub(super) fn learn(self, state: &mut [f64], at: Phase, deviation: f64, limit: f64) {
        if self.knots == 0 {
            return;
        }
        let Usual { day, week, .. } = self.value(state, at);
        let slowest = DAILY_RATE * self.knots as f64 / self.per_day as f64;
        let (days, weeks) = state.split_at_mut(2 * self.knots);
        let (values, seen) = days.split_at_mut(self.knots);
        for (k, weight) in [(at.left, 1.0 - at.share), (at.right, at.share)] {
            seen[k] += weight;
            values[k] +=
                (weight / (seen[k] + 1.0)).max(weight * slowest).min(1.0) * (deviation - day).clamp(-limit, limit);
        }
        let (values, rest) = weeks.split_at_mut(self.bins);
        let seen = &mut rest[at.bin];
        *seen += 1.0;
        let slowest = (7.0 * DAILY_RATE * self.bins as f64 / (7 * self.per_day) as f64).min(0.5);
        values[at.bin] += (1.0 / (*seen + 1.0)).max(slowest / 2.0) * (deviation - day - week).clamp(-limit, limit);
    }

    /// Learns, for the hour, the deviation from the mean of the last hour; `steps` were seen so far.
    pub(super) fn learn_hour(self, state: &mut [f64], at: Phase, deviation: f64, limit: f64, steps: f64) {
        if self.minutes == 0 {
            return;
        }
        let hour = &mut state[2 * (self.knots + self.bins) + at.minute];
        let visits = self.per_hour as f64 / self.minutes as f64;
        let hours = (steps / self.per_hour as f64).max(1.0);
        *hour += (1.0 / hours).max(HOURLY_RATE) / visits.max(1.0) * (deviation - *hour).clamp(-limit, limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learns_day_and_week() {
        let step: Step = "1h".parse().unwrap();
        let p = ProfileShape::new(step);
        assert_eq!((p.len(), p.per_day()), (2 * (24 + 168), 24));
        let mut s = vec![0.0; p.len()];
        let start: Timestamp = "2026-01-05T00:00:00Z".parse().unwrap();
        let truth = |t: Timestamp| {
            let weekend = t.ms_of_week() >= 5 * DAY_MS;
            if weekend { 1.0 } else { (t.ms_of_day() / 3_600_000) as f64 }
        };
        let mut late = 0.0f64;
        for i in 0..24 * 7 * 10 {
            let t = start.plus(i * step.ms());
            let at = p.phase(t);
            let Usual { day: d, week: w, .. } = p.value(&s, at);
            if i > 24 * 7 * 8 {
                late = late.max((d + w - truth(t)).abs());
            }
            p.learn(&mut s, at, truth(t), f64::INFINITY);
        }
        assert!(late < 6.0, "{late}");
        assert_eq!(ProfileShape::new("7m".parse().unwrap()).len(), 0);
    }
}
