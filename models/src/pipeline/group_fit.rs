//! Fitting one group, or what groups share: scaling, detectors, and what they say on the calibration rows.

use super::calibration::HeldOut;
use super::fit::GroupHistory;
use super::fitted::{Fitted, GroupParts, Pass, start};
use super::members::Member;
use super::row::RowScore;
use super::rules::SignalRule;
use super::scaling::Scaling;
use crate::ModelError;
use crate::artifact::TensorMap;
use crate::detect::{BaselineShape, FittedDetector, ScaledRows, fit_detector};
use crate::forecast::{self, FittedForecaster, ForecasterSpec, TrainSeries};
use crate::nn::{OptimizerState, quiet};
use crate::spec::Recipe;
use foreglow_core::{AlertLine, Row, Seed, Step, Timestamp};
use ndarray::{Array2, ArrayView2, s};
use std::sync::Arc;

/// Rows of all groups together that shared weights are fitted on, spread evenly over each group.
const SHARED_ROWS: usize = 40_000;

/// What a fit of one set of weights gives.
pub(super) struct Weights {
    pub(super) detectors: Vec<Option<Arc<FittedDetector>>>,
    pub(super) optimizers: Vec<Option<OptimizerState>>,
    pub(super) notes: Vec<String>,
}

pub(super) struct Fit<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) members: &'a [Member],
    pub(super) rules: &'a [SignalRule],
    pub(super) seed: Seed,
    pub(super) season: Option<usize>,
    pub(super) warm: Option<(&'a Fitted, &'a TensorMap)>,
}

fn optimizer_prefix(owner: &str, detector: usize) -> String {
    format!("{owner}detector.{detector}/")
}

pub(super) fn save_optimizers(states: &[Option<OptimizerState>], map: &mut TensorMap, owner: &str) {
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
        for (i, spec) in self.recipe.detectors.iter().enumerate() {
            if only_statistics && spec.has_weights() {
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
    pub(super) fn shared(
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
    pub(super) fn group(
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
    pub(super) fn forecaster(
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
