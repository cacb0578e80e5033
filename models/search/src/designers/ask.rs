use super::{DesignerKind, Proposal};
use crate::context::{Context, environment};
use crate::study::to_settle;
use crate::trial::{Measurement, Trial, TrialState};
use crate::{Assignment, GuardRail, Objective, SearchError, SearchSpace, assignment_key};
use foreglow_core::Seed;
use rand::Rng;
use rand_xoshiro::Xoshiro256PlusPlus;
use std::collections::BTreeSet;

/// What a designer sees: the study without its bookkeeping.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The space.
    pub space: &'a SearchSpace,
    /// What to make small or large.
    pub objective: &'a Objective,
    /// Further objectives, for designers that weigh several.
    pub also: &'a [Objective],
    /// What must not break.
    pub guard_rails: &'a [GuardRail],
    /// What surrounds the coming trial: workload, version, host.
    pub context: &'a Context,
    /// The study's seed.
    pub seed: Seed,
    /// The probability with which every guard-rail must hold under a suggestion, in the modes that are careful.
    pub careful: Option<f64>,
    /// After how many trials the current configuration is measured again; 0 never.
    pub remeasure_every: usize,
    /// All trials so far, pending ones included.
    pub trials: &'a [Trial],
    /// The number of suggestions allowed, when limited.
    pub budget: Option<usize>,
}

impl Ask<'_> {
    /// The generator of the coming trial for the part called `label`.
    pub fn rng(&self, label: &str) -> Xoshiro256PlusPlus {
        self.seed.child(label).nth(self.trials.len() as u64).rng()
    }

    /// Whether a trial was made in the environment (the names and switches of the context) of the coming one.
    pub fn is_here(&self, trial: &Trial) -> bool {
        if trial.context.is_empty() && self.context.is_empty() {
            return true;
        }
        environment(&trial.context) == environment(self.context)
    }

    /// How many trials were made in this environment.
    pub fn here(&self) -> usize {
        self.trials.iter().filter(|t| self.is_here(t)).count()
    }

    /// Usable measurements of this environment as losses (small is good), each with its trial's place. What was unsafe by
    /// somebody's word counts as failed: how good it looked only leads back to it.
    pub fn losses(&self) -> Vec<(usize, f64)> {
        let (sign, refused) = (self.objective.goal.sign(), self.refused());
        let usable = self.trials.iter().enumerate().filter(|(i, t)| self.is_here(t) && !refused[*i]);
        usable.filter_map(|(i, t)| Some((i, sign * t.usable()?.value))).collect()
    }

    /// Losses of completed trials only: what a designer may breed from.
    pub fn safe_losses(&self) -> Vec<(usize, f64)> {
        self.losses().into_iter().filter(|(i, _)| self.trials[*i].state == TrialState::Completed).collect()
    }

    /// Of each trial, whether it failed, or was unsafe for a reason that no measured guard-rail shows: then the configuration
    /// itself is what is to be kept away from.
    pub(crate) fn refused(&self) -> Vec<bool> {
        let is_unsafe = |t: &Trial| matches!(t.state, TrialState::Unsafe { .. });
        // Baselines cost a pass over all trials each.
        let limits = if self.trials.iter().any(is_unsafe) { self.limits() } else { Vec::new() };
        let refused = |t: &Trial| match t.state {
            TrialState::Failed { .. } => !t.was_stopped(),
            TrialState::Unsafe { .. } => t.usable().and_then(|m| self.broken(m, &limits)).is_none(),
            _ => false,
        };
        self.trials.iter().map(refused).collect()
    }

    /// The limits of the guard-rails as numbers, in order; none where the baseline is not known.
    pub(crate) fn limits(&self) -> Vec<Option<f64>> {
        self.guard_rails.iter().map(|g| g.limit().0.resolve(self.baseline(&g.metric))).collect()
    }

    /// The first guard-rail that a measurement is beyond, what it showed, and its limit.
    pub(crate) fn broken(&self, m: &Measurement, limits: &[Option<f64>]) -> Option<(&GuardRail, f64, f64)> {
        self.guard_rails.iter().zip(limits).find_map(|(g, limit)| {
            let (limit, value) = ((*limit)?, m.metric(&g.metric, &self.objective.metric)?.value);
            let (_, sign) = g.limit();
            (sign * value > sign * limit).then_some((g, value, limit))
        })
    }

    /// The mean of `metric` over usable trials of the current configuration.
    pub fn baseline(&self, metric: &str) -> Option<f64> {
        let key = assignment_key(&self.space.current()?);
        let values: Vec<f64> = self
            .trials
            .iter()
            .filter(|t| self.is_here(t) && assignment_key(&t.parameters) == key)
            .filter_map(|t| Some(t.usable()?.metric(metric, &self.objective.metric)?.value))
            .collect();
        if values.is_empty() { None } else { Some(crate::stats::mean(&values)) }
    }

    /// The next suggestion of `kind`: the current configuration first, then the designer's proposal, replaced or marked
    /// when it would silently repeat a trial.
    pub fn next(&self, kind: DesignerKind) -> Result<Proposal, SearchError> {
        if let Some(current) = self.unmeasured_current() {
            return Ok(Proposal::plain(current, "the current configuration, measured first as the baseline"));
        }
        // A careful study repeats nothing but what it knows to be safe.
        if let Some(t) = to_settle(self.trials).filter(|_| self.careful.is_none()) {
            let origin = t.replicate_of.unwrap_or(t.id);
            let why =
                format!("replicate of {origin}, because measurements of this configuration contradict each other");
            let parameters = t.parameters.clone();
            return Ok(Proposal { parameters, why, predicted: None, replicate_of: Some(origin), propensity: None });
        }
        if let Some(again) = self.remeasured() {
            return Ok(again);
        }
        if let Some(confidence) = self.careful {
            return super::safe::propose(self, confidence);
        }
        let proposal = kind.make().propose(self)?;
        Ok(self.unrepeated(proposal))
    }

    fn unmeasured_current(&self) -> Option<Assignment> {
        let current = self.space.current()?;
        let key = assignment_key(&current);
        let is_it = |t: &Trial| self.is_here(t) && t.marks.is_empty() && assignment_key(&t.parameters) == key;
        let there = self.trials.iter().any(is_it);
        if there { None } else { Some(current) }
    }

    /// The current configuration again, when its last measurement is `remeasure_every` trials ago.
    fn remeasured(&self) -> Option<Proposal> {
        let every = self.remeasure_every;
        if every == 0 || self.trials.len() < every {
            return None;
        }
        let parameters = self.space.current()?;
        let key = assignment_key(&parameters);
        let is_it = |t: &Trial| assignment_key(&t.parameters) == key;
        if self.trials[self.trials.len() - (every - 1).max(1)..].iter().any(is_it) {
            return None;
        }
        let first = self.trials.iter().find(|t| is_it(t))?;
        let origin = first.replicate_of.unwrap_or(first.id);
        let why = format!(
            "replicate of {origin}, because the current configuration is measured again every {every} trials, to see drift"
        );
        Some(Proposal { parameters, why, predicted: None, replicate_of: Some(origin), propensity: None })
    }

    /// The keys of everything tried or pending in this environment. Marked trials were not measured well and may be tried again.
    pub fn seen(&self) -> BTreeSet<String> {
        let kept = self.trials.iter().filter(|t| t.marks.is_empty() && self.is_here(t));
        kept.map(|t| assignment_key(&t.parameters)).collect()
    }

    /// No silent duplicates: an unmarked proposal that was tried before becomes an untried one near it, or a replicate
    /// that says so when there is none left.
    fn unrepeated(&self, proposal: Proposal) -> Proposal {
        if proposal.replicate_of.is_some() {
            return proposal;
        }
        let seen = self.seen();
        if !seen.contains(&assignment_key(&proposal.parameters)) {
            return proposal;
        }
        let mut rng = self.rng("unrepeated");
        let d = self.space.len();
        let start = self.space.to_unit(&proposal.parameters);
        for attempt in 0..24 * d.min(32) {
            // First one parameter is drawn anew, later more and more of them.
            let moves = 1 + attempt / (8 * d.min(32)).max(1);
            let mut unit = start.clone();
            for _ in 0..moves {
                let i = rng.gen_range(0..d);
                let (a, b) = self.space.unit_range(i);
                unit[i] = a + rng.r#gen::<f64>() * (b - a);
            }
            let other = self.space.from_unit(&unit);
            if !seen.contains(&assignment_key(&other)) {
                let why = format!("{} (that very configuration was tried; this one is near it)", proposal.why);
                return Proposal::plain(other, why);
            }
        }
        if let Some(all) = self.space.enumerate(100_000) {
            let left: Vec<Assignment> = all.into_iter().filter(|a| !seen.contains(&assignment_key(a))).collect();
            if !left.is_empty() {
                let pick = left[rng.gen_range(0..left.len())].clone();
                return Proposal::plain(pick, "one of the few configurations left untried");
            }
        }
        self.replicate()
    }

    /// A repeat of the best trial, for a space in which everything was tried.
    fn replicate(&self) -> Proposal {
        let losses = self.safe_losses();
        // Among equals the one with fewer repeats: the repeats spread over the best few.
        let repeats = |i: usize| {
            let key = assignment_key(&self.trials[i].parameters);
            self.trials.iter().filter(|t| assignment_key(&t.parameters) == key).count()
        };
        let mut ranked = losses;
        ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
        let best = ranked.iter().take(3).min_by_key(|(i, _)| repeats(*i)).map_or(0, |(i, _)| *i);
        let t = &self.trials[best];
        let origin = t.replicate_of.unwrap_or(t.id);
        Proposal {
            parameters: t.parameters.clone(),
            why: format!("replicate of {origin}, because every configuration of the space has been tried"),
            predicted: None,
            replicate_of: Some(origin),
            propensity: None,
        }
    }
}
