use super::calibration::{Calibration, HeldOut, LEAST_ROWS};
use super::fitted::{Fitted, GroupParts, Pass, start};
use super::members::Member;
use super::row::RowScore;
use super::rules::{SignalRule, line_of};
use super::scaling::Scaling;
use super::{Pipeline, PipelineSignal};
use crate::ModelError;
use crate::artifact::TensorMap;
use crate::detect::{BaselineShape, DetectorSpec, FittedDetector, ScaledRows, fit_detector};
use crate::forecast::{self, FittedForecaster, ForecasterSpec, TrainSeries};
use crate::nn::{OptimizerState, quiet};
use crate::spec::Recipe;
use foreglow_core::signals::Signals;
use foreglow_core::{AlertLine, Labels, Row, Seed, Step, Timestamp};
use ndarray::{Array2, ArrayView2, s};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rows of all groups together that shared weights are fitted on, spread evenly over each group.
const SHARED_ROWS: usize = 40_000;

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

/// What a fit of one set of weights gives.
struct Weights {
    detectors: Vec<Option<Arc<FittedDetector>>>,
    optimizers: Vec<Option<OptimizerState>>,
    notes: Vec<String>,
}

struct Fit<'a> {
    recipe: &'a Recipe,
    members: &'a [Member],
    rules: &'a [SignalRule],
    seed: Seed,
    season: Option<usize>,
    warm: Option<(&'a Fitted, &'a TensorMap)>,
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

fn optimizer_prefix(owner: &str, detector: usize) -> String {
    format!("{owner}detector.{detector}/")
}

fn save_optimizers(states: &[Option<OptimizerState>], map: &mut TensorMap, owner: &str) {
    for (i, o) in states.iter().enumerate() {
        if let Some(o) = o {
            o.save(map, &optimizer_prefix(owner, i));
        }
    }
}

impl Fit<'_> {
    /// Fits every detector of the recipe on scaled rows. `before` are the detectors of an earlier fit with the place of
    /// their optimisers, `check` scaled rows on which going on must not be worse.
    fn weights(
        &self,
        rows: &[ScaledRows<'_>],
        only_statistics: bool,
        before: Option<&(&[Option<Arc<FittedDetector>>], String)>,
        check: Option<ArrayView2<'_, f64>>,
        seed: Seed,
    ) -> Result<Weights, ModelError> {
        let mut out = Weights { detectors: Vec::new(), optimizers: Vec::new(), notes: Vec::new() };
        let width = rows.first().map_or(0, |r| r.values.ncols());
        for (i, spec) in self.recipe.detectors.iter().enumerate() {
            let skipped = only_statistics && spec.has_weights();
            if skipped || width < 2 && matches!(spec, DetectorSpec::Pca(_) | DetectorSpec::Autoencoder(_)) {
                out.detectors.push(None);
                out.optimizers.push(None);
                continue;
            }
            let old = before.and_then(|(d, owner)| d.get(i).and_then(Option::as_ref).map(|d| (d, owner)));
            let memory = old
                .as_ref()
                .zip(self.warm)
                .and_then(|((_, owner), (_, map))| OptimizerState::load(map, &optimizer_prefix(owner, i)).ok());
            let start = old.map(|(d, _)| (d.as_ref(), memory.as_ref()));
            match fit_detector(spec, rows, start, self.season, seed.nth(i as u64)) {
                Ok(Some(fit)) => {
                    let (mut detector, mut optimizer) = (Arc::new(fit.detector), fit.optimizer);
                    if let (Some((old, _)), Some(check)) = (old, check)
                        && let (Some(a), Some(b)) = (old.loss(check), detector.loss(check))
                        && b > a
                    {
                        out.notes.push(format!(
                            "{} kept from the earlier artifact: going on raised its loss on the calibration rows from {a:.4} to {b:.4}",
                            spec.kind()
                        ));
                        (detector, optimizer) = (Arc::clone(old), memory);
                    }
                    out.detectors.push(Some(detector));
                    out.optimizers.push(optimizer);
                }
                Ok(None) => {
                    out.detectors.push(None);
                    out.optimizers.push(None);
                }
                // Too little for one member is no reason to have none.
                Err(ModelError::Data { what, problem }) => {
                    out.notes.push(format!("without {}: cannot fit {what}: {problem}", spec.kind()));
                    out.detectors.push(None);
                    out.optimizers.push(None);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(out)
    }

    /// Scaling and weights over all groups. With `own`, for groups that come later: rows scaled as theirs will be; else
    /// for these groups too: each group's rows in its own scaling.
    fn shared(
        &self,
        groups: &[GroupHistory<'_>],
        clean: &[Array2<f64>],
        own: bool,
    ) -> Result<(Scaling, Weights), ModelError> {
        let each = (SHARED_ROWS / groups.len()).max(50);
        let picked: Vec<Array2<f64>> = groups
            .iter()
            .zip(clean)
            .map(|(g, v)| {
                let rows = v.slice(s![g.fit.clone(), ..]);
                // Whole stretches would see one time of day only, so rows are taken evenly.
                let n = rows.nrows().min(each);
                Array2::from_shape_fn((n, rows.ncols()), |(t, i)| rows[[t * rows.nrows() / n, i]])
            })
            .collect();
        let views: Vec<ArrayView2<'_, f64>> = picked.iter().map(Array2::view).collect();
        let all = ndarray::concatenate(ndarray::Axis(0), &views)
            .map_err(|e| ModelError::data("shared weights", e.to_string()))?;
        let warm = self.warm.map(|(f, _)| f);
        let scaling = warm.map_or_else(|| Scaling::fit(all.view()), |f| f.shared.scaling.clone());
        let scaled: Vec<Array2<f64>> = groups
            .iter()
            .zip(&picked)
            .map(|(g, v)| {
                let known = warm.and_then(|f| f.groups.get(&g.group)).filter(|_| !own);
                match known {
                    Some(parts) => parts.scaling.table(v.view()),
                    None if own => scaling.table(v.view()),
                    None => Scaling::fit(v.view()).table(v.view()),
                }
            })
            .collect();
        let rows: Vec<ScaledRows<'_>> = groups
            .iter()
            .zip(&scaled)
            .map(|(g, v)| ScaledRows {
                values: v.view(),
                start: g.start.plus(g.fit.start as i64 * g.step.ms()),
                step: g.step,
            })
            .collect();
        let before = warm.map(|f| (&f.shared.detectors[..], "shared/".to_owned()));
        let weights = self.weights(&rows, false, before.as_ref(), None, self.seed.child("shared"))?;
        Ok((scaling, weights))
    }

    /// One group: scaling, weights (its own, or `borrowed` with statistics of its own), and what it says on its
    /// calibration rows.
    fn group(
        &self,
        g: &GroupHistory<'_>,
        values: ArrayView2<'_, f64>,
        borrowed: Option<&Weights>,
        line: AlertLine,
    ) -> Result<(GroupParts, Weights, HeldOut), ModelError> {
        let rows = values.slice(s![g.fit.clone(), ..]);
        let old = self.warm.and_then(|(f, _)| f.groups.get_key_value(&g.group).map(|(k, p)| (f, k, p)));
        let scaling = old.map_or_else(|| Scaling::fit(rows), |(_, _, p)| p.scaling.clone());
        let scaled = scaling.table(rows);
        let start_of_fit = g.start.plus(g.fit.start as i64 * g.step.ms());
        let table = [ScaledRows { values: scaled.view(), start: start_of_fit, step: g.step }];
        let check = scaling.table(values.slice(s![g.calibrate.clone(), ..]));
        let before = old.map(|(f, key, p)| {
            let at = f.groups.keys().position(|k| k == key).unwrap_or(0);
            (&p.detectors[..], format!("group.{at}/"))
        });
        let seed = self.seed.child(&g.group.to_string());
        let mut weights = self.weights(&table, borrowed.is_some(), before.as_ref(), Some(check.view()), seed)?;
        if let Some(shared) = borrowed {
            for (own, theirs) in weights.detectors.iter_mut().zip(&shared.detectors) {
                if own.is_none() {
                    own.clone_from(theirs);
                }
            }
        }
        let parts = GroupParts { scaling, detectors: weights.detectors.clone(), calibration: Arc::default(), line };
        let held = self.hold_out(g, values, &parts);
        Ok((parts, weights, held))
    }

    /// Runs a group over its fit and calibration rows in order and keeps what members say on the latter.
    fn hold_out(&self, g: &GroupHistory<'_>, values: ArrayView2<'_, f64>, parts: &GroupParts) -> HeldOut {
        let baseline = BaselineShape::new(g.step);
        let signals = self.rules.len();
        let mut numbers = start(self.members, parts, &baseline, signals);
        let pass = Pass { members: self.members, rules: self.rules, parts };
        let mut held = HeldOut { signals, raw: vec![Vec::new(); self.members.len()], ..HeldOut::default() };
        let mut out = RowScore::default();
        let mut buffer = vec![0.0; signals];
        let mut last = None;
        for t in g.fit.clone().chain(g.calibrate.clone()) {
            for (b, v) in buffer.iter_mut().zip(values.row(t)) {
                *b = *v;
            }
            let gap = last.map_or(0, |l: usize| t - l - 1);
            last = Some(t);
            let row = Row { time: g.start.plus(t as i64 * g.step.ms()), values: &buffer, gap };
            let keep = g.calibrate.contains(&t).then_some(&mut held);
            pass.collect(&mut numbers, &baseline, &row, &mut out, keep);
        }
        held
    }

    /// The forecaster over all series of all groups.
    fn forecaster(
        &self,
        spec: &ForecasterSpec,
        groups: &[GroupHistory<'_>],
        clean: &[Array2<f64>],
        optimizer: &mut TensorMap,
        notes: &mut Vec<String>,
    ) -> Result<FittedForecaster, ModelError> {
        let columns: Vec<(Vec<f64>, Timestamp, Step)> = groups
            .iter()
            .zip(clean)
            .flat_map(|(g, v)| {
                let start = g.start.plus(g.fit.start as i64 * g.step.ms());
                let rows = v.slice(s![g.fit.clone(), ..]);
                rows.columns().into_iter().map(|c| (c.to_vec(), start, g.step)).collect::<Vec<_>>()
            })
            .filter(|(c, _, _)| c.iter().any(|v| v.is_finite()))
            .collect();
        let series: Vec<TrainSeries<'_>> =
            columns.iter().map(|(values, start, step)| TrainSeries { values, start: *start, step: *step }).collect();
        let before = self.warm.and_then(|(f, map)| f.forecaster.as_ref().map(|f| (f, map)));
        let seed = self.seed.child("forecaster");
        let fit = match before {
            Some((old, map)) if old.kind() == spec.kind() => {
                let memory = OptimizerState::load(map, "forecaster/").ok();
                forecast::fit_from(old, memory.as_ref(), spec, &series, self.season, seed, &quiet)?
            }
            _ => forecast::fit(spec, &series, self.season, seed, &quiet)?,
        };
        if let Some((_, state)) = &fit.training {
            state.save(optimizer, "forecaster/");
        }
        notes.extend(fit.notes.iter().map(|n| format!("forecaster: {n}")));
        Ok(fit.forecaster)
    }
}
