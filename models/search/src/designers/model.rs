//! The model behind [`super::Bayes`]: losses drawn in, context, other environments, constraints.

use super::repeats::Tried;
use super::{Ask, Proposal, transfer};
use crate::acquisition::{Acquisition, Constraint};
use crate::context::ContextScale;
use crate::gp::{Data, Gp, Hyper};
use crate::surrogate::{MOST_POINTS, fit_thinned, positive, thin};
use crate::trial::{Prediction, TrialState};
use crate::{Assignment, SearchSpace, Trial, stats};

/// Everything that a suggestion is made from.
pub(super) struct Model {
    pub(super) acquisition: Acquisition,
    /// The process over losses as measured, with the same lengths, for the prediction that goes with a suggestion.
    plain: Option<Gp>,
    centre: f64,
    scale: f64,
    /// The best configurations, by posterior.
    pub(super) leaders: Vec<Assignment>,
    pub(super) why: String,
    /// What the measured configurations are believed to give, at the end of a budget; `None` before, and when the load
    /// counts, which is never the same twice.
    tried: Option<Tried>,
    /// The coming trial's context as features.
    at: Vec<f64>,
}

impl Model {
    pub(super) fn features(&self, space: &SearchSpace, a: &Assignment) -> Vec<f64> {
        self.extended(&space.features(a))
    }

    /// Features of a configuration with those of the context behind them.
    pub(super) fn extended(&self, features: &[f64]) -> Vec<f64> {
        features.iter().chain(&self.at).copied().collect()
    }

    /// The model of the trials so far; `None` when a covariance cannot be factored.
    pub(super) fn fit(ask: &Ask<'_>) -> Option<Self> {
        let space = ask.space;
        let scale_of = ContextScale::of(ask.trials);
        let at = scale_of.features(ask.context);
        let inputs = Inputs { space, context: &scale_of };
        let groups = inputs.groups();
        let all = ask.losses();
        let losses: Vec<f64> = all.iter().map(|l| l.1).collect();
        let kept = thin(&losses, MOST_POINTS);
        let trials: Vec<&Trial> = kept.iter().map(|&k| &ask.trials[all[k].0]).collect();
        let losses: Vec<f64> = kept.iter().map(|&k| losses[k]).collect();
        let warped = half_rank(&losses);
        let (wc, ws) = (stats::mean(&warped), positive(stats::sd(&warped)));
        let se = |t: &Trial| t.measurement.as_ref().and_then(|m| m.se).unwrap_or(0.0);
        let mut data = Data {
            x: trials.iter().map(|t| inputs.of(t)).collect(),
            y: warped.iter().map(|w| (w - wc) / ws).collect(),
            known: trials.iter().map(|t| (se(t) / ws).powi(2)).collect(),
        };
        let (hyper, sources, related) = transfer::learn(ask, &inputs, &groups, &data)?;
        let mut gp = Gp::with_sources(&doubted(&hyper, ask), &groups, &data, sources.clone())?;
        let (centre, scale) = (stats::mean(&losses), positive(stats::sd(&losses)));
        let plain = Data {
            x: data.x.clone(),
            y: losses.iter().map(|l| (l - centre) / scale).collect(),
            known: trials.iter().map(|t| (se(t) / scale).powi(2)).collect(),
        };
        let plain = Gp::with_sources(&hyper, &groups, &plain, sources.clone());
        // The level to improve on is the best posterior mean, not the luckiest measurement.
        let means: Vec<f64> = data.x.iter().map(|x| gp.mean(x)).collect();
        let safe = |i: usize| trials[i].state == TrialState::Completed;
        let mut order: Vec<usize> = (0..means.len()).filter(|i| safe(*i)).collect();
        if order.is_empty() {
            order = (0..means.len()).collect();
        }
        order.sort_by(|a, b| means[*a].total_cmp(&means[*b]).then(a.cmp(b)));
        let best = means[order[0]];
        let leaders: Vec<Assignment> = order.iter().take(4).map(|i| trials[*i].parameters.clone()).collect();
        let pending: Vec<&Trial> = ask.trials.iter().filter(|t| t.state == TrialState::Pending).collect();
        let tried = (at.is_empty() && ends(ask)).then(|| {
            let open: Vec<Assignment> = pending.iter().map(|t| t.parameters.clone()).collect();
            Tried::of(&trials, (&data.y, &data.known), hyper.noise, |i| gp.posterior(&data.x[i]), &open)
        });
        if !pending.is_empty() {
            for x in pending.iter().map(|t| inputs.of(t)) {
                data.y.push(gp.mean(&x));
                data.known.push(0.0);
                data.x.push(x);
            }
            gp = Gp::with_sources(&hyper, &groups, &data, sources)?;
        }
        let mut constraints = Vec::new();
        if ask.refused().contains(&true) {
            constraints.extend(worked(ask, &inputs, &groups, &hyper));
        }
        for g in ask.guard_rails {
            constraints.extend(guard(ask, &inputs, &groups, g));
        }
        let mut why = format!("largest log expected improvement over {} trials", trials.len());
        if !constraints.is_empty() {
            why = format!("{why}, held back where trials failed, were unsafe, or guard-rails may break");
        }
        if !related.is_empty() {
            why = format!("{why}; {related}");
        }
        let acquisition = Acquisition { gp, best, constraints };
        Some(Self { acquisition, plain, centre, scale, leaders, why, tried, at })
    }

    /// A repeat, where one tells more about the best configuration than measuring `new` would.
    pub(super) fn again(&self, new: &Assignment, ask: &Ask<'_>) -> Option<Proposal> {
        let tried = self.tried.as_ref()?;
        let features = self.features(ask.space, new);
        let works = self.acquisition.ln_works(&features).exp();
        let (origin, parameters) = tried.again(self.acquisition.gp.posterior(&features), works)?;
        Some(Proposal {
            parameters: parameters.clone(),
            why: format!(
                "replicate of {origin}, because measuring it again tells more about which is best than a new configuration"
            ),
            predicted: Some(self.predict(parameters, ask)),
            replicate_of: Some(origin),
            propensity: None,
        })
    }

    /// What is expected of a configuration, in the objective's own unit.
    pub(super) fn predict(&self, a: &Assignment, ask: &Ask<'_>) -> Prediction {
        let features = &self.features(ask.space, a);
        let gp = self.plain.as_ref().unwrap_or(&self.acquisition.gp);
        let (m, s) = gp.posterior(features);
        Prediction { mean: ask.objective.goal.sign() * (self.centre + self.scale * m), sd: self.scale * s }
    }
}

/// Every so many trials the lengths are doubted,
const DOUBT: usize = 3;
/// in budgets that leave time to make use of what that shows,
const DOUBT_BUDGET: usize = 30;
/// and taken to be this much of what they seem.
const SHORTER: f64 = 0.5;

/// Whether the coming trial belongs to the end of a budget.
fn ends(ask: &Ask<'_>) -> bool {
    ask.budget.is_some_and(|b| Tried::is_late(ask.trials.len(), b))
}

/// The hyper-parameters that the coming trial is searched with. From few trials a parameter easily looks smoother than it
/// is, and then nothing leads away from a local optimum: shorter lengths look again at what seemed settled (as they shrink
/// in Berkenkamp, Schoellig and Krause 2019, jmlr.org/papers/v20/18-213.html).
fn doubted(hyper: &Hyper, ask: &Ask<'_>) -> Hyper {
    let in_time = ask.budget.is_none_or(|b| b >= DOUBT_BUDGET) && !ends(ask);
    let factor = if ask.trials.len().is_multiple_of(DOUBT) && in_time { SHORTER } else { 1.0 };
    Hyper { lengths: hyper.lengths.iter().map(|l| factor * l).collect(), ..hyper.clone() }
}

/// A process over 1 = worked, 0 = failed or unsafe, with half the objective's lengths; a point should be above one half.
fn worked(ask: &Ask<'_>, inputs: &Inputs<'_>, groups: &[usize], hyper: &Hyper) -> Option<Constraint> {
    let says = |t: &Trial| t.state != TrialState::Pending && !t.was_stopped();
    let ended: Vec<(&Trial, bool)> = ask.trials.iter().zip(ask.refused()).filter(|(t, _)| says(t)).collect();
    let newest = &ended[ended.len().saturating_sub(MOST_POINTS)..];
    let data = Data {
        x: newest.iter().map(|(t, _)| inputs.of(t)).collect(),
        // About mean 0: a point far from all trials is taken to work.
        y: newest.iter().map(|(_, failed)| if *failed { -1.0 } else { 0.0 }).collect(),
        known: vec![0.0; newest.len()],
    };
    let lengths = hyper.lengths.iter().map(|l| (0.5 * l).clamp(0.1, 0.6)).collect();
    let gp = Gp::new(&Hyper { lengths, signal: 0.15, noise: 0.02 }, groups, &data)?;
    let lost = recent_share(newest.iter().map(|(_, failed)| *failed));
    Some(Constraint { gp, limit: -0.5, sign: -1.0, lost })
}

/// The share of true values among the last 8.
fn recent_share(broken: impl DoubleEndedIterator<Item = bool>) -> f64 {
    let last: Vec<bool> = broken.rev().take(8).collect();
    last.iter().filter(|b| **b).count() as f64 / 8.0
}

fn guard(ask: &Ask<'_>, inputs: &Inputs<'_>, groups: &[usize], rail: &crate::GuardRail) -> Option<Constraint> {
    let (bound, sign) = rail.limit();
    let limit = bound.resolve(ask.baseline(&rail.metric))?;
    let measured: Vec<(&Trial, f64)> = ask
        .trials
        .iter()
        .filter_map(|t| Some((t, t.usable()?.metric(&rail.metric, &ask.objective.metric)?.value)))
        .collect();
    let newest = &measured[measured.len().saturating_sub(MOST_POINTS)..];
    if newest.len() < 3 {
        return None;
    }
    let values: Vec<f64> = newest.iter().map(|m| m.1).collect();
    let (centre, scale) = (stats::mean(&values), positive(stats::sd(&values)));
    let data = Data {
        x: newest.iter().map(|m| inputs.of(m.0)).collect(),
        y: values.iter().map(|v| (v - centre) / scale).collect(),
        known: vec![0.0; newest.len()],
    };
    let hyper = fit_thinned(&data, 1.0, groups, inputs.len());
    let gp = Gp::new(&hyper, groups, &data)?;
    let lost = recent_share(newest.iter().map(|m| sign * m.1 > sign * limit));
    Some(Constraint { gp, limit: (limit - centre) / scale, sign, lost })
}

/// What the processes see of a trial: its configuration, and the numbers of its context.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub(super) space: &'a SearchSpace,
    pub(super) context: &'a ContextScale,
}

impl Inputs<'_> {
    /// How many lengths there are to learn.
    pub(super) fn len(&self) -> usize {
        self.space.len() + self.context.len()
    }

    /// Features of a trial.
    pub(super) fn of(&self, t: &Trial) -> Vec<f64> {
        let mut x = self.space.features(&t.parameters);
        x.extend(self.context.features(&t.context));
        x
    }

    /// The parameter or context that each feature belongs to.
    pub(super) fn groups(&self) -> Vec<usize> {
        let d = self.space.len();
        self.space.feature_groups().into_iter().chain(d..d + self.context.len()).collect()
    }
}

/// Losses above the median, replaced by the normal quantile of their rank in units of the better half's spread.
pub(super) fn half_rank(losses: &[f64]) -> Vec<f64> {
    let n = losses.len() as f64;
    let median = stats::quantile(losses, 0.5);
    let better: Vec<f64> = losses.iter().filter(|l| **l <= median).map(|l| (l - median) * (l - median)).collect();
    let spread = positive(stats::mean(&better).sqrt());
    losses
        .iter()
        .map(|l| {
            if *l <= median {
                return *l;
            }
            let below = losses.iter().filter(|o| *o < l).count() as f64;
            let equal = losses.iter().filter(|o| *o == l).count() as f64;
            let rank = (below + 0.5 * equal) / n;
            // Never further out than it was.
            (median + spread * stats::normal_quantile(rank.max(0.5))).min(*l)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_rank_keeps_order_and_the_better_half() {
        let l = [5.0, 1.0, 2.0, 1e9, 3.0, 4.0, 1e6];
        let w = half_rank(&l);
        for i in 0..l.len() {
            for j in 0..l.len() {
                assert_eq!(l[i] < l[j], w[i] < w[j], "{w:?}");
            }
        }
        assert_eq!((w[1], w[2], w[4]), (1.0, 2.0, 3.0));
        assert!(w[3] < 20.0);
    }
}
