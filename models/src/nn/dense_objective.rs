use super::dense::{AutoencoderParams, is_curved, layout};
use super::layout::Layout;
use super::ops::{Project, Tanh};
use super::tape::{Tape, constant};
use super::train::Objective;
use crate::ModelError;
use candle_core::Tensor;
use foreglow_core::Seed;
use rand::Rng;
use rand::seq::SliceRandom;
use rand_distr::{Distribution, StandardNormal};
use std::sync::Mutex;

/// No more validation rows than this, spread evenly.
const VALIDATION_ROWS: usize = 2048;

/// Loss of an autoencoder: mean square of what does not come back, over values that are there; gradient by candle.
pub(super) struct DenseObjective<'a> {
    sizes: &'a [usize],
    layout: Layout,
    rows: &'a [f32],
    train_rows: usize,
    batch: usize,
    clip: f32,
    noise: f32,
    hide: f64,
    seed: Seed,
    validation: (Vec<f32>, Vec<f32>),
    /// The shuffled rows of the epoch at hand.
    order: Mutex<(usize, Vec<usize>)>,
}

impl<'a> DenseObjective<'a> {
    pub(super) fn new(sizes: &'a [usize], rows: &'a [f32], params: &AutoencoderParams, seed: Seed) -> Self {
        let width = sizes[0];
        let n = rows.len() / width;
        let held = ((n as f64 * params.validation).ceil() as usize).clamp(1, n - 1);
        let mut objective = Self {
            sizes,
            layout: layout(sizes),
            rows,
            train_rows: n - held,
            batch: params.batch.min(n - held),
            clip: params.clip as f32,
            noise: params.noise as f32,
            hide: params.hide,
            seed,
            validation: (Vec::new(), Vec::new()),
            order: Mutex::new((usize::MAX, Vec::new())),
        };
        let stride = held.div_ceil(VALIDATION_ROWS);
        let picked: Vec<usize> = (n - held..n).step_by(stride).collect();
        objective.validation = objective.gather(&picked);
        objective
    }

    /// Batches an epoch.
    pub(super) fn batches(&self) -> usize {
        self.train_rows.div_ceil(self.batch)
    }

    /// Values with missing ones as 0, and 1 where a value is there.
    fn gather(&self, rows: &[usize]) -> (Vec<f32>, Vec<f32>) {
        let width = self.sizes[0];
        let raw = rows.iter().flat_map(|r| &self.rows[r * width..(r + 1) * width]);
        raw.map(|v| if v.is_finite() { (v.clamp(-self.clip, self.clip), 1.0) } else { (0.0, 0.0) }).unzip()
    }

    fn loss(&self, tape: &Tape, inputs: Vec<f32>, target: Vec<f32>, mask: Vec<f32>) -> Result<Tensor, ModelError> {
        let width = self.sizes[0];
        let shape = [inputs.len() / width, width];
        let there: f32 = mask.iter().sum();
        let layers = self.sizes.len() - 1;
        let mut x = constant(inputs, &shape)?;
        for l in 0..layers {
            let (w, b) = (tape.var(2 * l), tape.var(2 * l + 1));
            let product = if l == 0 { w.apply_op1(Project(x))? } else { x.matmul(w)? };
            x = product.broadcast_add(b)?;
            if is_curved(l, layers) {
                x = x.apply_op1(Tanh)?;
            }
        }
        let off = ((x - constant(target, &shape)?)? * constant(mask, &shape)?)?;
        Ok((off.sqr()?.sum_all()? * (1.0 / f64::from(there.max(1.0))))?)
    }
}

impl Objective for DenseObjective<'_> {
    fn gradient(&self, weights: &[f32], step: usize, gradient: &mut [f32]) -> Result<f64, ModelError> {
        let (epoch, at) = (step / self.batches(), step % self.batches());
        let picked: Vec<usize> = {
            let mut order = self.order.lock().map_err(|_| ModelError::data("an autoencoder", "a worker panicked"))?;
            if order.0 != epoch {
                let mut all: Vec<usize> = (0..self.train_rows).collect();
                all.shuffle(&mut self.seed.child("order").nth(epoch as u64).rng());
                *order = (epoch, all);
            }
            order.1[at * self.batch..((at + 1) * self.batch).min(self.train_rows)].to_vec()
        };
        let (target, mask) = self.gather(&picked);
        let mut rng = self.seed.child("noise").nth(step as u64).rng();
        let inputs = (target.iter())
            .map(|v| {
                let n: f32 = StandardNormal.sample(&mut rng);
                if rng.r#gen::<f64>() < self.hide { 0.0 } else { v + self.noise * n }
            })
            .collect();
        let tape = Tape::new(&self.layout, weights)?;
        let loss = self.loss(&tape, inputs, target, mask)?;
        tape.gradient(&self.layout, &loss, gradient)
    }

    fn validation(&self, weights: &[f32]) -> Result<f64, ModelError> {
        let tape = Tape::new(&self.layout, weights)?;
        let (values, mask) = self.validation.clone();
        Ok(f64::from(self.loss(&tape, values.clone(), values, mask)?.to_scalar::<f32>()?))
    }
}

#[cfg(test)]
pub(super) fn forward_by_candle(sizes: &[usize], weights: &[f32], row: &[f32]) -> Vec<f32> {
    let layout = layout(sizes);
    let tape = Tape::new(&layout, weights).unwrap();
    let layers = sizes.len() - 1;
    let mut x = constant(row.to_vec(), &[1, row.len()]).unwrap();
    for l in 0..layers {
        x = x.matmul(tape.var(2 * l)).unwrap().broadcast_add(tape.var(2 * l + 1)).unwrap();
        if is_curved(l, layers) {
            x = x.tanh().unwrap();
        }
    }
    x.flatten_all().unwrap().to_vec1().unwrap()
}
