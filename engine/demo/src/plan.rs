//! How long each part takes, what the swarm is like, and what goes wrong in it.

use foreglow_core::{Seed, Step};
use foreglow_lab::{Fault, FaultKind, LabConfig};
use std::time::Duration;

/// The distance of ticks. Short, so that a minute holds enough of them to learn from.
pub(crate) const STEP_MS: i64 = 250;
/// A day of the load's shape. Short, so that every part sees whole days: a stretch of whole days has the mean load
/// whenever it begins.
pub(crate) const DAY: Duration = Duration::from_secs(6);
/// What is taken as normal: ten days.
pub(crate) const NORMAL: Duration = Duration::from_mins(1);
/// Watching before the first fault, between the faults and after the last.
pub(crate) const CALM: Duration = Duration::from_secs(8);
/// How long a fault lasts.
pub(crate) const FAULT: Duration = Duration::from_secs(9);
/// Effects outlast their cause: queues drain, caches warm up. An incident that opens within this time after a fault is
/// put down to it.
pub(crate) const AFTERMATH: Duration = Duration::from_secs(4);
/// How far ahead the forecast looks: a day.
pub(crate) const HORIZON: Duration = DAY;
/// What is thrown away after a change of parameters, before measuring.
pub(crate) const SETTLE: Duration = Duration::from_millis(1500);
/// How many configurations are tried.
pub(crate) const TRIALS: usize = 11;
/// Days over which the first and the last configuration are measured.
pub(crate) const COMPARED_DAYS: u32 = 2;

/// The swarm.
pub(crate) fn lab(seed: u64) -> LabConfig {
    LabConfig {
        seed: Seed(seed),
        step: Step::from_ms(STEP_MS).expect("the step is positive"),
        day: DAY,
        ..LabConfig::default()
    }
}

/// What goes wrong while the server watches, in order.
pub(crate) fn faults() -> [Fault; 2] {
    [
        Fault { kind: FaultKind::SlowAgent, agent: Some(2), duration: FAULT },
        Fault { kind: FaultKind::ErrorBurst, agent: Some(4), duration: FAULT },
    ]
}

/// How many ticks a stretch has.
pub(crate) fn ticks(stretch: Duration) -> usize {
    (stretch.as_millis() / STEP_MS as u128) as usize
}
