use foreglow_core::CoreError;
use foreglow_models::ModelError;
use foreglow_search::SearchError;
use std::path::PathBuf;
use thiserror::Error;

/// What keeps the engine from starting, or a request from being answered.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// From the vocabulary.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// From models and artifacts.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// From the search.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// The configuration is not usable.
    #[error("configuration, {place}: {problem}")]
    Config {
        /// Field or line.
        place: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The embedded store refused.
    #[error("store: {0}")]
    Store(#[from] rusqlite::Error),
    /// The state folder cannot be used.
    #[error("state folder {}: {problem}", path.display())]
    State {
        /// Which folder.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The file system or the network.
    #[error("{what}: {source}")]
    Io {
        /// Which file or address.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A part that answers requests is gone; the log says why.
    #[error("{0} has stopped; see the log")]
    Stopped(&'static str),
    /// A value that cannot be written as JSON or read back.
    #[error("json: {0}")]
    Json(#[from] serde_json::Error),
}

impl EngineError {
    pub(crate) fn config(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Config { place: place.into(), problem: problem.into() }
    }

    pub(crate) fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }
}
