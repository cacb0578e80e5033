//! Backtest of detectors: the artifact's own [`Monitor`] is replayed over each file series, so what is measured is what runs
//! live.
//!
//! `causal`: fitted and calibrated on train rows, the score of a row uses rows up to it, test rows are judged. `tsb`: as
//! TSB-AD runs it, every labelled row is scored and judged, the prefix that was fitted on included.

use super::anomaly_series::{SeriesRun, Stage};
use super::anomaly_table::{ExpectedTable, ScoreTable};
use super::cost;
use crate::fitting::{FitOptions, Fitted, fit_all};
use crate::{Context, TrainError};
use foreglow_core::Seed;
use foreglow_datasets::{Column, Dataset, SeriesTable, Split};
use foreglow_models::artifact::Artifact;
use foreglow_models::evaluate::report::{
    Alerts, AnomalyReport, DetectorReport, Protocol, Provenance, Role, ScorePlot, SeriesDetection,
};
use foreglow_models::monitor::{Monitor, MonitorOptions};
use rayon::prelude::*;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// Series that are drawn in the report.
const PLOTS: usize = 6;

/// Where the models come from.
#[derive(Debug)]
pub enum Model<'a> {
    /// Fit a recipe on the data first.
    Fit(Box<FitOptions<'a>>),
    /// Replay artifacts that exist.
    Replay(Vec<Artifact>),
}

/// What to judge and how.
#[derive(Debug)]
pub struct AnomalyOptions<'a> {
    /// Where the models come from.
    pub model: Model<'a>,
    /// Name of the recipe or artifact, for the report.
    pub name: String,
    /// [`Protocol::Causal`] or [`Protocol::Tsb`].
    pub protocol: Protocol,
    /// Rows of `expected.parquet`: all, or those at or above the alert line.
    pub expected_all: bool,
    /// The seed of baselines and intervals.
    pub seed: Seed,
}

/// What an anomaly backtest found.
#[derive(Debug)]
pub struct AnomalyOutcome {
    /// The figures.
    pub report: AnomalyReport,
    /// The first series, drawn.
    pub plots: Vec<ScorePlot>,
    /// The columns of `scores.parquet`: one row an input row, in the order of the input.
    pub scores: Vec<(String, Column)>,
    /// The columns of `expected.parquet`.
    pub expected: Vec<(String, Column)>,
    /// Whether it ran to its end; otherwise it holds the series that were finished.
    pub complete: bool,
}

/// Runs the backtest.
///
/// # Errors
/// [`TrainError::Data`] when no series has rows to judge or several file series feed one group, and as
/// [`fit_all`].
pub fn run(data: &Dataset, options: AnomalyOptions<'_>, context: &Context) -> Result<AnomalyOutcome, TrainError> {
    let start = Instant::now();
    let (artifacts, mut notes) = match options.model {
        Model::Fit(fit) => {
            let (fitted, notes) = fit_all(data, &fit, context)?;
            (fitted.into_iter().map(|f: Fitted| f.artifact).collect(), notes)
        }
        Model::Replay(artifacts) => (artifacts, Vec::new()),
    };
    let fit_seconds = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let routes = routes(data, &artifacts, &mut notes)?;
    let events = data.events()?;
    let members = artifacts[0].pipeline.member_names();
    let progress = context.progress("replaying", data.series.len());
    let runs: Vec<Result<Option<SeriesRun>, TrainError>> = data
        .series
        .par_iter()
        .map(|series| {
            if context.stopped() {
                return Ok(None);
            }
            let table = data.load_series(&series.id, None)?.without_empty_metrics();
            let run = match routes.get(series.id.as_str()) {
                None => SeriesRun::blank(table, members.len(), "no_model"),
                Some(_) if table.metrics.is_empty() => SeriesRun::blank(table, members.len(), "missing"),
                Some(&at) => {
                    let (monitor, rows) = stage(&artifacts[at], &table, options.protocol)?;
                    let watched = watched(&table, &rows, options.protocol);
                    let stage = Stage {
                        monitor,
                        judged: watched.iter().copied().filter(|&i| table.label[i].is_some()).collect(),
                        watched,
                        rows,
                        rules: artifacts[at].pipeline.rules(),
                        events: events.iter().filter(|e| e.series_id == series.id).collect(),
                        members: members.len(),
                        expected_all: options.expected_all,
                        seed: options.seed,
                    };
                    stage.run(table)?
                }
            };
            progress.advance();
            Ok(Some(run))
        })
        .collect();
    drop(progress);
    let score_seconds = start.elapsed().as_secs_f64();
    let mut complete = true;
    let (mut scores, mut expected, mut plots) = (ScoreTable::new(&members), ExpectedTable::default(), Vec::new());
    let mut subject = Vec::new();
    let mut alone: Vec<Vec<SeriesDetection>> = vec![Vec::new(); members.len()];
    let mut baselines: Vec<(&str, Vec<SeriesDetection>)> = Vec::new();
    let (mut replayed, mut alerts) = (0, Alerts::default());
    for run in runs {
        let Some(run) = run? else {
            complete = false;
            continue;
        };
        notes.extend(run.notes.iter().cloned());
        replayed += run.replayed;
        subject.extend(run.subject.clone());
        for (all, one) in alone.iter_mut().zip(&run.alone) {
            all.push(one.clone());
        }
        for (name, one) in &run.baselines {
            match baselines.iter_mut().find(|b| b.0 == *name) {
                Some(all) => all.1.push(one.clone()),
                None => baselines.push((name, vec![one.clone()])),
            }
        }
        if plots.len() < PLOTS {
            plots.extend(run.plot.clone());
        }
        alerts.extend(run.alerts.clone(), run.watched, run.table.step());
        scores.push(&run);
        expected.push(&run);
    }
    for note in &notes {
        tracing::warn!("{note}");
    }
    let mut detectors = Vec::new();
    if !subject.is_empty() {
        detectors.push(DetectorReport::new(&options.name, Role::Subject, subject));
    }
    detectors.extend(members.iter().zip(alone).map(|(name, series)| DetectorReport::new(name, Role::Member, series)));
    // A member may be called `pca` too.
    let shown = |name: &str| match name {
        "median_distance" => "|x - median|".to_owned(),
        "pca" => "PCA".to_owned(),
        other => other.to_owned(),
    };
    let baselines =
        baselines.into_iter().map(|(name, series)| DetectorReport::new(shown(name), Role::Baseline, series));
    detectors.extend(baselines);
    detectors.retain(|d| !d.series.is_empty());
    if replayed == 0 && complete {
        let why = notes.first().map_or("no series has rows behind its train rows", String::as_str);
        return Err(TrainError::Data(format!("{}: nothing to replay: {why}", data.name)));
    }
    let manifest = &artifacts[0].manifest;
    let mut settings =
        vec![("artifacts".to_owned(), artifacts.iter().map(|a| a.manifest.id.clone()).collect::<Vec<_>>().join(", "))];
    settings.extend(notes.into_iter().map(|n| ("note".to_owned(), n)));
    let provenance = Provenance {
        data: data.name.clone(),
        model: options.name,
        protocol: options.protocol,
        seeds: vec![options.seed.0],
        version: env!("CARGO_PKG_VERSION").to_owned(),
        settings,
    };
    let budget = manifest.recipe.budget.per_day;
    let report = AnomalyReport::new(
        provenance,
        budget,
        detectors,
        alerts,
        cost(fit_seconds, score_seconds),
        options.seed.child("bootstrap"),
    );
    Ok(AnomalyOutcome { report, plots, scores: scores.columns(), expected: expected.columns(), complete })
}

/// Which artifact serves each series: the one that knows its group, else the first of its step.
fn routes<'a>(
    data: &'a Dataset,
    artifacts: &[Artifact],
    notes: &mut Vec<String>,
) -> Result<HashMap<&'a str, usize>, TrainError> {
    let rules = artifacts[0].pipeline.rules();
    let mut fed: HashMap<foreglow_core::Labels, &str> = HashMap::new();
    let mut out = HashMap::new();
    for series in &data.series {
        let mut at = None;
        for metric in &data.metrics {
            let group = rules.place(&foreglow_core::MetricKey::new(metric, series.labels.clone())).0.group;
            if let Some(other) = fed.insert(group.clone(), &series.id)
                && other != series.id
            {
                return Err(TrainError::Data(format!(
                    "file series {other} and {} both belong to group {group}; a backtest judges file series one by one: \
                     leave the label that tells them apart in `by` of signals.toml",
                    series.id
                )));
            }
            at = at.or_else(|| artifacts.iter().position(|a| a.pipeline.knows(&group)));
        }
        let at =
            at.or_else(|| artifacts.iter().position(|a| series.step.is_some() && a.pipeline.step() == series.step));
        match at {
            Some(at) => {
                out.insert(series.id.as_str(), at);
            }
            None => notes.push(format!("not scored: {}: no artifact has its step", series.id)),
        }
    }
    Ok(out)
}

/// A monitor at its start, and the rows to replay.
fn stage(artifact: &Artifact, table: &SeriesTable, protocol: Protocol) -> Result<(Monitor, Range<usize>), TrainError> {
    let options = MonitorOptions { max_groups: usize::MAX, ..MonitorOptions::replay() };
    if protocol == Protocol::Tsb {
        let labelled = |l: &Option<bool>| l.is_some();
        let first = table.label.iter().position(labelled).unwrap_or(0);
        let last = table.label.iter().rposition(labelled).map_or(table.len(), |r| r + 1);
        return Ok((Monitor::new(Arc::clone(&artifact.pipeline), options), first..last));
    }
    let (rules, keys) = (artifact.pipeline.rules(), table.keys());
    let groups: Vec<_> = keys.iter().map(|k| rules.place(k).0.group).collect();
    let monitor = artifact.monitor_of(&groups, options)?;
    let known = groups.first().is_some_and(|g| artifact.pipeline.knows(g));
    // The start state has learned the train and validation rows of the groups it knows; others begin at their first row.
    let first_test = table.split.iter().position(|s| *s == Split::Test).unwrap_or(table.len());
    let learned = table.split[..first_test].iter().rposition(|s| matches!(s, Split::Train | Split::Val));
    let start = if known { learned.map_or(0, |r| r + 1) } else { 0 };
    Ok((monitor, start..table.len()))
}

/// The rows that count: under the causal protocol test rows.
fn watched(table: &SeriesTable, rows: &Range<usize>, protocol: Protocol) -> Vec<usize> {
    rows.clone().filter(|&i| protocol == Protocol::Tsb || table.split[i] == Split::Test).collect()
}
