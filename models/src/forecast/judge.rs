use super::calibrate::{Scores, buckets};
use super::combine::combine;
use super::local::{Estimate, Local, NET_SLOT};
use super::past::{Past, View};
use super::quantiles::{LEVELS, MEDIAN};
use super::seasonality::Seasonality;
use super::stack::refine;
use super::weights::{Evidence, Prior, Weights};

/// Parts that origins are divided into, to judge a combination at those it was not made from.
const FOLDS: usize = 4;

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

/// One rolling origin: what every member said, and what followed.
pub(super) struct Trial {
    pub(super) attempt: Attempt,
    /// NaN = missing. Shorter than the forecast where the history ends.
    pub(super) actual: Vec<f64>,
}

/// What the rolling origins say of a series.
pub(super) struct Judgement {
    /// In order of time.
    trials: Vec<Trial>,
    /// Steps ahead that were tried.
    span: usize,
    /// Places of the members in a prior, in order.
    slots: Vec<usize>,
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
    fn slots(&self) -> Vec<usize> {
        self.locals.iter().map(Local::slot).chain(self.net.as_ref().map(|_| NET_SLOT)).collect()
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
    /// not trained on; where there is none of them, one more origin stands where the net's knowledge ends, with as many
    /// steps as there are. `None` when there is no room for an origin.
    pub(super) fn judge(&self, past: &Past, horizon: usize) -> Option<Judgement> {
        let n = past.len();
        let span = horizon.clamp(1, (n / 4).max(1));
        // Origins stand one horizon apart where there is room, closer otherwise.
        let room = (n / 2).saturating_sub(span);
        let stride = if self.origins > 1 { (room / (self.origins - 1)).clamp(1, span) } else { 1 };
        let mut cuts: Vec<usize> =
            (0..self.origins).rev().filter_map(|o| n.checked_sub(span + o * stride)).filter(|c| *c >= 4).collect();
        let honest_from = self.net.as_ref().map_or(n, |net| net.honest_from);
        let last = *cuts.last()?;
        if honest_from > last && honest_from < n {
            cuts.push(honest_from);
        }
        let first = *cuts.first()?;
        let estimates = self.estimate(past.until(first), |_| true);
        let trials = (cuts.into_iter())
            .map(|cut| {
                let steps = span.min(n - cut);
                let attempt = self.attempt(past, cut, steps, &estimates, cut >= honest_from);
                Trial { attempt, actual: past.raw()[cut..cut + steps].to_vec() }
            })
            .collect();
        let (low, high) = past.until(n).range();
        Some(Judgement { trials, span, slots: self.slots(), floor: 1e-3 * (high - low) })
    }
}

impl Judgement {
    /// How each member did at the origins that `kept` names.
    fn evidence(&self, kept: impl Fn(usize) -> bool) -> Evidence {
        let mut evidence = Evidence::new(self.slots.len(), buckets(self.span));
        for (_, t) in self.trials.iter().enumerate().filter(|(i, _)| kept(*i)) {
            let mut push = |member: usize, median: &dyn Fn(usize) -> f64| {
                let errors: Vec<f64> = t.actual.iter().enumerate().map(|(k, y)| (y - median(k)).abs()).collect();
                evidence.push(member, &errors, t.attempt.net.is_some());
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
        self.slots.iter().copied().zip(self.evidence(|_| true).relative(net)).collect()
    }

    /// The weights that all origins together speak for.
    pub(super) fn weights(&self, prior: &Prior) -> Weights {
        self.weights_by(prior, |_| true)
    }

    fn weights_by(&self, prior: &Prior, kept: impl Fn(usize) -> bool) -> Weights {
        let mut weights = Weights::choose(&self.evidence(&kept), prior, &self.slots);
        let trials: Vec<&Trial> = self.trials.iter().enumerate().filter(|(i, _)| kept(*i)).map(|(_, t)| t).collect();
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
