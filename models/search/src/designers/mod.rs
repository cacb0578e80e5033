//! Who proposes the next configuration.
//!
//! A [`Designer`] is a pure function of what an [`Ask`] shows: space, seed and trials so far. It keeps no state of its
//! own, so every designer can be stopped and resumed at any trial. To add one: a file here, a variant of
//! [`DesignerKind`], a line in its `make`; the shared suite in `suite.rs` then runs over it.

mod annealing;
mod ask;
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
pub use ask::Ask;
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

use crate::trial::Prediction;
use crate::{Assignment, SearchError};
use serde::{Deserialize, Serialize};
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
