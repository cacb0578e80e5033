use crate::{MetricKey, Timestamp};

/// One value as it arrived.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchSample {
    /// Which of [`MetricBatch::keys`].
    pub series: u32,
    /// When it was measured.
    pub timestamp: Timestamp,
    /// The value; NaN says missing.
    pub value: f64,
    /// The place in the request: row of `points`, or the running number over `series`. Refusals name it.
    pub index: u32,
}

/// Samples as they arrived: possibly late, doubled, out of order, NaN.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MetricBatch {
    /// The distinct series of this batch.
    pub keys: Vec<MetricKey>,
    /// The samples, in the order of arrival.
    pub samples: Vec<BatchSample>,
}

impl MetricBatch {
    /// Appends a sample of the `series`-th key.
    pub fn push(&mut self, series: usize, timestamp: Timestamp, value: f64, index: usize) {
        self.samples.push(BatchSample { series: series as u32, timestamp, value, index: index as u32 });
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }
}
