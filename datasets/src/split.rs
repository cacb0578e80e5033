use crate::DatasetError;
use foreglow_core::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// What a row is for. Splits follow time; they are never shuffled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Fitting.
    Train,
    /// Calibration, early stopping, weights of members.
    Val,
    /// Evaluation only.
    Test,
    /// None of these.
    Unused,
}

impl Split {
    /// The name in files: `train`, `val`, `test`, `unused`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
            Self::Unused => "unused",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Split {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "train" => Ok(Self::Train),
            "val" | "valid" | "validation" => Ok(Self::Val),
            "test" => Ok(Self::Test),
            "unused" => Ok(Self::Unused),
            _ => Err(()),
        }
    }
}

/// Shares of the rows, in the order of time, for files that carry no split: `train`, then `val`, the rest is test.
/// Default 0.7 / 0.1 / 0.2.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fractions {
    /// Share of train rows, 0 to 1.
    pub train: f64,
    /// Share of validation rows, 0 to 1; `train + val` is at most 1.
    pub val: f64,
}

impl Default for Fractions {
    fn default() -> Self {
        Self { train: 0.7, val: 0.1 }
    }
}

/// [`Fractions`] that were checked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CheckedFractions(Fractions);

impl Fractions {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`DatasetError::Param`] when a share is outside 0..=1 or the sum is above 1.
    pub fn check(self) -> Result<CheckedFractions, DatasetError> {
        let bad = |field, value: f64, allowed| Err(DatasetError::Param { field, value: value.to_string(), allowed });
        if !(0.0..=1.0).contains(&self.train) {
            return bad("split train", self.train, "a share from 0 to 1");
        }
        if !(0.0..=1.0).contains(&self.val) {
            return bad("split val", self.val, "a share from 0 to 1");
        }
        if self.train + self.val > 1.0 + 1e-12 {
            return bad("split train + val", self.train + self.val, "at most 1");
        }
        Ok(CheckedFractions(self))
    }
}

/// Splits by time: with `n` rows, the instants of rank `floor(train n)` and `floor((train + val) n)` are the cuts, so rows
/// that share an instant share a split, and the order of the file does not matter.
pub fn split_by_time(times: &[Timestamp], fractions: CheckedFractions) -> Vec<Split> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let cut = |share: f64| sorted.get((share * sorted.len() as f64 + 1e-9).floor() as usize).copied();
    let (first, second) = (cut(fractions.0.train), cut(fractions.0.train + fractions.0.val));
    times
        .iter()
        .map(|t| match (first, second) {
            (Some(a), _) if *t < a => Split::Train,
            (None, _) => Split::Train,
            (_, Some(b)) if *t < b => Split::Val,
            (_, None) => Split::Val,
            _ => Split::Test,
        })
        .collect()
}

/// The runs of equal splits, in file order.
pub fn split_ranges(split: &[Split]) -> Vec<(Split, Range<usize>)> {
    let mut out: Vec<(Split, Range<usize>)> = Vec::new();
    for (i, s) in split.iter().enumerate() {
        match out.last_mut() {
            Some((last, r)) if last == s => r.end = i + 1,
            _ => out.push((*s, i..i + 1)),
        }
    }
    out
}

/// Which rows fit, which calibrate, which are evaluated: `val` rows calibrate; where there are none, the last 20 % of the
/// train rows (in file order) do, and the others fit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SplitRows {
    /// Rows that fit weights.
    pub fit: Vec<usize>,
    /// Rows that calibrate, unseen by fitting.
    pub calibrate: Vec<usize>,
    /// Rows that are evaluated.
    pub test: Vec<usize>,
}

impl SplitRows {
    /// The roles of rows, from their splits.
    pub fn of(split: &[Split]) -> Self {
        let of = |want: Split| -> Vec<usize> {
            split.iter().enumerate().filter(|(_, s)| **s == want).map(|(i, _)| i).collect()
        };
        let (mut fit, mut calibrate, test) = (of(Split::Train), of(Split::Val), of(Split::Test));
        if calibrate.is_empty() {
            calibrate = fit.split_off(fit.len() - fit.len() / 5);
        }
        Self { fit, calibrate, test }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shares_are_checked() {
        assert!(Fractions { train: 0.9, val: 0.2 }.check().is_err());
        assert!(Fractions { train: f64::NAN, val: 0.2 }.check().is_err());
        assert!(Fractions { train: 0.7, val: 0.3 }.check().is_ok());
    }

    #[test]
    fn calibration_falls_back_on_late_train_rows() {
        let rows = SplitRows::of(&[Split::Train; 10]);
        assert_eq!((rows.fit.len(), rows.calibrate.clone()), (8, vec![8, 9]));
        let rows = SplitRows::of(&[Split::Train, Split::Val, Split::Test, Split::Unused]);
        assert_eq!(rows, SplitRows { fit: vec![0], calibrate: vec![1], test: vec![2] });
    }

    #[test]
    fn all_in_one_part() {
        let t: Vec<_> = (0..5).map(Timestamp).collect();
        assert_eq!(split_by_time(&t, Fractions { train: 1.0, val: 0.0 }.check().unwrap()), vec![Split::Train; 5]);
        assert_eq!(split_by_time(&t, Fractions { train: 0.0, val: 0.0 }.check().unwrap()), vec![Split::Test; 5]);
    }

    proptest! {
        #[test]
        fn splits_follow_time(mut times in proptest::collection::vec(0i64..200, 0..60), a in 0.0f64..0.9, b in 0.0f64..0.1) {
            let f = Fractions { train: a, val: b }.check().unwrap();
            let stamps: Vec<_> = times.iter().map(|t| Timestamp(*t)).collect();
            let split = split_by_time(&stamps, f);
            // Whoever comes later in time never has an earlier split, whatever the order of rows.
            for i in 0..times.len() { for j in 0..times.len() {
                if times[i] <= times[j] { prop_assert!(split[i] <= split[j]); }
            } }
            times.sort_unstable(); times.dedup();
            if times.len() == stamps.len() {
                let n = stamps.len() as f64;
                let trained = split.iter().filter(|s| **s == Split::Train).count();
                prop_assert_eq!(trained, (a * n + 1e-9).floor() as usize);
            }
            let ranges = split_ranges(&split);
            prop_assert_eq!(ranges.iter().map(|(_, r)| r.len()).sum::<usize>(), split.len());
        }
    }
}
