use foreglow_core::CoreError;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What can go wrong with a dataset. Every message names the place (file, row, column, value) and the remedy. Rows are
/// data rows, counted from 1 behind the header.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DatasetError {
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
    /// The path is nothing that can be read as a dataset.
    #[error("{}: {problem}; expected a folder with manifest.json and data.parquet, or a .parquet or .csv file", path.display())]
    NotADataset {
        /// What was given.
        path: PathBuf,
        /// What it is instead.
        problem: String,
    },
    /// `manifest.json` does not parse, is of an unknown version or contradicts the data.
    #[error("{}: {problem}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A Parquet file that cannot be read: truncated, damaged, or of a type that is not supported.
    #[error("{}: no readable Parquet: {problem}; the file may be truncated or damaged: copy or write it again", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        problem: String,
    },
    /// A CSV file whose shape is wrong.
    #[error("{}: {place}: {problem}", path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// Row or header.
        place: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Text where a number must stand.
    #[error(
        "{}: row {row}, column {column:?}: {value:?} is no number; correct it, leave the cell empty for a missing value, \
         or name the column as a label column if it holds text",
        path.display()
    )]
    Text {
        /// The file.
        path: PathBuf,
        /// Data row, from 1.
        row: usize,
        /// The column.
        column: String,
        /// What stands there.
        value: String,
    },
    /// A cell that is no time.
    #[error("{}: row {row}, column {column:?}: {problem}", path.display())]
    Time {
        /// The file.
        path: PathBuf,
        /// Data row, from 1.
        row: usize,
        /// The timestamp column.
        column: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A cell that is no split name or no truth value.
    #[error("{}: row {row}, column {column:?}: {value:?} is none of {expected}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Data row, from 1.
        row: usize,
        /// The column.
        column: String,
        /// What stands there.
        value: String,
        /// What may stand there.
        expected: &'static str,
    },
    /// A column that is needed and not there.
    #[error("{}: no column {column:?}; the columns are: {present}", path.display())]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        column: String,
        /// What there is.
        present: String,
    },
    /// Columns whose roles cannot be told.
    #[error("{}: {problem}", path.display())]
    Columns {
        /// The file.
        path: PathBuf,
        /// What is unclear and which option settles it.
        problem: String,
    },
    /// No row at all.
    #[error("{}: no data rows; expected a header and at least one row", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A series that is not there.
    #[error("{dataset}: no series {id:?}; the first ones are: {present}")]
    NoSeries {
        /// The dataset.
        dataset: String,
        /// Name or glob that was asked for.
        id: String,
        /// Some of what there is.
        present: String,
    },
    /// A metric that is not there.
    #[error("{dataset}: no metric {metric:?}; the metrics are: {present}")]
    NoMetric {
        /// The dataset.
        dataset: String,
        /// What was asked for.
        metric: String,
        /// What there is.
        present: String,
    },
    /// Manifest and data contradict each other.
    #[error("{}: {problem}; the dataset is inconsistent: write or fetch it again", path.display())]
    Inconsistent {
        /// The file.
        path: PathBuf,
        /// The contradiction.
        problem: String,
    },
    /// A parameter out of its range.
    #[error("{field} = {value}: expected {allowed}")]
    Param {
        /// The parameter.
        field: &'static str,
        /// What was given.
        value: String,
        /// What may be given.
        allowed: &'static str,
    },
    /// A series whose time range is far larger than its rows justify.
    #[error(
        "series {series:?}: a grid of step {step} from {start} to {end} has {cells} cells, the limit is {limit}; \
         look for a wrong timestamp or take a larger step"
    )]
    Grid {
        /// The series.
        series: String,
        /// The step.
        step: String,
        /// First instant.
        start: String,
        /// Last instant.
        end: String,
        /// Cells of the grid.
        cells: u64,
        /// Most that is made.
        limit: u64,
    },
    /// A name that the catalogue does not hold, or one that cannot be fetched.
    #[error("{name}: {problem}")]
    Catalogue {
        /// The entry.
        name: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A download that failed.
    #[error("{url}: {problem}; nothing was kept")]
    Download {
        /// Where from.
        url: String,
        /// What happened.
        problem: String,
    },
    /// Bytes that are not the expected ones.
    #[error("{place}: sha256 is {actual}, expected {expected}; {remedy}")]
    Checksum {
        /// URL or file.
        place: String,
        /// What was expected.
        expected: String,
        /// What came.
        actual: String,
        /// What to do.
        remedy: &'static str,
    },
    /// From the vocabulary.
    #[error(transparent)]
    Core(#[from] CoreError),
}

impl DatasetError {
    pub(crate) fn io(path: &Path, action: &'static str, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), action, source }
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers pass errors and literals")]
    pub(crate) fn parquet(path: &Path, problem: impl ToString) -> Self {
        Self::Parquet { path: path.to_owned(), problem: problem.to_string() }
    }
}

/// Names for a message: the first ones, and how many more there are.
pub(crate) fn some_of<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    let all: Vec<String> = names.into_iter().map(|s| s.as_ref().to_owned()).collect();
    let text = all.iter().take(12).cloned().collect::<Vec<_>>().join(", ");
    match all.len().checked_sub(12) {
        Some(more) if more > 0 => format!("{text} and {more} more"),
        _ => text,
    }
}
