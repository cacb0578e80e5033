//! What a fit leaves behind: versioned manifest, tensors, and the store that keeps them (the only file-system module).

mod build;
mod choose;
mod manifest;
mod sealed;
mod store;
mod tensors;

pub use build::{BuildGroup, DataInfo, NewArtifact, build_artifact};
pub use choose::{Candidate, MatchSpec, Ranked, choose};
pub use manifest::{FileInfo, Manifest, SCHEMA, TrainingInfo};
pub use sealed::Artifact;
pub use store::{Listed, Store};
pub use tensors::{SavedTensor, TensorMap, Values};

#[cfg(test)]
mod build_tests;
#[cfg(test)]
mod tests;
