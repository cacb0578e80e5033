use crate::CoreError;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Milliseconds of one day.
pub const DAY_MS: i64 = 86_400_000;

/// Numbers below this are refused as timestamps from outside: as milliseconds they lie in early 1973, as seconds in the
/// years that people send.
const SECONDS_LIMIT: i64 = 100_000_000_000;

/// Numbers from here on are refused, too: as milliseconds they lie behind the year 5138, as microseconds in the years that
/// people send.
const MICROSECONDS_LIMIT: i64 = 100_000_000_000_000;

/// A UTC instant in milliseconds since 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// A timestamp from outside: refuses what can only be seconds, or micro- or nanoseconds.
    pub fn from_epoch_ms(value: i64) -> Result<Self, CoreError> {
        match value {
            ..SECONDS_LIMIT => Err(CoreError::Seconds { value }),
            MICROSECONDS_LIMIT.. => Err(CoreError::Microseconds { value }),
            _ => Ok(Self(value)),
        }
    }

    /// Milliseconds since the epoch.
    pub fn ms(self) -> i64 {
        self.0
    }

    /// Milliseconds since the last midnight UTC.
    pub fn ms_of_day(self) -> i64 {
        self.0.rem_euclid(DAY_MS)
    }

    /// Milliseconds since the last Monday 00:00 UTC.
    pub fn ms_of_week(self) -> i64 {
        // 1970-01-01 was a Thursday, three days after a Monday.
        (self.0 + 3 * DAY_MS).rem_euclid(7 * DAY_MS)
    }

    /// This instant moved by `ms`, saturating at the ends of the range.
    pub fn plus(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(t) => write!(f, "{t}"),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = CoreError;

    /// Epoch milliseconds or RFC 3339.
    fn from_str(text: &str) -> Result<Self, CoreError> {
        if let Ok(value) = text.trim().parse::<i64>() {
            return Self::from_epoch_ms(value);
        }
        text.trim()
            .parse::<jiff::Timestamp>()
            .map(|t| Self(t.as_millisecond()))
            .map_err(|_| CoreError::Timestamp { text: text.to_owned() })
    }
}

/// The distance between two neighbouring rows of a grid: a positive number of milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Step(i64);

impl Step {
    /// A step of `ms` milliseconds, 1 or more.
    pub fn from_ms(ms: i64) -> Result<Self, CoreError> {
        if ms > 0 { Ok(Self(ms)) } else { Err(CoreError::Step { text: format!("{ms} ms") }) }
    }

    /// Milliseconds, at least 1.
    pub fn ms(self) -> i64 {
        self.0
    }

    /// Whole steps in a day, at least 1.
    pub fn per_day(self) -> usize {
        (DAY_MS / self.0).max(1) as usize
    }

    /// The index of the multiple of this step, counted from `anchor`, that lies nearest to `t` (ties go up).
    pub fn nearest(self, anchor: Timestamp, t: Timestamp) -> i64 {
        (t.0.saturating_sub(anchor.0).saturating_add(self.0 / 2)).div_euclid(self.0)
    }

    /// The step most samples keep: the median of the positive differences, or `None` for fewer than two instants.
    pub fn detect(times: &[Timestamp]) -> Option<Self> {
        let mut d: Vec<i64> = times.windows(2).map(|w| w[1].0.saturating_sub(w[0].0)).filter(|d| *d > 0).collect();
        if d.is_empty() {
            return None;
        }
        let mid = d.len() / 2;
        let (_, m, _) = d.select_nth_unstable(mid);
        Some(Self(*m))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, ms) in [("d", DAY_MS), ("h", 3_600_000), ("m", 60_000), ("s", 1000)] {
            if self.0 % ms == 0 {
                return write!(f, "{}{unit}", self.0 / ms);
            }
        }
        write!(f, "{}ms", self.0)
    }
}

/// As Prometheus writes durations: `5m`, or several units, the larger ones first, as in `1h30m`.
impl FromStr for Step {
    type Err = CoreError;

    fn from_str(text: &str) -> Result<Self, CoreError> {
        let err = || CoreError::Step { text: text.to_owned() };
        let (mut rest, mut ms, mut smaller_than) = (text.trim(), 0i64, i64::MAX);
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(err)?;
            let n: i64 = rest[..digits].parse().map_err(|_| err())?;
            let tail = &rest[digits..];
            let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
            let unit = match &tail[..letters] {
                "ms" => 1,
                "s" => 1000,
                "m" | "min" => 60_000,
                "h" => 3_600_000,
                "d" => DAY_MS,
                "w" => 7 * DAY_MS,
                _ => return Err(err()),
            };
            if unit >= smaller_than {
                return Err(err());
            }
            ms = n.checked_mul(unit).and_then(|part| ms.checked_add(part)).ok_or_else(err)?;
            (rest, smaller_than) = (&tail[letters..], unit);
        }
        Self::from_ms(ms).map_err(|_| err())
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// From `start` (included) to `end` (not included).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TimeRange {
    /// The first instant inside.
    pub start: Timestamp,
    /// The first instant behind the range.
    pub end: Timestamp,
}

impl TimeRange {
    /// Whether `t` lies inside.
    pub fn contains(&self, t: Timestamp) -> bool {
        self.start <= t && t < self.end
    }

    /// Whether the two ranges share an instant.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_forms() {
        assert_eq!("2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap().ms(), 1_767_225_600_000);
        assert_eq!("1767225600000".parse::<Timestamp>().unwrap().to_string(), "2026-01-01T00:00:00Z");
        let e = "1767225600".parse::<Timestamp>().unwrap_err().to_string();
        assert!(e.contains("did you send seconds?"), "{e}");
        assert!("yesterday".parse::<Timestamp>().is_err());
        assert_eq!("5m".parse::<Step>().unwrap().ms(), 300_000);
        assert_eq!("1h30m".parse::<Step>().unwrap().ms(), 5_400_000);
        assert_eq!("2w1d500ms".parse::<Step>().unwrap().ms(), 15 * DAY_MS + 500);
        for wrong in ["", "30m1h", "1m1m", "1h30", "1h 30m", "9999999999999w", "1é"] {
            assert!(wrong.parse::<Step>().is_err(), "{wrong}");
        }
        assert!("0s".parse::<Step>().is_err() && "5".parse::<Step>().is_err() && "5y".parse::<Step>().is_err());
    }

    #[test]
    fn weeks_begin_on_monday() {
        let monday: Timestamp = "2026-01-05T00:00:00Z".parse().unwrap();
        assert_eq!(monday.ms_of_week(), 0);
        assert_eq!(monday.plus(DAY_MS + 5).ms_of_week(), DAY_MS + 5);
    }

    proptest! {
        #[test]
        fn step_text_round_trips(ms in 1i64..10_000_000_000) {
            let s = Step::from_ms(ms).unwrap();
            prop_assert_eq!(s.to_string().parse::<Step>().unwrap(), s);
        }

        #[test]
        fn nearest_is_nearest(step in 1i64..100_000, anchor in -1_000_000i64..1_000_000, t in -1_000_000i64..1_000_000) {
            let k = Step::from_ms(step).unwrap().nearest(Timestamp(anchor), Timestamp(t));
            prop_assert!(2 * (anchor + k * step - t).abs() <= step);
        }
    }
}
