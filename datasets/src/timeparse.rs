use crate::TimeUnit;
use foreglow_core::{CoreError, Timestamp};

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
    if t.contains('[') {
        return Err(format!(
            "{text:?} names a zone without its offset; write both, as in 2026-01-01T00:00:00+01:00[Europe/Berlin]"
        ));
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
    // A zone without its offset would be left out, and the time read as UTC.
    let civil = Some(t).filter(|t| !t.contains('['))?.parse::<jiff::civil::DateTime>().ok()?;
    Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

/// A time from a whole number of `unit`.
pub(crate) fn from_integer(n: i64, unit: TimeUnit) -> Result<Timestamp, String> {
    match unit {
        TimeUnit::Milliseconds => in_range(n, n as f64, unit),
        TimeUnit::Seconds => in_range(n.saturating_mul(1000), n as f64, unit),
        TimeUnit::Microseconds => in_range(n.div_euclid(1000), n as f64, unit),
        TimeUnit::Nanoseconds => in_range(n.div_euclid(1_000_000), n as f64, unit),
    }
}

/// The instant, or which unit `given` looks like: a time of our days lies between 1973 and 5138 in one unit only. A time
/// column that says seconds may reach back to 1970.
fn in_range(ms: i64, given: f64, unit: TimeUnit) -> Result<Timestamp, String> {
    match Timestamp::from_epoch_ms(ms) {
        Ok(t) => Ok(t),
        Err(CoreError::Seconds { .. }) if unit == TimeUnit::Seconds && ms >= 0 => Ok(Timestamp(ms)),
        Err(_) => {
            let of_our_days = |u: &TimeUnit| (1e11..1e14).contains(&(given * u.to_ms()));
            let remedy = TimeUnit::ALL.into_iter().find(of_our_days).map_or_else(
                || "expected a time between 1973 and 5138".to_owned(),
                |u| format!("did you send {}? set the time unit to {}", u.name(), u.short()),
            );
            Err(format!("{given} {} is no time of our days: {remedy}", unit.short()))
        }
    }
}

/// A time from a number with a fraction, rounded to the millisecond.
pub(crate) fn from_float(v: f64, unit: TimeUnit) -> Result<Timestamp, String> {
    let scaled = v * unit.to_ms();
    if !scaled.is_finite() {
        return Err(format!("{v} is no time"));
    }
    in_range(scaled.round() as i64, v, unit)
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
            "2026-01-01T01:00:00+01:00[Europe/Berlin]",
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
        assert_eq!(e, "1767225600 ms is no time of our days: did you send seconds? set the time unit to s");
        let wrong =
            |text: &str, unit, remedy: &str| assert!(parse(text, unit).unwrap_err().ends_with(remedy), "{text}");
        wrong("1767225600000000", TimeUnit::Milliseconds, "set the time unit to us");
        wrong("1767225600000000000.0", TimeUnit::Milliseconds, "set the time unit to ns");
        wrong("1767225600000", TimeUnit::Seconds, "set the time unit to ms");
        wrong("1767225600000", TimeUnit::Nanoseconds, "set the time unit to ms");
        wrong("-5", TimeUnit::Milliseconds, "between 1973 and 5138");
        assert_eq!(parse("86400", TimeUnit::Seconds), Ok(Timestamp(86_400_000)));
        assert!(parse("noon", TimeUnit::Milliseconds).unwrap_err().contains("RFC 3339"));
        assert!(
            parse("2026-01-01T00:00:00[Europe/Berlin]", TimeUnit::Milliseconds).unwrap_err().contains("its offset")
        );
        assert!(parse("nan", TimeUnit::Milliseconds).is_err());
    }
}
