use crate::ModelError;
use crate::artifact::TensorMap;

/// What AdamW remembers between steps: saved for warm starts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OptimizerState {
    /// Steps taken.
    pub step: u64,
    /// First moments, one a weight.
    pub first: Vec<f32>,
    /// Second moments, one a weight.
    pub second: Vec<f32>,
}

impl OptimizerState {
    /// The state before the first step of a net with `len` weights.
    pub fn new(len: usize) -> Self {
        Self { step: 0, first: vec![0.0; len], second: vec![0.0; len] }
    }

    /// Saves the state under `prefix`.
    pub fn save(&self, map: &mut TensorMap, prefix: &str) {
        map.put_f64(format!("{prefix}adam.step"), &[1], vec![self.step as f64]);
        map.put_f32(format!("{prefix}adam.first"), &[self.first.len()], self.first.clone());
        map.put_f32(format!("{prefix}adam.second"), &[self.second.len()], self.second.clone());
    }

    /// Loads what [`OptimizerState::save`] wrote.
    ///
    /// # Errors
    /// [`ModelError::Artifact`] when a tensor is missing or the moments differ in length.
    pub fn load(map: &TensorMap, prefix: &str) -> Result<Self, ModelError> {
        let step = map.f64s_of(&format!("{prefix}adam.step"), 1)?[0];
        let first = map.f32s(&format!("{prefix}adam.first"))?.1.to_vec();
        let second = map.f32s(&format!("{prefix}adam.second"))?.1.to_vec();
        if first.len() != second.len() {
            return Err(ModelError::artifact(format!("{prefix}adam"), "the two moments differ in length"));
        }
        Ok(Self { step: step as u64, first, second })
    }
}

/// AdamW with clipping over one flat vector of weights, in one pass.
#[derive(Debug, Clone, Copy)]
pub struct AdamW {
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Largest allowed norm of the gradient.
    pub clip: f64,
}

impl AdamW {
    /// Decay of the first moment.
    pub const BETA1: f64 = 0.9;
    /// Decay of the second moment.
    pub const BETA2: f64 = 0.99;

    /// One step with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101) after the gradient is scaled
    /// down to the norm `clip`. A gradient that is not finite is passed over. Returns the norm before clipping.
    pub fn step(&self, state: &mut OptimizerState, weights: &mut [f32], gradient: &[f32], rate: f64) -> f64 {
        let norm = sum_of_squares(gradient).sqrt();
        if !norm.is_finite() {
            return norm;
        }
        let scale = if norm > self.clip { (self.clip / norm) as f32 } else { 1.0 };
        state.step += 1;
        let t = state.step.min(100_000) as i32;
        let (b1, b2) = (Self::BETA1 as f32, Self::BETA2 as f32);
        let rate_hat = (rate / (1.0 - Self::BETA1.powi(t))) as f32;
        let second_hat = (1.0 / (1.0 - Self::BETA2.powi(t))) as f32;
        let keep = 1.0 - rate as f32 * self.weight_decay;
        for (((w, g), m), v) in weights.iter_mut().zip(gradient).zip(&mut state.first).zip(&mut state.second) {
            let g = g * scale;
            *m = b1 * *m + (1.0 - b1) * g;
            *v = b2 * *v + (1.0 - b2) * g * g;
            *w = *w * keep - rate_hat * *m / ((*v * second_hat).sqrt() + 1e-8);
        }
        norm
    }
}

/// Eight sums side by side, so that none waits for the other.
fn sum_of_squares(values: &[f32]) -> f64 {
    let (runs, rest) = values.as_chunks::<8>();
    let mut sums = [0.0f64; 8];
    for run in runs {
        for (s, v) in sums.iter_mut().zip(run) {
            *s += f64::from(*v) * f64::from(*v);
        }
    }
    sums.iter().sum::<f64>() + rest.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>()
}
