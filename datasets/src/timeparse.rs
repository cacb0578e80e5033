use crate::TimeUnit;
use foreglow_core::Timestamp;

/// A time from text: RFC 3339 (`T` or a space), `YYYY-MM-DD HH:MM:SS[.fff]`, `YYYY-MM-DD` (both taken as UTC), or a number
/// of `unit`. The error says what was wrong.
pub(crate) fn parse(text: &str, unit: TimeUnit) -> Result<Timestamp, String> {
    let t = text.trim();
    if let Ok(n) = t.parse::<i64>() {
        return from_integer(n, unit);
    }
    if let Ok(v) = t.parse::<f64>() {
        return from_float(v, unit);
    }
    if let Some(ms) = parse_text(t) {
        return Ok(Timestamp(ms));
    }
    Err(format!(
        "{text:?} is no time; expected epoch milliseconds, RFC 3339 such as 2026-01-01T00:00:00Z, or 2026-01-01 00:00:00 (UTC)"
    ))
}

/// Whether `text` is written as a date, not as a number.
pub(crate) fn is_date_text(text: &str) -> bool {
    let t = text.trim();
    t.parse::<f64>().is_err() && parse_text(t).is_some()
}

fn parse_text(t: &str) -> Option<i64> {
    if let Ok(instant) = t.parse::<jiff::Timestamp>() {
        return Some(instant.as_millisecond());
    }
    let civil = t.parse::<jiff::civil::DateTime>().ok()?;
    Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

/// A time from a whole number of `unit`.
pub(crate) fn from_integer(n: i64, unit: TimeUnit) -> Result<Timestamp, String> {
    match unit {
        TimeUnit::Milliseconds => {
            Timestamp::from_epoch_ms(n).map_err(|e| format!("{e}; for seconds set the time unit to s"))
        }
        TimeUnit::Seconds => n.checked_mul(1000).map(Timestamp).ok_or_else(|| format!("{n} s is out of range")),
        TimeUnit::Microseconds => Ok(Timestamp(n.div_euclid(1000))),
        TimeUnit::Nanoseconds => Ok(Timestamp(n.div_euclid(1_000_000))),
    }
}

/// A time from a number with a fraction, rounded to the millisecond.
pub(crate) fn from_float(v: f64, unit: TimeUnit) -> Result<Timestamp, String> {
    let scaled = match unit {
        TimeUnit::Milliseconds => v,
        TimeUnit::Seconds => v * 1e3,
        TimeUnit::Microseconds => v / 1e3,
        TimeUnit::Nanoseconds => v / 1e6,
    };
    if !scaled.is_finite() || scaled.abs() > 9e15 {
        return Err(format!("{v} is no time"));
    }
    match unit {
        TimeUnit::Milliseconds => from_integer(scaled.round() as i64, unit),
        _ => Ok(Timestamp(scaled.round() as i64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let want = 1_767_225_600_000;
        for t in [
            "1767225600000",
            "1767225600000.0",
            "2026-01-01T00:00:00Z",
            "2026-01-01 00:00:00Z",
            "2026-01-01T01:00:00+01:00",
            "2026-01-01 00:00:00",
            "2026-01-01 00:00:00.000",
            "2026-01-01",
        ] {
            assert_eq!(parse(t, TimeUnit::Milliseconds).map(Timestamp::ms), Ok(want), "{t}");
        }
        assert_eq!(parse("1767225600.5", TimeUnit::Seconds).map(Timestamp::ms), Ok(want + 500));
        assert_eq!(parse("1767225600000000", TimeUnit::Microseconds).map(Timestamp::ms), Ok(want));
        assert_eq!(parse("1767225600000000000", TimeUnit::Nanoseconds).map(Timestamp::ms), Ok(want));
        assert!(is_date_text("2026-01-01 00:00:00") && !is_date_text("20260101") && !is_date_text("x"));
    }

    #[test]
    fn seconds_are_refused() {
        let e = parse("1767225600", TimeUnit::Milliseconds).unwrap_err();
        assert!(e.contains("did you send seconds?") && e.contains("time unit"), "{e}");
        assert!(parse("noon", TimeUnit::Milliseconds).unwrap_err().contains("RFC 3339"));
        assert!(parse("nan", TimeUnit::Milliseconds).is_err());
    }
}
