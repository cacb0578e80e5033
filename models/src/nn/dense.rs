//! A dense autoencoder: trained by candle, scored in plain Rust.

use super::activation::tanh;
use super::dense_objective::DenseObjective;
use super::layout::{Init, Layout};
use super::linear::affine;
use super::optimizer::OptimizerState;
use super::train::{Progress, Schedule, TrainReport, train};
use crate::ModelError;
use crate::artifact::TensorMap;
use foreglow_core::Seed;
use serde::{Deserialize, Serialize};

/// Unchecked parameters of an [`Autoencoder`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AutoencoderParams {
    /// Widths of the hidden layers between input and bottleneck, mirrored behind it. Empty (default): one layer of
    /// two thirds of the inputs, 8 to 128.
    pub hidden: Vec<usize>,
    /// Width of the bottleneck, 0 (default): a quarter of the inputs, 2 to 16; never more than the inputs.
    pub bottleneck: usize,
    /// Passes over the rows, 1 to 1000, default 60.
    pub epochs: usize,
    /// No more gradient steps than this, 1 to 1,000,000, default 6000.
    pub max_steps: usize,
    /// Rows a step, 1 to 8192, default 256.
    pub batch: usize,
    /// Peak learning rate, above 0 and at most 1, default 0.003.
    pub learning_rate: f64,
    /// Decoupled weight decay, 0 to 1, default 1e-4.
    pub weight_decay: f64,
    /// Standard deviation of the noise added to training inputs, 0 to 2, default 0.1.
    pub noise: f64,
    /// Share of training inputs that are hidden, to be restored from the others, 0 to 0.9, default 0.1.
    pub hide: f64,
    /// Inputs and targets are held inside ± this, above 0 and at most 1e6, default 20, so that few wild rows do not own
    /// the weights.
    pub clip: f64,
    /// Share of the rows, the last ones, that only stop the training, 0.01 to 0.5, default 0.1.
    pub validation: f64,
    /// Evaluations without improvement before training ends, 1 to 1000, default 8.
    pub patience: usize,
}

impl Default for AutoencoderParams {
    fn default() -> Self {
        Self {
            hidden: Vec::new(),
            bottleneck: 0,
            epochs: 60,
            max_steps: 6000,
            batch: 256,
            learning_rate: 3e-3,
            weight_decay: 1e-4,
            noise: 0.1,
            hide: 0.1,
            clip: 20.0,
            validation: 0.1,
            patience: 8,
        }
    }
}

/// Refuses a number outside `low..=high`.
pub(crate) fn within(field: &str, value: f64, low: f64, high: f64) -> Result<(), ModelError> {
    if value >= low && value <= high {
        Ok(())
    } else {
        Err(ModelError::parameter(field, value, &format!("a number from {low} to {high}")))
    }
}

impl AutoencoderParams {
    /// Checks every field.
    ///
    /// # Errors
    /// [`ModelError::Parameter`] naming the field, the value and the allowed range.
    pub fn check(&self) -> Result<(), ModelError> {
        for (i, w) in self.hidden.iter().enumerate() {
            within(&format!("autoencoder.hidden[{i}]"), *w as f64, 1.0, 4096.0)?;
        }
        within("autoencoder.hidden (layers)", self.hidden.len() as f64, 0.0, 8.0)?;
        within("autoencoder.bottleneck", self.bottleneck as f64, 0.0, 4096.0)?;
        within("autoencoder.epochs", self.epochs as f64, 1.0, 1000.0)?;
        within("autoencoder.max_steps", self.max_steps as f64, 1.0, 1e6)?;
        within("autoencoder.batch", self.batch as f64, 1.0, 8192.0)?;
        within("autoencoder.learning_rate", self.learning_rate, 1e-9, 1.0)?;
        within("autoencoder.weight_decay", self.weight_decay, 0.0, 1.0)?;
        within("autoencoder.noise", self.noise, 0.0, 2.0)?;
        within("autoencoder.hide", self.hide, 0.0, 0.9)?;
        within("autoencoder.clip", self.clip, 1e-6, 1e6)?;
        within("autoencoder.validation", self.validation, 0.01, 0.5)?;
        within("autoencoder.patience", self.patience as f64, 1.0, 1000.0)
    }

    /// Layer widths for `width` inputs, from input to output.
    fn sizes(&self, width: usize) -> Vec<usize> {
        let hidden = if self.hidden.is_empty() { vec![(width * 2 / 3).clamp(8, 128)] } else { self.hidden.clone() };
        let neck = if self.bottleneck == 0 { (width / 4).clamp(2, 16) } else { self.bottleneck }.min(width);
        let mut sizes = vec![width];
        sizes.extend(&hidden);
        sizes.push(neck);
        sizes.extend(hidden.iter().rev());
        sizes.push(width);
        sizes
    }
}

/// A dense autoencoder: a row of signals is squeezed through a few numbers and restored; what does not come back was not
/// like the rows of training.
///
/// Layers `y = tanh(x W + b)`; bottleneck and output are linear. Trained as a denoiser (Vincent et al. 2008,
/// doi:10.1145/1390156.1390294): noise is added and inputs are hidden, the clean row is the target. The tanh layer before
/// the bottleneck bounds what a wild input can pass on. Scoring is one row at a time, the same whatever is beside it:
/// O(sum of products of neighbouring widths), no allocation.
#[derive(Debug, Clone, PartialEq)]
pub struct Autoencoder {
    pub(super) sizes: Vec<usize>,
    pub(super) weights: Vec<f32>,
    pub(super) clip: f32,
}

/// A trained [`Autoencoder`] with what a warm start needs.
#[derive(Debug, Clone)]
pub struct AutoencoderFit {
    /// The net.
    pub model: Autoencoder,
    /// The optimiser's memory.
    pub optimizer: OptimizerState,
    /// How training went.
    pub report: TrainReport,
}

/// Buffers of [`Autoencoder::reconstruct`], reused from row to row.
#[derive(Debug, Clone)]
pub struct Scratch {
    a: Vec<f32>,
    b: Vec<f32>,
}

impl Autoencoder {
    /// Trains on `rows` (row-major, `width` values a row, already scaled to about unit variance; NaN = missing, which is
    /// read as 0 and left out of the loss).
    ///
    /// # Errors
    /// [`ModelError::Parameter`] for a field out of range, [`ModelError::Data`] for fewer than 20 rows, no width, or
    /// rows that are all missing.
    pub fn train(
        rows: &[f32],
        width: usize,
        params: &AutoencoderParams,
        seed: Seed,
        progress: Progress<'_>,
    ) -> Result<AutoencoderFit, ModelError> {
        params.check()?;
        check_rows(rows, width)?;
        let sizes = params.sizes(width);
        let weights = layout(&sizes).draw(seed.child("autoencoder weights"));
        let model = Self { sizes, weights, clip: params.clip as f32 };
        let state = OptimizerState::new(model.weights.len());
        model.run(state, rows, params, seed, progress)
    }

    /// Goes on training on other rows from these weights and, when given, the optimiser's memory. Layer widths stay as
    /// they are, whatever `params` says.
    ///
    /// # Errors
    /// As [`Autoencoder::train`]; [`ModelError::Artifact`] when the optimiser belongs to another net.
    pub fn continue_training(
        &self,
        optimizer: Option<&OptimizerState>,
        rows: &[f32],
        params: &AutoencoderParams,
        seed: Seed,
        progress: Progress<'_>,
    ) -> Result<AutoencoderFit, ModelError> {
        params.check()?;
        check_rows(rows, self.width())?;
        let state = match optimizer {
            Some(o) if o.first.len() != self.weights.len() => {
                let problem = format!("{} moments for {} weights", o.first.len(), self.weights.len());
                return Err(ModelError::artifact("optimizer", problem));
            }
            Some(o) => o.clone(),
            None => OptimizerState::new(self.weights.len()),
        };
        self.clone().run(state, rows, params, seed, progress)
    }

    fn run(
        mut self,
        mut optimizer: OptimizerState,
        rows: &[f32],
        params: &AutoencoderParams,
        seed: Seed,
        progress: Progress<'_>,
    ) -> Result<AutoencoderFit, ModelError> {
        self.clip = params.clip as f32;
        let objective = DenseObjective::new(&self.sizes, rows, params, seed.child("autoencoder batches"));
        let per_epoch = objective.batches();
        let steps = (per_epoch * params.epochs).min(params.max_steps);
        let schedule = Schedule {
            steps,
            rate: params.learning_rate,
            warmup: 0.05,
            weight_decay: params.weight_decay,
            clip: 1.0,
            average: 0.98,
            evaluate_every: per_epoch.max(steps / 40).max(1),
            patience: params.patience,
        };
        let report = train(&objective, &schedule, &mut self.weights, &mut optimizer, progress)?;
        Ok(AutoencoderFit { model: self, optimizer, report })
    }

    /// How many signals a row has.
    pub fn width(&self) -> usize {
        self.sizes[0]
    }

    /// Layer widths from input to output.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// Buffers for [`Autoencoder::reconstruct`].
    pub fn scratch(&self) -> Scratch {
        let n = self.sizes.iter().copied().max().unwrap_or(0);
        Scratch { a: vec![0.0; n], b: vec![0.0; n] }
    }

    /// Restores one row of [`Autoencoder::width`] values into `out`. Missing values (not finite) are read as 0, others are
    /// held inside the clip of training. No allocation; the result depends on `x` alone.
    ///
    /// # Panics
    /// When `x` or `out` has another length, or `scratch` belongs to a smaller net.
    pub fn reconstruct(&self, x: &[f32], out: &mut [f32], scratch: &mut Scratch) {
        let (mut now, mut next) = (&mut scratch.a, &mut scratch.b);
        for (s, v) in now[..self.width()].iter_mut().zip(x) {
            *s = if v.is_finite() { v.clamp(-self.clip, self.clip) } else { 0.0 };
        }
        assert_eq!(x.len(), self.width(), "the row has another width than the net");
        let layers = self.sizes.len() - 1;
        let mut at = 0;
        for l in 0..layers {
            let (i, o) = (self.sizes[l], self.sizes[l + 1]);
            let w = &self.weights[at..at + i * o];
            let b = &self.weights[at + i * o..at + i * o + o];
            at += i * o + o;
            affine(&now[..i], w, b, &mut next[..o]);
            if is_curved(l, layers) {
                for v in &mut next[..o] {
                    *v = tanh(*v);
                }
            }
            std::mem::swap(&mut now, &mut next);
        }
        out.copy_from_slice(&now[..self.width()]);
    }

    /// Saves sizes, clip and weights under `prefix`.
    pub fn save(&self, map: &mut TensorMap, prefix: &str) {
        map.put_f64(format!("{prefix}sizes"), &[self.sizes.len()], self.sizes.iter().map(|s| *s as f64).collect());
        map.put_f32(format!("{prefix}clip"), &[1], vec![self.clip]);
        layout(&self.sizes).save(&self.weights, map, prefix);
    }

    /// Loads what [`Autoencoder::save`] wrote.
    ///
    /// # Errors
    /// [`ModelError::Artifact`] when a tensor is missing or contradicts the sizes.
    pub fn load(map: &TensorMap, prefix: &str) -> Result<Self, ModelError> {
        let name = format!("{prefix}sizes");
        let raw = map.f64s(&name)?.1;
        let fits = |s: &f64| (1.0..=65536.0).contains(s) && s.fract() == 0.0;
        if raw.len() < 3 || raw.len() > 32 || !raw.iter().all(fits) || raw[0] != raw[raw.len() - 1] {
            return Err(ModelError::artifact(name, format!("{raw:?} are no layer widths of an autoencoder")));
        }
        let sizes: Vec<usize> = raw.iter().map(|s| *s as usize).collect();
        let clip = map.f32s(&format!("{prefix}clip"))?.1.first().copied().unwrap_or(f32::NAN);
        if !(clip > 0.0 && clip.is_finite()) {
            return Err(ModelError::artifact(format!("{prefix}clip"), format!("{clip} is no positive number")));
        }
        let weights = layout(&sizes).load(map, prefix)?;
        Ok(Self { sizes, weights, clip })
    }
}

/// Whether layer `l` of `layers` ends in a tanh: all but bottleneck and output.
pub(super) fn is_curved(l: usize, layers: usize) -> bool {
    l + 1 != layers / 2 && l + 1 != layers
}

/// Weights and bias of each layer, in order: slot `2 l` and `2 l + 1`.
pub(super) fn layout(sizes: &[usize]) -> Layout {
    let mut layout = Layout::default();
    for (l, p) in sizes.windows(2).enumerate() {
        // Glorot and Bengio 2010.
        layout.add("weight", l, &[p[0], p[1]], Init::Uniform((6.0 / (p[0] + p[1]) as f32).sqrt()));
        layout.add("bias", l, &[p[1]], Init::Constant(0.0));
    }
    layout
}

fn check_rows(rows: &[f32], width: usize) -> Result<(), ModelError> {
    let what = "an autoencoder";
    if width == 0 || !rows.len().is_multiple_of(width) {
        return Err(ModelError::data(what, format!("{} values are no rows of width {width}", rows.len())));
    }
    if rows.len() / width < 20 {
        return Err(ModelError::data(what, format!("{} rows; at least 20 are needed", rows.len() / width)));
    }
    if !rows.iter().any(|v| v.is_finite()) {
        return Err(ModelError::data(what, "every value is missing"));
    }
    Ok(())
}

#[cfg(test)]
#[path = "dense_tests.rs"]
mod tests;
