use super::summary::{mean, quantile_sorted, std_dev};
use crate::Seed;
use rand::Rng;
use serde::{Deserialize, Serialize};

/// An estimate with a two-sided interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The estimate itself.
    pub mean: f64,
    /// Lower end.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
    /// Values behind it.
    pub n: usize,
}

/// A mean with its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MeanError {
    /// The mean of the blocks.
    pub mean: f64,
    /// Its standard error.
    pub std_error: f64,
    /// Blocks behind it.
    pub blocks: usize,
}

/// Percentile bootstrap interval of the mean at `level` (0.95 for 95 %) from `draws` resamples (Efron 1979,
/// doi:10.1214/aos/1176344552).
///
/// Missing values are left out. With none left everything is `NaN`; with one the interval is that point. The same seed
/// gives the same bytes. O(n draws).
pub fn bootstrap_mean(values: &[f64], level: f64, draws: usize, seed: Seed) -> Interval {
    let kept: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
    let n = kept.len();
    let centre = mean(&kept);
    if n < 2 || draws == 0 {
        return Interval { mean: centre, lower: centre, upper: centre, n };
    }
    let mut rng = seed.rng();
    let mut means: Vec<f64> =
        (0..draws).map(|_| (0..n).map(|_| kept[rng.gen_range(0..n)]).sum::<f64>() / n as f64).collect();
    means.sort_unstable_by(f64::total_cmp);
    let out = (1.0 - level.clamp(0.0, 1.0)) / 2.0;
    Interval { mean: centre, lower: quantile_sorted(&means, out), upper: quantile_sorted(&means, 1.0 - out), n }
}

/// [`bootstrap_mean`] of the differences `a - b` of pairs, so that what both share (an easy or hard series) cancels.
pub fn paired_bootstrap(a: &[f64], b: &[f64], level: f64, draws: usize, seed: Seed) -> Interval {
    let differences: Vec<f64> = a.iter().zip(b).map(|(x, y)| x - y).collect();
    bootstrap_mean(&differences, level, draws, seed)
}

/// Means of consecutive blocks of `length` values; a rest shorter than that is dropped, a block without a present value
/// too. A `length` of 0 counts as 1.
pub fn block_means(values: &[f64], length: usize) -> Vec<f64> {
    values.chunks_exact(length.max(1)).map(mean).filter(|m| !m.is_nan()).collect()
}

/// Mean of a dependent series with the standard error of its block means (method of batch means): with blocks of
/// several autocorrelation times the blocks are nearly independent.
///
/// `None` below two blocks.
pub fn blocked_mean(values: &[f64], length: usize) -> Option<MeanError> {
    let blocks = block_means(values, length);
    if blocks.len() < 2 {
        return None;
    }
    let n = blocks.len();
    Some(MeanError { mean: mean(&blocks), std_error: std_dev(&blocks) / (n as f64).sqrt(), blocks: n })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::Rng;

    #[test]
    fn covers_as_promised() {
        // Uniform samples of 40, true mean 0.5: a 90 % interval should hold in about 90 % of 400 trials.
        let mut rng = Seed(5).rng();
        let mut held = 0;
        for trial in 0..400 {
            let x: Vec<f64> = (0..40).map(|_| rng.r#gen::<f64>()).collect();
            let i = bootstrap_mean(&x, 0.9, 300, Seed(9).nth(trial));
            held += usize::from(i.lower <= 0.5 && 0.5 <= i.upper);
        }
        assert!((330..=385).contains(&held), "{held}");
    }

    #[test]
    fn blocks() {
        let b = blocked_mean(&[1.0, 3.0, 5.0, 7.0, 100.0], 2).expect("two blocks");
        assert_eq!(b, MeanError { mean: 4.0, std_error: 2.0, blocks: 2 });
        assert!(blocked_mean(&[1.0, 2.0, 3.0], 2).is_none());
        assert_eq!(block_means(&[f64::NAN, f64::NAN, 1.0, f64::NAN], 2), [1.0]);
    }

    #[test]
    fn small_samples() {
        assert!(bootstrap_mean(&[], 0.95, 100, Seed(1)).mean.is_nan());
        let one = bootstrap_mean(&[2.0, f64::NAN], 0.95, 100, Seed(1));
        assert_eq!((one.mean, one.lower, one.upper, one.n), (2.0, 2.0, 2.0, 1));
    }

    proptest! {
        #[test]
        fn pairing_cancels_what_is_shared(x in prop::collection::vec(-100.0f64..100.0, 2..30), shift in -5.0f64..5.0) {
            let y: Vec<f64> = x.iter().map(|v| v + shift).collect();
            let i = paired_bootstrap(&y, &x, 0.95, 50, Seed(2));
            prop_assert!((i.lower - shift).abs() < 1e-9 && (i.upper - shift).abs() < 1e-9);
            prop_assert_eq!(i, paired_bootstrap(&y, &x, 0.95, 50, Seed(2)));
        }
    }
}
