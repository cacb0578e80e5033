use super::objective::{LstmObjective, kernels};
use super::params::LstmParams;
use super::sample::Sampler;
use super::shape::{DECODER, LEVELS, LstmShape, MEDIAN, SKIPS, Slot, VIEW};
use super::unroll::Unrolled;
use super::window::{Verdict, Window};
use crate::ModelError;
use crate::artifact::TensorMap;
use crate::forecast::TrainSeries;
use crate::kernel::{CHUNK, Output, Recurrent};
use crate::nn::activation::{softplus, tanh};
use crate::nn::layout::Layout;
use crate::nn::linear::{accumulate, affine};
use crate::nn::optimizer::OptimizerState;
use crate::nn::train::{Progress, Schedule, TrainReport, train};
use foreglow_core::{History, QUANTILE_LEVELS, Seed};
use rayon::prelude::*;
use std::fmt;
use std::sync::Arc;

/// Default passes over the data.
const PASSES: usize = 6;
/// By this much a warm start is shorter and slower.
const WARM: usize = 3;

/// A trained net of the kind that [the module](super) describes. Immutable; a forecast depends on its history alone.
#[derive(Debug, Clone)]
pub struct LstmNet {
    shape: LstmShape,
    layout: Layout,
    weights: Vec<f32>,
    kernels: Kernels,
}

/// The kernels of a net: buffers alone.
#[derive(Clone)]
struct Kernels(Arc<Recurrent>);

impl fmt::Debug for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kernels")
    }
}

impl PartialEq for LstmNet {
    fn eq(&self, other: &Self) -> bool {
        self.shape == other.shape && self.weights == other.weights
    }
}

/// A trained [`LstmNet`] with what a warm start needs.
#[derive(Debug, Clone)]
pub struct LstmFit {
    /// The net.
    pub net: LstmNet,
    /// The optimiser's memory.
    pub optimizer: OptimizerState,
    /// How training went.
    pub report: TrainReport,
}

impl LstmNet {
    fn assembled(shape: LstmShape, layout: Layout, weights: Vec<f32>) -> Self {
        let kernels = Kernels(kernels(&shape));
        Self { shape, layout, weights, kernels }
    }

    /// Trains one net over all series. `season` in steps, `None` = no season; the step of the first series counts.
    ///
    /// # Errors
    /// [`ModelError::Parameter`] for a field out of range, [`ModelError::Data`] when no series is long enough.
    pub fn train(
        series: &[TrainSeries<'_>],
        season: Option<usize>,
        params: &LstmParams,
        seed: Seed,
        progress: Progress<'_>,
    ) -> Result<LstmFit, ModelError> {
        params.check()?;
        let mut lengths: Vec<usize> = series.iter().map(|s| s.values.len()).collect();
        lengths.sort_unstable();
        let Some(first) = series.first() else {
            return Err(ModelError::data("an LSTM forecaster", "there is no series"));
        };
        let shape = LstmShape::choose(params, lengths[lengths.len() / 2], season, first.step);
        let layout = shape.layout();
        let mut weights = layout.draw(seed.child("lstm weights"));
        shape.prepare(&layout, &mut weights);
        let state = OptimizerState::new(weights.len());
        Self::assembled(shape, layout, weights).run(state, series, None, params, seed, progress)
    }

    /// Goes on training from these weights and, when given, the optimiser's memory: a third of the steps at a third of
    /// the rate, half of the windows from what lies behind `fresh` (where each series' values begin that the net has not
    /// seen; empty: nothing is known of that), half from everything. Sizes stay as they are, whatever `params` says.
    ///
    /// # Errors
    /// As [`LstmNet::train`]; [`ModelError::Artifact`] when the optimiser belongs to another net.
    pub fn continue_training(
        &self,
        optimizer: Option<&OptimizerState>,
        series: &[TrainSeries<'_>],
        fresh: &[usize],
        params: &LstmParams,
        seed: Seed,
        progress: Progress<'_>,
    ) -> Result<LstmFit, ModelError> {
        params.check()?;
        let state = match optimizer {
            Some(o) if o.first.len() != self.weights.len() => {
                let problem = format!("{} moments for {} weights", o.first.len(), self.weights.len());
                return Err(ModelError::artifact("optimizer", problem));
            }
            Some(o) => o.clone(),
            None => OptimizerState::new(self.weights.len()),
        };
        self.clone().run(state, series, Some(fresh), params, seed, progress)
    }

    fn run(
        mut self,
        mut optimizer: OptimizerState,
        series: &[TrainSeries<'_>],
        warm: Option<&[usize]>,
        params: &LstmParams,
        seed: Seed,
        progress: Progress<'_>,
    ) -> Result<LstmFit, ModelError> {
        let values: usize = series.iter().map(|s| s.values.len()).sum();
        let steps = if params.steps == 0 { (PASSES * values / params.batch).clamp(300, 1500) } else { params.steps };
        // A net that has learned needs less of both.
        let (steps, rate) = match warm {
            Some(_) => (steps.div_ceil(WARM), params.learning_rate / WARM as f64),
            None => (steps, params.learning_rate),
        };
        let objective = LstmObjective {
            shape: self.shape,
            layout: self.layout.clone(),
            sampler: Sampler::new(series, self.shape, warm.unwrap_or(&[]))?,
            batch: params.batch,
            dropout: params.dropout,
            seed: seed.child("lstm batches"),
            kernels: self.kernels.0.clone(),
        };
        let schedule = Schedule {
            steps,
            rate,
            warmup: 0.05,
            weight_decay: params.weight_decay,
            clip: params.clip,
            average: params.average,
            evaluate_every: steps.div_ceil(25),
            patience: params.patience,
        };
        let report = train(&objective, &schedule, &mut self.weights, &mut optimizer, progress)?;
        Ok(LstmFit { net: self, optimizer, report })
    }

    /// The index from which on no training window reached into a series of `length` values.
    pub fn held_out_from(&self, length: usize) -> usize {
        length - super::sample::held_out(length, self.shape.block)
    }

    /// The net's sizes.
    pub fn shape(&self) -> &LstmShape {
        &self.shape
    }

    /// Quantiles at [`QUANTILE_LEVELS`] of the next `horizon` values, ascending in each row.
    ///
    /// Steps behind the first block go on from the medians before them; the spread of a later block is joined with the
    /// spread that the block before ended with, as independent parts (root of the sum of squares). A constant history is
    /// continued without spread, an empty one gives zeros.
    pub fn quantiles(&self, history: &History<'_>, horizon: usize) -> Vec<[f64; LEVELS]> {
        self.together(std::slice::from_ref(history), horizon).pop().unwrap_or_default()
    }

    /// [`LstmNet::quantiles`] of many series, to the bit the same: some at a time go through the net as one product a
    /// layer, on all cores.
    pub fn quantiles_many(&self, histories: &[History<'_>], horizon: usize) -> Vec<Vec<[f64; LEVELS]>> {
        if histories.len() <= CHUNK {
            return self.together(histories, horizon);
        }
        histories.par_chunks(CHUNK).flat_map_iter(|h| self.together(h, horizon)).collect()
    }

    fn together(&self, histories: &[History<'_>], horizon: usize) -> Vec<Vec<[f64; LEVELS]>> {
        let shape = &self.shape;
        let mut all: Vec<Unrolled> = histories.iter().map(|h| Unrolled::new(shape, h, horizon)).collect();
        while all.iter().any(|u| u.rows.len() < horizon) {
            let mut due: Vec<&mut Unrolled> =
                all.iter_mut().filter_map(|u| u.is_due(shape, horizon).then_some(u)).collect();
            let windows: Vec<&Window> = due.iter().map(|u| &u.window).collect();
            let blocks = self.blocks(&windows);
            for (u, block) in due.iter_mut().zip(blocks.chunks_exact(shape.block)) {
                u.append(block, horizon);
            }
        }
        all.into_iter().map(|u| u.rows).collect()
    }

    /// Quantiles of one block of each window in the net's units, window after window; every sum in one order.
    fn blocks(&self, windows: &[&Window]) -> Vec<[f32; LEVELS]> {
        let s = &self.shape;
        let part = |slot| self.layout.part(&self.weights, slot);
        let inputs: Vec<f32> = windows.iter().flat_map(|w| w.inputs.iter().copied()).collect();
        let mut hidden = vec![0.0f32; windows.len() * s.hidden];
        // Input and recurrent weights are the first two, one behind the other.
        let stack = &self.weights[..self.kernels.0.shape().weights()];
        self.kernels.0.release(self.kernels.0.forward(stack, &inputs, s.patches, Output::Last, &mut hidden));
        let mut view = vec![0.0f32; s.block * VIEW];
        let mut inner = [0.0f32; DECODER];
        let mut raw = [0.0f32; LEVELS];
        let mut out = Vec::with_capacity(windows.len() * s.block);
        for (window, hidden) in windows.iter().zip(hidden.chunks_exact(s.hidden)) {
            affine(hidden, part(Slot::VIEW), part(Slot::VIEW_BIAS), &mut view);
            let steps = view.chunks_exact(VIEW).zip(window.features.chunks_exact(s.features()));
            for (k, (view, known)) in steps.enumerate() {
                affine(view, part(Slot::DECODER_VIEW), part(Slot::DECODER_BIAS), &mut inner);
                accumulate(known, part(Slot::DECODER_KNOWN), &mut inner);
                for v in &mut inner {
                    *v = tanh(*v);
                }
                affine(&inner, part(Slot::OUT), part(Slot::OUT_BIAS), &mut raw);
                let range = k * SKIPS..(k + 1) * SKIPS;
                let linear = window.skips[range.clone()].iter().zip(&part(Slot::SKIP)[range]).map(|(a, b)| a * b);
                let mut row = [raw[0] + linear.sum::<f32>(); LEVELS];
                for j in 0..MEDIAN {
                    row[MEDIAN - 1 - j] = row[MEDIAN - j] - softplus(raw[1 + j]);
                    row[MEDIAN + 1 + j] = row[MEDIAN + j] + softplus(raw[1 + MEDIAN + j]);
                }
                out.push(row);
            }
        }
        out
    }

    /// What to know about a forecast from this history: `no_history`, `constant`, `short_history` (less than half the
    /// context is there), `gaps` (a tenth of the context is missing).
    pub fn flags(&self, history: &History<'_>) -> Vec<&'static str> {
        let context = self.shape.context();
        let recent = &history.values[history.values.len().saturating_sub(context)..];
        let there = recent.iter().filter(|v| v.is_finite()).count();
        let mut flags = Vec::new();
        match Window::new(&self.shape).fill(&self.shape, history.values, history.last, history.step) {
            Verdict::Empty => flags.push("no_history"),
            Verdict::Constant(_) => flags.push("constant"),
            Verdict::Usable => {}
        }
        if recent.len() * 2 < context {
            flags.push("short_history");
        }
        if there * 10 < recent.len() * 9 {
            flags.push("gaps");
        }
        flags
    }

    /// Saves sizes and weights under `prefix`.
    pub fn save(&self, map: &mut TensorMap, prefix: &str) {
        self.shape.save(map, prefix);
        self.layout.save(&self.weights, map, prefix);
        map.put_f64(format!("{prefix}levels"), &[LEVELS], QUANTILE_LEVELS.to_vec());
    }

    /// Loads what [`LstmNet::save`] wrote.
    ///
    /// # Errors
    /// [`ModelError::Artifact`] when a tensor is missing or contradicts the sizes.
    pub fn load(map: &TensorMap, prefix: &str) -> Result<Self, ModelError> {
        let shape = LstmShape::load(map, prefix)?;
        let levels = format!("{prefix}levels");
        if map.f64s_of(&levels, LEVELS)? != QUANTILE_LEVELS {
            return Err(ModelError::artifact(levels, "other quantile levels than this version gives"));
        }
        let layout = shape.layout();
        let weights = layout.load(map, prefix)?;
        Ok(Self::assembled(shape, layout, weights))
    }
}

#[cfg(test)]
#[path = "net_tests.rs"]
mod tests;
