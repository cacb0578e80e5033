use super::advise::Adviser;
use super::importance::importances;
use super::{Basis, BreakRisk, Driver, Evidence, Nearest, Risk, RiskLevel};
use crate::trial::{Source, Trial};
use crate::{Assignment, ChangeCost, Effect, stats};

/// Doubts that are over when the configuration itself was measured in turn with the current one, and their weights.
const INCLUDES_NONE: (&str, u32) = ("the 95 % interval of the effect includes none", 2);
const NOTHING_NEAR: (&str, u32) = ("nothing nearer than", 1);

fn level(weight: u32) -> RiskLevel {
    match weight {
        0 => RiskLevel::Low,
        1 | 2 => RiskLevel::Medium,
        _ => RiskLevel::High,
    }
}

impl Risk {
    /// Adds reasons of so much weight each.
    pub(super) fn add(&mut self, weight: u32, reasons: Vec<String>) {
        if reasons.is_empty() {
            return;
        }
        self.weight += weight * reasons.len() as u32;
        self.reasons.extend(reasons);
        self.level = level(self.weight);
    }
}

/// Takes away the doubts that measuring in turn has settled.
pub(super) fn settle(risk: &mut Risk) {
    for (doubt, weight) in [INCLUDES_NONE, NOTHING_NEAR] {
        let before = risk.reasons.len();
        risk.reasons.retain(|r| !r.starts_with(doubt));
        risk.weight -= weight.min(risk.weight) * (before - risk.reasons.len()) as u32;
    }
    risk.level = level(risk.weight);
}

/// What stands beside a recommended change: evidence, risk, effort of checking it, and what matters.
impl Adviser<'_> {
    pub(super) fn evidence(&self, candidate: &Assignment) -> Evidence {
        let ask = self.study.view();
        let usable: Vec<&Trial> =
            self.study.trials().iter().filter(|t| t.usable().is_some() && ask.is_here(t)).collect();
        let contexts: std::collections::BTreeSet<String> =
            usable.iter().map(|t| crate::assignment_key(&t.context)).collect();
        let mut nearest = Nearest { trial: 0, distance: f64::INFINITY, parameters: Assignment::new() };
        for t in &usable {
            let distance = self.space.distance(&t.parameters, candidate);
            if distance < nearest.distance {
                nearest = Nearest { trial: t.id, distance, parameters: t.parameters.clone() };
            }
        }
        // What runs anyway, measured by suggestion, says nothing of a change.
        let now = crate::assignment_key(&self.current);
        let elsewhere = |t: &&&Trial| crate::assignment_key(&t.parameters) != now;
        let chosen = usable.iter().filter(|t| t.source == Source::Suggested).filter(elsewhere).count();
        let seen = usable.iter().filter(|t| t.source != Source::Suggested).filter(elsewhere).count();
        Evidence {
            trials: usable.len(),
            replicates: usable.iter().filter_map(|t| t.usable()).map(|m| m.replicates).sum(),
            nearest,
            basis: match chosen {
                0 => Basis::Observational,
                _ if seen == 0 => Basis::Randomised,
                _ => Basis::Mixed,
            },
            contexts: contexts.len(),
            unverified: chosen == 0,
        }
    }

    pub(super) fn risk(
        &self,
        effect: Effect,
        p_break: &[BreakRisk],
        evidence: &Evidence,
        cost: ChangeCost,
        changed: &[usize],
    ) -> Risk {
        let mut points = 0;
        let mut reasons = Vec::new();
        let mut add = |weight: u32, reason: String| {
            points += weight;
            reasons.push(reason);
        };
        if effect.i95.0 <= 0.0 && effect.i95.1 >= 0.0 {
            add(INCLUDES_NONE.1, INCLUDES_NONE.0.to_owned());
        }
        if let Some(b) = p_break.iter().find(|b| b.probability > 0.03) {
            add(2, format!("guard-rail `{}` breaks with probability {:.2}", b.metric, b.probability));
        }
        if evidence.nearest.distance > 0.15 {
            let (doubt, weight) = NOTHING_NEAR;
            add(weight, format!("{doubt} {:.2} was measured", evidence.nearest.distance));
        }
        if evidence.basis == Basis::Observational {
            add(
                2,
                "unverified: all trials were only watched, and something else may have caused the differences"
                    .to_owned(),
            );
        }
        if let Some(d) = self.study.drift().filter(crate::Drift::is_real) {
            add(
                2,
                format!(
                    "the current configuration itself moved by {:+.1} % since its first measurements",
                    100.0 * d.relative
                ),
            );
        }
        if cost == ChangeCost::Restart {
            add(1, "the change needs a restart".to_owned());
        }
        if changed.len() > 4 {
            add(1, format!("{} parameters change at once", changed.len()));
        }
        let wrong = self.study.trials().iter().filter(|t| t.went_wrong()).count();
        if 5 * wrong > self.study.trials().len() {
            add(1, format!("{wrong} of {} trials failed or were unsafe", self.study.trials().len()));
        }
        Risk { level: level(points), reasons, weight: points }
    }

    /// Blocks a side for 80 % power at 5 %: `2 ((1.96 + 0.84) sd / effect)^2`, sd of one block relative to the value.
    pub(super) fn blocks(&self, effect: Effect) -> usize {
        let relative: Vec<f64> = self
            .study
            .trials()
            .iter()
            .filter_map(Trial::usable)
            .filter_map(|m| Some(m.se? * f64::from(m.replicates).sqrt() / m.value.abs()))
            .filter(|v| v.is_finite())
            .collect();
        let now = self.model.predict(&self.current).mean.abs();
        let sd = if relative.is_empty() {
            self.model.noise_in_unit(now) / now.max(1e-300)
        } else {
            stats::quantile(&relative, 0.5)
        };
        let n = 2.0 * (2.8 * sd / effect.mean.abs()).powi(2);
        (n.ceil() as usize).clamp(4, 200)
    }

    pub(super) fn drivers(&self, candidate: &Assignment, changed: &[usize], effect: Effect) -> Vec<Driver> {
        let all = importances(&self.model, self.space, self.study.spec().seed);
        let mut out: Vec<Driver> = self
            .space
            .parameters()
            .iter()
            .enumerate()
            .map(|(i, p)| Driver {
                name: p.name().to_owned(),
                importance: all[i],
                without: if changed.contains(&i) {
                    let less = self.model.effect(&self.current, &self.revert(candidate, i));
                    less.map(|e| e.mean - effect.mean)
                } else {
                    None
                },
            })
            .collect();
        out.sort_by(|a, b| b.importance.total_cmp(&a.importance));
        out
    }
}
