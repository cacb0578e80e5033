use super::local::context_for;
use super::series::TrainSeries;
use foreglow_core::stats::{detect_season, detect_season_among, season_skill};
use foreglow_core::{DAY_MS, History, Step};
use std::collections::BTreeMap;

/// The season is looked for up to this lag: a day of minutes.
pub(super) const LONGEST: usize = 1440;

/// The share of variance that a season explains where it stands for itself, whatever the calendar says.
const PLAIN: f64 = 0.5;
/// Series whose season is looked at to find that of all, at most.
const ASKED: usize = 32;

/// How many past values a forecaster with this season reads; one whose season is not known reads enough to find a day of
/// minutes.
pub(super) fn context(season: Option<usize>) -> usize {
    context_for(season.unwrap_or(768))
}

/// The season of a history in steps, 1 = none: a day (an hour, a week: see [`calendar`]) where the step divides it, two of
/// them are there, and the data bear it out or show no other season [plainly](PLAIN); else by autocorrelation, at most [`LONGEST`]
/// steps. Whether the day helps is for those to say who try their members; what is found by chance instead of it does not.
pub(super) fn of_history(history: &History<'_>) -> usize {
    let day = calendar(history.step).filter(|m| history.values.len() >= 2 * m);
    let known = day.and_then(|m| detect_season_among(history.values, &[m]));
    known.unwrap_or_else(|| {
        let found = detect_season(history.values, LONGEST);
        let plain = |m: &usize| day.is_none() || season_skill(history.values, *m).is_some_and(|s| s >= PLAIN);
        found.filter(plain).or(day).unwrap_or(1)
    })
}

/// Steps of the day, of the hour for steps under a minute, of the week for steps of a day; none where the step does not
/// divide it, or more often than [`LONGEST`].
fn calendar(step: Step) -> Option<usize> {
    let cycle = match step.ms() {
        ..60_000 => DAY_MS / 24,
        60_000..DAY_MS => DAY_MS,
        _ => 7 * DAY_MS,
    };
    let steps = (cycle / step.ms()) as usize;
    (cycle % step.ms() == 0 && (2..=LONGEST).contains(&steps)).then_some(steps)
}

/// The season that most series have, 1 = none: of members that are told theirs.
pub(super) fn of_series(series: &[TrainSeries<'_>]) -> usize {
    let mut counts = BTreeMap::new();
    for s in series.iter().step_by(series.len().div_ceil(ASKED).max(1)) {
        let values = &s.values[s.values.len().saturating_sub(context(None))..];
        let last = s.start.plus((s.values.len() as i64 - 1) * s.step.ms());
        *counts.entry(of_history(&History { values, last, step: s.step })).or_insert(0usize) += 1;
    }
    // Of equally many the longest.
    counts.into_iter().max_by_key(|(_, n)| *n).map_or(1, |(m, _)| m)
}

/// Steps of a week where a day is the season, else 0.
pub(super) fn week(season: usize, step: Step) -> usize {
    if season > 1 && season as i64 * step.ms() == DAY_MS { 7 * season } else { 0 }
}

/// The week as the second season of a member that has a use for one, 0 where `length` values hold too few of them.
pub(super) fn second(week: usize, length: usize) -> usize {
    if length > 3 * week { week } else { 0 }
}
