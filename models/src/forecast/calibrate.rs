use super::combine::{Combined, normal_levels};
use super::quantiles::{LEVELS, MEDIAN};
use foreglow_core::QUANTILE_LEVELS;
use foreglow_core::stats::quantile_sorted;
use serde::{Deserialize, Serialize};

/// Place of the 10 % quantile: bands are measured in half widths of the 80 % band.
const TENTH: usize = 2;
/// Steps of one origin that enter a bucket; neighbours say nearly the same.
const EACH: usize = 48;
/// Origins that the pooled correction counts as much as.
const POOLED_ORIGINS: f64 = 6.0;
/// Scores that a bucket of a pool needs.
const LEAST: usize = 100;
/// Levels closer to the ends than this are tails: few errors say little of them.
const TAIL: f64 = 0.09;

/// The bucket of the `k`-th step ahead (0 = the next): 1, 2, 3-4, 5-8, 9-16, ...
pub(super) fn bucket(k: usize) -> usize {
    if k == 0 { 0 } else { k.ilog2() as usize + 1 }
}

/// How many buckets `horizon` steps touch.
pub(super) fn buckets(horizon: usize) -> usize {
    bucket(horizon.saturating_sub(1)) + 1
}

/// Conformity scores of a combination: how far behind each quantile the truth lay, in half widths of the 80 % band.
#[derive(Debug, Clone, Default)]
pub(super) struct Scores {
    /// Bucket by score: one score a quantile.
    rows: Vec<Vec<[f64; LEVELS]>>,
    origins: usize,
}

/// What is added to each quantile, in half widths of the 80 % band: conformal quantile regression (Romano et al. 2019,
/// arXiv 1905.03222), level by level, by bucket of steps ahead.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Correction {
    pub(super) rows: Vec<Option<[f64; LEVELS]>>,
}

/// How far the quantiles of one series are moved, by bucket of steps ahead.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Moves(Vec<Option<[f64; LEVELS]>>);

fn half_width(offsets: &[f64; LEVELS], floor: f64) -> f64 {
    (0.5 * (offsets[LEVELS - 1 - TENTH] - offsets[TENTH])).max(floor).max(f64::MIN_POSITIVE)
}

impl Scores {
    /// Adds one origin.
    pub(super) fn push(&mut self, forecast: &Combined, actual: &[f64], floor: f64) {
        self.origins += 1;
        let n = actual.len();
        self.rows.resize_with(self.rows.len().max(buckets(n)), Vec::new);
        let mut from = 0;
        while from < n {
            let b = bucket(from);
            let to = (from..n).find(|k| bucket(*k) != b).unwrap_or(n);
            for k in (from..to).step_by((to - from).div_ceil(EACH)) {
                let e = actual[k] - forecast.median[k];
                if e.is_finite() {
                    let offsets = &forecast.offsets[k];
                    let unit = half_width(offsets, floor);
                    self.rows[b].push(std::array::from_fn(|l| (e - offsets[l]) / unit));
                }
            }
            from = to;
        }
    }

    /// Adds the scores of other series.
    pub(super) fn extend(&mut self, other: &Self) {
        self.origins += other.origins;
        self.rows.resize_with(self.rows.len().max(other.rows.len()), Vec::new);
        for (mine, theirs) in self.rows.iter_mut().zip(&other.rows) {
            mine.extend_from_slice(theirs);
        }
    }

    /// Scores of a bucket and its neighbours.
    fn around(&self, b: usize) -> impl Iterator<Item = &[f64; LEVELS]> + Clone {
        self.rows[b.saturating_sub(1)..(b + 2).min(self.rows.len())].iter().flatten()
    }

    /// The correction for a pool of many series: the empirical quantile of the scores at each level.
    pub(super) fn pooled(&self) -> Correction {
        let rows = (0..self.rows.len())
            .map(|b| {
                let mut column: Vec<f64> = Vec::new();
                let mut row = [0.0; LEVELS];
                if self.rows[b].len() < LEAST && self.around(b).count() < LEAST {
                    return None;
                }
                let alone = self.rows[b].len() >= LEAST;
                for (l, c) in row.iter_mut().enumerate().filter(|(l, _)| *l != MEDIAN) {
                    column.clear();
                    if alone {
                        column.extend(self.rows[b].iter().map(|s| s[l]));
                    } else {
                        column.extend(self.around(b).map(|s| s[l]));
                    }
                    column.sort_unstable_by(f64::total_cmp);
                    *c = conformal_quantile(&column, QUANTILE_LEVELS[l]);
                }
                Some(row)
            })
            .collect();
        Correction { rows }
    }

    /// The correction from one series' own origins: both sides together, since there are few, and in the tails at least
    /// as wide as a normal distribution of the same spread.
    fn own(&self, b: usize) -> Option<[f64; LEVELS]> {
        let z = normal_levels();
        let mut row = [0.0; LEVELS];
        let mut column: Vec<f64> = Vec::new();
        let (mut squares, mut count) = (0.0, 0usize);
        for s in self.around(b) {
            squares += s[MEDIAN] * s[MEDIAN];
            count += 1;
        }
        if count < 4 {
            return None;
        }
        let spread = (squares / count as f64).sqrt();
        for l in 0..MEDIAN {
            let mirror = LEVELS - 1 - l;
            column.clear();
            column.extend(self.around(b).flat_map(|s| [s[l], -s[mirror]]));
            column.sort_unstable_by(f64::total_cmp);
            let mut c = quantile_sorted(&column, QUANTILE_LEVELS[l]);
            if QUANTILE_LEVELS[l] < TAIL {
                c = c.min(z[l] * (spread - 1.0 / z[LEVELS - 1 - TENTH]));
            }
            (row[l], row[mirror]) = (c, -c);
        }
        Some(row)
    }

    /// How far each quantile is to be moved: the series' own correction, counted once an origin, with the pooled one,
    /// counted as 6 origins.
    pub(super) fn moves(&self, pooled: &Correction) -> Moves {
        let n = self.origins as f64;
        let own: Vec<Option<[f64; LEVELS]>> = (0..self.rows.len()).map(|b| self.own(b)).collect();
        let last = |rows: &[Option<[f64; LEVELS]>], b: usize| rows.get(b.min(rows.len().checked_sub(1)?)).copied()?;
        let rows = (0..self.rows.len().max(pooled.rows.len()))
            .map(|b| match (last(&own, b), last(&pooled.rows, b)) {
                (Some(o), Some(p)) => {
                    Some(std::array::from_fn(|l| (n * o[l] + POOLED_ORIGINS * p[l]) / (n + POOLED_ORIGINS)))
                }
                (Some(one), None) | (None, Some(one)) => Some(one),
                (None, None) => None,
            })
            .collect();
        Moves(rows)
    }
}

impl Moves {
    /// Moves the quantiles of `forecast`. Steps further ahead than any origin reached are moved as the last that was.
    pub(super) fn apply(&self, forecast: &mut Combined, floor: f64) {
        let Some(last) = self.0.len().checked_sub(1) else { return };
        for (k, offsets) in forecast.offsets.iter_mut().enumerate() {
            let Some(row) = &self.0[bucket(k).min(last)] else { continue };
            let unit = half_width(offsets, floor);
            for (l, o) in offsets.iter_mut().enumerate() {
                let moved = *o + unit * row[l];
                *o = match l.cmp(&MEDIAN) {
                    std::cmp::Ordering::Less => moved.min(0.0),
                    std::cmp::Ordering::Equal => 0.0,
                    std::cmp::Ordering::Greater => moved.max(0.0),
                };
            }
            offsets.sort_unstable_by(f64::total_cmp);
        }
    }
}

/// The conformal quantile: the `⌈(n+1) level⌉`-th smallest above the median, mirrored below it.
fn conformal_quantile(sorted: &[f64], level: f64) -> f64 {
    let n = sorted.len();
    let up = |level: f64| ((((n + 1) as f64) * level).ceil() as usize).clamp(1, n);
    let at = if level >= 0.5 { up(level) - 1 } else { n - up(1.0 - level) };
    sorted[at]
}
