use crate::Value;

/// What can be wrong with a space, a study, a trial or a table; every message names the place and the remedy.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SearchError {
    /// A parameter's declaration is not usable.
    #[error("parameter `{name}`: {problem}")]
    Parameter {
        /// The parameter's name, or its position when it has none.
        name: String,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// The space as a whole is not usable.
    #[error("search space: {problem}")]
    Space {
        /// What is wrong and what was expected.
        problem: String,
    },
    /// A value does not belong to its parameter.
    #[error("value {value} of parameter `{name}` is not allowed: expected {expected}")]
    Value {
        /// The parameter's name.
        name: String,
        /// The value that was given.
        value: Value,
        /// The values that the parameter takes.
        expected: String,
    },
    /// An assignment has a name too many or too few.
    #[error("assignment: {problem}")]
    Assignment {
        /// What is wrong and what was expected.
        problem: String,
    },
    /// A field of a study is not usable.
    #[error("study field `{field}`: {problem}")]
    Study {
        /// The field's name.
        field: &'static str,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// There is no designer of that name.
    #[error("unknown designer `{name}`: choose one of {known}")]
    Designer {
        /// The name that was given.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// A trial is not there, or not in the state that the call needs.
    #[error("trial {id}: {problem}")]
    Trial {
        /// The trial's number.
        id: u64,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Nothing may be suggested now: a change is in flight, the study stopped itself, or safety rules forbid it.
    #[error("nothing is suggested now: {because}")]
    HeldBack {
        /// Why, and until when or what to do.
        because: String,
    },
    /// All trials of the budget have been suggested.
    #[error("the budget of {trials} trials is spent: raise `budget.trials` or stop the study")]
    Budget {
        /// The budget.
        trials: usize,
    },
    /// A measurement is not a usable number.
    #[error("measurement of `{metric}`: {problem}")]
    Measurement {
        /// The metric.
        metric: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The surrogate model could not be fitted.
    #[error("surrogate model of `{metric}`: {problem}")]
    Surrogate {
        /// The metric that was to be modelled.
        metric: String,
        /// What went wrong.
        problem: String,
    },
    /// A table of measured configurations is not usable.
    #[error("table: {problem}")]
    Table {
        /// What is wrong, with row and column.
        problem: String,
    },
    /// The history of configurations and metrics cannot be cut into trials.
    #[error("cutting trials: {problem}")]
    Cut {
        /// What is wrong and what was expected.
        problem: String,
    },
    /// A saved study cannot be read.
    #[error("saved study: {problem}")]
    Snapshot {
        /// What is wrong and what was expected.
        problem: String,
    },
    /// A line of the ask/tell protocol is not usable.
    #[error("line {line}: {problem}")]
    Line {
        /// The line's number, from 1.
        line: u64,
        /// What is wrong and what was expected.
        problem: String,
    },
}
