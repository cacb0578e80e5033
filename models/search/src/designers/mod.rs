//! Who proposes the next configuration.
//!
//! A [`Designer`] is a pure function of what an [`Ask`] shows: space, seed and trials so far. It keeps no state of its
//! own, so every designer can be stopped and resumed at any trial. To add one: a file here, a variant of
//! [`DesignerKind`], a line in its `make`; the shared suite in `suite.rs` then runs over it.

mod annealing;
mod auto;
mod bandit;
mod bayes;
mod cmaes;
mod de;
mod genetic;
mod grid;
mod model;
mod nsga2;
mod random;
mod repeats;
mod safe;
pub(crate) mod sobol;
#[cfg(test)]
mod suite;
mod tpe;
mod transfer;

pub use annealing::Annealing;
pub use auto::{Auto, choose};
pub use bandit::Bandit;
pub use bayes::Bayes;
pub use cmaes::CmaEs;
pub use de::DifferentialEvolution;
pub use genetic::Genetic;
pub use grid::Grid;
pub use nsga2::Nsga2;
pub use random::Random;
pub use sobol::Sobol;
pub use tpe::Tpe;

use crate::context::{Context, environment};
use crate::study::to_settle;
use crate::trial::{Prediction, Trial, TrialState};
use crate::{Assignment, GuardRail, Objective, SearchError, SearchSpace, assignment_key};
use foreglow_core::Seed;
use rand::Rng;
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// A configuration to try.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// The configuration.
    pub parameters: Assignment,
    /// Why this one.
    pub why: String,
    /// What is expected of it, from designers that have a model.
    pub predicted: Option<Prediction>,
    /// The trial it repeats on purpose.
    pub replicate_of: Option<u64>,
    /// The probability with which it was drawn, from designers that draw among a few.
    pub propensity: Option<f64>,
}

impl Proposal {
    /// A proposal without a model behind it.
    pub fn plain(parameters: Assignment, why: impl Into<String>) -> Self {
        Self { parameters, why: why.into(), predicted: None, replicate_of: None, propensity: None }
    }
}

/// Proposes configurations from the history of trials.
pub trait Designer {
    /// The next configuration to try: a pure function of `ask`.
    ///
    /// # Errors
    /// Only when the designer cannot work on this space at all; the message says which one can.
    fn propose(&self, ask: &Ask<'_>) -> Result<Proposal, SearchError>;
}

/// The closed list of designers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DesignerKind {
    /// Picks one of the others by space and budget, and says why.
    #[default]
    Auto,
    /// A regular grid in shuffled order.
    Grid,
    /// Uniform draws.
    Random,
    /// A scrambled Sobol sequence.
    Sobol,
    /// A steady-state genetic algorithm.
    Genetic,
    /// The same for several objectives.
    Nsga2,
    /// Differential evolution.
    De,
    /// Simulated annealing.
    Annealing,
    /// Covariance matrix adaptation.
    Cmaes,
    /// A tree-structured Parzen estimator.
    Tpe,
    /// A Gaussian process with log expected improvement.
    Bayes,
    /// Linear Thompson sampling over a few arms, context included.
    Bandit,
}

impl DesignerKind {
    /// All designers that exist.
    pub const ALL: [Self; 12] = [
        Self::Auto,
        Self::Grid,
        Self::Random,
        Self::Sobol,
        Self::Genetic,
        Self::Nsga2,
        Self::De,
        Self::Annealing,
        Self::Cmaes,
        Self::Tpe,
        Self::Bayes,
        Self::Bandit,
    ];

    /// The name used in files and commands.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Grid => "grid",
            Self::Random => "random",
            Self::Sobol => "sobol",
            Self::Genetic => "genetic",
            Self::Nsga2 => "nsga2",
            Self::De => "de",
            Self::Annealing => "annealing",
            Self::Cmaes => "cmaes",
            Self::Tpe => "tpe",
            Self::Bayes => "bayes",
            Self::Bandit => "bandit",
        }
    }

    /// The designer with its default settings.
    pub fn make(self) -> Box<dyn Designer> {
        match self {
            Self::Auto => Box::new(Auto),
            Self::Grid => Box::new(Grid),
            Self::Random => Box::new(Random),
            Self::Sobol => Box::new(Sobol),
            Self::Genetic => Box::new(Genetic::default()),
            Self::Nsga2 => Box::new(Nsga2::default()),
            Self::De => Box::new(DifferentialEvolution::default()),
            Self::Annealing => Box::new(Annealing::default()),
            Self::Cmaes => Box::new(CmaEs::default()),
            Self::Tpe => Box::new(Tpe::default()),
            Self::Bayes => Box::new(Bayes::default()),
            Self::Bandit => Box::new(Bandit::default()),
        }
    }
}

impl fmt::Display for DesignerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DesignerKind {
    type Err = SearchError;

    fn from_str(name: &str) -> Result<Self, SearchError> {
        Self::ALL
            .into_iter()
            .find(|k| k.name() == name)
            .ok_or_else(|| SearchError::Designer { name: name.to_owned(), known: Self::ALL.map(Self::name).join(", ") })
    }
}

impl TryFrom<String> for DesignerKind {
    type Error = SearchError;

    fn try_from(name: String) -> Result<Self, SearchError> {
        name.parse()
    }
}

impl From<DesignerKind> for String {
    fn from(kind: DesignerKind) -> Self {
        kind.name().to_owned()
    }
}

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
        let sign = self.objective.goal.sign();
        let usable = self.trials.iter().enumerate().filter(|(_, t)| self.is_here(t) && !self.refused(t));
        usable.filter_map(|(i, t)| Some((i, sign * t.usable()?.value))).collect()
    }

    /// Losses of completed trials only: what a designer may breed from.
    pub fn safe_losses(&self) -> Vec<(usize, f64)> {
        self.losses().into_iter().filter(|(i, _)| self.trials[*i].state == TrialState::Completed).collect()
    }

    /// Whether a trial failed, or was unsafe for a reason that no measured guard-rail shows: then the configuration itself is
    /// what is to be kept away from.
    pub(crate) fn refused(&self, t: &Trial) -> bool {
        match t.state {
            TrialState::Failed { .. } => !t.was_stopped(),
            TrialState::Unsafe { .. } => !self.guard_rails.iter().any(|g| self.breaks(g, t)),
            _ => false,
        }
    }

    /// Whether a trial measured a guard-rail beyond its limit.
    fn breaks(&self, rail: &GuardRail, t: &Trial) -> bool {
        let (bound, sign) = rail.limit();
        let measured = t.usable().and_then(|m| m.metric(&rail.metric, &self.objective.metric));
        let limit = bound.resolve(self.baseline(&rail.metric));
        limit.zip(measured).is_some_and(|(limit, m)| sign * m.value > sign * limit)
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
            return safe::propose(self, confidence);
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
