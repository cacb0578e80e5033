//! Trials out of the metrics that the server keeps: gather, cut, and hand to the study.

use super::arms::{Grid, mean_of};
use super::entry::Entry;
use super::running;
use crate::EngineError;
use crate::store::{HistoryRow, ask};
use foreglow_core::{Labels, MetricKey, Selector, Step, TimeRange, Timestamp};
use foreglow_search::cut::{Configuration, CutInput, CutTrial, MetricSeries, cut};
use foreglow_search::experiment::{BlockMean, Samples, block_means};
use foreglow_search::{Aggregate, AppliedChange, Assignment, Mark, TrialState, assignment_key};
use rusqlite::Connection;
use std::collections::BTreeMap;

/// Steps without a value after which an objective is silent.
const SILENT: i64 = 10;

/// Changes of these kinds do not disturb a measurement.
const HARMLESS: [&str; 3] = ["config", "maintenance", "freeze"];

/// What was running when, and what the metrics showed.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    configurations: Vec<Configuration>,
    metrics: BTreeMap<String, (Vec<Timestamp>, Vec<f64>)>,
    incidents: Vec<TimeRange>,
    changes: Vec<Timestamp>,
    until: Option<Timestamp>,
}

/// Reads everything about a study's entity since `from`.
pub(super) fn gather(
    conn: &Connection,
    tenant: &str,
    entry: &Entry,
    from: Option<Timestamp>,
) -> Result<Gathered, EngineError> {
    let entity = entry.entity();
    let mut configurations = running::configurations(conn, tenant, entry, &entity)?;
    configurations.retain(|c| from.is_none_or(|f| c.since >= f));
    let start = from.or_else(|| configurations.first().map(|c| c.since)).unwrap_or(Timestamp(i64::MIN));
    let range = TimeRange { start, end: Timestamp(i64::MAX) };
    let mut out = Gathered { configurations, ..Gathered::default() };
    for name in entry.metrics() {
        let series = one_series(&ask::history(conn, tenant, &name, &entity, range)?, &entity);
        out.until = out.until.max(series.0.last().copied());
        out.metrics.insert(name, series);
    }
    for (group, range) in ask::incidents_within(conn, tenant, range)? {
        if within(&group, &entity) {
            out.incidents.push(range);
        }
    }
    let objective = MetricKey::new(&entry.study.spec().objective.metric, entity);
    for c in ask::changes_within(conn, tenant, range)? {
        let touches = c.selector.as_ref().is_none_or(|s| s.parse::<Selector>().is_ok_and(|s| s.matches(&objective)));
        if touches && !HARMLESS.contains(&c.kind.as_str()) {
            out.changes.push(c.start);
        }
    }
    Ok(out)
}

/// The metric of the entity: its own series where there is one, else the mean of all series that belong to it.
fn one_series(rows: &[HistoryRow], entity: &Labels) -> (Vec<Timestamp>, Vec<f64>) {
    if let Some(own) = rows.iter().find(|r| r.labels == *entity) {
        return own.values.iter().map(|(t, v)| (*t, *v)).unzip();
    }
    let all: Vec<BTreeMap<Timestamp, f64>> = rows.iter().map(|r| r.values.clone()).collect();
    mean_of(&all).into_iter().unzip()
}

/// Whether a group (its labels' display form) belongs to an entity.
pub(super) fn within(group: &str, entity: &Labels) -> bool {
    entity.iter().all(|(n, v)| {
        let pair = format!("{n}={v:?}");
        group.contains(&format!("{{{pair}")) || group.contains(&format!(",{pair}"))
    })
}

impl Gathered {
    /// The trials of all configurations; none where the objective was never measured.
    pub(super) fn cut(&self, entry: &Entry) -> Result<Vec<CutTrial>, EngineError> {
        self.cut_as(entry, &self.configurations, false)
    }

    /// The trial of one stretch that starts at `since`.
    pub(super) fn cut_one(
        &self,
        entry: &Entry,
        since: Timestamp,
        parameters: &Assignment,
    ) -> Result<Option<CutTrial>, EngineError> {
        let mut one = vec![Configuration { since, parameters: parameters.clone() }];
        one.extend(self.configurations.iter().filter(|c| c.since > since).cloned());
        Ok(self.cut_as(entry, &one, false)?.into_iter().next())
    }

    /// The trial of the stretch that ends at `end`, the newest blocks of it; none when another configuration ran in it. It goes
    /// back over twice what a trial like `after` takes: what was weeks ago was under other circumstances.
    pub(super) fn cut_before(
        &self,
        entry: &Entry,
        end: Timestamp,
        parameters: &Assignment,
        after: Option<&CutTrial>,
    ) -> Result<Option<CutTrial>, EngineError> {
        let objective = self.metrics.get(&entry.study.spec().objective.metric);
        let Some(first) = objective.and_then(|m| m.0.first()).filter(|t| **t < end) else { return Ok(None) };
        let last = self.configurations.iter().rev().find(|c| c.since < end);
        let same = |c: &Configuration| {
            entry.study.space().canonical(&c.parameters).is_ok_and(|p| assignment_key(&p) == assignment_key(parameters))
        };
        if last.is_some_and(|c| !same(c)) {
            return Ok(None);
        }
        let started = last.map_or(*first, |c| c.since);
        let step = objective.and_then(|m| Step::detect(&m.0)).map_or(0, Step::ms);
        let reach = after.map_or(i64::MAX, |t| (2 * t.whole_steps() as i64).saturating_mul(step));
        let since = started.max(Timestamp(end.ms().saturating_sub(reach)));
        let two = [
            Configuration { since, parameters: parameters.clone() },
            Configuration { since: end, parameters: parameters.clone() },
        ];
        Ok(self.cut_as(entry, &two, true)?.into_iter().next())
    }

    fn cut_as(
        &self,
        entry: &Entry,
        configurations: &[Configuration],
        newest: bool,
    ) -> Result<Vec<CutTrial>, EngineError> {
        let spec = entry.study.spec();
        let Some((times, _)) = self.metrics.get(&spec.objective.metric) else { return Ok(Vec::new()) };
        let (Some(step), Some(until)) = (Step::detect(times), self.until) else { return Ok(Vec::new()) };
        let metrics = self
            .metrics
            .iter()
            .filter(|(_, s)| !s.0.is_empty())
            .map(|(n, s)| (n.as_str(), MetricSeries { timestamps: &s.0, values: &s.1 }))
            .collect();
        Ok(cut(&CutInput {
            configurations,
            metrics,
            step,
            objective: &spec.objective,
            also: &spec.also,
            guard_rails: &spec.guard_rails,
            workload: spec.workload.as_deref(),
            incidents: &self.incidents,
            other_changes: &self.changes,
            until: until.plus(step.ms()),
            newest,
        })?)
    }

    /// Block means of the objective before and after a change with the load's movement taken out, and the share of
    /// variance that went with it. `None` where there is no load, it explains little, or the objective is no mean of
    /// samples, of which alone it can be taken out.
    pub(super) fn without_load(
        &self,
        entry: &Entry,
        before: &CutTrial,
        after: &CutTrial,
    ) -> Option<([BlockMean; 2], f64)> {
        let spec = entry.study.spec();
        let (times, values) = self.series(&spec.objective.metric)?;
        let (at, load) = self.series(spec.workload.as_deref()?)?;
        let load: BTreeMap<Timestamp, f64> = at.iter().copied().zip(load.iter().copied()).collect();
        let side = |t: &CutTrial| {
            let within =
                times.iter().copied().zip(values.iter().copied()).filter(|(at, _)| *at >= t.range.0 && *at < t.range.1);
            let grid = Grid::of(within.collect());
            let beside = grid.beside(&load);
            (grid.values, beside)
        };
        let sides = [side(before), side(after)];
        let [b, a] = sides.each_ref().map(|(values, load)| Samples { values, covariate: Some(load) });
        let (means, explained) = block_means(b, a);
        (spec.objective.aggregate == Aggregate::Mean && explained > 0.0).then_some((means, explained))
    }

    /// That the objective has come no more for ten of its steps since `since`, as when what runs kills what it runs in.
    pub(super) fn silent(&self, objective: &str, since: Timestamp, now: Timestamp) -> Option<String> {
        let (times, _) = self.series(objective)?;
        let step = Step::detect(times)?;
        let last = times.last().copied()?.max(since);
        let silent = now.ms().saturating_sub(last.ms()) > SILENT * step.ms();
        silent.then(|| format!("`{objective}` has come no more since {last}"))
    }

    /// Where the metrics end.
    pub(super) fn until(&self) -> Option<Timestamp> {
        self.until
    }

    /// A metric of the entity: when and what.
    pub(super) fn series(&self, name: &str) -> Option<(&[Timestamp], &[f64])> {
        self.metrics.get(name).map(|(t, v)| (t.as_slice(), v.as_slice()))
    }

    /// The changes of configuration, the first one not being one, with what each took.
    pub(super) fn changes_made(&self, entry: &Entry) -> Vec<AppliedChange> {
        let space = entry.study.space();
        let known = |c: &Configuration| space.canonical(&c.parameters).ok();
        let change = |w: &[Configuration]| {
            Some(AppliedChange { at: w[1].since, cost: super::cost_of(space, &known(&w[0])?, &known(&w[1])?)? })
        };
        self.configurations.windows(2).filter_map(change).collect()
    }

    /// The configuration that runs now.
    pub(super) fn running(&self) -> Option<&Configuration> {
        self.configurations.last()
    }
}

/// Adds what has been measured since the last time: a trial that was suggested is completed by the stretch in which its
/// configuration ran, any other configuration becomes an observed trial. Answers whether anything changed.
pub(super) fn absorb(entry: &mut Entry, gathered: &Gathered) -> Result<bool, EngineError> {
    let mut changed = false;
    for t in gathered.cut(entry)?.iter().filter(|t| t.finished) {
        let since = gathered.configurations.iter().rev().map(|c| c.since).find(|s| *s < t.range.0);
        if since <= entry.absorbed {
            continue;
        }
        entry.absorbed = since;
        changed = true;
        // A configuration outside the space, or one without any value, teaches nothing.
        if let (Ok(parameters), Some(m)) = (entry.study.space().canonical(&t.parameters), &t.measurement) {
            match pending(entry, &parameters).filter(|_| t.marks.is_empty()) {
                // What its client reports counts more, and comes when it completes the trial.
                Some(id) if entry.reports.contains_key(&id) => {}
                Some(id) => {
                    entry.study.set_context(id, t.context.clone())?;
                    entry.study.tell(id, m.clone())?;
                    entry.by_metrics.insert(id);
                }
                None => {
                    entry.study.add(&parameters, Some(m.clone()), t.context.clone(), t.marks.clone())?;
                }
            }
        }
    }
    Ok(follow_current(entry, gathered) || changed)
}

fn pending(entry: &Entry, parameters: &Assignment) -> Option<u64> {
    let key = assignment_key(parameters);
    let same = |t: &&foreglow_search::Trial| t.state == TrialState::Pending && assignment_key(&t.parameters) == key;
    entry.study.trials().iter().find(same).map(|t| t.id)
}

/// What runs now becomes what advice counts from, unless it is a suggestion that is being tried.
fn follow_current(entry: &mut Entry, gathered: &Gathered) -> bool {
    let Some(running) = gathered.running() else { return false };
    let Ok(now) = entry.study.space().canonical(&running.parameters) else { return false };
    let suggested = entry.study.trials().iter().any(|t| {
        t.source == foreglow_search::Source::Suggested && assignment_key(&t.parameters) == assignment_key(&now)
    });
    let before = entry.study.space().current();
    if before.as_ref() == Some(&now) || (suggested && before.is_some()) {
        return false;
    }
    entry.study.set_current(&now).is_ok()
}

/// Why a cut trial cannot be the measurement of a trial, in words.
pub(super) fn unusable(t: Option<&CutTrial>) -> Option<String> {
    let Some(t) = t else { return Some("the objective was not measured since the configuration started".into()) };
    let blocks = t.measurement.as_ref().map_or(0, |m| m.replicates);
    let mark = t.marks.first()?;
    Some(match mark {
        Mark::TooShort => format!(
            "{blocks} independent blocks were measured, {} are needed: wait about {:.0} steps a block",
            foreglow_search::cut::FEWEST_BLOCKS,
            5.0 * t.autocorrelation_time
        ),
        Mark::TwoChanges => "something else changed meanwhile".into(),
        Mark::Incident => "an incident overlapped it".into(),
        Mark::NoData => "the objective was missing all the time".into(),
        Mark::Stopped => "it was stopped".into(),
        Mark::Contradicted => "other measurements of the configuration contradict it".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_within_an_entity() {
        let e = Labels::new([("service", "a")]);
        assert!(within(r#"{service="a"}"#, &e) && within(r#"{host="x",service="a"}"#, &e));
        assert!(!within(r#"{myservice="a"}"#, &e) && !within(r#"{service="ab"}"#, &e) && !within("{}", &e));
        assert!(within("{}", &Labels::default()));
    }

    #[test]
    fn series_of_an_entity_are_averaged() {
        let row = |labels, values: &[(i64, f64)]| HistoryRow {
            labels,
            values: values.iter().map(|(t, v)| (Timestamp(*t), *v)).collect(),
        };
        let e = Labels::new([("swarm", "s")]);
        let a = row(e.with("agent", "1"), &[(1, 1.0), (2, 3.0)]);
        let b = row(e.with("agent", "2"), &[(1, 3.0)]);
        assert_eq!(one_series(&[a.clone(), b.clone()], &e).1, [2.0, 3.0]);
        let own = row(e.clone(), &[(1, 7.0)]);
        assert_eq!(one_series(&[a, b, own], &e).1, [7.0]);
    }
}
