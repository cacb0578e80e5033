use super::quantiles::at_levels;
use crate::ModelError;
use crate::artifact::TensorMap;
use crate::nn::{LstmFit, LstmNet};
use foreglow_core::{Forecaster, History};
use ndarray::Array2;

/// The global LSTM as a forecaster; see [`crate::nn::lstm`].
#[derive(Debug, Clone, PartialEq)]
pub struct LstmForecaster {
    /// The trained net.
    pub net: LstmNet,
}

impl LstmForecaster {
    /// The forecaster of a fit.
    pub fn new(fit: LstmFit) -> Self {
        Self { net: fit.net }
    }

    /// Loads a saved net.
    pub(super) fn load(map: &TensorMap, prefix: &str) -> Result<Self, ModelError> {
        Ok(Self { net: LstmNet::load(map, prefix)? })
    }
}

impl Forecaster for LstmForecaster {
    fn name(&self) -> &'static str {
        "lstm"
    }

    fn context(&self) -> usize {
        self.net.shape().reach()
    }

    fn forecast(&self, history: &History<'_>, horizon: usize, levels: &[f64]) -> Array2<f64> {
        let mut out = Array2::zeros((horizon, levels.len()));
        for (k, row) in self.net.quantiles(history, horizon).iter().enumerate() {
            at_levels(row, levels, |l, v| out[[k, l]] = v);
        }
        out
    }
}
