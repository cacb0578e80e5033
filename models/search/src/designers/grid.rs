use super::{Ask, Designer, Proposal};
use crate::space::{Domain, Parameter};
use crate::{Assignment, SearchError, Value, assignment_key};

/// Levels are added while the grid stays within this many points when a study has no budget.
const DEFAULT_POINTS: u64 = 100;

/// A regular grid, walked in a seeded shuffled order so that a run cut short is still spread over the space.
///
/// Every parameter gets at least 2 levels (all of them when it has fewer), then one more in turn while the grid fits the
/// budget; a finite space that fits is covered completely. After the last point, trials are repeated and say so.
#[derive(Debug, Clone, Copy, Default)]
pub struct Grid;

impl Designer for Grid {
    fn propose(&self, ask: &Ask<'_>) -> Result<Proposal, SearchError> {
        let points = ask.budget.map_or(DEFAULT_POINTS, |b| b as u64).max(1);
        let levels = levels(ask, points);
        let total = levels.iter().try_fold(1u64, |acc, l| acc.checked_mul(*l)).filter(|t| *t < 1 << 53);
        let Some(total) = total else {
            return Err(SearchError::Space {
                problem: format!(
                    "a grid over {} parameters has too many points: use sobol, bayes or auto",
                    ask.space.len()
                ),
            });
        };
        let seen = ask.seen();
        // Conditions make several points of the grid the same configuration: step over those already tried.
        let first = ask.trials.len() as u64;
        for k in 0..total.min(first + 4096) {
            let point = at(ask, &levels, shuffled(k, total, ask.seed.child("grid").0));
            if ask.space.keeps_rules(&point) && !seen.contains(&assignment_key(&point)) {
                return Ok(Proposal::plain(point, format!("point {k} of a grid of {total} in shuffled order")));
            }
        }
        let point = at(ask, &levels, shuffled(first % total, total, ask.seed.child("grid").0));
        // Through the cube, so that it keeps the rules.
        Ok(Proposal::plain(ask.space.from_unit(&ask.space.to_unit(&point)), "the grid is used up"))
    }
}

fn levels(ask: &Ask<'_>, points: u64) -> Vec<u64> {
    let most: Vec<u64> = ask.space.parameters().iter().map(|p| p.count().unwrap_or(u64::MAX)).collect();
    let mut levels: Vec<u64> = most.iter().map(|m| (*m).min(2)).collect();
    let size = |l: &[u64]| l.iter().try_fold(1u64, |acc, v| acc.checked_mul(*v)).unwrap_or(u64::MAX);
    loop {
        let mut grown = false;
        for i in 0..levels.len() {
            if levels[i] < most[i] {
                levels[i] += 1;
                if size(&levels) <= points {
                    grown = true;
                } else {
                    levels[i] -= 1;
                }
            }
        }
        if !grown {
            return levels;
        }
    }
}

fn at(ask: &Ask<'_>, levels: &[u64], mut index: u64) -> Assignment {
    let mut out = Assignment::new();
    let digits: Vec<u64> = levels
        .iter()
        .map(|l| {
            let d = index % l;
            index /= l;
            d
        })
        .collect();
    for &i in ask.space.order() {
        if ask.space.is_active(i, &out) {
            let p = &ask.space.parameters()[i];
            out.insert(p.name().to_owned(), level(p, digits[i], levels[i]));
        }
    }
    out
}

/// Level `k` of `n`, from one end of the reach to the other.
fn level(p: &Parameter, k: u64, n: u64) -> Value {
    match (p.domain(), p.count()) {
        (Domain::Real { .. }, _) | (_, None) => {
            let (a, b) = p.grid_range();
            p.at(if n == 1 { f64::midpoint(a, b) } else { a + (b - a) * k as f64 / (n - 1) as f64 })
        }
        (_, Some(count)) => {
            let pick = if n <= 1 { 0 } else { (k as f64 * (count - 1) as f64 / (n - 1) as f64).round() as u64 };
            p.reachable(pick)
        }
    }
}

/// A permutation of `0..total`: a four-round Feistel network over the next even number of bits, walked until it lands
/// inside (Black and Rogaway 2002, doi:10.1007/3-540-45760-7_9).
fn shuffled(index: u64, total: u64, key: u64) -> u64 {
    let half = (64 - total.max(2).leading_zeros()).div_ceil(2);
    let mask = (1u64 << half) - 1;
    let mut x = index;
    loop {
        let (mut l, mut r) = (x >> half, x & mask);
        for round in 0..4u64 {
            let f = foreglow_core::Seed(key ^ round).nth(r).0 & mask;
            (l, r) = (r, l ^ f);
        }
        x = (l << half) | r;
        if x < total {
            return x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffling_is_a_permutation() {
        for total in [1, 2, 7, 64, 100, 1000] {
            let mut all: Vec<u64> = (0..total).map(|i| shuffled(i, total, 9)).collect();
            all.sort_unstable();
            assert_eq!(all, (0..total).collect::<Vec<_>>());
        }
    }
}
