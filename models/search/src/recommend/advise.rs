use super::{Advice, BreakRisk, Change, MetricEffect, Recommendation, Relative, SMALLEST_EFFECT, Status, VerifyPlan};
use crate::ascent::{climb_moves, climb_smooth};
use crate::{Assignment, Effect, Mode, Objective, SearchSpace, Study, Surrogate, TrialState};
use foreglow_core::Timestamp;
use rand::Rng;
use sha2::{Digest, Sha256};

/// Random configurations among the candidates.
const POOL: usize = 160;

/// How to advise.
#[derive(Debug, Clone, PartialEq)]
pub struct AdviceOptions {
    /// The time of asking; gives `expires`. Default none.
    pub now: Option<Timestamp>,
    /// How long the advice is valid, in milliseconds. Default one day.
    pub valid_ms: i64,
    /// What made somebody ask. Default `request`.
    pub trigger: String,
    /// The largest accepted probability that a guard-rail breaks. Default 0.1.
    pub p_break: f64,
    /// The fewest usable trials. Default none: the number of parameters plus 4, at least 8.
    pub fewest_trials: Option<usize>,
}

impl Default for AdviceOptions {
    fn default() -> Self {
        Self { now: None, valid_ms: 86_400_000, trigger: "request".to_owned(), p_break: 0.1, fewest_trials: None }
    }
}

struct Guard {
    metric: String,
    rule: String,
    limit: f64,
    sign: f64,
    model: Surrogate,
}

pub(super) struct Adviser<'a> {
    pub(super) study: &'a Study,
    pub(super) space: &'a SearchSpace,
    sign: f64,
    pub(super) current: Assignment,
    pub(super) model: Surrogate,
    guards: Vec<Guard>,
    /// The further objectives that are measured, with their goals.
    also: Vec<(Objective, Surrogate)>,
    p_break: f64,
    /// Every trial that ended: where, and whether that is to be kept away from ([`crate::designers::Ask::refused`]).
    ended: Vec<(Vec<f64>, bool)>,
    /// How many standard deviations below its expectation a configuration counts: [`CAREFUL`] or [`HOPEFUL`].
    doubt: f64,
}

/// A promise errs on the careful side, and measured configurations are preferred to unmeasured ones.
const CAREFUL: f64 = 1.0;
/// What it weighs that another objective pays for it.
const TRADED: u32 = 2;
/// What will be measured in turn before it is promised only has to be the best guess.
const HOPEFUL: f64 = 0.0;

impl Study {
    /// What to change, or why nothing is to be changed. A pure function of study and options.
    ///
    /// With `confirm` in the specification and the budget spent it is what the comparison with what runs says.
    pub fn recommend(&self, options: &AdviceOptions) -> Advice {
        let Some(planned) = self.spec().confirm.filter(|n| *n > 0 && self.is_spent()) else {
            return self.promise(options);
        };
        match self.confirming(options) {
            Ok(c) => match c.said(self, planned) {
                Some(said) => c.recommendation.confirmed_by(said),
                None => Advice::Change(Box::new(c.recommendation)),
            },
            Err(none_because) => Advice::None { none_because },
        }
    }

    /// What the model of the trials promises.
    fn promise(&self, options: &AdviceOptions) -> Advice {
        Adviser::new(self, options).and_then(|a| a.advise(options)).into()
    }

    /// What is worth measuring in turn with what runs: what the trials recommend, or else what they expect to be best, even
    /// if its effect may be none: the rounds will tell.
    ///
    /// # Errors
    /// Why there is nothing, in words.
    pub fn worth_confirming(&self, options: &AdviceOptions) -> Result<Recommendation, String> {
        let mut adviser = Adviser::new(self, options)?;
        adviser.advise(options).or_else(|none_because| {
            adviser.doubt = HOPEFUL;
            adviser.advise(options).map_err(|_| none_because)
        })
    }
}

impl<'a> Adviser<'a> {
    fn new(study: &'a Study, options: &AdviceOptions) -> Result<Self, String> {
        if study.spec().mode == Mode::Observe {
            return Err("the study's mode is observe".to_owned());
        }
        let (space, ask) = (study.space(), study.view());
        let Some(current) = space.current() else {
            return Err(
                "the current configuration is not known: declare `current` values or post a configuration".to_owned()
            );
        };
        let usable = ask.losses().len();
        let needed = options.fewest_trials.unwrap_or((space.len() + 4).max(8));
        if usable < needed {
            return Err(format!("too few trials: {usable} usable, {needed} needed for {} parameters", space.len()));
        }
        let model = Surrogate::marginal(&ask, &ask.objective.metric).map_err(|e| e.to_string())?;
        let mut guards = Vec::new();
        for g in ask.guard_rails {
            let metric = g.metric.clone();
            let guard = Surrogate::marginal(&ask, &metric)
                .map_err(|e| format!("guard-rail `{metric}` cannot be judged: {e}"))?;
            let baseline = ask.baseline(&metric).unwrap_or_else(|| guard.predict(&current).mean);
            let (bound, sign) = g.limit();
            let limit = bound.resolve(Some(baseline)).unwrap_or(f64::INFINITY);
            guards.push(Guard { metric, rule: g.describe(), limit, sign, model: guard });
        }
        let sign = ask.objective.goal.sign();
        let ends = study.trials().iter().zip(ask.refused()).filter(|(t, _)| t.state != TrialState::Pending);
        let ended = ends.map(|(t, refused)| (space.features(&t.parameters), refused)).collect();
        let further = |o: &Objective| Some((o.clone(), Surrogate::marginal(&ask, &o.metric).ok()?));
        let also = ask.also.iter().filter_map(further).collect();
        Ok(Self { study, space, sign, current, model, guards, also, p_break: options.p_break, ended, doubt: CAREFUL })
    }

    fn advise(&self, options: &AdviceOptions) -> Result<Recommendation, String> {
        self.write(self.fewest_changes(self.candidate()?), options)
    }

    /// Expected improvement over the current configuration and its standard deviation, on the modelled scale.
    fn improvement(&self, a: &Assignment) -> (f64, f64) {
        let (d, s) = self.model.difference(&self.space.features(&self.current), &self.space.features(a));
        (-self.sign * d, s)
    }

    /// What is chosen by.
    fn score(&self, a: &Assignment) -> f64 {
        let (m, s) = self.improvement(a);
        m - self.doubt * s
    }

    fn worst_break(&self, a: &Assignment) -> f64 {
        self.guards.iter().map(|g| g.model.p_beyond(a, g.limit, g.sign)).fold(0.0, f64::max)
    }

    /// Whether the trial next to a configuration failed or was unsafe; of several in one place, most of them.
    fn is_refused(&self, a: &Assignment) -> bool {
        if !self.ended.iter().any(|e| e.1) {
            return false;
        }
        let here = self.space.features(a);
        let far = |e: &(Vec<f64>, bool)| e.0.iter().zip(&here).map(|(x, y)| (x - y) * (x - y)).sum::<f64>();
        let nearest = self.ended.iter().map(far).fold(f64::INFINITY, f64::min);
        let there: Vec<bool> = self.ended.iter().filter(|e| far(e) <= nearest).map(|e| e.1).collect();
        2 * there.iter().filter(|refused| **refused).count() > there.len()
    }

    fn is_safe(&self, a: &Assignment) -> bool {
        self.worst_break(a) <= self.p_break && !self.is_refused(a)
    }

    /// Why a configuration, which stands `at` somewhere, is not safe.
    fn why_not(&self, a: &Assignment, at: &str) -> String {
        if self.is_refused(a) {
            return format!("{at} the trial next to it failed or was unsafe");
        }
        let (p, allowed) = (self.worst_break(a), self.p_break);
        format!("a guard-rail is likely to break: {at} with probability {p:.2}, allowed {allowed:.2}")
    }

    fn candidate(&self) -> Result<Assignment, String> {
        let mut rng = self.study.spec().seed.child("advise").rng();
        let within = |a: &Assignment| {
            let reachable = |p: &crate::space::Parameter| a.get(p.name()).is_none_or(|v| p.within_reach(v));
            self.space.parameters().iter().all(reachable) && self.space.keeps_rules(a)
        };
        let mut pool: Vec<Assignment> = self
            .study
            .trials()
            .iter()
            .filter(|t| t.usable().is_some() && within(&t.parameters))
            .map(|t| t.parameters.clone())
            .collect();
        pool.extend((0..POOL).map(|_| {
            let unit: Vec<f64> = (0..self.space.len()).map(|_| rng.r#gen()).collect();
            self.space.from_unit(&self.space.spread(&unit))
        }));
        let mut ranked: Vec<(f64, Assignment)> = pool.into_iter().map(|a| (self.score(&a), a)).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        let safe = |a: &Assignment| self.is_safe(a);
        let value = |a: &Assignment| self.score(a);
        let slope = |q: &[f64]| self.model.careful(q, self.sign, self.doubt);
        let mut best: Option<(Assignment, f64)> = None;
        let mut consider = |found: Option<(Assignment, f64)>| {
            if let Some(f) = found
                && best.as_ref().is_none_or(|b| f.1 > b.1)
            {
                best = Some(f);
            }
        };
        // Climbs from the best, and from the best that keeps the guard-rails: the peak itself may break them.
        let kept: Vec<&Assignment> = ranked.iter().map(|r| &r.1).filter(|a| safe(a)).take(2).collect();
        for start in ranked.iter().map(|r| &r.1).take(3).chain(kept.iter().copied()) {
            consider(climb_moves(self.space, start.clone(), &value, &safe, 8));
            let top = climb_smooth(self.space, start, &slope, 25);
            consider(climb_moves(self.space, top, &value, &safe, 8));
        }
        let unsafe_best = &ranked[0];
        match best {
            None => Err(self.why_not(&unsafe_best.1, "at the best candidate")),
            Some((a, _)) if self.space.changed(&self.current, &a).is_empty() || self.improvement(&a).0 <= 0.0 => {
                let better = self.improvement(&unsafe_best.1);
                if unsafe_best.0 > 0.0 && better.0 > 0.0 {
                    Err(self.why_not(&unsafe_best.1, "where it would be best"))
                } else {
                    Err("no configuration is expected to be better than the current one".to_owned())
                }
            }
            Some((a, _)) => Ok(a),
        }
    }

    /// `candidate` with the parameters `back` as they are now.
    pub(super) fn revert(&self, candidate: &Assignment, back: usize) -> Assignment {
        let (here, there) = (self.space.to_unit(&self.current), self.space.to_unit(candidate));
        let unit: Vec<f64> = self
            .space
            .parameters()
            .iter()
            .enumerate()
            .map(|(i, p)| if i == back || !candidate.contains_key(p.name()) { here[i] } else { there[i] })
            .collect();
        let mut out = self.space.from_unit(&unit);
        for (i, p) in self.space.parameters().iter().enumerate() {
            // Exact values, not decoded ones.
            let source = if i == back { self.current.get(p.name()) } else { candidate.get(p.name()) };
            let source = source.or_else(|| self.current.get(p.name()));
            if let (Some(slot), Some(v)) = (out.get_mut(p.name()), source) {
                *slot = v.clone();
            }
        }
        out
    }

    /// Takes back every change that hardly matters: one at a time the least important, while the improvement loses under
    /// 5 % by it, under 10 % in all, and no guard-rail gets likely to break. What is left may never have been measured,
    /// which widens what is promised of it but says nothing about what a parameter does.
    fn fewest_changes(&self, candidate: Assignment) -> Assignment {
        let current = self.space.features(&self.current);
        let score = |a: &Assignment| {
            let (d, s) = self.model.likely_difference(&current, &self.space.features(a));
            -self.sign * d - self.doubt * s
        };
        let full = score(&candidate);
        let gain = self.model.likely_difference(&current, &self.space.features(&candidate)).0.abs();
        let mut here = candidate;
        loop {
            let now = score(&here);
            let next = self
                .space
                .changed(&self.current, &here)
                .into_iter()
                .map(|i| self.revert(&here, i))
                .filter(|a| self.space.changed(&self.current, a).len() < self.space.changed(&self.current, &here).len())
                .filter(|a| self.space.keeps_rules(a) && self.is_safe(a))
                .map(|a| (score(&a), a))
                .max_by(|a, b| a.0.total_cmp(&b.0));
            match next {
                Some((s, a)) if s >= now - 0.05 * gain && s >= full - 0.1 * gain => here = a,
                _ => return here,
            }
        }
    }

    fn write(&self, candidate: Assignment, options: &AdviceOptions) -> Result<Recommendation, String> {
        let metric = &self.study.spec().objective.metric;
        let changed = self.space.changed(&self.current, &candidate);
        if changed.is_empty() {
            return Err("no configuration is expected to be better than the current one".to_owned());
        }
        let Some(effect) = self.model.effect(&self.current, &candidate) else {
            return Err(format!("`{metric}` is too near 0 now for a relative effect to mean anything"));
        };
        let (low, high) = effect.i80;
        let promised = relative(effect);
        if self.doubt > HOPEFUL && promised.may_be_none() {
            return Err(format!("the expected effect may be none: {promised}"));
        }
        // In logarithms an expectation may have another sign than what it was chosen by.
        if -self.sign * effect.mean < SMALLEST_EFFECT {
            return Err(format!("the expected effect of {:+.2} % is too small to matter", 100.0 * effect.mean));
        }
        let mut effects = vec![MetricEffect { metric: metric.clone(), relative: promised }];
        let mut worse = Vec::new();
        for (o, model) in &self.also {
            if let Some(e) = model.effect(&self.current, &candidate) {
                let r = relative(e);
                if !r.may_be_none() && o.goal.sign() * r.mean > 0.0 {
                    worse.push(format!("objective `{}` gets worse: {r}", o.metric));
                }
                effects.push(MetricEffect { metric: o.metric.clone(), relative: r });
            }
        }
        let mut p_break = Vec::new();
        for g in &self.guards {
            if !effects.iter().any(|e| e.metric == g.metric)
                && let Some(e) = g.model.effect(&self.current, &candidate)
            {
                effects.push(MetricEffect { metric: g.metric.clone(), relative: relative(e) });
            }
            let probability = g.model.p_beyond(&candidate, g.limit, g.sign);
            p_break.push(BreakRisk { metric: g.metric.clone(), limit: g.limit, probability });
        }
        let change = changes(self.space, &self.current, &candidate);
        let rollback = changes(self.space, &candidate, &self.current);
        let cost = changed.iter().map(|i| self.space.parameters()[*i].spec().cost).max().unwrap_or_default();
        let evidence = self.evidence(&candidate);
        let mut risk = self.risk(effect, &p_break, &evidence, cost, &changed);
        risk.add(TRADED, worse);
        let verify = VerifyPlan {
            method: "before_after_blocks".to_owned(),
            metric: metric.clone(),
            blocks: self.blocks(effect),
            expect: [low, high],
            stop_when_broken: self.guards.iter().map(|g| g.rule.clone()).collect(),
        };
        let mut r = Recommendation {
            id: String::new(),
            study: self.study.spec().name.clone(),
            kind: self.study.spec().kind,
            status: Status::Proposed,
            trigger: String::new(),
            change,
            effect: effects,
            p_break,
            evidence,
            drivers: self.drivers(&candidate, &changed, effect),
            parameters: candidate,
            risk,
            cost,
            verify,
            rollback,
            confirmation: None,
            expires: None,
        };
        let content = serde_json::to_vec(&r).map_err(|e| e.to_string())?;
        let first: [u8; 8] = std::array::from_fn({
            let hash = Sha256::digest(&content);
            move |i| hash[i]
        });
        r.id = format!("{:016x}", u64::from_be_bytes(first));
        // Not part of the content: asking again later, or for another reason, gives the same advice.
        r.trigger.clone_from(&options.trigger);
        r.expires = options.now.map(|t| t.plus(options.valid_ms));
        Ok(r)
    }
}

fn relative(e: Effect) -> Relative {
    Relative { mean: e.mean, i80: [e.i80.0, e.i80.1], i95: [e.i95.0, e.i95.1] }
}

fn changes(space: &SearchSpace, from: &Assignment, to: &Assignment) -> Vec<Change> {
    space
        .changed(from, to)
        .into_iter()
        .map(|i| {
            let name = space.parameters()[i].name();
            Change { name: name.to_owned(), from: from.get(name).cloned(), to: to.get(name).cloned() }
        })
        .collect()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
