//! Suggestions for the modes `canary` and `auto`: only what keeps every guard-rail at the asked confidence.

use super::{Ask, Proposal};
use crate::acquisition::ln_h;
use crate::ascent::neighbours;
use crate::gp::{Data, Gp, Hyper};
use crate::surrogate::{MOST_POINTS, fit_thinned, positive};
use crate::trial::{Prediction, TrialState};
use crate::{Assignment, SearchError, Surrogate, assignment_key, stats};
use rand::Rng;

/// The standard deviation that a guard-rail's metric is taken to have over the space, relative to its level (in
/// logarithms where it is positive), however calm the first trials looked.
const LEAST_SPREAD: f64 = 0.3;
/// Lengths above this are not believed: in a direction that was hardly varied nothing tells long from short.
const LONGEST: f64 = 1.2;
/// Configurations that are judged at most.
const MOST_CANDIDATES: usize = 400;

/// The safe configuration of largest log expected improvement among those one or two moves from what was safe, or a
/// replicate of the current configuration when nothing else is known to be safe (Sui, Gotovos, Burdick and Krause 2015,
/// SafeOpt).
///
/// A guard-rail's metric is modelled by a Gaussian process with lengths and spread bounded to the careful side; a
/// configuration is safe when the probability that its measurement breaks the limit is at most `1 - confidence`, shared
/// among the guard-rails.
pub(super) fn propose(ask: &Ask<'_>, confidence: f64) -> Result<Proposal, SearchError> {
    let Some(current) = ask.space.current() else {
        return Err(SearchError::Study {
            field: "parameters",
            problem: "the current configuration is not known: safety counts from it".to_owned(),
        });
    };
    let allowed = (1.0 - confidence) / ask.guard_rails.len().max(1) as f64;
    let mut guards = Vec::new();
    for g in ask.guard_rails {
        match Guard::fit(ask, g) {
            Some(m) => guards.push(m),
            None => {
                return Ok(again(ask, &current, &format!("`{}` is not known well enough to judge a change", g.metric)));
            }
        }
    }
    let seen = ask.seen();
    let objective = Surrogate::fit(ask, &ask.objective.metric).ok();
    let sign = ask.objective.goal.sign();
    let safe_losses = ask.safe_losses();
    let best = safe_losses.iter().map(|l| l.1).fold(f64::INFINITY, f64::min);
    let mut chosen: Option<(f64, f64, Assignment, Option<Prediction>)> = None;
    for a in candidates(ask, &current) {
        if seen.contains(&assignment_key(&a)) {
            continue;
        }
        let risk = guards.iter().map(|g| g.risk(&ask.space.features(&a))).fold(0.0, f64::max);
        if risk > allowed {
            continue;
        }
        let p = objective.as_ref().map(|m| m.predict(&a));
        // Without a model of the objective the least risk wins.
        let value = p.map_or(-risk, |p| {
            let sd = p.sd.max(1e-12);
            sd.ln() + ln_h((best - sign * p.mean) / sd).0
        });
        if chosen.as_ref().is_none_or(|c| value > c.0) {
            chosen = Some((value, risk, a, p));
        }
    }
    Ok(match chosen {
        Some((_, risk, parameters, predicted)) => Proposal {
            parameters,
            why: format!(
                "safe: a guard-rail breaks with probability {risk:.3}, {allowed:.3} is allowed; the most promising of those"
            ),
            predicted,
            replicate_of: None,
            propensity: None,
        },
        None => again(ask, &current, "no other configuration is known to be safe"),
    })
}

fn again(ask: &Ask<'_>, current: &Assignment, because: &str) -> Proposal {
    let key = assignment_key(current);
    let earlier = ask.trials.iter().find(|t| assignment_key(&t.parameters) == key).map(|t| t.id);
    let why = earlier.map_or_else(|| because.to_owned(), |id| format!("replicate of {id}, because {because}"));
    Proposal { parameters: current.clone(), why, predicted: None, replicate_of: earlier, propensity: None }
}

/// One move, and seeded second moves, from every completed trial (the newest and best first) and the current one.
fn candidates(ask: &Ask<'_>, current: &Assignment) -> Vec<Assignment> {
    let space = ask.space;
    let mut centres = ask.safe_losses();
    centres.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut from: Vec<Assignment> = centres.iter().take(6).map(|c| ask.trials[c.0].parameters.clone()).collect();
    from.push(current.clone());
    let mut rng = ask.rng("safe");
    let mut out: Vec<Assignment> = Vec::new();
    for centre in &from {
        out.extend(neighbours(space, centre));
        // Real parameters, and bold mixtures of small steps.
        for k in 0..24 {
            let mut unit = space.to_unit(centre);
            let width = [0.02, 0.06, 0.15][k % 3];
            let only = rng.gen_range(0..space.len());
            for (i, u) in unit.iter_mut().enumerate() {
                if k % 2 == 0 && i != only {
                    continue;
                }
                let (low, high) = space.unit_range(i);
                *u = (*u + width * (high - low) * rng.gen_range(-1.0..1.0)).clamp(low, high);
            }
            out.push(space.from_unit(&unit));
        }
    }
    out.retain(|a| {
        space.keeps_rules(a) && space.parameters().iter().all(|p| a.get(p.name()).is_none_or(|v| p.within_reach(v)))
    });
    out.truncate(MOST_CANDIDATES);
    out
}

struct Guard {
    gp: Gp,
    /// In the process's own scale.
    limit: f64,
    sign: f64,
    noise: f64,
    /// Degrees of freedom of what is known of the scale: one a measurement, and one for what was believed before.
    freedom: f64,
}

impl Guard {
    /// `None` below 2 measurements of the metric, or without a baseline where the limit is relative.
    fn fit(ask: &Ask<'_>, rail: &crate::GuardRail) -> Option<Self> {
        let (bound, sign) = rail.limit();
        let limit = bound.resolve(ask.baseline(&rail.metric))?;
        // What is safe in another environment need not be here.
        let mut measured: Vec<(Vec<f64>, f64, f64)> = ask
            .trials
            .iter()
            .filter(|t| t.state != TrialState::Pending && ask.is_here(t))
            .filter_map(|t| {
                let m = t.usable()?.metric(&rail.metric, &ask.objective.metric)?;
                Some((ask.space.features(&t.parameters), m.value, m.se.unwrap_or(0.0)))
            })
            .collect();
        measured.drain(..measured.len().saturating_sub(MOST_POINTS));
        if measured.len() < 2 {
            return None;
        }
        let log = limit > 0.0 && measured.iter().all(|m| m.1 > 0.0);
        let level = stats::mean(&measured.iter().map(|m| m.1.abs()).collect::<Vec<_>>());
        let y: Vec<f64> = measured.iter().map(|m| if log { m.1.ln() } else { m.1 }).collect();
        let least = if log { LEAST_SPREAD } else { LEAST_SPREAD * level };
        let (centre, scale) = (stats::mean(&y), positive(stats::sd(&y).max(least)));
        let data = Data {
            x: measured.iter().map(|m| m.0.clone()).collect(),
            y: y.iter().map(|v| (v - centre) / scale).collect(),
            known: measured.iter().map(|m| (if log { m.2 / m.1 } else { m.2 } / scale).powi(2)).collect(),
        };
        let groups = ask.space.feature_groups();
        let fitted = fit_thinned(&data, sign, &groups, ask.space.len());
        let hyper = Hyper {
            lengths: fitted.lengths.iter().map(|l| l.min(LONGEST)).collect(),
            signal: fitted.signal.max(1.0),
            noise: fitted.noise,
        };
        let gp = Gp::new(&hyper, &groups, &data)?;
        let typical = stats::quantile(&data.known, 0.5);
        let limit = (if log { limit.ln() } else { limit } - centre) / scale;
        Some(Self { gp, limit, sign, noise: hyper.noise + typical, freedom: measured.len() as f64 + 1.0 })
    }

    /// The probability that a measurement there is beyond the limit. The scale of the process is learned from the same few
    /// measurements, hence Student's t (Rasmussen and Williams 2006, section 9.9).
    fn risk(&self, features: &[f64]) -> f64 {
        let (m, s) = self.gp.posterior(features);
        stats::student_t_cdf(self.sign * (m - self.limit) / (s * s + self.noise).sqrt().max(1e-9), self.freedom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_known_from_little_is_believed_less() {
        let hyper = Hyper { lengths: vec![0.5], signal: 1.0, noise: 0.01 };
        let data = Data { x: vec![vec![0.5]], y: vec![0.0], known: vec![0.0] };
        let gp = Gp::new(&hyper, &[0], &data).unwrap();
        let risk = |freedom| Guard { gp: gp.clone(), limit: 2.5, sign: 1.0, noise: 0.01, freedom }.risk(&[0.9]);
        assert!(risk(3.0) > 3.0 * risk(1e6), "{} {}", risk(3.0), risk(1e6));
        assert!((risk(1e6) - Guard { gp, limit: 2.5, sign: 1.0, noise: 0.01, freedom: 1e9 }.risk(&[0.9])).abs() < 1e-5);
    }
}
