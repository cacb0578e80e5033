use super::calibrate::{Scores, buckets};
use super::combine::combine;
use super::local::NET_SLOT;
use super::quantiles::{LEVELS, MEDIAN};
use super::stack::refine;
use super::weights::{Evidence, Prior, Weights};

/// Parts that origins are divided into, to judge a combination at those it was not made from.
const FOLDS: usize = 4;
/// Origins after which one counts half: the newest say most of what comes next.
const HALF_LIFE: f64 = 8.0;

/// Quantiles of the net in scaled units, one row a step ahead.
pub(super) type NetRows = Vec<[f64; LEVELS]>;

/// Forecasts of every member from one origin.
pub(super) struct Attempt {
    /// Median and standard deviation of each local member; absent where it had nothing to say.
    pub(super) locals: Vec<Option<(Vec<f64>, Vec<f64>)>>,
    pub(super) net: Option<NetRows>,
}

/// One rolling origin: what every member said, and what followed.
pub(super) struct Trial {
    pub(super) attempt: Attempt,
    /// NaN = missing. Shorter than the forecast where the history ends.
    pub(super) actual: Vec<f64>,
}

/// What the rolling origins say of a series.
pub(super) struct Judgement {
    /// In order of time.
    pub(super) trials: Vec<Trial>,
    /// Steps ahead that were tried.
    pub(super) span: usize,
    /// Places of the members in a prior, in order.
    pub(super) slots: Vec<usize>,
    /// The least width that a band is measured in.
    pub(super) floor: f64,
}

impl Judgement {
    /// What each origin counts as, 0 where `kept` leaves it out: the newest one, one that is [`HALF_LIFE`] older half.
    fn shares(&self, kept: impl Fn(usize) -> bool) -> Vec<f64> {
        let n = self.trials.len();
        let share = |i: usize| libm::exp2(-((n - 1 - i) as f64) / HALF_LIFE);
        (0..n).map(|i| if kept(i) { share(i) } else { 0.0 }).collect()
    }

    /// How each member did at the origins, counted by their shares.
    fn evidence(&self, shares: &[f64]) -> Evidence {
        let mut evidence = Evidence::new(self.slots.len(), buckets(self.span));
        for (t, share) in self.trials.iter().zip(shares).filter(|(_, s)| **s > 0.0) {
            let mut push = |member: usize, median: &dyn Fn(usize) -> f64| {
                let errors: Vec<f64> = t.actual.iter().enumerate().map(|(k, y)| (y - median(k)).abs()).collect();
                evidence.push(member, &errors, *share, t.attempt.net.is_some());
            };
            for (i, l) in t.attempt.locals.iter().enumerate() {
                if let Some((median, _)) = l {
                    push(i, &|k| median[k]);
                }
            }
            if let Some(rows) = &t.attempt.net {
                push(t.attempt.locals.len(), &|k| rows[k][MEDIAN]);
            }
        }
        evidence
    }

    /// Mean relative error of each member by bucket, with its place in a prior.
    pub(super) fn relative(&self) -> Vec<(usize, Vec<f64>)> {
        let net = self.slots.last() == Some(&NET_SLOT);
        self.slots.iter().copied().zip(self.evidence(&self.shares(|_| true)).relative(net)).collect()
    }

    /// The weights that all origins together speak for.
    pub(super) fn weights(&self, prior: &Prior) -> Weights {
        self.weights_by(prior, |_| true)
    }

    fn weights_by(&self, prior: &Prior, kept: impl Fn(usize) -> bool) -> Weights {
        let shares = self.shares(kept);
        let mut weights = Weights::choose(&self.evidence(&shares), prior, &self.slots);
        let trials: Vec<(&Trial, f64)> = self.trials.iter().zip(shares).filter(|(_, share)| *share > 0.0).collect();
        refine(&mut weights, &trials);
        weights
    }

    /// How the combination would have done, by bucket of steps: every origin is forecast with weights that it had no part
    /// in, or the bands would be as narrow as weights fitted to the answers make them look (cross-conformal, Vovk 2015,
    /// doi:10.1007/s10472-013-9368-4).
    pub(super) fn scores(&self, prior: &Prior) -> Scores {
        let n = self.trials.len();
        let folds = FOLDS.min(n);
        let fold = |i: usize| i * folds / n;
        let mut scores = Scores::default();
        for f in 0..folds {
            let weights = self.weights_by(prior, |i| folds == 1 || fold(i) != f);
            for (_, t) in self.trials.iter().enumerate().filter(|(i, _)| fold(*i) == f) {
                if let Some(c) = combine(&t.attempt, &weights, t.actual.len()) {
                    scores.push(&c, &t.actual, self.floor);
                }
            }
        }
        scores
    }

    /// The least width that a band is measured in.
    pub(super) fn floor(&self) -> f64 {
        self.floor
    }
}
