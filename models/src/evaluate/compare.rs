use foreglow_core::Seed;
use foreglow_core::stats::{mean, paired_bootstrap};
use serde::{Deserialize, Serialize};

/// Resamples behind each interval.
const DRAWS: usize = 2_000;

/// A paired comparison of one measure over series or windows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Mean of ours minus theirs.
    pub mean: f64,
    /// Lower end of the 95 % bootstrap interval.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
    /// Pairs where both are present.
    pub n: usize,
    /// Pairs where ours is better.
    pub wins: usize,
    /// Pairs where theirs is better.
    pub losses: usize,
    /// Pairs that are equal.
    pub ties: usize,
}

/// Compares two methods on the same series: mean difference with its percentile bootstrap 95 % interval (2,000 draws
/// over pairs) and the count of wins and losses. Pairs with a missing half are left out; `None` when none is left.
pub fn paired_difference(ours: &[f64], theirs: &[f64], higher_is_better: bool, seed: Seed) -> Option<Difference> {
    let pairs: Vec<(f64, f64)> =
        ours.iter().copied().zip(theirs.iter().copied()).filter(|(a, b)| !a.is_nan() && !b.is_nan()).collect();
    if pairs.is_empty() {
        return None;
    }
    let (a, b): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let interval = paired_bootstrap(&a, &b, 0.95, DRAWS, seed);
    let above = pairs.iter().filter(|(x, y)| x > y).count();
    let below = pairs.iter().filter(|(x, y)| x < y).count();
    let (wins, losses) = if higher_is_better { (above, below) } else { (below, above) };
    Some(Difference {
        mean: interval.mean,
        lower: interval.lower,
        upper: interval.upper,
        n: pairs.len(),
        wins,
        losses,
        ties: pairs.len() - above - below,
    })
}

/// Mean of the present values of a measure over series; `None` when none is present.
pub fn mean_present(values: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    let kept: Vec<f64> = values.into_iter().flatten().filter(|v| v.is_finite()).collect();
    (!kept.is_empty()).then(|| mean(&kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_signs() {
        let ours = [0.5, 0.4, 0.3, f64::NAN, 0.2];
        let theirs = [0.1, 0.4, 0.4, 0.5, 0.1];
        let d = paired_difference(&ours, &theirs, true, Seed(1)).expect("pairs");
        assert_eq!((d.n, d.wins, d.losses, d.ties), (4, 2, 1, 1));
        assert!((d.mean - 0.1).abs() < 1e-12 && d.lower <= d.mean && d.mean <= d.upper);
        let low = paired_difference(&ours, &theirs, false, Seed(1)).expect("pairs");
        assert_eq!((low.wins, low.losses, low.mean), (1, 2, d.mean));
        assert!(paired_difference(&[f64::NAN], &[1.0], true, Seed(1)).is_none());
        assert_eq!(mean_present([Some(1.0), None, Some(3.0)]), Some(2.0));
        assert_eq!(mean_present([None]), None);
    }
}
