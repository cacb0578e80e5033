use crate::fault::{Event, Fault};
use crate::tick::{SWARM_METRICS, Tick};
use crate::{LabConfig, LabError, Swarm};
use foreglow_core::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// A fault and when to inject it, counted from the first tick's step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheduled {
    /// Time since the start.
    pub at: Duration,
    /// What goes wrong.
    pub fault: Fault,
}

/// What a swarm did, as plain data.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// What it was started with.
    pub config: LabConfig,
    /// One tick a step.
    pub ticks: Vec<Arc<Tick>>,
    /// The faults, in order.
    pub events: Vec<Event>,
}

/// One row of the tidy layout: one series at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The end of the step.
    pub timestamp: Timestamp,
    /// `agent-0`, `agent-1`, ... or `swarm`.
    pub series_id: String,
    /// One value for each of [`Recording::columns`]; NaN where there is none.
    pub values: Vec<f64>,
    /// Whether a fault that this series shows was active in the step. The swarm shows every fault.
    pub label: bool,
}

/// Runs a swarm for `duration`, injects the faults of `schedule` when their time has come, and keeps every tick.
///
/// `progress` is called after each tick with the tick and the part that is done, 0 to 1; it says whether to go on. What was
/// recorded before it said no is kept.
///
/// # Errors
/// As [`Swarm::start`] and [`Swarm::inject`]; a fault that is due after the end.
pub fn record(
    config: LabConfig,
    schedule: &[Scheduled],
    duration: Duration,
    mut progress: impl FnMut(&Tick, f64) -> bool,
) -> Result<Recording, LabError> {
    for s in schedule {
        s.fault.check(config.agents)?;
        if s.at >= duration {
            let problem = format!("is due at {:?}, after the end of the recording at {duration:?}", s.at);
            return Err(LabError::Fault { kind: s.fault.kind.to_string(), problem });
        }
    }
    let mut schedule = schedule.to_vec();
    schedule.sort_by_key(|s| s.at);
    let mut schedule = schedule.into_iter().peekable();
    let steps = (duration.as_millis() / config.step.ms() as u128).max(1) as usize;
    let step = Duration::from_millis(config.step.ms() as u64);
    let swarm = Swarm::start(config.clone())?;
    let mut listener = swarm.ticks();
    let mut ticks = Vec::with_capacity(steps);
    while ticks.len() < steps {
        // Faults begin at ticks: a schedule finer than the step could not be told apart in the data.
        while let Some(s) = schedule.next_if(|s| s.at <= step * ticks.len() as u32) {
            swarm.inject(s.fault)?;
        }
        let Some(tick) = listener.next_blocking() else { return Err(LabError::Stopped) };
        let go_on = progress(&tick, (ticks.len() + 1) as f64 / steps as f64);
        ticks.push(tick);
        if !go_on {
            break;
        }
    }
    let events = swarm.stop();
    Ok(Recording { config, ticks, events })
}

impl Recording {
    /// The metric columns: those of the swarm, which begin with those of the agents.
    pub fn columns() -> &'static [&'static str] {
        &SWARM_METRICS
    }

    /// The recording in the tidy layout: series after series, each in order of time.
    pub fn rows(&self) -> Vec<Row> {
        let step = self.config.step.ms();
        let agents = (0..self.config.agents).flat_map(|a| {
            self.ticks.iter().map(move |t| {
                let mut values = t.agents[a].values().to_vec();
                values.resize(SWARM_METRICS.len(), f64::NAN);
                let label = self.events.iter().any(|e| e.affects(a) && e.overlaps(t.timestamp, step));
                Row { timestamp: t.timestamp, series_id: format!("agent-{a}"), values, label }
            })
        });
        let swarm = self.ticks.iter().map(|t| {
            let label = self.events.iter().any(|e| e.overlaps(t.timestamp, step));
            Row { timestamp: t.timestamp, series_id: "swarm".to_owned(), values: t.swarm.values().to_vec(), label }
        });
        agents.chain(swarm).collect()
    }
}
