//! Columns of a table, read as what they mean.

use crate::csv::is_missing;
use crate::error::some_of;
use crate::parquet::instants;
use crate::{DatasetError, OpenOptions, Split, timeparse};
use foreglow_core::Timestamp;
use polars::prelude as pl;
use std::path::Path;

/// A column of the frame.
pub(crate) fn column<'a>(path: &Path, frame: &'a pl::DataFrame, name: &str) -> Result<&'a pl::Column, DatasetError> {
    frame.column(name).map_err(|_| DatasetError::NoColumn {
        path: path.to_owned(),
        column: name.to_owned(),
        present: some_of(column_names(frame)),
    })
}

/// The names of the columns, in file order.
pub(crate) fn column_names(frame: &pl::DataFrame) -> Vec<String> {
    frame.columns().iter().map(|c| c.name().to_string()).collect()
}

/// A numeric column: NaN = missing; infinite cells are missing, too, and listed.
pub(crate) struct Numbers {
    pub(crate) values: Vec<f64>,
    pub(crate) infinite: Vec<u32>,
}

/// A column as numbers. Text is parsed cell by cell, so that the first bad one is named; rows in errors count from
/// `offset`.
pub(crate) fn numbers(path: &Path, column: &pl::Column, offset: usize) -> Result<Numbers, DatasetError> {
    let fail = |e: pl::PolarsError| DatasetError::parquet(path, e);
    let name = || column.name().to_string();
    let mut values: Vec<f64> = match column.dtype() {
        pl::DataType::String => column
            .str()
            .map_err(fail)?
            .iter()
            .enumerate()
            .map(|(i, cell)| match cell {
                None => Ok(f64::NAN),
                Some(c) => match c.trim().parse::<f64>() {
                    Ok(v) => Ok(v),
                    Err(_) if is_missing(c) => Ok(f64::NAN),
                    Err(_) => Err(DatasetError::Text {
                        path: path.to_owned(),
                        row: offset + i + 1,
                        column: name(),
                        value: c.chars().take(60).collect(),
                    }),
                },
            })
            .collect::<Result<_, _>>()?,
        pl::DataType::Null => vec![f64::NAN; column.len()],
        t if t.is_primitive_numeric() || t.is_bool() => {
            let c = column.cast(&pl::DataType::Float64).map_err(fail)?;
            c.f64().map_err(fail)?.iter().map(|v| v.unwrap_or(f64::NAN)).collect()
        }
        t => {
            return Err(DatasetError::Columns {
                path: path.to_owned(),
                problem: format!(
                    "column {:?} has type {t}, which is no number; leave it out with a list of metrics",
                    name()
                ),
            });
        }
    };
    let mut infinite = Vec::new();
    for (i, v) in values.iter_mut().enumerate() {
        if v.is_infinite() {
            *v = f64::NAN;
            infinite.push(i as u32);
        }
    }
    Ok(Numbers { values, infinite })
}

/// A column as text.
pub(crate) fn text(path: &Path, column: &pl::Column) -> Result<Vec<Option<String>>, DatasetError> {
    let fail = |e: pl::PolarsError| DatasetError::parquet(path, e);
    let c = column.cast(&pl::DataType::String).map_err(fail)?;
    Ok(c.str().map_err(fail)?.iter().map(|s| s.map(str::to_owned)).collect())
}

/// The instants of the timestamp column, text and numbers as well.
pub(crate) fn times(
    path: &Path,
    frame: &pl::DataFrame,
    name: &str,
    options: &OpenOptions,
) -> Result<Vec<Timestamp>, DatasetError> {
    let c = column(path, frame, name)?;
    let fail = |e: pl::PolarsError| DatasetError::parquet(path, e);
    let bad = |i: usize, problem: String| DatasetError::Time {
        path: path.to_owned(),
        row: i + 1,
        column: name.to_owned(),
        problem,
    };
    let missing = |i: usize| bad(i, "the timestamp is missing; every row needs one".into());
    match c.dtype() {
        pl::DataType::Datetime(..) | pl::DataType::Date => instants(c)
            .map_err(fail)?
            .into_iter()
            .enumerate()
            .map(|(i, t)| t.map(Timestamp).ok_or_else(|| missing(i)))
            .collect(),
        pl::DataType::String => c
            .str()
            .map_err(fail)?
            .iter()
            .enumerate()
            .map(|(i, t)| timeparse::parse(t.ok_or_else(|| missing(i))?, options.time_unit).map_err(|p| bad(i, p)))
            .collect(),
        t if t.is_integer() => {
            let c = c.cast(&pl::DataType::Int64).map_err(fail)?;
            c.i64()
                .map_err(fail)?
                .iter()
                .enumerate()
                .map(|(i, v)| {
                    timeparse::from_integer(v.ok_or_else(|| missing(i))?, options.time_unit).map_err(|p| bad(i, p))
                })
                .collect()
        }
        t if t.is_float() => {
            let c = c.cast(&pl::DataType::Float64).map_err(fail)?;
            c.f64()
                .map_err(fail)?
                .iter()
                .enumerate()
                .map(|(i, v)| {
                    timeparse::from_float(v.ok_or_else(|| missing(i))?, options.time_unit).map_err(|p| bad(i, p))
                })
                .collect()
        }
        t => Err(DatasetError::Columns {
            path: path.to_owned(),
            problem: format!("timestamp column {name:?} has type {t}; expected instants, text or numbers"),
        }),
    }
}

/// The part that each row belongs to; empty is unused.
pub(crate) fn splits(path: &Path, frame: &pl::DataFrame, name: &str) -> Result<Vec<Split>, DatasetError> {
    text(path, column(path, frame, name)?)?
        .into_iter()
        .enumerate()
        .map(|(i, cell)| {
            let cell = cell.unwrap_or_else(|| "unused".into());
            cell.trim().parse().map_err(|()| DatasetError::Value {
                path: path.to_owned(),
                row: i + 1,
                column: name.to_owned(),
                value: cell.clone(),
                expected: "train, val, test, unused",
            })
        })
        .collect()
}

/// Whether each row is labelled as anomalous.
pub(crate) fn truths(path: &Path, frame: &pl::DataFrame, name: &str) -> Result<Vec<Option<bool>>, DatasetError> {
    text(path, column(path, frame, name)?)?
        .into_iter()
        .enumerate()
        .map(|(i, cell)| {
            let cell = cell.unwrap_or_default();
            crate::roles::truth(&cell).ok_or_else(|| DatasetError::Value {
                path: path.to_owned(),
                row: i + 1,
                column: name.to_owned(),
                value: cell.clone(),
                expected: "0, 1, true, false, or empty for not labelled",
            })
        })
        .collect()
}
