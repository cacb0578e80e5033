/// A value in a [`Ring`].
pub(super) trait Cell: Copy {
    const MISSING: Self;
}

impl Cell for f64 {
    const MISSING: Self = Self::NAN;
}

impl Cell for f32 {
    const MISSING: Self = Self::NAN;
}

/// The newest values of several signals on one grid, oldest overwritten; signal-major, NaN = missing.
///
/// Grows by doubling up to its bound, so that young groups are small.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ring<T> {
    bound: usize,
    capacity: usize,
    signals: usize,
    /// Slot of the next row.
    head: usize,
    len: usize,
    values: Vec<T>,
}

/// Rows a new ring has room for.
const FIRST: usize = 32;

impl<T: Cell> Ring<T> {
    pub(super) fn new(signals: usize, bound: usize) -> Self {
        let bound = bound.max(1);
        let capacity = FIRST.min(bound);
        Self { bound, capacity, signals, head: 0, len: 0, values: vec![T::MISSING; signals * capacity] }
    }

    /// From saved rows: `values` holds each signal's values, oldest first, one signal after another.
    pub(super) fn from_values(signals: usize, bound: usize, values: &[T]) -> Self {
        let mut ring = Self::new(signals, bound);
        if let Some(len) = values.len().checked_div(signals) {
            let mut row = vec![T::MISSING; signals];
            for i in 0..len {
                for (s, v) in row.iter_mut().enumerate() {
                    *v = values[s * len + i];
                }
                ring.push(&row);
            }
        }
        ring
    }

    /// More signals, missing so far.
    pub(super) fn grow(&mut self, signals: usize) {
        self.signals = self.signals.max(signals);
        self.values.resize(self.signals * self.capacity, T::MISSING);
    }

    pub(super) fn push(&mut self, row: &[T]) {
        debug_assert_eq!(row.len(), self.signals);
        if self.len == self.capacity && self.capacity < self.bound {
            self.widen();
        }
        for (s, v) in row.iter().enumerate() {
            self.values[s * self.capacity + self.head] = *v;
        }
        self.head = (self.head + 1) % self.capacity;
        self.len = (self.len + 1).min(self.capacity);
    }

    /// `n` missing rows, in time of at most the bound.
    pub(super) fn push_missing(&mut self, n: usize) {
        let row = vec![T::MISSING; if n == 0 { 0 } else { self.signals }];
        for _ in 0..n.min(self.bound) {
            self.push(&row);
        }
    }

    /// One signal's values, oldest first.
    pub(super) fn series(&self, signal: usize) -> impl Iterator<Item = T> + '_ {
        let base = signal * self.capacity;
        let start = (self.head + self.capacity - self.len) % self.capacity;
        (0..self.len).map(move |i| self.values[base + (start + i) % self.capacity])
    }

    /// The newest row; all missing before the first.
    pub(super) fn last(&self) -> Vec<T> {
        (0..self.signals).map(|s| self.series(s).last().unwrap_or(T::MISSING)).collect()
    }

    /// Applies `change` to every value of a signal that is kept.
    pub(super) fn update(&mut self, signal: usize, change: impl Fn(T) -> T) {
        for v in &mut self.values[signal * self.capacity..(signal + 1) * self.capacity] {
            *v = change(*v);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.values.capacity() * size_of::<T>()
    }

    fn widen(&mut self) {
        let capacity = (self.capacity * 2).min(self.bound);
        let mut values = vec![T::MISSING; self.signals * capacity];
        for s in 0..self.signals {
            for (i, v) in self.series(s).enumerate() {
                values[s * capacity + i] = v;
            }
        }
        self.values = values;
        self.capacity = capacity;
        self.head = self.len % capacity;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keeps_the_newest(rows in proptest::collection::vec((0usize..3, -9i32..9), 0..200), bound in 1usize..90) {
            let mut ring = Ring::<f64>::new(2, bound);
            let mut plain: Vec<f64> = Vec::new();
            for (gap, v) in &rows {
                ring.push_missing(*gap);
                plain.extend(std::iter::repeat_n(f64::NAN, *gap));
                ring.push(&[f64::from(*v), -f64::from(*v)]);
                plain.push(f64::from(*v));
            }
            let want = &plain[plain.len().saturating_sub(bound)..];
            let got: Vec<f64> = ring.series(0).collect();
            let negated: Vec<f64> = ring.series(1).map(|v| -v).collect();
            prop_assert_eq!(format!("{got:?}"), format!("{want:?}"));
            prop_assert_eq!(format!("{negated:?}"), format!("{want:?}"));
            let saved: Vec<f64> = (0..2).flat_map(|s| ring.series(s).collect::<Vec<_>>()).collect();
            let again: Vec<f64> = Ring::from_values(2, bound, &saved).series(0).collect();
            prop_assert_eq!(format!("{again:?}"), format!("{want:?}"));
        }
    }

    #[test]
    fn a_gap_of_years_costs_no_more_than_the_ring() {
        let mut ring = Ring::<f64>::new(1, 64);
        ring.push(&[1.0]);
        ring.push_missing(usize::MAX);
        assert!(ring.series(0).all(f64::is_nan) && ring.series(0).count() == 64);
        ring.grow(3);
        ring.push(&[1.0, 2.0, 3.0]);
        assert_eq!(ring.series(2).last(), Some(3.0));
    }
}
