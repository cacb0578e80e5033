//! Datasets: what there is, how it is read, checked, fetched, generated and written.
//!
//! Everything tabular becomes the same two types: a [`Dataset`] says what a folder or file holds, a [`SeriesTable`]
//! is one series with its rows in file order (timestamps may repeat or go back; nothing is sorted or filled silently).
//! [`Dataset::open`] decides by what the path is: a folder in the tidy layout (`manifest.json` + `data.parquet`
//! [+ `events.parquet`]), a Parquet file, or a CSV file. [`to_grid`] turns a series into a regular
//! [`foreglow_core::Frame`]. This crate is the only user of polars.

mod catalogue;
mod check;
mod columns;
mod csv;
mod dataset;
mod error;
mod events;
mod fetch;
mod frame;
mod manifest;
mod options;
mod parquet;
mod quality;
mod roles;
mod series;
mod split;
mod synthetic;
mod table;
mod tidy;
mod timeparse;
mod tuning;
mod write;

pub use catalogue::{CATALOGUE, Entry, Origin, describe, find, list, local};
pub use check::{CheckReport, Remark, Severity, check};
pub use dataset::{Dataset, SeriesRef};
pub use error::DatasetError;
pub use events::Event;
pub use fetch::{FetchOptions, Fetched, download, fetch};
pub use frame::{Grid, GridOptions, to_grid};
pub use manifest::{FileInfo, Licence, Manifest, ManifestSeries, Source};
pub use options::{OpenOptions, TimeUnit};
pub use parquet::{Column, read_parquet, write_parquet};
pub use quality::Quality;
pub use series::SeriesTable;
pub use split::{CheckedFractions, Fractions, Split, SplitRows, split_by_time, split_ranges};
pub use synthetic::{AnomalyKind, CheckedSynthetic, SyntheticSpec, generate};
pub use tuning::{Cell, Goal, Suspicion, TuningColumn, TuningTable, read_tuning_table};
pub use write::{TidyBuilder, TidyData, TidyMeta, atomically, write_tidy};
