use super::ring::Ring;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Closed steps that are remembered, so that a repeated delivery gets its recorded score.
const RECENT: usize = 64;
/// Instants in a row after which a group is known to come at another step than before.
pub(super) const SURE: usize = 16;

/// What was said of a closed step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Recorded {
    /// Index of the step on the grid.
    pub(super) index: i64,
    /// `-ln p` of the group, NaN = no opinion.
    pub(super) neg_ln_p: f64,
    /// Whether it stood at or above the line.
    pub(super) anomalous: bool,
}

/// The newest closed steps of a group: what was sent (raw, before counters became rates) and what was said.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Recent {
    said: VecDeque<Recorded>,
    sent: Ring<f64>,
}

/// The flat form of [`Recent`], but for its numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RecentParts {
    indices: Vec<i64>,
    anomalous: Vec<bool>,
}

impl Recent {
    pub(super) fn new(signals: usize) -> Self {
        Self { said: VecDeque::new(), sent: Ring::new(signals, RECENT) }
    }

    pub(super) fn grow(&mut self, signals: usize) {
        self.sent.grow(signals);
    }

    /// Records what was sent for a step; what is said of it follows by [`Recent::say`].
    pub(super) fn push(&mut self, index: i64, raw: &[f64]) {
        if self.said.len() == RECENT {
            self.said.pop_front();
        }
        self.said.push_back(Recorded { index, neg_ln_p: f64::NAN, anomalous: false });
        self.sent.push(raw);
    }

    /// Completes the newest step.
    pub(super) fn say(&mut self, neg_ln_p: f64, anomalous: bool) {
        if let Some(last) = self.said.back_mut() {
            last.neg_ln_p = neg_ln_p;
            last.anomalous = anomalous;
        }
    }

    /// What was sent of a signal for a step and what was said of the step; `None` when it is not remembered or was a gap.
    pub(super) fn find(&self, index: i64, signal: usize) -> Option<(f64, Recorded)> {
        let at = self.said.binary_search_by_key(&index, |r| r.index).ok()?;
        self.sent.series(signal).nth(at).map(|raw| (raw, self.said[at]))
    }

    /// How many steps lie between the newest closed steps, where that is the same, and more than one, for [`SURE`] of them in
    /// a row; of long distances a quarter may be missing or too much.
    pub(super) fn pace(&self) -> Option<i64> {
        let n = self.said.len();
        let distance = |i: usize| self.said[i].index - self.said[i - 1].index;
        if n <= SURE || distance(n - 1) < 2 {
            return None;
        }
        let all = self.said[n - 1].index - self.said[n - 1 - SURE].index;
        let pace = (all + SURE as i64 / 2) / SURE as i64;
        (n - SURE..n).all(|i| (distance(i) - pace).abs() <= pace / 4).then_some(pace)
    }

    /// Forgets all but the newest step, which is number `index` from now on.
    pub(super) fn restart(&mut self, index: i64) {
        let Some(last) = self.said.back().copied() else { return };
        let row = self.sent.last();
        *self = Self::new(row.len());
        self.push(index, &row);
        self.say(last.neg_ln_p, last.anomalous);
    }

    pub(super) fn bytes(&self) -> usize {
        self.said.capacity() * size_of::<Recorded>() + self.sent.bytes()
    }

    /// Parts for saving: indices and flags, scores, sent values (signal by signal).
    pub(super) fn to_parts(&self, signals: usize) -> (RecentParts, Vec<f64>, Vec<f64>) {
        let parts = RecentParts {
            indices: self.said.iter().map(|r| r.index).collect(),
            anomalous: self.said.iter().map(|r| r.anomalous).collect(),
        };
        let sent = (0..signals).flat_map(|s| self.sent.series(s)).collect();
        (parts, self.said.iter().map(|r| r.neg_ln_p).collect(), sent)
    }

    /// The inverse of [`Recent::to_parts`]; `None` when the parts do not fit together.
    pub(super) fn from_parts(parts: &RecentParts, signals: usize, scores: &[f64], sent: &[f64]) -> Option<Self> {
        let n = parts.indices.len();
        let ordered = parts.indices.windows(2).all(|w| w[0] < w[1]);
        if n > RECENT || parts.anomalous.len() != n || scores.len() != n || sent.len() != n * signals || !ordered {
            return None;
        }
        let said = (0..n)
            .map(|i| Recorded { index: parts.indices[i], neg_ln_p: scores[i], anomalous: parts.anomalous[i] })
            .collect();
        // Without a signal there is no row to take the length from, and then nothing was sent either.
        Some(Self { said, sent: Ring::from_values(signals, RECENT, sent) })
    }
}
