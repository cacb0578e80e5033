use std::fmt::Display;
use thiserror::Error;

/// What can go wrong in the lab. Messages name the value and what is allowed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LabError {
    /// A field of [`LabConfig`](crate::LabConfig) or [`Parameters`](crate::Parameters) out of range.
    #[error("{field} = {value}: expected {expected}")]
    OutOfRange {
        /// Which field.
        field: String,
        /// What was given.
        value: String,
        /// What is allowed.
        expected: String,
    },
    /// A parameter name that the swarm does not have.
    #[error("unknown parameter {name:?}: expected one of {known}")]
    UnknownParameter {
        /// What was given.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A fault that cannot be injected.
    #[error("fault {kind}: {problem}")]
    Fault {
        /// The kind of fault.
        kind: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The operating system refused a thread, a socket or a runtime.
    #[error("cannot start {what}: {source}")]
    Start {
        /// What was to be started.
        what: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The swarm has stopped.
    #[error("the swarm has stopped")]
    Stopped,
}

impl LabError {
    pub(crate) fn range(field: impl Into<String>, value: impl Display, expected: impl Into<String>) -> Self {
        Self::OutOfRange { field: field.into(), value: format!("{value}"), expected: expected.into() }
    }

    pub(crate) fn start(what: impl Into<String>, source: std::io::Error) -> Self {
        Self::Start { what: what.into(), source }
    }
}
