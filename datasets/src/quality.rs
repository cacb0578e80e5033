use crate::SeriesTable;
use serde::Serialize;
use std::collections::HashSet;

/// What is remarkable about a series: counted, never repaired.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Quality {
    /// Rows.
    pub rows: usize,
    /// Rows whose timestamp an earlier row already has.
    pub duplicate_timestamps: usize,
    /// Rows whose timestamp is not after that of the row before in the file (equal or earlier).
    pub non_increasing_steps: usize,
    /// Rows whose timestamp is before that of the row before in the file.
    pub backward_steps: usize,
    /// Largest forward distance of neighbouring rows in milliseconds.
    pub longest_gap_ms: i64,
    /// Missing cells.
    pub missing_values: usize,
    /// Infinite cells, made missing on reading.
    pub infinite_values: usize,
    /// Metrics with one and the same value in all rows that have one (at least two).
    pub constant_metrics: Vec<String>,
    /// Metrics without any value.
    pub empty_metrics: Vec<String>,
}

impl Quality {
    /// Counts over a series.
    pub fn of(table: &SeriesTable) -> Self {
        let mut q = Self { rows: table.len(), infinite_values: table.infinite_values, ..Self::default() };
        let mut seen = HashSet::with_capacity(table.len());
        q.duplicate_timestamps = table.timestamps.iter().filter(|t| !seen.insert(**t)).count();
        for w in table.in_file_order().windows(2) {
            let d = table.timestamps[w[1]].ms().saturating_sub(table.timestamps[w[0]].ms());
            q.non_increasing_steps += usize::from(d <= 0);
            q.backward_steps += usize::from(d < 0);
        }
        for w in table.timestamps.windows(2) {
            q.longest_gap_ms = q.longest_gap_ms.max(w[1].ms().saturating_sub(w[0].ms()));
        }
        for (name, column) in table.metrics.iter().zip(&table.columns) {
            let mut present = column.iter().filter(|v| !v.is_nan());
            let first = present.next();
            let n = present.clone().count() + usize::from(first.is_some());
            q.missing_values += column.len() - n;
            match first {
                None => q.empty_metrics.push(name.clone()),
                Some(f) if n > 1 && present.all(|v| v == f) => q.constant_metrics.push(name.clone()),
                Some(_) => {}
            }
        }
        q
    }

    /// Whether the rows are in strict order of time.
    pub fn is_monotonic(&self) -> bool {
        self.non_increasing_steps == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreglow_core::Timestamp;

    #[test]
    fn counts_what_is_there() {
        let t = SeriesTable {
            timestamps: [0, 10, 10, 5, 30].map(Timestamp).to_vec(),
            metrics: vec!["a".into(), "b".into(), "c".into()],
            columns: vec![vec![1.0; 5], vec![f64::NAN; 5], vec![1.0, 2.0, f64::NAN, 3.0, 1e308]],
            ..SeriesTable::default()
        };
        let q = t.quality();
        assert_eq!((q.duplicate_timestamps, q.non_increasing_steps, q.backward_steps, q.longest_gap_ms), (1, 2, 1, 25));
        assert_eq!((q.missing_values, q.constant_metrics, q.empty_metrics), (6, vec!["a".into()], vec!["b".into()]));
        assert_eq!(t.without_empty_metrics().metrics, ["a", "c"]);
    }
}
