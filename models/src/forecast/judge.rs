use super::calibrate::{Scores, buckets};
use super::combine::combine;
use super::local::{Estimate, Local, NET_SLOT};
use super::past::{Past, View};
use super::quantiles::{LEVELS, MEDIAN};
use super::seasonality::Seasonality;
use super::weights::{Evidence, Weights};

/// Quantiles of the net in scaled units, one row a step ahead.
pub(super) type NetRows = Vec<[f64; LEVELS]>;

/// The net as a member: what it forecasts behind the first `cut` values, and from which cut on it had not seen what
/// followed when it was trained.
pub(super) struct NetMember<'a> {
    pub(super) forecast: &'a dyn Fn(usize, usize) -> NetRows,
    pub(super) honest_from: usize,
}

/// The members that are tried on one series.
pub(super) struct Company<'a> {
    pub(super) locals: Vec<Local>,
    pub(super) net: Option<NetMember<'a>>,
    /// Rolling origins.
    pub(super) origins: usize,
}

/// Forecasts of every member from one origin.
pub(super) struct Attempt {
    /// Median and standard deviation of each local member; absent where it had nothing to say.
    pub(super) locals: Vec<Option<(Vec<f64>, Vec<f64>)>>,
    pub(super) net: Option<NetRows>,
}

/// What the rolling origins say of a series.
pub(super) struct Judgement {
    /// How each member did; the net's place is the last.
    pub(super) evidence: Evidence,
    /// Origins with what followed, for the calibration of the combination.
    trials: Vec<(Attempt, Vec<f64>)>,
    /// The least width that a band is measured in.
    floor: f64,
}

/// The seasons of one stretch, measured once for all members.
struct Measured(Vec<(usize, Seasonality)>);

impl Measured {
    fn new(locals: &[Local], past: View<'_>) -> Self {
        let mut all: Vec<(usize, Seasonality)> = Vec::new();
        for l in locals.iter().filter(|l| l.wants_indices()) {
            if !all.iter().any(|(m, _)| *m == l.season) {
                all.push((l.season, Seasonality::measure(past.filled, l.season)));
            }
        }
        Self(all)
    }

    fn of(&self, local: &Local, absent: &Seasonality) -> Seasonality {
        self.0.iter().find(|(m, _)| *m == local.season).map_or_else(|| absent.clone(), |(_, s)| s.clone())
    }
}

impl Company<'_> {
    /// Places of the members in a prior, in order.
    pub(super) fn slots(&self) -> Vec<usize> {
        self.locals.iter().map(Local::slot).chain(self.net.as_ref().map(|_| NET_SLOT)).collect()
    }

    /// How many members, the net included.
    pub(super) fn len(&self) -> usize {
        self.locals.len() + usize::from(self.net.is_some())
    }

    /// Estimates of every local member on `past`; those that `wanted` leaves out are not computed.
    pub(super) fn estimate(&self, past: View<'_>, wanted: impl Fn(usize) -> bool) -> Vec<Option<Estimate>> {
        let absent = Seasonality::absent();
        let measured = Measured::new(&self.locals, past);
        (self.locals.iter().enumerate())
            .map(|(i, l)| if wanted(i) { l.estimate(past, &measured.of(l, &absent)) } else { None })
            .collect()
    }

    /// Forecasts of `horizon` steps behind the first `cut` values by every member with an estimate, and the net if
    /// `with_net`.
    pub(super) fn attempt(
        &self,
        past: &Past,
        cut: usize,
        horizon: usize,
        estimates: &[Option<Estimate>],
        with_net: bool,
    ) -> Attempt {
        let view = past.until(cut);
        let absent = Seasonality::absent();
        let used: Vec<Local> =
            self.locals.iter().zip(estimates).filter(|(_, e)| e.is_some()).map(|(l, _)| *l).collect();
        let measured = Measured::new(&used, view);
        let locals = (self.locals.iter().zip(estimates))
            .map(|(l, e)| l.points(e.as_ref()?, view, &measured.of(l, &absent), horizon))
            .collect();
        let net = self.net.as_ref().filter(|_| with_net).map(|n| (n.forecast)(cut, horizon));
        Attempt { locals, net }
    }

    /// Tries every member over rolling origins at the end of `past`.
    ///
    /// Local members are estimated once, on what lies before the first origin, and only carried forward from origin to
    /// origin: every forecast is made from what was known then. The net takes part from the origins whose future it was
    /// not trained on. `None` when there is no room for an origin.
    pub(super) fn judge(&self, past: &Past, horizon: usize) -> Option<Judgement> {
        let n = past.len();
        let span = horizon.clamp(1, (n / 4).max(1));
        // Origins stand one horizon apart where there is room, closer otherwise.
        let room = (n / 2).saturating_sub(span);
        let stride = if self.origins > 1 { (room / (self.origins - 1)).clamp(1, span) } else { 1 };
        let cuts: Vec<usize> =
            (0..self.origins).rev().filter_map(|o| n.checked_sub(span + o * stride)).filter(|c| *c >= 4).collect();
        let first = *cuts.first()?;
        let estimates = self.estimate(past.until(first), |_| true);
        let mut evidence = Evidence::new(self.len(), buckets(span));
        let mut trials = Vec::with_capacity(cuts.len());
        for cut in cuts {
            let honest = self.net.as_ref().is_some_and(|n| cut >= n.honest_from);
            let attempt = self.attempt(past, cut, span, &estimates, honest);
            let actual = past.raw()[cut..cut + span].to_vec();
            let errors = |median: &dyn Fn(usize) -> f64| -> Vec<f64> {
                actual.iter().enumerate().map(|(k, y)| (y - median(k)).abs()).collect()
            };
            for (i, l) in attempt.locals.iter().enumerate() {
                if let Some((median, _)) = l {
                    evidence.push(i, &errors(&|k| median[k]), honest);
                }
            }
            if let Some(rows) = &attempt.net {
                evidence.push(self.locals.len(), &errors(&|k| rows[k][MEDIAN]), true);
            }
            trials.push((attempt, actual));
        }
        let (low, high) = past.until(n).range();
        Some(Judgement { evidence, trials, floor: 1e-3 * (high - low) })
    }
}

impl Judgement {
    /// How the combination with these weights would have done: its scores, by bucket of steps.
    pub(super) fn scores(&self, weights: &Weights) -> Scores {
        let mut scores = Scores::default();
        for (attempt, actual) in &self.trials {
            if let Some(c) = combine(attempt, weights, actual.len()) {
                scores.push(&c, actual, self.floor);
            }
        }
        scores
    }

    /// The least width that a band is measured in.
    pub(super) fn floor(&self) -> f64 {
        self.floor
    }
}
