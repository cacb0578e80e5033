//! Every model of foreglow and everything that judges a model.
//!
//! Pure but for [`artifact::Store`]: no network, no clock, no async; same input and same seed, same bytes.

pub mod artifact;
pub mod calibrate;
pub mod cluster;
pub mod detect;
mod error;
pub mod evaluate;
pub mod forecast;
pub mod kernel;
pub mod monitor;
pub mod nn;
pub mod pipeline;
pub mod spec;
pub mod transform;

pub use error::ModelError;
pub use spec::Recipe;
