//! Trials out of live metrics: which configuration ran when, and what the metrics showed.
//!
//! A trial runs from its configuration's start plus warm-up, the longer of 3 autocorrelation times and 5 steps, to the
//! next configuration or 20 blocks of 5 autocorrelation times. Its value is the mean of the blocks' aggregates, with the
//! standard error of that mean: blocks that long are nearly independent, single samples are not.

use crate::trial::{Mark, Measurement, MetricValue};
use crate::{Assignment, GuardRail, Objective, SearchError, Study, Value, stats};
use foreglow_core::{Step, TimeRange, Timestamp};
use std::collections::BTreeMap;

/// Blocks below which a trial is marked too short.
pub const FEWEST_BLOCKS: usize = 4;
/// Blocks after which a trial ends by itself.
pub const MOST_BLOCKS: usize = 20;
/// Length of a block and of the warm-up, in autocorrelation times, and the least warm-up in steps.
const BLOCK_TIMES: f64 = 5.0;
const WARM_UP_TIMES: f64 = 3.0;
const WARM_UP_STEPS: usize = 5;

/// "This entity runs with these parameters since then."
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// When it started.
    pub since: Timestamp,
    /// The parameters.
    pub parameters: Assignment,
}

/// A metric over time, ascending; NaN is missing.
#[derive(Debug, Clone, Copy)]
pub struct MetricSeries<'a> {
    /// When.
    pub timestamps: &'a [Timestamp],
    /// What, one a timestamp.
    pub values: &'a [f64],
}

/// Everything that trials are cut from.
#[derive(Debug, Clone)]
pub struct CutInput<'a> {
    /// The configurations, ascending by start.
    pub configurations: &'a [Configuration],
    /// The metrics by name: the objective, guard-rails and, when named, the workload.
    pub metrics: BTreeMap<&'a str, MetricSeries<'a>>,
    /// The metrics' step.
    pub step: Step,
    /// What is made small or large.
    pub objective: &'a Objective,
    /// Further objectives.
    pub also: &'a [Objective],
    /// What must not break.
    pub guard_rails: &'a [GuardRail],
    /// The metric that is the load; its mean becomes the context.
    pub workload: Option<&'a str>,
    /// When something was wrong: trials that overlap are marked. One that opened while a configuration settled is what that
    /// configuration did, not a disturbance of it.
    pub incidents: &'a [TimeRange],
    /// When something else changed (a deploy, a scale, a flag): trials that contain it are marked.
    pub other_changes: &'a [Timestamp],
    /// Where the data end; the last configuration runs until here.
    pub until: Timestamp,
}

/// A trial as cut.
#[derive(Debug, Clone, PartialEq)]
pub struct CutTrial {
    /// The configuration.
    pub parameters: Assignment,
    /// The stretch that was measured, after warm-up.
    pub range: (Timestamp, Timestamp),
    /// What was measured; `None` when the objective has no values there.
    pub measurement: Option<Measurement>,
    /// Reasons to keep it out of promises.
    pub marks: Vec<Mark>,
    /// The load during the stretch, as `workload`.
    pub context: BTreeMap<String, Value>,
    /// Autocorrelation time of the objective there, in steps.
    pub autocorrelation_time: f64,
    /// Whether the trial is over: a later configuration started, or it has all its blocks.
    pub finished: bool,
}

/// Cuts the history into one trial a configuration.
///
/// # Errors
/// [`SearchError::Cut`]: the objective's series is absent, timestamps and values differ in number or are not
/// ascending, configurations are not ascending.
pub fn cut(input: &CutInput<'_>) -> Result<Vec<CutTrial>, SearchError> {
    check(input)?;
    let series = input.metrics[input.objective.metric.as_str()];
    let mut runs = Vec::with_capacity(input.configurations.len());
    for (i, configuration) in input.configurations.iter().enumerate() {
        let next = input.configurations.get(i + 1).map(|n| n.since);
        let end = next.unwrap_or(input.until).min(input.until);
        if end > configuration.since {
            runs.push(Run::new(input, series, configuration, end, next.is_some_and(|n| n <= input.until)));
        }
    }
    let settling = |t: Timestamp| runs.iter().any(|r| r.configuration.since <= t && t < r.from);
    let troubles: Vec<TimeRange> = input.incidents.iter().filter(|i| !settling(i.start)).copied().collect();
    Ok(runs.iter().map(|r| one(input, series, r, &troubles)).collect())
}

/// How long one configuration ran.
struct Run<'a> {
    configuration: &'a Configuration,
    /// Autocorrelation time, in steps.
    tau: f64,
    /// The end of its warm-up, at most its own end.
    from: Timestamp,
    end: Timestamp,
    replaced: bool,
}

impl<'a> Run<'a> {
    fn new(input: &CutInput<'_>, s: MetricSeries<'_>, c: &'a Configuration, end: Timestamp, replaced: bool) -> Self {
        let step = input.step.ms();
        // The time is estimated past the least warm-up, or the settling itself would look like correlation.
        let settled = c.since.plus(WARM_UP_STEPS as i64 * step);
        let tau = stats::integrated_autocorrelation_time(&finite(slice(s, settled, end).1));
        let tau = if tau.is_finite() { tau.max(1.0) } else { 1.0 };
        let warm_up = ((WARM_UP_TIMES * tau).ceil() as i64).max(WARM_UP_STEPS as i64) * step;
        Self { configuration: c, tau, from: c.since.plus(warm_up).min(end), end, replaced }
    }
}

impl Study {
    /// Adds the finished trials of [`cut`] as observed ones; those without any measurement are left out. Answers how many
    /// were added.
    ///
    /// # Errors
    /// A configuration that does not belong to the space; nothing is added then.
    pub fn add_cut(&mut self, trials: &[CutTrial]) -> Result<usize, SearchError> {
        for t in trials {
            self.space().canonical(&t.parameters)?;
        }
        let mut added = 0;
        for t in trials.iter().filter(|t| t.finished && t.measurement.is_some()) {
            self.add(&t.parameters, t.measurement.clone(), t.context.clone(), t.marks.clone())?;
            added += 1;
        }
        Ok(added)
    }
}

fn check(input: &CutInput<'_>) -> Result<(), SearchError> {
    let bad = |problem: String| Err(SearchError::Cut { problem });
    if !input.metrics.contains_key(input.objective.metric.as_str()) {
        return bad(format!("the objective's metric `{}` has no series", input.objective.metric));
    }
    for (name, s) in &input.metrics {
        if s.timestamps.len() != s.values.len() {
            return bad(format!("`{name}` has {} timestamps and {} values", s.timestamps.len(), s.values.len()));
        }
        if let Some(i) = s.timestamps.windows(2).position(|w| w[1] <= w[0]) {
            return bad(format!("timestamp {} of `{name}` is not after the one before it", i + 1));
        }
    }
    if let Some(i) = input.configurations.windows(2).position(|w| w[1].since <= w[0].since) {
        return bad(format!("configuration {} does not start after the one before it", i + 1));
    }
    Ok(())
}

/// The part of a series in `[from, to)`.
fn slice(s: MetricSeries<'_>, from: Timestamp, to: Timestamp) -> (&[Timestamp], &[f64]) {
    let a = s.timestamps.partition_point(|t| *t < from);
    let b = s.timestamps.partition_point(|t| *t < to).max(a);
    (&s.timestamps[a..b], &s.values[a..b])
}

fn finite(values: &[f64]) -> Vec<f64> {
    values.iter().copied().filter(|v| v.is_finite()).collect()
}

fn one(input: &CutInput<'_>, series: MetricSeries<'_>, run: &Run<'_>, troubles: &[TimeRange]) -> CutTrial {
    let &Run { configuration: c, tau, from, end, replaced } = run;
    let block = (BLOCK_TIMES * tau).ceil() as i64 * input.step.ms();
    let full = from.plus(block * MOST_BLOCKS as i64);
    let finished = replaced || full <= end;
    let to = full.min(end);
    let blocks = ((to.ms() - from.ms()) / block).max(0) as usize;

    let value_of = |s: MetricSeries<'_>, aggregate: crate::Aggregate| {
        let seconds = block as f64 / 1000.0;
        let values: Vec<f64> = (0..blocks as i64)
            .filter_map(|k| {
                let (a, b) = (from.plus(k * block), from.plus((k + 1) * block));
                aggregate.of(&finite(slice(s, a, b).1), seconds)
            })
            .collect();
        if values.is_empty() {
            return None;
        }
        let se = if values.len() > 1 { Some(stats::sd(&values) / (values.len() as f64).sqrt()) } else { None };
        Some((MetricValue { value: stats::mean(&values), se }, values.len()))
    };
    let mut marks = Vec::new();
    let objective = value_of(series, input.objective.aggregate);
    if objective.is_none_or(|o| o.1 < FEWEST_BLOCKS) {
        marks.push(Mark::TooShort);
    }
    if finite(slice(series, from, to).1).is_empty() {
        marks.push(Mark::NoData);
    }
    if troubles.iter().any(|r| r.start < to && r.end > c.since) {
        marks.push(Mark::Incident);
    }
    if input.other_changes.iter().any(|t| *t >= c.since && *t < to) {
        marks.push(Mark::TwoChanges);
    }
    marks.sort();
    let measurement = objective.map(|(m, count)| Measurement {
        value: m.value,
        se: m.se,
        replicates: count as u32,
        metrics: (input.also.iter().map(|o| (&o.metric, o.aggregate)))
            .chain(input.guard_rails.iter().map(|g| (&g.metric, g.aggregate)))
            .filter_map(|(name, aggregate)| {
                let s = input.metrics.get(name.as_str())?;
                Some((name.clone(), value_of(*s, aggregate)?.0))
            })
            .collect(),
    });
    let load = input.workload.and_then(|w| input.metrics.get(w)).map(|s| finite(slice(*s, from, to).1));
    let context = match load {
        Some(v) if !v.is_empty() => BTreeMap::from([("workload".to_owned(), Value::Float(stats::mean(&v)))]),
        _ => BTreeMap::new(),
    };
    CutTrial {
        parameters: c.parameters.clone(),
        range: (from, to),
        measurement,
        marks,
        context,
        autocorrelation_time: tau,
        finished,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Aggregate, Bound, Goal, ParameterSpec, SpaceSpec, StudySpec};
    use foreglow_core::Seed;
    use rand::Rng;

    const STEP: i64 = 1000;

    fn at(k: i64) -> Timestamp {
        Timestamp(1_767_225_600_000 + k * STEP)
    }

    fn workers(n: i64) -> Assignment {
        Assignment::from([("workers".to_owned(), Value::Int(n))])
    }

    struct World {
        t: Vec<Timestamp>,
        latency: Vec<f64>,
        errors: Vec<f64>,
        objective: Objective,
        guards: Vec<GuardRail>,
        configurations: Vec<Configuration>,
    }

    /// Latency 10 under 4 workers and 6 under 8, AR(1) noise of coefficient `a`, a slow transition of 4 steps.
    fn world(a: f64) -> World {
        let mut rng = Seed(11).rng();
        let mut e = 0.0;
        let latency = (0..2000)
            .map(|k: i64| {
                e = a * e + rng.gen_range(-0.5..0.5);
                let settle = if (1000..1004).contains(&k) { 50.0 } else { 0.0 };
                e + settle + if k < 1000 { 10.0 } else { 6.0 }
            })
            .collect();
        World {
            t: (0..2000).map(at).collect(),
            latency,
            errors: (0..2000).map(|k| f64::from(i32::from(k % 4 == 0))).collect(),
            objective: Objective { metric: "latency".into(), aggregate: Aggregate::Mean, goal: Goal::Min },
            guards: vec![GuardRail {
                aggregate: Aggregate::Rate,
                ..GuardRail::at_most("errors", Bound::Absolute(1.0))
            }],
            configurations: vec![
                Configuration { since: at(0), parameters: workers(4) },
                Configuration { since: at(1000), parameters: workers(8) },
            ],
        }
    }

    impl World {
        fn input(&self) -> CutInput<'_> {
            let series = |values| MetricSeries { timestamps: &self.t, values };
            CutInput {
                configurations: &self.configurations,
                metrics: BTreeMap::from([("latency", series(&self.latency)), ("errors", series(&self.errors))]),
                step: Step::from_ms(STEP).unwrap(),
                also: &[],
                objective: &self.objective,
                guard_rails: &self.guards,
                workload: Some("errors"),
                incidents: &[],
                other_changes: &[],
                until: at(2000),
            }
        }
    }

    #[test]
    fn values_errors_and_stretches() {
        let w = world(0.5);
        let trials = cut(&w.input()).unwrap();
        assert_eq!(trials.len(), 2);
        for (t, truth) in trials.iter().zip([10.0, 6.0]) {
            let m = t.measurement.as_ref().unwrap();
            let se = m.se.unwrap();
            assert!((m.value - truth).abs() < 4.0 * se && se < 0.1, "{m:?}");
            assert_eq!(m.replicates, 20);
            assert!(t.marks.is_empty() && t.finished);
            assert!((m.metrics["errors"].value - 0.25).abs() < 0.05, "events per second");
            assert!(t.context.contains_key("workload"));
            assert!((1.5..5.0).contains(&t.autocorrelation_time));
        }
        assert!(trials[1].range.0 >= at(1005), "the transition is trimmed");
    }

    #[test]
    fn slow_metrics_need_longer_stretches() {
        let w = world(0.98);
        let trials = cut(&w.input()).unwrap();
        let m = trials[0].measurement.as_ref();
        assert!(m.is_none_or(|m| m.replicates < 20));
        assert!(trials[0].autocorrelation_time > 20.0);
    }

    #[test]
    fn trouble_is_marked_and_kept_out() {
        let w = world(0.3);
        let incidents = [TimeRange { start: at(1010), end: at(1020) }];
        let changes = [at(30)];
        let mut input = CutInput { incidents: &incidents, other_changes: &changes, ..w.input() };
        let trials = cut(&input).unwrap();
        assert_eq!(trials[0].marks, vec![Mark::TwoChanges]);
        assert_eq!(trials[1].marks, vec![Mark::Incident]);
        // What opened while the second configuration settled is its own doing.
        let own = [TimeRange { start: at(1002), end: at(1300) }];
        assert!(cut(&CutInput { incidents: &own, ..w.input() }).unwrap().iter().all(|t| t.marks.is_empty()));
        input.until = at(1012);
        let trials = cut(&input).unwrap();
        assert_eq!(trials[1].marks[0], Mark::TooShort);
        assert!(!trials[1].finished);

        let space = SpaceSpec(vec![ParameterSpec::int("workers", 1, 64)]);
        let mut s = StudySpec::new("s", space, w.objective.clone()).check().unwrap();
        assert_eq!(s.add_cut(&trials).unwrap(), 1);
        assert!(s.trials()[0].usable().is_none());
        assert!(s.add_cut(&cut(&w.input()).unwrap()).unwrap() == 2 && s.view().losses().len() == 2);
    }

    #[test]
    fn bad_input_is_named() {
        let w = world(0.3);
        let mut input = w.input();
        input.metrics.remove("latency");
        assert!(cut(&input).unwrap_err().to_string().contains("`latency` has no series"));
        let mut w = world(0.3);
        w.configurations.swap(0, 1);
        assert!(cut(&w.input()).unwrap_err().to_string().contains("configuration 1"));
        let mut w = world(0.3);
        w.latency.pop();
        assert!(cut(&w.input()).unwrap_err().to_string().contains("2000 timestamps and 1999 values"));
    }
}
