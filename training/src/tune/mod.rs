//! Tuning by running a command: a study file says what may vary and what is good, the command is run with proposed values,
//! its metrics are read, every trial goes to a journal, and in the end stands a recommendation.
//!
//! The study itself (space, designers, rules, posterior) is that of `foreglow-search`; here is only what touches the
//! world: files, processes, the terminal. Unix only: commands run in process groups of their own.

mod command;
mod confirm;
pub(crate) mod emit;
mod file;
mod journal;
mod measure;
mod metrics;
mod noise;
mod process;
pub(crate) mod report;
mod session;
mod space;

pub use command::Shell;
pub use emit::{Emit, Setting};
pub use file::{RunSpec, StudyFile};
pub use journal::Journal;
pub use metrics::MetricSpec;
pub use session::{Outcome, Session};
pub use space::{Narrow, READY_MADE};
