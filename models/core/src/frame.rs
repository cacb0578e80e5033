use crate::{CoreError, MetricKey, Step, TimeRange, Timestamp};
use ndarray::{Array2, ArrayView1};
use serde::{Deserialize, Serialize};

/// How several samples of one step become one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// The last in order of arrival: what live scoring does.
    #[default]
    Last,
    /// Arithmetic mean.
    Mean,
    /// Sum.
    Sum,
    /// Smallest.
    Min,
    /// Largest.
    Max,
}

/// A regular grid: `values[[time, series]]`, NaN = missing.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// The instant of row 0.
    pub start: Timestamp,
    /// The distance of rows.
    pub step: Step,
    /// The series, one a column.
    pub keys: Vec<MetricKey>,
    /// Shape (time, series).
    pub values: Array2<f64>,
}

impl Frame {
    /// A frame from its parts.
    ///
    /// # Errors
    /// [`CoreError::Frame`] when the number of keys is not the number of columns.
    pub fn new(start: Timestamp, step: Step, keys: Vec<MetricKey>, values: Array2<f64>) -> Result<Self, CoreError> {
        if keys.len() != values.ncols() {
            return Err(CoreError::Frame(format!("{} keys for {} columns", keys.len(), values.ncols())));
        }
        Ok(Self { start, step, keys, values })
    }

    /// How many steps.
    pub fn len(&self) -> usize {
        self.values.nrows()
    }

    /// Whether there is no step.
    pub fn is_empty(&self) -> bool {
        self.values.nrows() == 0
    }

    /// The instant of a row.
    pub fn time(&self, row: usize) -> Timestamp {
        self.start.plus(row as i64 * self.step.ms())
    }

    /// The time the frame covers.
    pub fn range(&self) -> TimeRange {
        TimeRange { start: self.start, end: self.time(self.len()) }
    }

    /// One series.
    pub fn column(&self, series: usize) -> ArrayView1<'_, f64> {
        self.values.column(series)
    }
}
