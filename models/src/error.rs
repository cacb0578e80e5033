use foreglow_core::CoreError;
use std::path::PathBuf;
use thiserror::Error;

/// What can go wrong when fitting, saving or loading models.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// From the vocabulary.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// A parameter out of range.
    #[error("{field} = {value}: expected {expected}")]
    Parameter {
        /// Which field, with its table.
        field: String,
        /// What was given.
        value: String,
        /// The allowed range.
        expected: String,
    },
    /// A recipe that does not parse.
    #[error("recipe, {place}: {problem}")]
    Recipe {
        /// Line or field.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// Data that no model can be fitted on.
    #[error("cannot fit {what}: {problem}")]
    Data {
        /// Which group, series or model.
        what: String,
        /// What is missing and what to do.
        problem: String,
    },
    /// A saved artifact that is not what it says.
    #[error("artifact {place}: {problem}")]
    Artifact {
        /// File or tensor.
        place: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The file system.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The tensor library.
    #[error("tensor computation failed: {0}")]
    Tensor(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl ModelError {
    /// A parameter error.
    #[expect(clippy::needless_pass_by_value, reason = "callers pass numbers and literals")]
    pub(crate) fn parameter(field: &str, value: impl ToString, expected: &str) -> Self {
        Self::Parameter { field: field.to_owned(), value: value.to_string(), expected: expected.to_owned() }
    }

    /// A data error.
    pub(crate) fn data(what: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Data { what: what.into(), problem: problem.into() }
    }

    /// An artifact error.
    pub(crate) fn artifact(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Artifact { place: place.into(), problem: problem.into() }
    }
}
