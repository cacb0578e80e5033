use super::judgement::{Attempt, Judgement, NetRows, Trial};
use super::local::{Estimate, Local, NET_SLOT};
use super::past::{Past, View};
use super::seasonality::Seasonality;

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
    /// Whether members are estimated anew at each origin.
    pub(super) anew: bool,
    /// Seasons that were tested before, and whether they are there; others are tested when they are measured.
    pub(super) tested: Vec<(usize, bool)>,
}

/// The seasons of one stretch, measured once for all members.
struct Measured(Vec<(usize, Seasonality)>);

impl Measured {
    fn new(locals: &[Local], past: View<'_>, tested: &[(usize, bool)]) -> Self {
        let mut all: Vec<(usize, Seasonality)> = Vec::new();
        for l in locals.iter().filter(|l| l.wants_indices()) {
            if !all.iter().any(|(m, _)| *m == l.season) {
                let known = tested.iter().find(|(m, _)| *m == l.season).map(|(_, there)| *there);
                let season = match known {
                    Some(true) => Seasonality::indices_of(past.filled, l.season),
                    Some(false) => Seasonality::absent(),
                    None => Seasonality::measure(past.filled, l.season),
                };
                all.push((l.season, season));
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

    /// The seasons that members want measured, and whether they are there.
    pub(super) fn test(&self, past: View<'_>) -> Vec<(usize, bool)> {
        let mut all: Vec<(usize, bool)> = Vec::new();
        for l in self.locals.iter().filter(|l| l.wants_indices()) {
            if !all.iter().any(|(m, _)| *m == l.season) {
                all.push((l.season, Seasonality::is_there(past.filled, l.season)));
            }
        }
        all
    }

    /// Estimates of every local member on `past` for forecasts of `horizon` steps; those that `wanted` leaves out are not
    /// computed.
    pub(super) fn estimate(
        &self,
        past: View<'_>,
        horizon: usize,
        wanted: impl Fn(usize) -> bool,
    ) -> Vec<Option<Estimate>> {
        let absent = Seasonality::absent();
        let measured = Measured::new(&self.locals, past, &self.tested);
        (self.locals.iter().enumerate())
            .map(|(i, l)| if wanted(i) { l.estimate(past, &measured.of(l, &absent), horizon) } else { None })
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
        let measured = Measured::new(&used, view, &self.tested);
        let locals = (self.locals.iter().zip(estimates))
            .map(|(l, e)| l.points(e.as_ref()?, view, &measured.of(l, &absent), horizon))
            .collect();
        let mut net = self.net.as_ref().filter(|_| with_net).map(|n| (n.forecast)(cut, horizon));
        let (low, high) = view.range();
        let room = high - low;
        for v in net.iter_mut().flatten().flatten() {
            *v = v.clamp(low - room, high + room);
        }
        Attempt { locals, net }
    }

    /// Tries every member over rolling origins at the end of `past`.
    ///
    /// Local members are estimated once, on what lies before the first origin, and only carried forward from origin to
    /// origin unless they are to be estimated anew: every forecast is made from what was known then. The net takes part from the origins whose future it was
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
        let mut estimates = self.estimate(past.until(first), span, |_| true);
        let trials = (cuts.into_iter())
            .map(|cut| {
                let steps = span.min(n - cut);
                if self.anew && cut > first {
                    estimates = self.estimate(past.until(cut), span, |_| true);
                }
                let attempt = self.attempt(past, cut, steps, &estimates, cut >= honest_from);
                Trial { attempt, actual: past.raw()[cut..cut + steps].to_vec() }
            })
            .collect();
        let (low, high) = past.until(n).range();
        Some(Judgement { trials, span, slots: self.slots(), floor: 1e-3 * (high - low) })
    }
}
