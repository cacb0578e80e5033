use super::calibration::{Calibration, HeldOut, LEAST_ROWS};
use super::fitted::{Fitted, GroupParts};
use super::group_fit::{Fit, Weights, save_optimizers};
use super::members::Member;
use super::rules::{SignalRule, line_of};
use super::{Pipeline, PipelineSignal};
use crate::ModelError;
use crate::artifact::TensorMap;
use crate::spec::Recipe;
use foreglow_core::signals::Signals;
use foreglow_core::{Labels, Seed, Step, Timestamp};
use ndarray::{Array2, ArrayView2, s};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One group's history to fit on. All groups of one fit have the same signals in the same order; a signal that a group
/// lacks is a column of NaN.
#[derive(Debug, Clone)]
pub struct GroupHistory<'a> {
    /// The group's labels.
    pub group: Labels,
    /// The instant of the first row.
    pub start: Timestamp,
    /// The distance of rows.
    pub step: Step,
    /// (time, signal), NaN = missing.
    pub values: ArrayView2<'a, f64>,
    /// Rows that models are fitted on.
    pub fit: Range<usize>,
    /// Later rows that calibrate; fitting does not see them.
    pub calibrate: Range<usize>,
}

/// A fitted pipeline with what a warm start needs.
#[derive(Debug, Clone)]
pub struct PipelineFit {
    /// The pipeline.
    pub pipeline: Pipeline,
    /// Memories of the optimisers.
    pub optimizer: TensorMap,
    /// What to know about the fit: members left out, warm starts that were not taken.
    pub notes: Vec<String>,
}

/// How a fit stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FitProgress {
    /// Parts done.
    pub done: usize,
    /// Parts planned.
    pub total: usize,
    /// The part that just ended.
    pub what: String,
}

/// Fits a pipeline named `name`: scaling and detectors on each group's `fit` rows, calibration on its `calibrate` rows,
/// run in order behind the fit rows so that what learns online is warm. Groups with fewer than 200 calibration rows get
/// maps pooled over all groups; groups that come later get shared parts. `warm`: nets go on from an earlier pipeline of
/// the same signals and recipe, with its scaling, where that does not make the calibration slice worse.
///
/// Runs over groups in parallel; the same bytes on any number of threads.
///
/// # Errors
/// [`ModelError::Parameter`] for a recipe out of range, [`ModelError::Data`] naming the group and what it lacks.
#[expect(clippy::too_many_arguments, reason = "the one door to fitting; a struct would only rename them")]
pub fn fit_pipeline(
    name: &str,
    recipe: &Recipe,
    signals: &[PipelineSignal],
    rules: &Signals,
    groups: &[GroupHistory<'_>],
    warm: Option<(&Pipeline, &TensorMap)>,
    seed: Seed,
    progress: &(dyn Fn(FitProgress) + Sync),
) -> Result<PipelineFit, ModelError> {
    recipe.check()?;
    check_groups(signals, groups)?;
    let step = groups[0].step;
    let members = Member::of(recipe, signals.len());
    let by_signal: Vec<SignalRule> = signals.iter().map(|p| SignalRule::of(rules, &p.key.name)).collect();
    let usable = warm
        .and_then(|(p, o)| p.fitted.as_ref().map(|f| (f, o, p)))
        .filter(|(f, _, p)| f.signals == signals && p.recipe.detectors == recipe.detectors && f.step == step);
    let mut notes = Vec::new();
    if warm.is_some() && usable.is_none() {
        notes.push("warm start not taken: the earlier artifact has other signals, detectors or step".to_owned());
    }
    let fit = Fit {
        recipe,
        members: &members,
        rules: &by_signal,
        seed: seed.child("pipeline"),
        season: recipe.season,
        warm: usable.map(|(f, o, _)| (f, o)),
    };
    // Values outside a signal's sensible range are missing for models too.
    let clean: Vec<Array2<f64>> = groups
        .par_iter()
        .map(|g| Array2::from_shape_fn(g.values.dim(), |(t, i)| by_signal[i].sensible(g.values[[t, i]])))
        .collect();

    let own = recipe.weights.own(groups.len());
    let total = groups.len() + 2;
    let done = AtomicUsize::new(0);
    let tell = |what: String| {
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        progress(FitProgress { done, total, what });
    };

    // Shared weights: for groups that come later, or for all.
    let shared = if groups.len() > 1 { Some(fit.shared(groups, &clean, own)?) } else { None };
    tell("shared weights".to_owned());
    let borrowed = if own { None } else { shared.as_ref().map(|(_, w)| w) };
    let fitted: Vec<(GroupParts, Weights, HeldOut)> = groups
        .par_iter()
        .zip(&clean)
        .map(|(g, values)| {
            let out = fit.group(g, values.view(), borrowed, line_of(rules, recipe.budget, &g.group, step));
            tell(format!("group {}", g.group));
            out
        })
        .collect::<Result<_, ModelError>>()?;

    // Pooled maps for groups with little and groups that come later.
    let thin: Vec<HeldOut> = fitted.iter().map(|f| f.2.thinned()).collect();
    if thin.iter().all(|h| h.rows == 0) {
        return Err(ModelError::data("the calibration", "no group has a calibration row; give a longer history"));
    }
    let pooled = Arc::new(Calibration::fit(&members, &thin.iter().collect::<Vec<_>>()));
    let own_maps: Vec<Arc<Calibration>> =
        fitted
            .par_iter()
            .map(|(_, _, held)| {
                if held.rows >= LEAST_ROWS {
                    Arc::new(Calibration::fit(&members, &[held]))
                } else {
                    Arc::clone(&pooled)
                }
            })
            .collect();

    let mut optimizer = TensorMap::default();
    let mut kept = BTreeMap::new();
    let mut first: Option<GroupParts> = None;
    // Saved groups are told apart by their place in the order of labels.
    let mut order: Vec<&Labels> = groups.iter().map(|g| &g.group).collect();
    order.sort_unstable();
    for ((g, (mut parts, weights, _)), maps) in groups.iter().zip(fitted).zip(own_maps) {
        parts.calibration = maps;
        notes.extend(weights.notes.iter().map(|n| format!("group {}: {n}", g.group)));
        let at = order.binary_search(&&g.group).unwrap_or(0);
        save_optimizers(&weights.optimizers, &mut optimizer, &format!("group.{at}/"));
        first.get_or_insert_with(|| parts.clone());
        kept.insert(g.group.clone(), parts);
    }
    let budget_line = line_of(rules, recipe.budget, &Labels::default(), step);
    let shared = match (shared, first) {
        (Some((scaling, weights)), _) => {
            notes.extend(weights.notes.iter().map(|n| format!("shared weights: {n}")));
            save_optimizers(&weights.optimizers, &mut optimizer, "shared/");
            GroupParts { scaling, detectors: weights.detectors, calibration: pooled, line: budget_line }
        }
        (None, Some(parts)) => GroupParts { calibration: pooled, line: budget_line, ..parts },
        (None, None) => return Err(ModelError::data("a pipeline", "there is no group")),
    };

    let forecaster = match &recipe.forecaster {
        None => None,
        Some(spec) => Some(fit.forecaster(spec, groups, &clean, &mut optimizer, &mut notes)?),
    };
    tell("forecaster".to_owned());
    let pipeline = Pipeline {
        name: name.to_owned(),
        fitted: Some(Fitted {
            step,
            signals: signals.to_vec(),
            rules: by_signal,
            members,
            groups: kept,
            shared,
            forecaster,
        }),
        ..Pipeline::online(rules.clone(), recipe)
    };
    Ok(PipelineFit { pipeline, optimizer, notes })
}

/// Refuses what is no history of groups.
fn check_groups(signals: &[PipelineSignal], groups: &[GroupHistory<'_>]) -> Result<(), ModelError> {
    let Some(first) = groups.first() else {
        return Err(ModelError::data("a pipeline", "there is no group; give at least one series"));
    };
    if signals.is_empty() {
        return Err(ModelError::data("a pipeline", "there is no signal; give at least one metric"));
    }
    for (at, g) in groups.iter().enumerate() {
        let fail = |problem: String| Err(ModelError::data(format!("group {}", g.group), problem));
        if groups[..at].iter().any(|o| o.group == g.group) {
            return fail("it is given twice; merge its rows".to_owned());
        }
        if g.step != first.step {
            return fail(format!("its step is {}, that of the first group {}; resample to one", g.step, first.step));
        }
        if g.values.ncols() != signals.len() {
            return fail(format!("{} columns for {} signals", g.values.ncols(), signals.len()));
        }
        if g.fit.end > g.values.nrows() || g.calibrate.end > g.values.nrows() || g.fit.is_empty() {
            return fail(format!("rows {:?} and {:?} of {}", g.fit, g.calibrate, g.values.nrows()));
        }
        if g.calibrate.start < g.fit.end && !g.calibrate.is_empty() {
            return fail(format!("calibration rows {:?} begin before the fit rows {:?} end", g.calibrate, g.fit));
        }
        if g.values.slice(s![g.fit.clone(), ..]).iter().all(|v| !v.is_finite()) {
            return fail("every value of its fit rows is missing".to_owned());
        }
    }
    Ok(())
}
