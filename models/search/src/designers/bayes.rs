use super::{Ask, Designer, Proposal, sobol};
use crate::acquisition::{Acquisition, Constraint};
use crate::ascent::{climb_moves, climb_smooth};
use crate::gp::{Data, Gp};
use crate::surrogate::{MOST_POINTS, fit_thinned, positive, thin};
use crate::trial::{Prediction, TrialState};
use crate::{Assignment, SearchError, assignment_key, stats};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};
use std::collections::BTreeSet;

/// Spaces of at most this many configurations are searched exhaustively.
const SMALL_SPACE: usize = 1200;

/// Bayesian optimisation: a Gaussian process (ARD Matern-5/2, learned noise) and log expected improvement (Ament et al.
/// 2023, arXiv 2310.20708), maximised from many starts.
///
/// Losses worse than the median are drawn in to a normal half (Golovin et al. 2017, doi:10.1145/3097983.3098043), so
/// that a few terrible trials do not flatten the model near the optimum. Failed trials teach where not to go: a second
/// process over worked / failed gives a probability that multiplies the improvement, as does one process a guard-rail.
/// Pending trials are believed at their posterior mean. At most [`MOST_POINTS`] trials condition the process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bayes {
    /// Points of the pool from which climbs start. Default 300.
    pub pool: usize,
    /// Climbs. Default 4.
    pub climbs: usize,
}

impl Default for Bayes {
    fn default() -> Self {
        Self { pool: 300, climbs: 4 }
    }
}

impl Designer for Bayes {
    fn propose(&self, ask: &Ask<'_>) -> Result<Proposal, SearchError> {
        let d = ask.space.len();
        let mut first = (d + 3).clamp(4, 20);
        if let Some(b) = ask.budget {
            first = first.min((b / 3).max(3));
        }
        let n = ask.trials.len();
        if n < first || ask.losses().len() < 3 {
            let unit = sobol::point(n as u32, d, ask.seed.child("bayes"));
            let start = ask.space.from_unit(&ask.space.spread(&unit));
            return Ok(Proposal::plain(start, format!("one of {first} first trials, from a Sobol sequence")));
        }
        let Some(model) = Model::fit(ask) else {
            let unit = sobol::point(n as u32, d, ask.seed.child("bayes"));
            let start = ask.space.from_unit(&ask.space.spread(&unit));
            return Ok(Proposal::plain(start, "the Gaussian process could not be fitted; a Sobol point"));
        };
        let seen = ask.seen();
        let parameters = self.maximise(ask, &model, &seen);
        let predicted = model.predict(&ask.space.features(&parameters), ask);
        Ok(Proposal {
            parameters,
            why: model.why.clone(),
            predicted: Some(predicted),
            replicate_of: None,
            propensity: None,
        })
    }
}

impl Bayes {
    /// The untried configuration of largest acquisition that the search meets.
    fn maximise(&self, ask: &Ask<'_>, model: &Model, seen: &BTreeSet<String>) -> Assignment {
        let space = ask.space;
        let value = |a: &Assignment| model.acquisition.value(&space.features(a));
        let allowed = |a: &Assignment| !seen.contains(&assignment_key(a));
        let small = space.cardinality().is_some_and(|c| c <= SMALL_SPACE as u64);
        let pool = match space.enumerate(SMALL_SPACE) {
            Some(all) if small => all,
            _ => self.pool(ask, model),
        };
        let mut ranked: Vec<(f64, Assignment)> = pool.into_iter().map(|a| (value(&a), a)).collect();
        // Ties keep the order of the pool: the sort is stable.
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        if small && let Some(best) = ranked.iter().find(|(_, a)| allowed(a)) {
            return best.1.clone();
        }
        let gradient = |q: &[f64]| model.acquisition.value_gradient(q);
        let mut best: Option<(Assignment, f64)> = None;
        for (_, start) in ranked.iter().take(self.climbs) {
            let top = climb_smooth(space, start, &gradient, 40);
            if let Some(found) = climb_moves(space, top, &value, &allowed, 12)
                && best.as_ref().is_none_or(|b| found.1 > b.1)
            {
                best = Some(found);
            }
        }
        best.map(|b| b.0)
            .or_else(|| ranked.iter().map(|r| &r.1).find(|a| allowed(a)).cloned())
            .unwrap_or_else(|| ranked[0].1.clone())
    }

    /// Points spread over the reach, and points around the best trials.
    fn pool(&self, ask: &Ask<'_>, model: &Model) -> Vec<Assignment> {
        let space = ask.space;
        let d = space.len();
        let mut rng = ask.rng("bayes-pool");
        let around = self.pool / 3;
        let mut out: Vec<Assignment> = (0..self.pool - around)
            .map(|_| {
                let unit: Vec<f64> = (0..d).map(|_| rng.r#gen()).collect();
                space.from_unit(&space.spread(&unit))
            })
            .collect();
        for k in 0..around {
            let centre = &model.leaders[k % model.leaders.len()];
            let mut unit = space.to_unit(centre);
            let width = [0.01, 0.05, 0.2][k % 3];
            let forced = rng.gen_range(0..d);
            for (i, u) in unit.iter_mut().enumerate() {
                let (a, b) = space.unit_range(i);
                if space.parameters()[i].is_smooth() {
                    let z: f64 = StandardNormal.sample(&mut rng);
                    *u = (*u + width * (b - a) * z).clamp(a, b);
                } else if i == forced || rng.r#gen::<f64>() < 0.5 / d as f64 {
                    *u = rng.gen_range(a..=b);
                }
            }
            out.push(space.from_unit(&unit));
        }
        out.extend(model.leaders.iter().cloned());
        out
    }
}

struct Model {
    acquisition: Acquisition,
    /// The process over losses as measured, with the same lengths, for the prediction that goes with a suggestion.
    plain: Option<Gp>,
    centre: f64,
    scale: f64,
    leaders: Vec<Assignment>,
    why: String,
}

impl Model {
    fn fit(ask: &Ask<'_>) -> Option<Self> {
        let space = ask.space;
        let groups = space.feature_groups();
        let all = ask.losses();
        let losses: Vec<f64> = all.iter().map(|l| l.1).collect();
        let kept = thin(&losses, MOST_POINTS);
        let trials: Vec<&crate::Trial> = kept.iter().map(|&k| &ask.trials[all[k].0]).collect();
        let losses: Vec<f64> = kept.iter().map(|&k| losses[k]).collect();
        let warped = half_rank(&losses);
        let (wc, ws) = (stats::mean(&warped), positive(stats::sd(&warped)));
        let se = |t: &crate::Trial| t.measurement.as_ref().and_then(|m| m.se).unwrap_or(0.0);
        let mut data = Data {
            x: trials.iter().map(|t| space.features(&t.parameters)).collect(),
            y: warped.iter().map(|w| (w - wc) / ws).collect(),
            known: trials.iter().map(|t| (se(t) / ws).powi(2)).collect(),
        };
        let hyper = fit_thinned(&data, &groups, space.len());
        let mut gp = Gp::new(&hyper, &groups, &data)?;
        let (centre, scale) = (stats::mean(&losses), positive(stats::sd(&losses)));
        let plain = Data {
            x: data.x.clone(),
            y: losses.iter().map(|l| (l - centre) / scale).collect(),
            known: trials.iter().map(|t| (se(t) / scale).powi(2)).collect(),
        };
        let plain = Gp::new(&hyper, &groups, &plain);
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
        let pending: Vec<Vec<f64>> = ask
            .trials
            .iter()
            .filter(|t| t.state == TrialState::Pending)
            .map(|t| space.features(&t.parameters))
            .collect();
        if !pending.is_empty() {
            for x in pending {
                data.y.push(gp.mean(&x));
                data.known.push(0.0);
                data.x.push(x);
            }
            gp = Gp::new(&hyper, &groups, &data)?;
        }
        let mut constraints = Vec::new();
        let failed = ask.trials.iter().filter(|t| matches!(t.state, TrialState::Failed { .. })).count();
        if failed > 0 {
            constraints.extend(worked(ask, &groups, &hyper));
        }
        for g in ask.guard_rails {
            constraints.extend(guard(ask, &groups, g));
        }
        let mut why = format!("largest log expected improvement over {} trials", trials.len());
        if !constraints.is_empty() {
            why = format!("{why}, held back where trials failed or guard-rails may break");
        }
        Some(Self { acquisition: Acquisition { gp, best, constraints }, plain, centre, scale, leaders, why })
    }

    fn predict(&self, features: &[f64], ask: &Ask<'_>) -> Prediction {
        let gp = self.plain.as_ref().unwrap_or(&self.acquisition.gp);
        let (m, s) = gp.posterior(features);
        Prediction { mean: ask.objective.goal.sign() * (self.centre + self.scale * m), sd: self.scale * s }
    }
}

/// A process over 1 = worked, 0 = failed, with half the objective's lengths; a point should be above one half.
fn worked(ask: &Ask<'_>, groups: &[usize], hyper: &crate::gp::Hyper) -> Option<Constraint> {
    let ended: Vec<&crate::Trial> = ask.trials.iter().filter(|t| t.state != TrialState::Pending).collect();
    let newest = &ended[ended.len().saturating_sub(MOST_POINTS)..];
    let failed = |t: &&crate::Trial| matches!(t.state, TrialState::Failed { .. });
    let data = Data {
        x: newest.iter().map(|t| ask.space.features(&t.parameters)).collect(),
        // About mean 0: a point far from all trials is taken to work.
        y: newest.iter().map(|t| if failed(t) { -1.0 } else { 0.0 }).collect(),
        known: vec![0.0; newest.len()],
    };
    let lengths = hyper.lengths.iter().map(|l| (0.5 * l).clamp(0.1, 0.6)).collect();
    let gp = Gp::new(&crate::gp::Hyper { lengths, signal: 0.15, noise: 0.02 }, groups, &data)?;
    let lost = recent_share(newest.iter().map(failed));
    Some(Constraint { gp, limit: -0.5, sign: -1.0, lost })
}

/// The share of true values among the last 8.
fn recent_share(broken: impl DoubleEndedIterator<Item = bool>) -> f64 {
    let last: Vec<bool> = broken.rev().take(8).collect();
    last.iter().filter(|b| **b).count() as f64 / 8.0
}

fn guard(ask: &Ask<'_>, groups: &[usize], rail: &crate::GuardRail) -> Option<Constraint> {
    let (bound, sign) = rail.limit();
    let limit = bound.resolve(ask.baseline(&rail.metric))?;
    let measured: Vec<(&crate::Trial, f64)> = ask
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
        x: newest.iter().map(|m| ask.space.features(&m.0.parameters)).collect(),
        y: values.iter().map(|v| (v - centre) / scale).collect(),
        known: vec![0.0; newest.len()],
    };
    let hyper = fit_thinned(&data, groups, ask.space.len());
    let gp = Gp::new(&hyper, groups, &data)?;
    let lost = recent_share(newest.iter().map(|m| sign * m.1 > sign * limit));
    Some(Constraint { gp, limit: (limit - centre) / scale, sign, lost })
}

/// Losses above the median, replaced by the normal quantile of their rank in units of the better half's spread.
fn half_rank(losses: &[f64]) -> Vec<f64> {
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
