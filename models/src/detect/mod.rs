//! Detectors: one file each, one closed list ([`DetectorSpec`] unfitted, [`FittedDetector`] fitted) and one dispatch.
//!
//! [`BaselineShape`] learns online from the first value on and judges any series without a fit. The fitted ones see rows
//! that are scaled by train.

mod amplitude;
mod autoencoder;
mod baseline;
mod cluster;
mod drift;
mod fitted;
mod neighbours;
mod pca;
mod profile;
mod residual;
mod spec;

pub use amplitude::{AmplitudeDetector, RobustUnits, ShiftDetector};
pub use autoencoder::AutoencoderDetector;
pub use baseline::{BaselineShape, SeriesScore};
pub use cluster::ClusterDetector;
pub use fitted::{DetectorFit, FittedDetector, ScaledRows, fit_detector};
pub use neighbours::NeighboursDetector;
pub use pca::PcaDetector;
pub(crate) use pca::principal_directions;
pub use residual::ResidualDetector;
pub use spec::{
    AmplitudeParams, AutoencoderMember, BaselineParams, ClusterParams, DetectorSpec, Judge, NeighboursParams,
    PcaParams, PersistenceParams, PersistenceWeight, ResidualParams, ShiftParams,
};
