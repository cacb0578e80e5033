//! What of a process's learned noise is chance, and what belongs to a configuration and stays.

/// How many repeats the assumption that half of the noise is chance counts for.
const PRIOR_REPEATS: f64 = 1.0;
/// The share of the learned noise that always may be roughness: few repeats agree or disagree by luck.
const LEAST_ROUGH: f64 = 0.05;

/// Variances on a process's own scale.
///
/// A process learns as one noise both the error of a measurement, which another measurement does not share, and the
/// roughness of the function, which it does. Without repeats nothing tells them apart: half is the mean of a uniform prior.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct NoiseSplit {
    /// Variance of a measurement about its configuration's level.
    pub(crate) chance: f64,
    /// Variance of a configuration's level about the smooth function.
    pub(crate) rough: f64,
}

impl NoiseSplit {
    /// The split of the variance `learned`, given the measurements of each configuration.
    pub(crate) fn of<'a>(learned: f64, configurations: impl Iterator<Item = &'a [f64]>) -> Self {
        let (mut squares, mut freedom) = (0.0, 0.0);
        for repeats in configurations.filter(|r| r.len() > 1) {
            let mean = repeats.iter().sum::<f64>() / repeats.len() as f64;
            squares += repeats.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>();
            freedom += repeats.len() as f64 - 1.0;
        }
        // The very same value twice: what is measured does not vary.
        let chance = if freedom > 0.0 && squares == 0.0 {
            0.0
        } else {
            (PRIOR_REPEATS * 0.5 * learned + squares) / (PRIOR_REPEATS + freedom)
        };
        Self { chance, rough: (learned - chance).max(LEAST_ROUGH * learned) }
    }

    /// The level of a configuration and its variance: `smooth` are mean and variance of the smooth function there, `mean` is
    /// the mean of `n` measurements whose declared errors have the mean variance `known`.
    ///
    /// The residual of the mean is roughness and error in proportion to their variances.
    pub(crate) fn level(&self, smooth: (f64, f64), mean: f64, n: f64, known: f64) -> (f64, f64) {
        let error = (self.chance + known) / n;
        if !mean.is_finite() {
            return smooth;
        }
        if error == 0.0 {
            return (mean, 0.0);
        }
        let chance = error / (self.rough + error);
        (smooth.0 + (1.0 - chance) * (mean - smooth.0), chance * chance * smooth.1 + self.rough * chance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_tell_error_from_roughness() {
        let none = NoiseSplit::of(0.4, [[1.0].as_slice()].into_iter());
        assert_eq!(none, NoiseSplit { chance: 0.2, rough: 0.2 });
        let same = NoiseSplit::of(0.4, [[1.0, 1.0].as_slice(), &[3.0]].into_iter());
        assert_eq!(same, NoiseSplit { chance: 0.0, rough: 0.4 });
        let apart: Vec<[f64; 2]> = (0..40).map(|i| [f64::from(i), f64::from(i) + 0.894]).collect();
        let all = NoiseSplit::of(0.4, apart.iter().map(<[f64; 2]>::as_slice));
        assert!((all.chance - 0.4).abs() < 0.01 && (all.rough - 0.02).abs() < 1e-9, "{all:?}");
    }

    #[test]
    fn a_level_lies_between_the_smooth_function_and_the_measurements() {
        let split = NoiseSplit { chance: 0.2, rough: 0.2 };
        let (level, variance) = split.level((0.0, 0.0), 1.0, 1.0, 0.0);
        assert!((level - 0.5).abs() < 1e-12 && (variance - 0.1).abs() < 1e-12);
        let (level, variance) = split.level((0.0, 0.3), 1.0, 4.0, 0.0);
        assert!((level - 0.8).abs() < 1e-12 && (variance - (0.04 * 0.3 + 0.2 * 0.2)).abs() < 1e-12);
        assert_eq!(NoiseSplit { chance: 0.0, rough: 0.4 }.level((0.0, 0.3), 1.0, 1.0, 0.0), (1.0, 0.0));
        assert_eq!(split.level((0.5, 0.3), f64::NAN, 1.0, 0.0), (0.5, 0.3));
    }
}
