//! What an entity runs with, from what was posted and from metrics that tell it.

use super::entry::Entry;
use crate::EngineError;
use crate::config::labels_json;
use crate::store::{ConfigurationRow, HistoryRow, ask};
use foreglow_core::{Labels, TimeRange, Timestamp};
use foreglow_search::Assignment;
use foreglow_search::cut::Configuration;
use foreglow_search::space::Parameter;
use rusqlite::Connection;
use std::collections::BTreeMap;

/// How far back a series' newest value still counts, as in Prometheus. Milliseconds.
const LOOK_BACK_MS: i64 = 5 * 60_000;

/// The configurations of a study's entity in the study's own parameters, oldest first.
///
/// What a posted configuration does not name stays as it was. A metric that tells a parameter makes a configuration when
/// its value is another than what ran.
pub(super) fn configurations(
    conn: &Connection,
    tenant: &str,
    entry: &Entry,
    entity: &Labels,
) -> Result<Vec<Configuration>, EngineError> {
    let posted = ask::configurations(conn, tenant, &labels_json(entity))?;
    let always = TimeRange { start: Timestamp(i64::MIN), end: Timestamp(i64::MAX) };
    let mut told = BTreeMap::new();
    for p in entry.study.space().parameters() {
        if let Some(metric) = &p.spec().from_metric {
            tell(&mut told, p, &ask::history(conn, tenant, metric, entity, always)?);
        }
    }
    Ok(merge(entry, &posted, told))
}

/// Adds what the series of one metric tell: its value wherever all series that are alive agree, as they do not while a
/// change is rolled out.
fn tell(told: &mut BTreeMap<Timestamp, Assignment>, p: &Parameter, series: &[HistoryRow]) {
    let mut readings: Vec<(Timestamp, usize, f64)> =
        series.iter().enumerate().flat_map(|(i, s)| s.values.iter().map(move |(t, v)| (*t, i, *v))).collect();
    readings.sort_by_key(|r| (r.0, r.1));
    let mut newest: Vec<Option<(Timestamp, f64)>> = vec![None; series.len()];
    for (k, (t, i, v)) in readings.iter().enumerate() {
        newest[*i] = Some((*t, *v));
        if readings.get(k + 1).is_some_and(|next| next.0 == *t) {
            continue;
        }
        let alive = newest.iter().flatten().filter(|(at, _)| t.ms() - at.ms() < LOOK_BACK_MS);
        if let Some(value) = p.told_by_metric(*v).filter(|_| alive.into_iter().all(|(_, other)| other == v)) {
            told.entry(*t).or_default().insert(p.name().to_owned(), value);
        }
    }
}

fn merge(entry: &Entry, posted: &[ConfigurationRow], mut told: BTreeMap<Timestamp, Assignment>) -> Vec<Configuration> {
    let space = entry.study.space();
    let mut running: Assignment =
        space.parameters().iter().filter_map(|p| Some((p.name().to_owned(), p.current()?.clone()))).collect();
    let mut out = Vec::new();
    let mut posted = posted.iter().peekable();
    loop {
        let first = told.first_key_value().map(|(t, _)| *t);
        if let Some(r) = posted.next_if(|r| first.is_none_or(|t| r.since <= t)) {
            let given: Assignment = serde_json::from_str(&r.parameters).unwrap_or_default();
            running.extend(given.into_iter().filter(|(n, _)| space.get(n).is_some()));
            out.push(Configuration { since: r.since, parameters: running.clone() });
            continue;
        }
        let Some((since, given)) = told.pop_first() else { return out };
        let news = given.iter().any(|(n, v)| !running.get(n).is_some_and(|r| r.same(v)));
        running.extend(given);
        // The first reading says what ran before anything was said, and is news for that reason alone.
        if news || out.is_empty() {
            out.push(Configuration { since, parameters: running.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreglow_search::{Goal, Objective, ParameterSpec, SpaceSpec, StudySpec, Value};

    fn entry() -> Entry {
        let space = SpaceSpec(vec![
            ParameterSpec::int("workers", 1, 64).current(8),
            ParameterSpec::discrete("memory_mb", &[16.0, 24.0, 32.0]).from_metric("memory_bytes", 1e-6),
        ]);
        let objective =
            Objective { metric: "p95".into(), aggregate: foreglow_search::Aggregate::Mean, goal: Goal::Min };
        Entry::new("t", StudySpec::new("s", space, objective).check().unwrap(), Timestamp(0))
    }

    fn row(agent: &str, values: &[(i64, f64)]) -> HistoryRow {
        HistoryRow {
            labels: Labels::new([("agent", agent)]),
            values: values.iter().map(|(t, v)| (Timestamp(*t), *v)).collect(),
        }
    }

    /// Start, workers and memory of each configuration.
    fn run(posted: &[(i64, &str)], series: &[HistoryRow]) -> Vec<(i64, Option<f64>, Option<f64>)> {
        let e = entry();
        let rows: Vec<ConfigurationRow> = posted
            .iter()
            .map(|(t, p)| ConfigurationRow {
                entity: "{}".into(),
                since: Timestamp(*t),
                parameters: (*p).to_owned(),
                reference: None,
            })
            .collect();
        let mut told = BTreeMap::new();
        tell(&mut told, &e.study.space().parameters()[1], series);
        let number = |c: &Configuration, n: &str| c.parameters.get(n).and_then(Value::as_number);
        let all = merge(&e, &rows, told);
        all.iter().map(|c| (c.since.ms(), number(c, "workers"), number(c, "memory_mb"))).collect()
    }

    #[test]
    fn a_metric_tells_what_runs_and_what_was_posted_stays() {
        let series = [row("a", &[(10, 16e6), (20, 16e6), (40, 24e6), (50, 24e6)])];
        assert_eq!(
            run(&[(30, r#"{"workers":16,"unknown":1}"#)], &series),
            [(10, Some(8.0), Some(16.0)), (30, Some(16.0), Some(16.0)), (40, Some(16.0), Some(24.0))]
        );
        assert_eq!(
            run(&[(5, r#"{"memory_mb":16}"#)], &series[..1]).len(),
            2,
            "a reading that says the same is no change"
        );
        assert_eq!(run(&[], &[row("a", &[(10, 17e6), (20, f64::NAN)])]), [], "no value of the parameter");
    }

    #[test]
    fn a_rollout_is_over_when_all_that_are_alive_agree() {
        let series = [row("a", &[(10, 16e6), (30, 24e6)]), row("b", &[(11, 16e6), (31, 16e6), (51, 24e6)])];
        assert_eq!(
            run(&[], &series).iter().map(|c| (c.0, c.2)).collect::<Vec<_>>(),
            [(10, Some(16.0)), (51, Some(24.0))]
        );
        // One that went away is not waited for.
        let gone = [row("a", &[(10, 16e6)]), row("b", &[(10, 16e6), (10 + LOOK_BACK_MS, 24e6)])];
        assert_eq!(run(&[], &gone).len(), 2);
    }
}
