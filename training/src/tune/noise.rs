//! What repeats say about the noise of a measurement.

use foreglow_core::stats::mean;
use std::collections::BTreeMap;

/// The most degrees of freedom with which earlier trials speak about the noise of a new one.
const PRIOR: f64 = 8.0;
/// Repeats of earlier trials that must be known before a trial is cut short, as degrees of freedom.
const LEAST: f64 = 4.0;
/// How many standard deviations of the difference are clear.
const CLEAR: f64 = 3.0;
/// While nobody knows how much a configuration moves from one trial to another, what is less than this share worse is not
/// hopeless: runs in a row agree with one another better than with those of an hour ago.
const UNKNOWN_DRIFT: f64 = 0.2;

/// The spread of repeats of one configuration, learned over all trials.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Noise {
    /// Whether the spread is a share of the level: so where all values have one sign.
    relative: bool,
    /// Variance of one run (relative or not).
    variance: f64,
    /// How many independent differences it rests on.
    freedom: f64,
    /// Variance between trials of one configuration, beyond that of their runs; `None` before one was measured again.
    between: Option<f64>,
}

impl Noise {
    /// From the runs of each trial, each with what tells its configuration from others.
    pub(crate) fn of<'a>(trials: &[(String, &'a [f64])]) -> Self {
        let all = || trials.iter().flat_map(|t| t.1).copied();
        let relative = all().all(|v| v > 0.0) || all().all(|v| v < 0.0);
        // Squares around the mean, and how many differences they are.
        let spread = |values: &[f64]| {
            let m = mean(values);
            let scale = if relative { m } else { 1.0 };
            (values.iter().map(|v| ((v - m) / scale).powi(2)).sum::<f64>(), values.len() as f64 - 1.0)
        };
        let (mut squares, mut freedom) = (0.0, 0.0);
        let mut again: BTreeMap<&str, Vec<&'a [f64]>> = BTreeMap::new();
        for (configuration, runs) in trials.iter().filter(|t| !t.1.is_empty()) {
            let (s, f) = spread(runs);
            squares += s;
            freedom += f;
            again.entry(configuration).or_default().push(runs);
        }
        let variance = if freedom > 0.0 { squares / freedom } else { 0.0 };
        let (mut squares, mut differences, mut explained) = (0.0, 0.0, 0.0);
        for trials in again.values().filter(|t| t.len() > 1) {
            let means: Vec<f64> = trials.iter().map(|r| mean(r)).collect();
            let (s, f) = spread(&means);
            squares += s;
            differences += f;
            explained += f * trials.iter().map(|r| variance / r.len() as f64).sum::<f64>() / trials.len() as f64;
        }
        let between = (differences > 0.0).then(|| ((squares - explained) / differences).max(0.0));
        Self { relative, variance, freedom, between }
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

    /// The relative standard deviation of the difference between two configurations of `repeats` runs each; `None` where it
    /// is no share of the level, or is not known: runs in a row do not tell how much a configuration moves by itself.
    pub(crate) fn of_difference(&self, repeats: usize) -> Option<f64> {
        let one = self.variance / repeats as f64 + self.between?;
        self.relative.then(|| (2.0 * one).sqrt())
    }

    /// Whether `runs` are so much worse than the best trial's that more of them would not make this trial the best.
    /// `sign` is 1 where small is good.
    pub(crate) fn clearly_worse(&self, runs: &[f64], best: &[f64], sign: f64) -> bool {
        if self.freedom < LEAST || runs.is_empty() || best.is_empty() {
            return false;
        }
        let (here, there) = (mean(runs), mean(best));
        let mut variance = self.at(here) / runs.len() as f64 + self.at(there) / best.len() as f64;
        let scale = |level: f64| if self.relative { level * level } else { 1.0 };
        variance += self.between.unwrap_or(0.0) * (scale(here) + scale(there));
        let least = if self.between.is_none() { UNKNOWN_DRIFT * there.abs() } else { 0.0 };
        sign * (here - there) > (CLEAR * variance.sqrt()).max(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Trials of different configurations.
    fn noise(trials: &[&[f64]]) -> Noise {
        Noise::of(&trials.iter().enumerate().map(|(i, r)| (i.to_string(), *r)).collect::<Vec<_>>())
    }

    #[test]
    fn spread_is_shared_between_trials() {
        let noise3 = noise(&[&[99.0, 101.0], &[202.0, 198.0], &[50.0, 50.0], &[400.0]]);
        assert!(noise3.relative && noise3.freedom == 3.0);
        let (m, se) = noise3.mean_error(&[50.0, 50.0]);
        assert!(m == 50.0 && se.unwrap() > 0.1, "no luck is believed: {se:?}");
        assert!(noise3.mean_error(&[100.0]).1.unwrap() > 0.5, "one run is worth what others say");
        assert!(!noise3.clearly_worse(&[900.0], &[50.0], 1.0), "three differences are too few");
        assert_eq!(noise(&[&[3.0]]).mean_error(&[3.0]), (3.0, None));
        assert_eq!(noise(&[]).mean_error(&[3.0]), (3.0, None));
        assert!(!noise(&[&[-1.0, 1.0]]).relative);
    }

    #[test]
    fn hopeless_is_three_deviations_away() {
        let best = [100.0, 102.0, 98.0];
        let known = noise(&[best.as_slice(); 4]);
        assert!(known.clearly_worse(&[130.0], &best, 1.0) && known.clearly_worse(&[70.0], &best, -1.0));
        assert!(!known.clearly_worse(&[115.0], &best, 1.0), "drift may do as much");
        assert!(!known.clearly_worse(&[103.0], &best, 1.0) && !known.clearly_worse(&[70.0], &best, 1.0));
    }

    #[test]
    fn what_moves_by_itself_is_not_hopeless() {
        let (calm, busy): ([f64; 3], [f64; 3]) = ([100.0, 102.0, 98.0], [150.0, 153.0, 147.0]);
        let key = |same: bool, i: usize| if same { "now".to_owned() } else { i.to_string() };
        let of = |trials: &[[f64; 3]]| {
            Noise::of(&trials.iter().enumerate().map(|(i, r)| (key(i != 1, i), r.as_slice())).collect::<Vec<_>>())
        };
        let steady = of(&[calm, busy, calm]);
        assert!(steady.between.unwrap() < 1e-9 && steady.clearly_worse(&[110.0], &calm, 1.0));
        let drifting = of(&[calm, calm, busy]);
        assert!(drifting.between.unwrap() > 0.05 && !drifting.clearly_worse(&[160.0], &calm, 1.0));
    }
}
