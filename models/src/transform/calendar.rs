use foreglow_core::{DAY_MS, Step, Timestamp};
use std::f64::consts::TAU;

/// How many numbers [`calendar_phases`] gives.
pub const PHASES: usize = 4;

/// Whether the time of day says anything at this step: a whole number of steps, four or more, makes a day.
pub fn has_calendar(step: Step) -> bool {
    DAY_MS % step.ms() == 0 && step.ms() * 4 <= DAY_MS
}

/// Time of day and time of week (UTC, weeks from Monday) as points on two circles:
/// `[sin d, cos d, sin w, cos w]` with `d = 2π t/day`, `w = 2π t/week`. On a circle 23:59 and 00:00 are neighbours.
pub fn calendar_phases(t: Timestamp) -> [f32; PHASES] {
    let day = TAU * t.ms_of_day() as f64 / DAY_MS as f64;
    let week = TAU * t.ms_of_week() as f64 / (7 * DAY_MS) as f64;
    [libm::sin(day) as f32, libm::cos(day) as f32, libm::sin(week) as f32, libm::cos(week) as f32]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_close_their_circles() {
        let monday: Timestamp = "2026-01-05T00:00:00Z".parse().unwrap();
        assert_eq!(calendar_phases(monday), [0.0, 1.0, 0.0, 1.0]);
        let noon = calendar_phases(monday.plus(DAY_MS / 2));
        assert!(noon[0].abs() < 1e-6 && (noon[1] + 1.0).abs() < 1e-6);
        assert_eq!(calendar_phases(monday), calendar_phases(monday.plus(7 * DAY_MS)));
        assert!(has_calendar("1h".parse().unwrap()) && has_calendar("10s".parse().unwrap()));
        assert!(!has_calendar("7m".parse().unwrap()) && !has_calendar("1d".parse().unwrap()));
    }
}
