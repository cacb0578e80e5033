use super::series::TrainSeries;
use foreglow_core::{History, Seed, Timestamp};
use serde::{Deserialize, Serialize};

/// Newest training values that a series is recognised by.
const TAIL: usize = 16;

/// Which histories a net was trained on, and up to where: a net must not be judged on what it has learned by heart.
///
/// A series is recognised by its own values: the instant of its last training value and a digest of the 16 up to it. No
/// name has to travel, and a copy of a series is recognised as the same.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Known {
    /// Last instant, digest and number of values of each series, ascending.
    ends: Vec<(Timestamp, u64, usize)>,
}

/// How a history stands to what a net was trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acquaintance {
    /// A training series of so many values ends before this index.
    Known { end: usize, length: usize },
    /// Not recognised, and it reaches over the end of all training.
    New,
    /// Not recognised; what of it was trained on cannot be said.
    Unsure,
}

fn digest(values: &[f64]) -> u64 {
    let tail = &values[values.len().saturating_sub(TAIL)..];
    // Any NaN is the same NaN: the payload of a missing value is nobody's business.
    let bits = |v: &f64| if v.is_nan() { f64::NAN.to_bits() } else { v.to_bits() };
    tail.iter().fold(Seed(tail.len() as u64), |s, v| s.nth(bits(v))).0
}

impl Known {
    /// Remembers what was trained on.
    pub(super) fn new(series: &[TrainSeries<'_>]) -> Self {
        let mut ends: Vec<(Timestamp, u64, usize)> = (series.iter().filter(|s| !s.values.is_empty()))
            .map(|s| (s.start.plus((s.values.len() as i64 - 1) * s.step.ms()), digest(s.values), s.values.len()))
            .collect();
        ends.sort_unstable();
        ends.dedup();
        Self { ends }
    }

    /// Where the training part of `history` ends.
    pub(super) fn recognise(&self, history: &History<'_>) -> Acquaintance {
        let n = history.values.len();
        let Some(&(latest, ..)) = self.ends.last() else { return Acquaintance::New };
        let place = |at: Timestamp| {
            let back = (history.last.ms() - at.ms()) / history.step.ms();
            usize::try_from(back).ok().and_then(|b| n.checked_sub(b))
        };
        let mut i = self.ends.len();
        while i > 0 {
            let at = self.ends[i - 1].0;
            let first = self.ends[..i].partition_point(|e| e.0 < at);
            if let Some(end) = place(at).filter(|p| *p > 0)
                && let Ok(found) = self.ends[first..i].binary_search_by_key(&digest(&history.values[..end]), |e| e.1)
            {
                return Acquaintance::Known { end, length: self.ends[first + found].2 };
            }
            i = first;
        }
        if history.last >= latest { Acquaintance::New } else { Acquaintance::Unsure }
    }

    /// The index from which on the values of `history` are new: 0 where nothing is known, its length where nothing can be
    /// said.
    pub(super) fn new_from(&self, history: &History<'_>) -> usize {
        match self.recognise(history) {
            Acquaintance::Known { end, .. } => end,
            Acquaintance::New => 0,
            Acquaintance::Unsure => history.values.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreglow_core::Step;

    #[test]
    fn a_series_is_recognised_by_its_values() {
        let step: Step = "1h".parse().unwrap();
        let x: Vec<f64> = (0..100).map(|i| f64::from(i * i % 17)).collect();
        let start = Timestamp(1_767_225_600_000);
        let at = |i: usize| start.plus(i as i64 * step.ms());
        let known = Known::new(&[TrainSeries { values: &x[..60], start, step }]);
        let history = |from: usize, to: usize| History { values: &x[from..to], last: at(to - 1), step };
        assert_eq!(known.recognise(&history(0, 100)), Acquaintance::Known { end: 60, length: 60 });
        // Cut at the front, as a monitor keeps it; with the training end as its own end.
        assert_eq!(known.recognise(&history(30, 60)), Acquaintance::Known { end: 30, length: 60 });
        // Too little of the training part is left to be sure.
        assert_eq!(known.recognise(&history(55, 100)), Acquaintance::New);
        assert_eq!(known.recognise(&history(0, 50)), Acquaintance::Unsure);
        let mut other = x.clone();
        other[59] += 1.0;
        assert_eq!(known.recognise(&History { values: &other, ..history(0, 100) }), Acquaintance::New);
        assert_eq!((known.new_from(&history(0, 100)), known.new_from(&history(0, 50))), (60, 50));
        assert_eq!(Known::default().new_from(&history(0, 50)), 0);
    }
}
