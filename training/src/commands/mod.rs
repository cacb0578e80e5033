//! The commands: options to library calls to an [`Answer`](crate::Answer). What each does is said in its `--help`.

mod backtest;
mod data;
mod datasets;
mod recipe;
mod record;
mod search;

pub use backtest::{BacktestArgs, backtest};
pub use data::DataArgs;
pub use datasets::{DatasetsCommand, datasets};
pub use recipe::{RecipeCommand, recipe};
pub use search::{SearchArgs, search};
