//! Operating states: which of a few ways of running is the system in, and how far is it from all of them.
//!
//! [`OperatingStates`] (k-means or a Gaussian mixture) is served; [`density_noise`] (DBSCAN) looks at a whole table
//! offline. Fitting is linfa's; scoring is ours, row by row. No missing or infinite value reaches linfa.

mod choose;
mod density;
mod gaussian;
mod scaling;
mod spec;
mod states;

pub use density::{DensityNoise, DensityParams, density_noise};
pub use spec::{ClusterKind, ClusterSpec};
pub use states::OperatingStates;
