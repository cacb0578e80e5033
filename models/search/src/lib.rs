//! Parameter search: spaces, studies, designers, recommendations.
//!
//! The words are those of Google Vizier: a [`SearchSpace`] says what may be varied, a [`Study`] searches it for an
//! [`Objective`], a designer proposes a [`Trial`] (`ask`), a [`Measurement`] completes it (`tell`). Trials also come from
//! live metrics ([`cut`]). A [`Recommendation`] says what to change, what to expect of it and how sure that is.
//!
//! Everything is pure: no clock, no I/O, and the next suggestion is a function of specification, seed and trials alone.

mod acquisition;
mod ascent;
pub mod backtest;
mod context;
pub mod cut;
pub mod designers;
mod error;
pub mod experiment;
mod gp;
mod minimise;
mod noise;
mod objective;
mod pareto;
pub mod recommend;
pub mod space;
mod stats;
pub mod stdio;
mod study;
mod surrogate;
mod trial;
mod value;

pub use context::Context;
pub use designers::{Ask, Designer, DesignerKind, Proposal};
pub use error::SearchError;
pub use objective::{Aggregate, Bound, Goal, GuardRail, Objective};
pub use recommend::{Advice, AdviceOptions, Recommendation, Relative};
pub use space::{ChangeCost, Condition, ParameterKind, ParameterSpec, SearchSpace, SpaceSpec};
pub use study::{
    AppliedChange, Drift, Kind, Mode, SafetySpec, Study, StudySpec, TrialBudget, Trigger, TriggerKind, TriggerSpec,
    Turn,
};
pub use surrogate::{Effect, MOST_POINTS, Surrogate};
pub use trial::{Mark, Measurement, MetricValue, Prediction, Source, Trial, TrialState};
pub use value::{Assignment, Value, assignment_key};
