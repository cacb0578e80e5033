//! The commands: options to library calls to an [`Answer`](crate::Answer). What each does is said in its `--help`.

mod backtest;
mod data;
mod datasets;
mod fit;
mod recipe;
mod record;
mod registry;
mod search;
mod tune;

pub use backtest::{BacktestArgs, backtest};
pub use data::DataArgs;
pub use datasets::{DatasetsCommand, datasets};
pub use fit::{FitArgs, fit};
pub use recipe::{RecipeCommand, recipe};
pub use registry::{InspectArgs, PromoteArgs, RollbackArgs, inspect, promote, rollback};
pub use search::{SearchArgs, search};
pub use tune::{TuneArgs, tune};
