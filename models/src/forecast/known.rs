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
    /// Last instant and digest of each series, ascending.
    ends: Vec<(Timestamp, u64)>,
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
        let mut ends: Vec<(Timestamp, u64)> = (series.iter().filter(|s| !s.values.is_empty()))
            .map(|s| (s.start.plus((s.values.len() as i64 - 1) * s.step.ms()), digest(s.values)))
            .collect();
        ends.sort_unstable();
        ends.dedup();
        Self { ends }
    }

    /// The index from which on the values of `history` were not trained on: behind the training part of a series that is
    /// recognised, 0 for one that is not and reaches over the end of all training, else its length (nothing can be said,
    /// so nothing counts as unseen).
    pub(super) fn unseen_from(&self, history: &History<'_>) -> usize {
        let n = history.values.len();
        let Some(&(latest, _)) = self.ends.last() else { return 0 };
        let place = |at: Timestamp| {
            let back = (history.last.ms() - at.ms()) / history.step.ms();
            usize::try_from(back).ok().and_then(|b| n.checked_sub(b))
        };
        let mut i = self.ends.len();
        while i > 0 {
            let at = self.ends[i - 1].0;
            let first = self.ends[..i].partition_point(|e| e.0 < at);
            if let Some(end) = place(at).filter(|p| *p > 0)
                && self.ends[first..i].binary_search_by_key(&digest(&history.values[..end]), |e| e.1).is_ok()
            {
                return end;
            }
            i = first;
        }
        if history.last >= latest { 0 } else { n }
    }
}
