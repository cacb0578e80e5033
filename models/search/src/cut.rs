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
    /// Whether of a longer stretch the newest blocks are measured instead of the first.
    pub newest: bool,
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

impl CutTrial {
    /// Steps that a whole trial of this autocorrelation time takes, warm-up included.
    pub fn whole_steps(&self) -> usize {
        MOST_BLOCKS * (BLOCK_TIMES * self.autocorrelation_time).ceil() as usize + warm_up(self.autocorrelation_time)
    }
}

fn warm_up(tau: f64) -> usize {
    ((WARM_UP_TIMES * tau).ceil() as usize).max(WARM_UP_STEPS)
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
    Ok(runs.iter().map(|r| one(input, series, r)).collect())
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
        Self { configuration: c, tau, from: c.since.plus(warm_up(tau) as i64 * step).min(end), end, replaced }
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

fn one(input: &CutInput<'_>, series: MetricSeries<'_>, run: &Run<'_>) -> CutTrial {
    let &Run { configuration: c, tau, from: settled, end, replaced } = run;
    let block = (BLOCK_TIMES * tau).ceil() as i64 * input.step.ms();
    let full = settled.plus(block * MOST_BLOCKS as i64);
    let finished = replaced || full <= end;
    let blocks = ((full.min(end).ms() - settled.ms()) / block).max(0) as usize;
    let (from, to) = if input.newest { (end.plus(-block * blocks as i64), end) } else { (settled, full.min(end)) };
    // What disturbed it: since its start, where it is measured from there.
    let since = if input.newest { from } else { c.since };
    let own = |i: &TimeRange| c.since <= i.start && i.start < settled;

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
    if input.incidents.iter().any(|i| i.start < to && i.end > since && !own(i)) {
        marks.push(Mark::Incident);
    }
    if input.other_changes.iter().any(|t| *t >= since && *t < to) {
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
#[path = "cut_tests.rs"]
mod tests;
