use super::local::context_for;
use foreglow_core::stats::{detect_season, detect_season_among};
use foreglow_core::{DAY_MS, History, Step};

/// The season is looked for up to this lag: a day of minutes.
pub(super) const LONGEST: usize = 1440;

/// How many past values a forecaster with this season reads; one whose season is not known reads enough to find a day of
/// minutes.
pub(super) fn context(season: Option<usize>) -> usize {
    context_for(season.unwrap_or(768))
}

/// The season of a history in steps, 1 = none: a day where the step divides one and the data bear it out, else by
/// autocorrelation; at most `longest` steps.
pub(super) fn of_history(history: &History<'_>, longest: usize) -> usize {
    let day = DAY_MS / history.step.ms();
    let whole = DAY_MS % history.step.ms() == 0 && day > 1 && day as usize <= longest;
    let known = whole.then(|| detect_season_among(history.values, &[day as usize])).flatten();
    known.or_else(|| detect_season(history.values, longest)).unwrap_or(1)
}

/// Steps of a week where a day is the season, else 0.
pub(super) fn week(season: usize, step: Step) -> usize {
    if season > 1 && season as i64 * step.ms() == DAY_MS { 7 * season } else { 0 }
}

/// The week as the second season of a member that has a use for one, 0 where `length` values hold too few of them.
pub(super) fn second(week: usize, length: usize) -> usize {
    if length > 3 * week { week } else { 0 }
}
