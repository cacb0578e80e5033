//! Offline training: fit artifacts, backtest detectors, forecasters and designers, search hyper-parameters, keep datasets.
//!
//! The binary `foreglow-train` is a thin shell around [`run`]; other programs of the workspace use [`backtest`] and its neighbours
//! directly.

mod answer;
pub mod backtest;
mod cli;
pub mod commands;
mod context;
mod error;
pub mod fitting;
pub mod gate;
pub mod hyper;
pub mod tune;

pub use answer::{Answer, Format};
pub use cli::{Cli, Command, run};
pub use context::{Context, Progress};
pub use error::TrainError;
