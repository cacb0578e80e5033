use foreglow_core::CoreError;
use foreglow_datasets::DatasetError;
use foreglow_lab::LabError;
use foreglow_models::ModelError;
use foreglow_search::SearchError;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a command did not do what was asked. Messages name the place, the value and the remedy.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainError {
    /// Options that contradict each other or miss something.
    #[error("{0}")]
    Usage(String),
    /// A file given as configuration that cannot be used.
    #[error("{}: {problem}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Data that the task cannot work on.
    #[error("{0}")]
    Data(String),
    /// A gate did not hold; nothing has changed.
    #[error("{0}")]
    Refused(String),
    /// Stopped by Ctrl-C; what was finished was kept.
    #[error("interrupted: {0}")]
    Interrupted(String),
    /// The file system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// From reading or writing data.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// From fitting, scoring or the registry.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// From the search.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// From the swarm.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// From the vocabulary: selectors, steps, `signals.toml`.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// A report that cannot be written as JSON.
    #[error("a report cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl TrainError {
    /// An error of the file system.
    pub(crate) fn io(path: &Path, action: &'static str, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), action, source }
    }

    /// 2 for usage and configuration, 1 for work that failed.
    pub fn exit_code(&self) -> u8 {
        use DatasetError as D;
        match self {
            Self::Usage(_)
            | Self::Config { .. }
            | Self::Core(_)
            | Self::Dataset(
                D::Param { .. }
                | D::NotADataset { .. }
                | D::NoSeries { .. }
                | D::NoMetric { .. }
                | D::NoColumn { .. }
                | D::Columns { .. }
                | D::Catalogue { .. },
            )
            | Self::Model(ModelError::Parameter { .. } | ModelError::Recipe { .. })
            | Self::Search(
                SearchError::Designer { .. }
                | SearchError::Parameter { .. }
                | SearchError::Space { .. }
                | SearchError::Study { .. },
            ) => 2,
            // A path that is not there was most likely mistyped.
            Self::Dataset(D::Io { source, .. })
            | Self::Model(ModelError::Io { source, .. })
            | Self::Io { source, .. }
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                2
            }
            _ => 1,
        }
    }
}
