//! What a fit leaves behind: versioned manifest, tensors, and the store that keeps them (the only file-system module).

mod tensors;

pub use tensors::{SavedTensor, TensorMap, Values};
