//! Neural nets. The only user of candle, and only for gradients.
//!
//! A net is a flat vector of 32-bit weights with a [`layout`] of names and shapes. Training (`train`: AdamW, warm-up,
//! decay, clipping, weight averaging, early stop) sees nothing but an `Objective`, which gives loss and gradient at a
//! weight vector; candle computes them, recurrent layers by the fused [`crate::kernel`]. Scoring is plain Rust with a fixed
//! order of every sum, so that a result depends neither on its batch nor on the number of threads.

mod activation;
pub mod dense;
mod dense_objective;
mod layout;
mod linear;
pub mod lstm;
mod ops;
mod optimizer;
mod recurrent;
mod tape;
mod train;

pub use dense::{Autoencoder, AutoencoderFit, AutoencoderParams, Scratch};
pub use lstm::{LstmFit, LstmNet, LstmParams};
pub use optimizer::{AdamW, OptimizerState};
pub use recurrent::RecurrentOp;
pub use train::{Progress, StopReason, TrainProgress, TrainReport, quiet};

use crate::ModelError;

impl From<candle_core::Error> for ModelError {
    fn from(e: candle_core::Error) -> Self {
        Self::Tensor(Box::new(e))
    }
}
