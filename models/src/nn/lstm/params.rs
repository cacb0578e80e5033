use crate::ModelError;
use crate::nn::dense::within;
use serde::{Deserialize, Serialize};

/// Unchecked parameters of the LSTM forecaster. 0 means "chosen from the data" where a field says so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LstmParams {
    /// Width of the LSTM state, 4 to 512, default 64.
    pub hidden: usize,
    /// Steps forecast at once, 0 (default: two seasons, held inside 24 to 96) to 1024; longer horizons by wider spacing.
    pub horizon_block: usize,
    /// Past steps that the net reads, 0 (default: two weeks where a day is the season and three are there, else four
    /// seasons, or 96) to 8192.
    pub context: usize,
    /// Patches that the context is cut into, 4 to 128, default 24.
    pub patches: usize,
    /// Gradient steps, 0 (default: six passes over the data, held inside 300 to 1500) to 1,000,000.
    pub steps: usize,
    /// Windows a step, 1 to 4096, default 128.
    pub batch: usize,
    /// Peak learning rate, 1e-9 to 1, default 0.003.
    pub learning_rate: f64,
    /// Decoupled weight decay, 0 to 1, default 0.01.
    pub weight_decay: f64,
    /// Share of the LSTM's last state that each training window goes without (dropout, Srivastava et al. 2014), 0 to 0.9,
    /// default 0.2.
    pub dropout: f64,
    /// Largest norm of a gradient, 1e-6 to 1e6, default 1.
    pub clip: f64,
    /// Decay of the running average of weights, 0 to 0.9999, default 0.99.
    pub average: f64,
    /// Evaluations without improvement before training ends (there are 25 a run), 1 to 1000, default 15.
    pub patience: usize,
}

impl Default for LstmParams {
    fn default() -> Self {
        Self {
            hidden: 64,
            horizon_block: 0,
            context: 0,
            patches: 24,
            steps: 0,
            batch: 128,
            learning_rate: 3e-3,
            weight_decay: 0.01,
            dropout: 0.2,
            clip: 1.0,
            average: 0.99,
            patience: 15,
        }
    }
}

impl LstmParams {
    /// Checks every field.
    ///
    /// # Errors
    /// [`ModelError::Parameter`] naming the field, the value and the allowed range.
    pub fn check(&self) -> Result<(), ModelError> {
        within("lstm.hidden", self.hidden as f64, 4.0, 512.0)?;
        within("lstm.horizon_block", self.horizon_block as f64, 0.0, 1024.0)?;
        within("lstm.context", self.context as f64, 0.0, 8192.0)?;
        within("lstm.patches", self.patches as f64, 4.0, 128.0)?;
        within("lstm.steps", self.steps as f64, 0.0, 1e6)?;
        within("lstm.batch", self.batch as f64, 1.0, 4096.0)?;
        within("lstm.learning_rate", self.learning_rate, 1e-9, 1.0)?;
        within("lstm.weight_decay", self.weight_decay, 0.0, 1.0)?;
        within("lstm.dropout", self.dropout, 0.0, 0.9)?;
        within("lstm.clip", self.clip, 1e-6, 1e6)?;
        within("lstm.average", self.average, 0.0, 0.9999)?;
        within("lstm.patience", self.patience as f64, 1.0, 1000.0)
    }
}
