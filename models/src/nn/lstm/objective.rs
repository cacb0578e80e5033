use super::sample::{Example, Sampler};
use super::shape::{DECODER, LEVELS, LstmShape, MEDIAN, SKIPS, Slot, VIEW};
use crate::ModelError;
use crate::kernel::{CellKind, Output, Recurrent, RecurrentShape};
use crate::nn::layout::Layout;
use crate::nn::ops::{Project, Tanh};
use crate::nn::recurrent::RecurrentOp;
use crate::nn::tape::{Tape, constant};
use crate::nn::train::{Objective, sum_shards};
use candle_core::Tensor;
use foreglow_core::{QUANTILE_LEVELS, Seed};
use rand::Rng;
use rayon::prelude::*;
use std::sync::Arc;

/// Windows of one shard, at most.
const SHARD: usize = 64;
/// Numbers of a tensor from which on candle hands element-wise work to a pool of its own: one for all threads, behind one
/// lock, that spins while it waits. Shards that stay under it keep to their own thread, several times faster on a machine
/// that does other work too.
const POOLED: usize = 64 * 1024;

/// Windows of one shard: by the sizes alone, so that sums do not depend on the number of threads.
fn shard_size(shape: &LstmShape) -> usize {
    ((POOLED - 1) / (shape.block * DECODER.max(LEVELS))).clamp(4, SHARD)
}

/// Masked pinball loss of the LSTM forecaster, gradient by candle.
pub(super) struct LstmObjective<'a> {
    pub(super) shape: LstmShape,
    pub(super) layout: Layout,
    pub(super) sampler: Sampler<'a>,
    pub(super) batch: usize,
    pub(super) dropout: f64,
    pub(super) seed: Seed,
    pub(super) kernels: Arc<Recurrent>,
}

/// The recurrent kernels of a net. The bias is an input that is always 1.
pub(super) fn kernels(shape: &LstmShape) -> Arc<Recurrent> {
    let (inputs, hidden) = (shape.channels(), shape.hidden);
    Arc::new(Recurrent::new(RecurrentShape { cell: CellKind::Lstm, inputs, hidden, layers: 1, bias: false }))
}

impl LstmObjective<'_> {
    /// Quantiles in the net's units, shape (examples, block, levels); with dropout when `drop` gives its draws.
    pub(super) fn forward(&self, tape: &Tape, examples: &[Example], drop: Option<Seed>) -> Result<Tensor, ModelError> {
        let s = &self.shape;
        let (b, t, c, k, f) = (examples.len(), s.patches, s.channels(), s.block, s.features());
        let inputs: Vec<f32> = examples.iter().flat_map(|e| e.window.inputs.iter().copied()).collect();
        let features: Vec<f32> = examples.iter().flat_map(|e| e.window.features.iter().copied()).collect();
        let skips: Vec<f32> = examples.iter().flat_map(|e| e.window.skips.iter().copied()).collect();
        let stack = [tape.var(Slot::INPUT).flatten_all()?, tape.var(Slot::RECURRENT).flatten_all()?];
        let op = RecurrentOp::new(self.kernels.clone(), Output::Last, false);
        let state = constant(inputs, &[b, t, c])?.apply_op2(&Tensor::cat(&stack, 0)?, op)?;
        let state = match drop.filter(|_| self.dropout > 0.0) {
            Some(seed) => {
                let (mut rng, keep) = (seed.rng(), 1.0 / (1.0 - self.dropout) as f32);
                let mask = (0..b * s.hidden).map(|_| if rng.r#gen::<f64>() < self.dropout { 0.0 } else { keep });
                (state * constant(mask.collect(), &[b, s.hidden])?)?
            }
            None => state,
        };
        let view = state.matmul(tape.var(Slot::VIEW))?.broadcast_add(tape.var(Slot::VIEW_BIAS))?;
        let view = view.reshape((b * k, VIEW))?;
        let known = tape.var(Slot::DECODER_KNOWN).apply_op1(Project(constant(features, &[b * k, f])?))?;
        let inner = (view.matmul(tape.var(Slot::DECODER_VIEW))? + known)?;
        let inner = inner.broadcast_add(tape.var(Slot::DECODER_BIAS))?.apply_op1(Tanh)?;
        debug_assert_eq!(inner.dims(), [b * k, DECODER]);
        let raw = inner.matmul(tape.var(Slot::OUT))?.broadcast_add(tape.var(Slot::OUT_BIAS))?;
        let linear = constant(skips, &[b, k, SKIPS])?.broadcast_mul(tape.var(Slot::SKIP))?.sum_keepdim(2)?;
        let median = (raw.narrow(1, 0, 1)? + linear.reshape((b * k, 1))?)?;
        let gaps = raw.narrow(1, 1, LEVELS - 1)?;
        let gaps = (gaps.relu()? + ((gaps.abs()?.neg()?.exp()? + 1.0)?.log()?))?;
        let spread = gaps.matmul(&constant(signs(), &[LEVELS - 1, LEVELS])?)?;
        Ok(spread.broadcast_add(&median)?.reshape((b, k, LEVELS))?)
    }

    /// Sum over examples and steps of the mean pinball loss over levels, times `factor`.
    fn loss(&self, tape: &Tape, examples: &[Example], factor: f64, drop: Option<Seed>) -> Result<Tensor, ModelError> {
        let (b, k) = (examples.len(), self.shape.block);
        let target: Vec<f32> = examples.iter().flat_map(|e| e.target.iter().copied()).collect();
        let mask: Vec<f32> = examples.iter().flat_map(|e| e.mask.iter().copied()).collect();
        let q = self.forward(tape, examples, drop)?;
        let off = q.neg()?.broadcast_add(&constant(target, &[b, k, 1])?)?;
        let levels: Vec<f32> = QUANTILE_LEVELS.iter().map(|l| *l as f32).collect();
        let pinball = (off.broadcast_mul(&constant(levels, &[1, 1, LEVELS])?)? + off.neg()?.relu()?)?;
        let kept = pinball.broadcast_mul(&constant(mask, &[b, k, 1])?)?;
        Ok((kept.sum_all()? * (factor / LEVELS as f64))?)
    }
}

impl Objective for LstmObjective<'_> {
    fn gradient(&self, weights: &[f32], step: usize, gradient: &mut [f32]) -> Result<f64, ModelError> {
        let batch = self.seed.nth(step as u64);
        let factor = 1.0 / (self.batch * self.shape.block) as f64;
        let size = shard_size(&self.shape);
        sum_shards(self.batch.div_ceil(size), gradient, |shard, part| {
            let range = shard * size..((shard + 1) * size).min(self.batch);
            let examples: Vec<Example> = range.filter_map(|i| self.sampler.draw(batch, i)).collect();
            if examples.is_empty() {
                return Ok(0.0);
            }
            let tape = Tape::new(&self.layout, weights)?;
            let drop = Some(batch.child("dropout").nth(shard as u64));
            let loss = self.loss(&tape, &examples, factor, drop)?;
            tape.gradient(&self.layout, &loss, part)
        })
    }

    fn validation(&self, weights: &[f32]) -> Result<f64, ModelError> {
        let all = &self.sampler.validation;
        let there: f32 = all.iter().flat_map(|e| &e.mask).sum();
        let factor = 1.0 / f64::from(there);
        let parts: Vec<f64> = all
            .par_chunks(shard_size(&self.shape))
            .map(|examples| {
                let tape = Tape::new(&self.layout, weights)?;
                Ok(f64::from(self.loss(&tape, examples, factor, None)?.to_scalar::<f32>()?))
            })
            .collect::<Result<_, ModelError>>()?;
        Ok(parts.iter().sum())
    }
}

/// What each gap between quantiles adds to each quantile: the first six lie below the median, from it outwards, the
/// others above.
fn signs() -> Vec<f32> {
    let mut out = vec![0.0; (LEVELS - 1) * LEVELS];
    for j in 0..MEDIAN {
        out[j * LEVELS..j * LEVELS + MEDIAN - j].fill(-1.0);
        let up = MEDIAN + j;
        out[up * LEVELS + MEDIAN + 1 + j..(up + 1) * LEVELS].fill(1.0);
    }
    out
}
