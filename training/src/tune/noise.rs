//! What repeats say about the noise of a measurement.

use foreglow_core::stats::mean;

/// The most degrees of freedom with which earlier trials speak about the noise of a new one.
const PRIOR: f64 = 8.0;
/// Repeats of earlier trials that must be known before a trial is cut short, as degrees of freedom.
const LEAST: f64 = 4.0;
/// How many standard deviations of the difference are clear.
const CLEAR: f64 = 3.0;

/// The spread of repeats of one configuration, learned over all trials.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Noise {
    /// Whether the spread is a share of the level: so where all values have one sign.
    relative: bool,
    /// Variance of one run (relative or not).
    variance: f64,
    /// How many independent differences it rests on.
    freedom: f64,
}

impl Noise {
    /// From the runs of each trial.
    pub(crate) fn of<'a>(trials: &(impl Iterator<Item = &'a [f64]> + Clone)) -> Self {
        let all = || trials.clone().flatten().copied();
        let relative = all().all(|v| v > 0.0) || all().all(|v| v < 0.0);
        let (mut squares, mut freedom) = (0.0, 0.0);
        for runs in trials.clone().filter(|r| r.len() > 1) {
            let m = mean(runs);
            let scale = if relative { m } else { 1.0 };
            squares += runs.iter().map(|v| ((v - m) / scale).powi(2)).sum::<f64>();
            freedom += runs.len() as f64 - 1.0;
        }
        Self { relative, variance: if freedom > 0.0 { squares / freedom } else { 0.0 }, freedom }
    }

    /// The variance of one run at a level.
    fn at(&self, level: f64) -> f64 {
        self.variance * if self.relative { level * level } else { 1.0 }
    }

    /// The mean of a trial's runs and its standard error.
    ///
    /// Two or three runs know their own spread badly: by luck it may be nothing, and then the trial would be believed
    /// without reason. It is therefore weighed with the spread of earlier trials, by degrees of freedom (Smyth 2004,
    /// doi:10.2202/1544-6115.1027). `None` for a single run of which nothing is known.
    pub(crate) fn mean_error(&self, runs: &[f64]) -> (f64, Option<f64>) {
        let m = mean(runs);
        let own = runs.iter().map(|v| (v - m).powi(2)).sum::<f64>();
        let (prior, n) = (self.freedom.min(PRIOR), runs.len() as f64);
        let freedom = prior + n - 1.0;
        let se = (freedom > 0.0).then(|| ((prior * self.at(m) + own) / freedom / n).sqrt());
        (m, se)
    }

    /// Whether `runs` are so much worse than the best trial's that more of them would not make this trial the best.
    /// `sign` is 1 where small is good.
    pub(crate) fn clearly_worse(&self, runs: &[f64], best: &[f64], sign: f64) -> bool {
        if self.freedom < LEAST || runs.is_empty() || best.is_empty() {
            return false;
        }
        let (here, there) = (mean(runs), mean(best));
        let variance = self.at(here) / runs.len() as f64 + self.at(there) / best.len() as f64;
        sign * (here - there) > CLEAR * variance.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_shared_between_trials() {
        let trials: [&[f64]; 4] = [&[99.0, 101.0], &[202.0, 198.0], &[50.0, 50.0], &[400.0]];
        let noise = Noise::of(&trials.iter().copied());
        assert!(noise.relative && noise.freedom == 3.0);
        let (m, se) = noise.mean_error(&[50.0, 50.0]);
        assert!(m == 50.0 && se.unwrap() > 0.1, "no luck is believed: {se:?}");
        assert!(noise.mean_error(&[100.0]).1.unwrap() > 0.5, "one run is worth what others say");
        assert!(!noise.clearly_worse(&[900.0], &[50.0], 1.0), "three differences are too few");
        let none = Noise::of(&[&[3.0][..]].into_iter());
        assert_eq!(none.mean_error(&[3.0]), (3.0, None));
        assert!(!Noise::of(&[&[-1.0, 1.0][..]].into_iter()).relative);
    }

    #[test]
    fn hopeless_is_three_deviations_away() {
        let trials = vec![vec![100.0, 102.0, 98.0]; 4];
        let noise = Noise::of(&trials.iter().map(Vec::as_slice));
        let best = &trials[0];
        assert!(noise.clearly_worse(&[120.0], best, 1.0) && noise.clearly_worse(&[80.0], best, -1.0));
        assert!(!noise.clearly_worse(&[103.0], best, 1.0) && !noise.clearly_worse(&[80.0], best, 1.0));
    }
}
