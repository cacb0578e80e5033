//! What each arm of an experiment measured: live series of its selector, posted values, or one system that switches.

use super::experiments::{Kept, Switchback};
use crate::EngineError;
use crate::store::ask;
use foreglow_core::{MetricKey, Selector, Step, TimeRange, Timestamp};
use foreglow_search::experiment::{Analysis, Period};
use rusqlite::Connection;
use std::collections::BTreeMap;

/// Values in the order of time, with the covariate beside them where the experiment has one.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Measured {
    pub(super) values: Vec<f64>,
    pub(super) covariate: Option<Vec<f64>>,
}

/// Variant, metric and samples of every arm.
pub(super) fn gather(
    conn: &Connection,
    tenant: &str,
    k: &Kept,
) -> Result<Vec<(String, String, Measured)>, EngineError> {
    let range = k.range();
    let mut out = Vec::new();
    for m in &k.spec.metrics {
        for variant in &k.spec.variants {
            let mut measured =
                Measured { values: Vec::new(), covariate: k.spec.covariate.as_ref().map(|_| Vec::new()) };
            if let Some(s) = k.selectors.get(variant) {
                let selector: Selector = s.parse()?;
                let grid = Grid::of(live_values(conn, tenant, &m.metric, &selector, range)?);
                if let (Some(name), Some(beside)) = (&k.spec.covariate, &mut measured.covariate) {
                    beside.extend(grid.beside(&live_values(conn, tenant, name, &selector, range)?));
                }
                measured.values = grid.values;
            }
            let posted = |metric: &str| ask::observations(conn, tenant, &k.id, metric, variant, range);
            let rows = posted(&m.metric)?;
            if let (Some(name), Some(beside)) = (&k.spec.covariate, &mut measured.covariate) {
                let all: BTreeMap<(Timestamp, String), f64> =
                    posted(name)?.into_iter().map(|(t, unit, v)| ((t, unit), v)).collect();
                let of = |(t, unit, _): &(Timestamp, String, f64)| all.get(&(*t, unit.clone())).copied();
                beside.extend(rows.iter().map(|r| of(r).unwrap_or(f64::NAN)));
            }
            measured.values.extend(rows.into_iter().map(|r| r.2));
            if k.spec.analysis != Analysis::AlwaysValid {
                // What was planned is looked at, and nothing beyond: that is what makes the error hold.
                measured.values.truncate(k.spec.samples);
                if let Some(beside) = &mut measured.covariate {
                    beside.truncate(k.spec.samples);
                }
            }
            out.push((variant.clone(), m.metric.clone(), measured));
        }
    }
    Ok(out)
}

/// What one period of a switchback measured, washout left out, and whether the change was active in it.
pub(super) type Stretch = (bool, Vec<f64>);

/// The whole periods of a switchback so far, for every metric.
pub(super) fn stretches(
    conn: &Connection,
    tenant: &str,
    k: &Kept,
    s: &Switchback,
) -> Result<Vec<Vec<Stretch>>, EngineError> {
    let selector: Selector = s.selector.parse()?;
    let of = |metric: &str| Ok(cut(k, s, &live_values(conn, tenant, metric, &selector, k.range())?));
    k.spec.metrics.iter().map(|m| of(&m.metric)).collect()
}

fn cut(k: &Kept, s: &Switchback, values: &BTreeMap<Timestamp, f64>) -> Vec<Stretch> {
    let times: Vec<Timestamp> = values.keys().copied().collect();
    let (Some(step), Some(last)) = (Step::detect(&times), times.last()) else { return Vec::new() };
    let whole = usize::try_from((last.ms() + step.ms() - k.start.ms()) / s.period_ms).unwrap_or(0);
    let kept = (s.period_ms - s.washout_ms) / step.ms();
    let planned = match k.spec.analysis {
        Analysis::AlwaysValid => whole,
        // As for arms: what was planned, in whole pairs, and nothing beyond.
        _ => 2 * (k.spec.samples / usize::try_from(kept).unwrap_or(1).max(1)),
    };
    let period = |n: usize| {
        let begin = k.start.plus(n as i64 * s.period_ms);
        let counted = begin.plus(s.washout_ms)..begin.plus(s.period_ms);
        (k.treated(n as u64), values.range(counted).map(|(_, v)| *v).collect())
    };
    (0..whole.min(planned)).map(period).collect()
}

/// The periods as they are compared.
pub(super) fn periods(stretches: &[Stretch]) -> Vec<Period<'_>> {
    stretches.iter().map(|(treated, values)| Period { treated: *treated, values }).collect()
}

/// The mean over all selected series at each instant.
pub(super) fn live_values(
    conn: &Connection,
    tenant: &str,
    metric: &str,
    selector: &Selector,
    range: TimeRange,
) -> Result<BTreeMap<Timestamp, f64>, EngineError> {
    let selected = |labels: &foreglow_core::Labels| selector.matches(&MetricKey::new(metric, labels.clone()));
    let rows = ask::history_where(conn, tenant, metric, &selected, range)?;
    Ok(mean_of(&rows.into_iter().map(|r| r.values).collect::<Vec<_>>()))
}

/// The mean of several series at each instant. Series that keep the same step at other instants (replicas, each scraped in
/// its own second) meet in the nearest step: taken in turns they would look like one series that forgets at once.
pub(super) fn mean_of(series: &[BTreeMap<Timestamp, f64>]) -> BTreeMap<Timestamp, f64> {
    let step_of = |s: &BTreeMap<Timestamp, f64>| Step::detect(&s.keys().copied().collect::<Vec<_>>());
    let mut all: BTreeMap<Timestamp, Vec<f64>> = BTreeMap::new();
    for (t, v) in series.iter().flatten() {
        all.entry(*t).or_default().push(*v);
    }
    let longest = series.iter().max_by_key(|s| s.len());
    if let (Some(step), Some((first, _)), Some((last, _))) =
        (longest.and_then(step_of), all.first_key_value(), all.last_key_value())
        && series.len() > 1
        && all.len() as i64 > (last.ms() - first.ms()) / step.ms() * 5 / 4 + 1
    {
        let anchor = *first;
        all.clear();
        for s in series {
            // Of two values of one series in a step the later one counts.
            let on_grid: BTreeMap<i64, f64> = s.iter().map(|(t, v)| (step.nearest(anchor, *t), *v)).collect();
            for (k, v) in on_grid {
                all.entry(anchor.plus(k * step.ms())).or_default().push(v);
            }
        }
    }
    all.into_iter().map(|(t, v)| (t, foreglow_core::stats::mean(&v))).collect()
}

/// Values on a regular grid, NaN where one is missing, so that neighbours are neighbours; as they are where there is no step
/// or hardly anything on the grid.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Grid {
    pub(super) times: Vec<Timestamp>,
    pub(super) values: Vec<f64>,
    pub(super) step: Option<Step>,
}

impl Grid {
    pub(super) fn of(found: BTreeMap<Timestamp, f64>) -> Self {
        let (times, values): (Vec<Timestamp>, Vec<f64>) = found.into_iter().unzip();
        let (Some(step), Some(first), Some(last)) = (Step::detect(&times), times.first(), times.last()) else {
            return Self { times, values, step: None };
        };
        let places = (last.ms() - first.ms()) / step.ms() + 1;
        if places > 4 * times.len() as i64 {
            return Self { times, values, step: Some(step) };
        }
        let mut grid = vec![f64::NAN; places as usize];
        let mut at: Vec<Timestamp> = (0..places).map(|i| first.plus(i * step.ms())).collect();
        for (t, v) in times.iter().zip(values) {
            let place = ((t.ms() - first.ms()) / step.ms()) as usize;
            grid[place] = v;
            at[place] = *t;
        }
        Self { times: at, values: grid, step: Some(step) }
    }

    /// What another series shows at the same instants, NaN where it shows nothing.
    pub(super) fn beside(&self, other: &BTreeMap<Timestamp, f64>) -> Vec<f64> {
        self.times.iter().map(|t| other.get(t).copied().unwrap_or(f64::NAN)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreglow_core::Seed;
    use foreglow_search::Goal;
    use foreglow_search::experiment::{ExperimentMetric, ExperimentSpec};

    fn values(at: &[i64]) -> BTreeMap<Timestamp, f64> {
        at.iter().map(|t| (Timestamp(*t), *t as f64)).collect()
    }

    #[test]
    fn replicas_meet_in_a_step() {
        let pod = |offset: i64, level: f64| (0..40).map(|i| (Timestamp(15_000 * i + offset), level)).collect();
        let pods: Vec<BTreeMap<Timestamp, f64>> = vec![pod(0, 1.0), pod(4_000, 2.0), pod(6_900, 6.0)];
        let together = mean_of(&pods);
        assert!(together.len() == 40 && together.values().all(|v| *v == 3.0), "{together:?}");
        // One that started later, at the same instants as the others: nothing is moved.
        let late: BTreeMap<Timestamp, f64> = (20..60).map(|i| (Timestamp(15_000 * i), 3.0)).collect();
        let two = mean_of(&[pods[0].clone(), late]);
        assert_eq!(
            (two.len(), two[&Timestamp(0)], two[&Timestamp(15_000 * 30)], two[&Timestamp(15_000 * 59)]),
            (60, 1.0, 2.0, 3.0)
        );
        let bursts: BTreeMap<Timestamp, f64> =
            (0..60).map(|i| (Timestamp(60_000 * (i / 2) + 10_000 * (i % 2)), i as f64)).collect();
        assert_eq!(mean_of(std::slice::from_ref(&bursts)), bursts, "one series is what it is");
    }

    #[test]
    fn gaps_keep_their_place() {
        let g = Grid::of(values(&[10, 20, 30, 50, 60]));
        assert_eq!(
            (g.values.len(), g.step.map(Step::ms), g.values[3].is_nan(), g.values[4]),
            (6, Some(10), true, 50.0)
        );
        assert_eq!(Grid::of(values(&[10])).values, [10.0]);
        assert_eq!(Grid::of(values(&[10, 20, 30, 9000])).values.len(), 4, "hardly anything is on the grid");
    }

    #[test]
    fn whole_periods_count_without_their_washout() {
        let spec = ExperimentSpec {
            name: "s".into(),
            variants: vec!["a".into(), "b".into()],
            metrics: vec![ExperimentMetric { metric: "m".into(), goal: Goal::Min }],
            analysis: Analysis::AlwaysValid,
            alpha: 0.05,
            samples: 4,
            covariate: None,
            seed: Seed(3),
        };
        let s = Switchback { selector: "{}".into(), period_ms: 40, washout_ms: 10 };
        let mut k = Kept::new("id".into(), spec, Timestamp(0));
        let all = values(&(0..15).map(|i| 10 * i).collect::<Vec<_>>());
        let found = cut(&k, &s, &all);
        assert_eq!(
            found.iter().map(|p| p.1.clone()).collect::<Vec<_>>(),
            [vec![10.0, 20.0, 30.0], vec![50.0, 60.0, 70.0], vec![90.0, 100.0, 110.0]]
        );
        assert!(found[0].0 != found[1].0, "a coin decides which of a pair has the change");
        k.spec.analysis = Analysis::Planned;
        assert_eq!(cut(&k, &s, &all).len(), 2, "four samples an arm are one pair of three");
    }
}
