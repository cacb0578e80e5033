//! A real small swarm on this machine, with tunable parameters and faults on command.
//!
//! Six agents (OS threads, each with its own single-threaded runtime) pull tasks from bounded queues and do real work:
//! hashing, compression, sorting, a lock that all share, and loopback TCP calls to each other. Tasks arrive in an open
//! loop (Poisson, seeded) whose rate follows a daily shape squeezed into minutes. Only one thing is modelled rather than
//! done: the wait of the store behind a cache miss, which is a timer of some milliseconds, so that the swarm has
//! something to wait for without loading the machine.
//!
//! What is measured is measured: the arrivals repeat with the seed, the times do not.
//!
//! ```no_run
//! use foreglow_lab::{Fault, FaultKind, LabConfig, Swarm};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), foreglow_lab::LabError> {
//! let swarm = Swarm::start(LabConfig::default())?;
//! let mut ticks = swarm.ticks();
//! swarm.inject(Fault { kind: FaultKind::SlowAgent, agent: Some(2), duration: Duration::from_secs(20) })?;
//! while let Some(tick) = ticks.next_blocking() {
//!     let batch = tick.to_batch();
//!     assert!(!batch.is_empty());
//!     # break;
//! }
//! swarm.stop();
//! # Ok(())
//! # }
//! ```

mod agent;
mod cache;
mod config;
mod cpu;
mod dispatch;
mod error;
mod fault;
mod mischief;
mod parameters;
mod queue;
mod record;
mod shared;
mod supervisor;
mod swarm;
mod tick;
mod wire;
mod work;
mod worker;

pub use config::LabConfig;
pub use error::LabError;
pub use fault::{Event, Fault, FaultKind};
pub use parameters::{Parameters, Placement};
pub use record::{Recording, Row, Scheduled, record};
pub use shared::{Edge, Topology};
pub use swarm::{Swarm, Ticks};
pub use tick::{AGENT_METRICS, AgentSample, SWARM_METRICS, SwarmSample, Tick};
