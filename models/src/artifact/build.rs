//! The one way to make an artifact: grid, fit, run over the train rows, describe.

use super::{Artifact, Manifest, MatchSpec, SCHEMA, TensorMap, TrainingInfo};
use crate::ModelError;
use crate::evaluate::{ReplaySeries, replay};
use crate::monitor::{Gridded, Monitor, MonitorOptions, group_id};
use crate::pipeline::{FitProgress, GroupHistory, Pipeline, PipelineSignal, fit_pipeline};
use crate::spec::Recipe;
use foreglow_core::signals::Signals;
use foreglow_core::{Labels, MetricKey, Seed, Selector, Step, Timestamp};
use ndarray::Array2;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// Empty grid rows that are allowed for each row of data, and on top: beyond that a gap is a mistake of clocks.
const STRETCH: usize = 20;
const STRETCH_FREE: usize = 10_000;

/// One group's rows, as they would be posted.
#[derive(Debug, Clone)]
pub struct BuildGroup<'a> {
    /// Keys, instants and values; counters as counters.
    pub series: ReplaySeries<'a>,
    /// Rows that models are fitted on.
    pub fit: Range<usize>,
    /// Later rows that scores are calibrated on.
    pub calibrate: Range<usize>,
}

/// Where the rows come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DataInfo {
    /// Name of the data.
    pub data: String,
    /// SHA-256 of the data, hexadecimal.
    pub data_sha256: String,
}

/// What an artifact is made of.
#[derive(Debug, Clone)]
pub struct NewArtifact<'a> {
    /// The name it will be kept under.
    pub name: &'a str,
    /// What to fit.
    pub recipe: &'a Recipe,
    /// What is watched and judged together.
    pub rules: &'a Signals,
    /// The groups; each series gives one.
    pub groups: &'a [BuildGroup<'a>],
    /// Signals (by name) that a step need not wait for, beside those that some group lacks.
    pub may_miss: &'a [String],
    /// Which groups it serves; none = any that has the same label names and signals.
    pub selectors: &'a [Selector],
    /// The distance of rows; `None` = found, the same in all groups.
    pub step: Option<Step>,
    /// Where the rows come from.
    pub data: DataInfo,
    /// Seed of everything random.
    pub seed: Seed,
    /// An artifact to go on from.
    pub warm: Option<&'a Artifact>,
}

/// Fits an artifact and gives it with notes on the fit: grids the rows as a monitor would, fits the pipeline, runs a
/// monitor over the fit and calibration rows for the start state, and writes the manifest. Same inputs, same bytes, on any
/// number of threads.
///
/// # Errors
/// [`ModelError::Data`] naming the group when rows cannot be gridded, two series form one group or steps differ; whatever
/// [`fit_pipeline`] says.
pub fn build_artifact(
    new: &NewArtifact<'_>,
    progress: &(dyn Fn(FitProgress) + Sync),
) -> Result<(Artifact, Vec<String>), ModelError> {
    let gridded: Vec<Gridded> =
        new.groups.par_iter().map(|g| grid(new, g)).collect::<Vec<_>>().into_iter().collect::<Result<_, _>>()?;
    let step = common_step(&gridded)?;
    let signals = signals(&gridded, new.may_miss)?;
    let tables: Vec<Array2<f64>> = gridded.iter().map(|g| table(g, &signals)).collect();
    let histories: Vec<GroupHistory<'_>> = gridded
        .iter()
        .zip(&tables)
        .zip(new.groups)
        .map(|((g, t), b)| GroupHistory {
            group: g.group.clone(),
            start: g.start,
            step,
            values: t.view(),
            fit: g.steps_of(&b.fit),
            calibrate: g.steps_of(&b.calibrate),
        })
        .collect();
    let warm = new.warm.map(|a| (a.pipeline.as_ref(), &a.optimizer));
    let fit = fit_pipeline(new.name, new.recipe, &signals, new.rules, &histories, warm, new.seed, progress)?;
    let pipeline = Arc::new(fit.pipeline);
    let start = start_state(&pipeline, new.groups)?;
    let manifest = manifest(new, &gridded, step, signals, &pipeline);
    let artifact = Artifact { manifest, pipeline, start, optimizer: fit.optimizer }.sealed()?;
    Ok((artifact, fit.notes))
}

fn known_rows(group: &BuildGroup<'_>) -> usize {
    group.fit.end.max(group.calibrate.end).min(group.series.timestamps.len())
}

fn grid(new: &NewArtifact<'_>, group: &BuildGroup<'_>) -> Result<Gridded, ModelError> {
    let rows = known_rows(group);
    let g = Gridded::of(new.rules, &group.series, 0..rows, new.step.or(new.warm.map(|a| a.manifest.step)))?;
    if g.len() > STRETCH * rows + STRETCH_FREE {
        return Err(ModelError::data(
            format!("group {}", group_id(&g.group)),
            format!(
                "{rows} rows lie over {} steps of {}: a gap that long is most likely a wrong clock; cut the data or give a \
                 longer step",
                g.len(),
                g.step
            ),
        ));
    }
    Ok(g)
}

fn common_step(groups: &[Gridded]) -> Result<Step, ModelError> {
    let first =
        groups.first().ok_or_else(|| ModelError::data("an artifact", "there is no group: give at least one"))?;
    let mut names = BTreeSet::new();
    for g in groups {
        if g.step != first.step {
            return Err(ModelError::data(
                format!("group {}", group_id(&g.group)),
                format!(
                    "its step is {}, that of {} is {}: fit them apart, or give one step",
                    g.step,
                    group_id(&first.group),
                    first.step
                ),
            ));
        }
        if !names.insert(&g.group) {
            let problem = "two series form it: name the labels that tell them apart in `by`";
            return Err(ModelError::data(format!("group {}", group_id(&g.group)), problem));
        }
    }
    Ok(first.step)
}

/// The signals of all groups, in the order of first appearance; required are those that every group has.
fn signals(groups: &[Gridded], may_miss: &[String]) -> Result<Vec<PipelineSignal>, ModelError> {
    let mut keys: Vec<MetricKey> = Vec::new();
    for g in groups {
        for k in &g.keys {
            if !keys.contains(k) {
                keys.push(k.clone());
            }
        }
    }
    if let Some(unknown) = may_miss.iter().find(|m| !keys.iter().any(|k| *k.name == ***m)) {
        return Err(ModelError::parameter("may_miss", unknown, "names of signals that the data has"));
    }
    Ok(keys
        .into_iter()
        .map(|key| {
            let everywhere = groups.iter().all(|g| g.keys.contains(&key));
            let required = everywhere && !may_miss.iter().any(|m| **m == *key.name);
            PipelineSignal { key, required }
        })
        .collect())
}

/// A group's rows with the columns of all.
fn table(g: &Gridded, signals: &[PipelineSignal]) -> Array2<f64> {
    let mut t = Array2::from_elem((g.len(), signals.len()), f64::NAN);
    let columns: Vec<Option<usize>> = g.keys.iter().map(|k| signals.iter().position(|s| s.key == *k)).collect();
    for (at, values) in g.rows() {
        for (v, c) in values.iter().zip(&columns) {
            if let Some(c) = c {
                t[[at, *c]] = *v;
            }
        }
    }
    t
}

/// The monitor's state after the last known row of every group.
fn start_state(pipeline: &Arc<Pipeline>, groups: &[BuildGroup<'_>]) -> Result<TensorMap, ModelError> {
    let parts: Vec<Result<TensorMap, ModelError>> = groups
        .par_iter()
        .map(|g| {
            let mut monitor = Monitor::new(pipeline.clone(), MonitorOptions::replay());
            replay(&mut monitor, &g.series, 0..known_rows(g), false, &mut |_, _| {})?;
            Ok(monitor.export())
        })
        .collect();
    let mut all =
        Monitor::new(pipeline.clone(), MonitorOptions { max_groups: groups.len(), ..MonitorOptions::replay() });
    for part in parts {
        all.import(&part?)?;
    }
    Ok(all.export())
}

fn manifest(
    new: &NewArtifact<'_>,
    groups: &[Gridded],
    step: Step,
    signals: Vec<PipelineSignal>,
    pipeline: &Pipeline,
) -> Manifest {
    let of = |required: bool| signals.iter().filter(|s| s.required == required).map(|s| s.key.clone()).collect();
    let matches = MatchSpec {
        selectors: new.selectors.to_vec(),
        by: common_labels(groups.iter().map(|g| &g.group)),
        required: of(true),
        may_miss: of(false),
    };
    let p_alert: BTreeMap<String, f64> =
        groups.iter().map(|g| (group_id(&g.group), pipeline.alert_line(&g.group, step).p_alert())).collect();
    let training = TrainingInfo {
        start: groups.iter().map(|g| g.start).min().unwrap_or(Timestamp(0)),
        end: groups.iter().map(Gridded::end).max().unwrap_or(Timestamp(0)),
        rows: groups.iter().map(Gridded::closed).sum(),
        groups: groups.len(),
        data: new.data.data.clone(),
        data_sha256: new.data.data_sha256.clone(),
    };
    Manifest {
        schema_version: SCHEMA.into(),
        id: String::new(),
        name: new.name.to_owned(),
        kind: "pipeline".into(),
        recipe: new.recipe.clone(),
        matches,
        signals,
        step,
        seed: new.seed,
        training,
        calibration_epoch: 1,
        p_alert,
        backtest: None,
        kernel: crate::kernel::KernelPath::detect().name().into(),
        files: BTreeMap::new(),
        created_by: format!("foreglow {}", env!("CARGO_PKG_VERSION")),
    }
}

/// Label names that every group has.
fn common_labels<'a>(groups: impl Iterator<Item = &'a Labels>) -> Vec<String> {
    let sets = groups.map(|g| g.iter().map(|(n, _)| n.to_owned()).collect::<BTreeSet<String>>());
    sets.reduce(|a, b| a.intersection(&b).cloned().collect()).unwrap_or_default().into_iter().collect()
}
