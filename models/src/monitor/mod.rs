//! The monitor: from metric batches to scores, findings and incidents.
//!
//! Used by serving and by backtests alike, so what is measured offline is what runs live.

mod access;
mod clock;
mod engine;
mod gridding;
mod group;
mod incident;
mod intake;
mod kind;
mod lane;
mod observation;
mod options;
mod pace;
mod past;
mod presence;
mod recent;
pub mod refusal;
mod ring;
mod route;
mod snapshot;
mod suppress;

pub use engine::{Monitor, group_id};
pub use observation::{
    GroupInfo, IncidentEvent, Observation, Refusal, SignalHistory, SignalScore, StepResult, StepStatus,
};
pub use options::MonitorOptions;

pub(crate) use gridding::Gridded;
pub(crate) use group::Detail;

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
