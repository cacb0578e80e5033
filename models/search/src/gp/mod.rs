//! Gaussian-process regression over features: Matern-5/2 kernel with one length a parameter (ARD), learned noise.
//!
//! Rasmussen and Williams, Gaussian Processes for Machine Learning, MIT Press 2006, chapters 2, 4 and 5.

mod fit;
mod kernel;
mod mixture;
mod process;
mod sample;

pub(crate) use fit::fit_hyper;
pub(crate) use mixture::Mixture;
pub(crate) use process::{Data, Gp, Sources};
pub(crate) use sample::sample_hyper;

/// The numbers that the marginal likelihood chooses.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hyper {
    /// Length of each parameter, in unit ranges.
    pub(crate) lengths: Vec<f64>,
    /// Prior variance of the function, for values of variance 1.
    pub(crate) signal: f64,
    /// Variance of one measurement beyond its own standard error.
    pub(crate) noise: f64,
}
