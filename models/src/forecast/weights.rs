use super::calibrate::bucket;
use super::local::{NET_SLOT, SLOTS};
use foreglow_core::stats::median;
use serde::{Deserialize, Serialize};

/// Origins that prior knowledge of a member counts as much as.
const PRIOR_ORIGINS: f64 = 3.0;
/// Weights fall with this power of the error.
const POWER: f64 = 2.0;
/// A member whose error is above this multiple of the best one's does not serve. It is wide: what errs differently helps
/// even where it errs more, and the combination trims what lies far off.
const GATE: f64 = 3.0;
/// Weights below this share are not worth computing a member for.
const LEAST: f64 = 0.02;
/// A relative error is at most this: what is far off is far off.
const WORST: f64 = 20.0;

/// Errors of each member at rolling origins, by bucket of steps ahead.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Evidence {
    /// Sum of absolute errors and their number, each counted by the share of its origin, member by bucket.
    sums: Vec<Vec<(f64, f64)>>,
    /// The same at the origins that the net was tried at too; empty rows without one.
    shared: Vec<Vec<(f64, f64)>>,
    /// At how many origins each member was tried, by their shares.
    origins: Vec<f64>,
}

/// What is known of members before a series is looked at: mean relative error, slot by bucket. 1 is the middle of the
/// local members.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Prior {
    pub(super) relative: Vec<Vec<f64>>,
}

/// Weights of the members, one row a bucket of steps ahead, each summing to 1.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Weights(pub(super) Vec<Vec<f64>>);

impl Evidence {
    pub(super) fn new(members: usize, buckets: usize) -> Self {
        let none = vec![vec![(0.0, 0.0); buckets]; members];
        Self { shared: none.clone(), sums: none, origins: vec![0.0; members] }
    }

    /// Adds the absolute errors of a member at one origin that counts as `share` of one, NaN = missing; `with_net`: the net
    /// is tried there too.
    pub(super) fn push(&mut self, member: usize, errors: &[f64], share: f64, with_net: bool) {
        self.origins[member] += share;
        for (k, e) in errors.iter().enumerate().filter(|(_, e)| e.is_finite()) {
            for sums in [Some(&mut self.sums), Some(&mut self.shared).filter(|_| with_net)].into_iter().flatten() {
                let cell = &mut sums[member][bucket(k)];
                cell.0 += share * e;
                cell.1 += share;
            }
        }
    }

    /// Origins that a member was tried at, by their shares.
    pub(super) fn origins(&self, member: usize) -> f64 {
        self.origins[member]
    }

    /// Mean absolute error by bucket over that of the middle local member (the last of `members` being the net when
    /// `net` is set), smoothed over neighbouring buckets; NaN where nothing was tried.
    ///
    /// The net is tried at fewer origins than the others, the newest ones. It is measured by the middle of the others at
    /// the same origins: else it would be blamed for hard times and praised for easy ones.
    pub(super) fn relative(&self, net: bool) -> Vec<Vec<f64>> {
        let buckets = self.sums.first().map_or(0, Vec::len);
        let locals = self.sums.len() - usize::from(net);
        let mean = |sums: &[Vec<(f64, f64)>], i: usize, b: usize| sums[i][b].0 / sums[i][b].1;
        let middle = |sums: &[Vec<(f64, f64)>]| -> Vec<f64> {
            let of = |b: usize| (0..locals).map(|i| mean(sums, i, b)).filter(|v| v.is_finite()).collect::<Vec<f64>>();
            (0..buckets).map(|b| median(&of(b))).collect()
        };
        let middles = [middle(&self.sums), middle(&self.shared)];
        let rough = |i: usize, b: usize| match (mean(&self.sums, i, b), middles[usize::from(i >= locals)][b]) {
            (e, _) if e.is_nan() => f64::NAN,
            (e, m) if m > 0.0 => (e / m).min(WORST),
            (e, _) => {
                if e == 0.0 {
                    1.0
                } else {
                    WORST
                }
            }
        };
        (0..self.sums.len())
            .map(|i| {
                (0..buckets)
                    .map(|b| {
                        let near = [(b.wrapping_sub(1), 1.0), (b, 2.0), (b + 1, 1.0)];
                        let (mut sum, mut weight) = (0.0, 0.0);
                        for (at, w) in near.into_iter().filter(|(at, _)| *at < buckets) {
                            let r = rough(i, at);
                            if r.is_finite() {
                                sum += w * r;
                                weight += w;
                            }
                        }
                        sum / weight
                    })
                    .scan(f64::NAN, |before, r| {
                        // Steps further ahead than any origin reached: as the last that was.
                        *before = if r.is_finite() { r } else { *before };
                        Some(*before)
                    })
                    .collect()
            })
            .collect()
    }
}

impl Prior {
    /// The geometric mean over series of the relative error of each member, given as (slot, relative errors by bucket).
    /// The mean is taken of logarithms, so that one series on which a member explodes does not decide.
    pub(super) fn pool<'a>(all: impl Iterator<Item = (usize, &'a [f64])>) -> Self {
        let mut sums: Vec<Vec<(f64, usize)>> = vec![Vec::new(); SLOTS];
        for (slot, row) in all {
            let cells = &mut sums[slot];
            cells.resize(cells.len().max(row.len()), (0.0, 0));
            for (cell, r) in cells.iter_mut().zip(row).filter(|(_, r)| r.is_finite()) {
                cell.0 += libm::log(r.clamp(1.0 / WORST, WORST));
                cell.1 += 1;
            }
        }
        // What no series says of steps far ahead is taken from the nearest that some do say.
        let mean = |before: &mut f64, c: &(f64, usize)| {
            *before = if c.1 == 0 { *before } else { libm::exp(c.0 / c.1 as f64) };
            Some(*before)
        };
        Self { relative: sums.iter().map(|cells| cells.iter().scan(1.0, mean).collect()).collect() }
    }

    /// The relative error of a slot at a bucket; the last bucket known speaks for later ones, 1 for a member unknown.
    fn at(&self, slot: usize, bucket: usize) -> f64 {
        self.relative.get(slot).and_then(|r| r.get(bucket.min(r.len().checked_sub(1)?))).copied().unwrap_or(1.0)
    }
}

impl Weights {
    /// Weights from what a series' own origins say and what is known before.
    ///
    /// The expected relative error of a member is the mean of its own, counted once an origin, and the prior, counted
    /// as 3 origins; weights are its inverse squared. A member three times as bad as the best at a bucket does not serve
    /// there.
    pub(super) fn choose(evidence: &Evidence, prior: &Prior, slots: &[usize]) -> Self {
        let net = slots.last() == Some(&NET_SLOT);
        let own = evidence.relative(net);
        let members = own.len();
        let buckets = own.first().map_or(0, Vec::len);
        let rows = (0..buckets)
            .map(|b| {
                let expected: Vec<f64> = (0..members)
                    .map(|i| {
                        let (n, known) = (evidence.origins(i), own[i][b]);
                        let is_net = net && i + 1 == members;
                        match (n > 0.0 && known.is_finite(), prior.relative.is_empty()) {
                            (true, true) => known,
                            (true, false) => (n * known + PRIOR_ORIGINS * prior.at(slots[i], b)) / (n + PRIOR_ORIGINS),
                            (false, false) if is_net => prior.at(slots[i], b),
                            _ => f64::INFINITY,
                        }
                    })
                    .collect();
                weigh(&expected)
            })
            .collect();
        Self(rows)
    }

    /// The weights of the `k`-th step ahead.
    pub(super) fn at(&self, k: usize) -> &[f64] {
        &self.0[bucket(k).min(self.0.len() - 1)]
    }

    /// Whether a member serves any step.
    pub(super) fn serves(&self, member: usize) -> bool {
        self.0.iter().any(|r| r[member] > 0.0)
    }

    /// The member with the largest weight over all buckets.
    pub(super) fn leader(&self) -> usize {
        let total = |i: usize| self.0.iter().map(|r| r[i]).sum::<f64>();
        let members = self.0.first().map_or(0, Vec::len);
        (0..members).max_by(|a, b| total(*a).total_cmp(&total(*b)).then(b.cmp(a))).unwrap_or(0)
    }
}

fn weigh(expected: &[f64]) -> Vec<f64> {
    let best = expected.iter().copied().fold(f64::INFINITY, f64::min);
    if !best.is_finite() {
        let mut out = vec![0.0; expected.len()];
        if let Some(first) = out.first_mut() {
            *first = 1.0;
        }
        return out;
    }
    let floor = best.max(1e-9);
    let weight = |e: &f64| if *e <= GATE * floor { (floor / e.max(1e-9)).powf(POWER) } else { 0.0 };
    let mut out: Vec<f64> = expected.iter().map(weight).collect();
    trim(&mut out);
    out
}

/// Drops weights that are too small to compute a member for; the others sum to 1.
pub(super) fn trim(weights: &mut [f64]) {
    let total: f64 = weights.iter().sum();
    for w in weights.iter_mut().filter(|w| **w < LEAST * total) {
        *w = 0.0;
    }
    let total: f64 = weights.iter().sum();
    for w in weights {
        *w /= total;
    }
}
