use crate::{Quality, Split};
use foreglow_core::{Labels, MetricKey, Step, Timestamp};
use std::collections::BTreeMap;

/// One series. Rows of a tidy folder are in file order, as its layout says (timestamps may repeat, and go back where a clock
/// was set back); those of other tables are sorted by time. [`SeriesTable::quality`] counts what was out of order.
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
    /// The place in the file, among the rows of its series, of each row of a table that was sorted; empty where rows are in
    /// file order.
    pub file_rows: Vec<usize>,
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

    /// Sorts the rows by time where any goes back; rows of one instant keep their order.
    pub(crate) fn sorted(mut self) -> Self {
        if self.timestamps.is_sorted() {
            return self;
        }
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|&r| self.timestamps[r]);
        arrange(&mut self.timestamps, &order);
        arrange(&mut self.split, &order);
        arrange(&mut self.label, &order);
        for column in &mut self.columns {
            arrange(column, &order);
        }
        for column in self.extra_labels.values_mut() {
            arrange(column, &order);
        }
        self.file_rows = order;
        self
    }

    /// The rows in the order of the file.
    pub fn in_file_order(&self) -> Vec<usize> {
        let mut rows: Vec<usize> = (0..self.len()).collect();
        for (row, &place) in self.file_rows.iter().enumerate() {
            rows[place] = row;
        }
        rows
    }

    /// How many rows share a step of the grid with a later row that has another timestamp: the later one wins.
    pub fn crowded(&self, step: Step) -> usize {
        let Some(&anchor) = self.timestamps.first() else { return 0 };
        let later = |w: &[Timestamp]| w[0] < w[1] && step.nearest(anchor, w[0]) == step.nearest(anchor, w[1]);
        self.timestamps.windows(2).filter(|w| later(w)).count()
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

fn arrange<T: Copy>(column: &mut Vec<T>, order: &[usize]) {
    if !column.is_empty() {
        *column = order.iter().map(|&r| column[r]).collect();
    }
}
