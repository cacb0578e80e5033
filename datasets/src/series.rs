use crate::{Quality, Split};
use foreglow_core::{Labels, MetricKey, Step, Timestamp};
use std::collections::BTreeMap;

/// One series with its rows in file order. Timestamps may repeat or go back; [`SeriesTable::quality`] counts it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SeriesTable {
    /// Its name in the dataset.
    pub id: String,
    /// The labels of its metrics' keys: `series = id` in tidy sets and where a series column is there, and the label columns.
    pub labels: Labels,
    /// When each row was measured.
    pub timestamps: Vec<Timestamp>,
    /// What each row is for.
    pub split: Vec<Split>,
    /// The truth of each row; `None` = not labelled.
    pub label: Vec<Option<bool>>,
    /// Further truth columns by name, such as `label_point` of `nab_cloud`.
    pub extra_labels: BTreeMap<String, Vec<Option<bool>>>,
    /// The metrics, one a column.
    pub metrics: Vec<String>,
    /// `columns[metric][row]`; NaN = missing. Infinite cells become missing and are counted.
    pub columns: Vec<Vec<f64>>,
    /// How many infinite cells were made missing on reading.
    pub infinite_values: usize,
}

impl SeriesTable {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    /// The column of a metric.
    pub fn column(&self, metric: &str) -> Option<&[f64]> {
        self.metrics.iter().position(|m| m == metric).map(|i| self.columns[i].as_slice())
    }

    /// The values of a row, one a metric.
    pub fn row(&self, row: usize) -> impl Iterator<Item = f64> + '_ {
        self.columns.iter().map(move |c| c[row])
    }

    /// The keys of its metrics: metric name plus [`SeriesTable::labels`].
    pub fn keys(&self) -> Vec<MetricKey> {
        self.metrics.iter().map(|m| MetricKey::new(m, self.labels.clone())).collect()
    }

    /// The interval most rows keep, `None` for fewer than two instants.
    pub fn step(&self) -> Option<Step> {
        Step::detect(&self.timestamps)
    }

    /// This series without the metrics that have no value at all (in sets of mixed entities, metrics of other kinds).
    pub fn without_empty_metrics(mut self) -> Self {
        let keep: Vec<bool> = self.columns.iter().map(|c| c.iter().any(|v| !v.is_nan())).collect();
        let mut k = keep.iter();
        self.metrics.retain(|_| *k.next().unwrap_or(&true));
        let mut k = keep.iter();
        self.columns.retain(|_| *k.next().unwrap_or(&true));
        self
    }

    /// What is remarkable about the rows.
    pub fn quality(&self) -> Quality {
        Quality::of(self)
    }
}
