use super::ring::Ring;
use crate::ModelError;
use crate::artifact::TensorMap;
use foreglow_core::stats::median;

/// Values of a signal after which its centre is chosen for the first time.
const FIRST: u64 = 8;

/// The past of a group's signals that forecasts are made from: the newest values of each, in single precision around a
/// centre of its own, so that two weeks of five-minute steps take 16 KiB a signal and a large level costs no digits.
///
/// The centre is the first value, then the median of what is kept after 8, 16, 32 ... values and each time as many came as
/// are kept: one wild value, wherever it stands, costs digits of the few values before the next choice at most.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Past {
    bound: usize,
    centres: Vec<f64>,
    /// Values that came of each signal.
    came: Vec<u64>,
    offsets: Ring<f32>,
    row: Vec<f32>,
}

impl Past {
    pub(super) fn new(signals: usize, bound: usize) -> Self {
        Self {
            bound,
            centres: vec![f64::NAN; signals],
            came: vec![0; signals],
            offsets: Ring::new(signals, bound),
            row: Vec::new(),
        }
    }

    /// More signals, missing so far.
    pub(super) fn grow(&mut self, signals: usize) {
        self.centres.resize(signals.max(self.centres.len()), f64::NAN);
        self.came.resize(self.centres.len(), 0);
        self.offsets.grow(signals);
    }

    pub(super) fn push(&mut self, values: &[f64]) {
        self.row.clear();
        for (centre, v) in self.centres.iter_mut().zip(values) {
            if centre.is_nan() && v.is_finite() {
                *centre = *v;
            }
            self.row.push(offset(*v, *centre));
        }
        self.offsets.push(&self.row);
        for (s, _) in values.iter().enumerate().filter(|(_, v)| v.is_finite()) {
            self.came[s] += 1;
            let n = self.came[s];
            let young = n < self.bound as u64 && n >= FIRST && n.is_power_of_two();
            if young || n.is_multiple_of(self.bound as u64) {
                self.centre_anew(s);
            }
        }
    }

    /// `n` missing rows.
    pub(super) fn push_missing(&mut self, n: usize) {
        self.offsets.push_missing(n);
    }

    /// One signal's values, oldest first, NaN = missing.
    pub(super) fn series(&self, signal: usize) -> impl Iterator<Item = f64> + '_ {
        let centre = self.centres[signal];
        self.offsets.series(signal).map(move |o| centre + f64::from(o))
    }

    /// What is kept, row by row, oldest first.
    pub(super) fn rows(&self) -> Vec<Vec<f64>> {
        let columns: Vec<Vec<f64>> = (0..self.centres.len()).map(|s| self.series(s).collect()).collect();
        let rows = columns.first().map_or(0, Vec::len);
        (0..rows).map(|t| columns.iter().map(|c| c[t]).collect()).collect()
    }

    pub(super) fn bytes(&self) -> usize {
        (self.centres.capacity() + self.came.capacity()) * size_of::<f64>()
            + self.row.capacity() * size_of::<f32>()
            + self.offsets.bytes()
    }

    pub(super) fn save(&self, map: &mut TensorMap) {
        let signals = self.centres.len();
        let flat: Vec<f32> = (0..signals).flat_map(|s| self.offsets.series(s)).collect();
        map.put_f32("past", &[flat.len()], flat);
        map.put_f64("past centres", &[signals], self.centres.clone());
        map.put_f64("past came", &[signals], self.came.iter().map(|n| *n as f64).collect());
    }

    /// What [`Past::save`] wrote, or an earlier version, which kept the values as they are.
    pub(super) fn load(map: &TensorMap, signals: usize, bound: usize) -> Result<Self, ModelError> {
        let mut past = Self::new(signals, bound);
        let whole = |n: usize| {
            let cut = || ModelError::artifact("group state", "its history is cut; it is damaged");
            if signals == 0 || n.is_multiple_of(signals) { Ok(()) } else { Err(cut()) }
        };
        if map.contains("past") {
            let flat = map.f32s("past")?.1;
            whole(flat.len())?;
            past.centres = map.f64s_of("past centres", signals)?;
            past.came = map.f64s_of("past came", signals)?.into_iter().map(|n| n as u64).collect();
            past.offsets = Ring::from_values(signals, bound, flat);
            return Ok(past);
        }
        let flat = map.f64s("history")?.1;
        whole(flat.len())?;
        let rows = flat.len().checked_div(signals).unwrap_or(0);
        let mut row = vec![f64::NAN; signals];
        for t in 0..rows {
            for (s, v) in row.iter_mut().enumerate() {
                *v = flat[s * rows + t];
            }
            past.push(&row);
        }
        Ok(past)
    }

    fn centre_anew(&mut self, signal: usize) {
        let (before, kept) = (self.centres[signal], self.series(signal).collect::<Vec<f64>>());
        let centre = median(&kept);
        if centre.is_finite() {
            self.offsets.update(signal, |o| offset(before + f64::from(o), centre));
            self.centres[signal] = centre;
        }
    }
}

/// Held inside the range of single precision; what is missing or endless is missing.
fn offset(v: f64, centre: f64) -> f32 {
    let d = v - centre;
    if v.is_finite() { d.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32 } else { f32::NAN }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A counter that somebody sends as a gauge: large, and what matters is small.
    fn value(i: usize) -> f64 {
        1e12 + 1000.0 * i as f64 + (i % 7) as f64
    }

    #[test]
    fn a_large_level_costs_no_digits_however_long_it_runs() {
        let mut past = Past::new(1, 100);
        for i in 0..100_000 {
            past.push(&[value(i)]);
        }
        for (k, v) in past.series(0).enumerate() {
            assert!((v - value(99_900 + k)).abs() < 0.1, "{k}: {v}");
        }
    }

    #[test]
    fn one_wild_value_costs_the_others_no_digits() {
        let usual = |i: usize| 100.0 + (i % 13) as f64 / 10.0;
        for at in [0, 3, 40, 99, 100, 200, 299] {
            let mut past = Past::new(1, 100);
            for i in 0..300 {
                past.push(&[if i == at { 1e9 } else { usual(i) }]);
                // What came before the first choice of a centre is the most that is lost.
                let first = (i + 1).saturating_sub(100);
                for (k, v) in past.series(0).enumerate().map(|(k, v)| (first + k, v)).filter(|(k, _)| *k >= 8) {
                    assert!(k == at || (v - usual(k)).abs() < 1e-4, "1e9 at {at}, after {i}: {k} is {v}");
                }
            }
        }
    }

    #[test]
    fn saved_and_taken_up_again_it_goes_on_the_same() {
        for n in [0, 5, 64, 100, 137, 250] {
            let mut past = Past::new(2, 100);
            past.grow(3);
            for i in 0..n {
                past.push(&[value(i), f64::NAN, if i == 3 { 1e308 } else { -1.5 }]);
            }
            let mut map = TensorMap::default();
            past.save(&mut map);
            let mut again = Past::load(&map, 3, 100).unwrap();
            for i in n..n + 120 {
                past.push(&[value(i), 2.0, f64::INFINITY]);
                again.push(&[value(i), 2.0, f64::INFINITY]);
            }
            for s in 0..3 {
                let bits = |p: &Past| p.series(s).map(f64::to_bits).collect::<Vec<_>>();
                assert_eq!(bits(&past), bits(&again), "{n} rows, signal {s}");
            }
        }
    }

    #[test]
    fn states_of_earlier_versions_are_read() {
        let mut map = TensorMap::default();
        map.put_f64("history", &[4], vec![1.0, 2.0, 0.25, f64::NAN]);
        let past = Past::load(&map, 2, 100).unwrap();
        assert_eq!(past.series(0).collect::<Vec<_>>(), [1.0, 2.0]);
        assert!(past.series(1).next() == Some(0.25) && past.series(1).nth(1).is_some_and(f64::is_nan));
        map.put_f64("history", &[3], vec![1.0; 3]);
        assert!(Past::load(&map, 2, 100).is_err());
    }
}
