use thiserror::Error;

/// What can go wrong in the vocabulary itself. Messages name the value and the remedy.
#[derive(Debug, Error, Clone, PartialEq)]
#[non_exhaustive]
pub enum CoreError {
    /// Text that is no time.
    #[error("{text:?} is no timestamp: expected epoch milliseconds or RFC 3339 such as 2026-01-01T00:00:00Z")]
    Timestamp {
        /// What was given.
        text: String,
    },
    /// A number that can only be epoch seconds.
    #[error("timestamp {value} lies in 1973 or earlier: did you send seconds? expected epoch milliseconds")]
    Seconds {
        /// What was given.
        value: i64,
    },
    /// A number that can only be epoch microseconds or nanoseconds.
    #[error(
        "timestamp {value} lies behind the year 5138: did you send micro- or nanoseconds? expected epoch milliseconds"
    )]
    Microseconds {
        /// What was given.
        value: i64,
    },
    /// A duration that is no step.
    #[error("{text:?} is no step: expected a positive duration such as 10s, 5m, 1h30m")]
    Step {
        /// What was given.
        text: String,
    },
    /// A selector that does not parse.
    #[error("selector {text:?}: {problem} at byte {at}; expected a form such as http_errors_total{{job=\"api\"}}")]
    Selector {
        /// The whole selector.
        text: String,
        /// What is wrong.
        problem: String,
        /// Byte offset of the problem.
        at: usize,
    },
    /// `signals.toml` that does not parse or contradicts itself.
    #[error("signals: {place}: {problem}")]
    Signals {
        /// Field or line.
        place: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A frame whose parts do not fit.
    #[error("frame: {0}")]
    Frame(String),
    /// A false-alarm budget out of range.
    #[error("budget of {per_day} false alerts a day: expected a number above 0 and at most 86400")]
    Budget {
        /// What was given.
        per_day: f64,
    },
}
