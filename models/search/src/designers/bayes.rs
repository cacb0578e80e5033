use super::model::Model;
use super::transfer;
use super::{Ask, Designer, Proposal, sobol};
use crate::ascent::{climb_moves, climb_smooth};
use crate::{Assignment, SearchError, assignment_key};
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
/// Pending trials are believed at their posterior mean. At most [`crate::MOST_POINTS`] trials condition the process.
///
/// In the last third of a budget the best few are measured again where that tells more than a new configuration: what was
/// learned as noise is then told apart from roughness. Before, every third suggestion doubts the learned lengths, but in
/// budgets under 30 trials.
///
/// Numbers of the context (the load) are inputs like parameters. Names of the context tell environments apart: trials of
/// other environments enter through processes of their own, whose weight here is learned and which are left out when the
/// trials of this environment are predicted better without them.
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
        let here = ask.here();
        if here < first || ask.losses().len() < 3 {
            // Every second of the first trials tries what was best in another environment.
            if here.is_multiple_of(2)
                && let Some(p) = transfer::from_elsewhere(ask, here / 2)
            {
                return Ok(p);
            }
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
        if let Some(again) = model.again(&parameters, ask) {
            return Ok(again);
        }
        let predicted = model.predict(&parameters, ask);
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
        let value = |a: &Assignment| model.acquisition.value(&model.features(space, a));
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
        let gradient = |q: &[f64]| {
            let (v, mut g) = model.acquisition.value_gradient(&model.extended(q));
            g.truncate(q.len());
            (v, g)
        };
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
