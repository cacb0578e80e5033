//! Fused recurrent kernels: LSTM and GRU stacks forward and backward through time, the kept-state step, dense stacks.
//!
//! **Idea.** A batch is cut into chunks of [`CHUNK`] sequences. A chunk runs the whole forward and the whole backward pass
//! with buffers of its own, so nothing waits at a time step and nothing is allocated after the first step of training.
//! Weights are packed once a step into panels that lie in the order in which they are read; the four gates of eight
//! units are summed and activated in registers; weight gradients are one matrix product a block of time steps (`gemm`).
//!
//! **What holds.** Every number of a sequence is a sum in one fixed order, whatever lies beside it in the batch. Gradients
//! are added chunk by chunk inside a shard and shard by shard after that, in an order that the batch size alone decides:
//! the same bytes on any number of threads. The vector path (AVX2 with FMA, chosen at run time) and the portable path
//! run the same source and differ by rounding only, below 1e-5.
//!
//! This is the one module where `unsafe` is allowed. The portable path is its bounds-checked twin: the same index
//! arithmetic, every access checked. Its tests also run under a memory checker:
//!
//! ```text
//! cargo test -p foreglow-models --lib --no-run      # prints the name of the test program
//! valgrind --error-exitcode=9 PROGRAM --test-threads 1 kernel::tests
//! ```
#![expect(unsafe_code, reason = "vector loads without bounds checks; each block says why it is sound")]
#![expect(
    clippy::inline_always,
    reason = "vector code called without inlining leaves its target features and its registers"
)]

mod backward;
mod buffer;
mod cell;
mod chunk;
mod dense;
mod forward;
mod gates;
mod pack;
mod peak;
mod product;
mod recurrent;
mod shape;
mod simd;
mod step;

pub use chunk::CHUNK;
pub use dense::{DenseBuffers, DenseLayer, DenseStack};
pub use peak::multiply_adds;
pub use recurrent::{Kept, Output, Recurrent};
pub use shape::{CellKind, LayerParts, RecurrentShape};
pub use simd::KernelPath;
pub use step::{RecurrentStep, StepState};

#[cfg(test)]
mod tests;
