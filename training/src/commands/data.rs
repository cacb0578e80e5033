use crate::TrainError;
use foreglow_datasets::{Dataset, Fractions, OpenOptions, TimeUnit};
use std::path::{Path, PathBuf};

/// Which data, and, for plain tables, what their columns mean.
#[derive(Debug, Clone, clap::Args)]
pub struct DataArgs {
    /// A dataset folder (manifest.json and data.parquet), a .parquet file or a .csv file.
    #[arg(long, value_name = "PATH")]
    pub data: PathBuf,
    #[command(flatten)]
    choice: ChoiceArgs,
}

/// What of the data, and what its columns mean.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ChoiceArgs {
    /// Only series whose id matches this glob, such as 'machine-1-*'.
    #[arg(long, value_name = "GLOB")]
    series: Option<String>,
    /// Only these metrics, separated by commas.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    metrics: Option<Vec<String>>,
    #[command(flatten)]
    columns: ColumnArgs,
}

/// Columns of plain tables; tidy folders need none of these.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Columns of plain tables (recognised by their usual names otherwise)")]
struct ColumnArgs {
    /// The timestamp column.
    #[arg(long, value_name = "COLUMN")]
    timestamp: Option<String>,
    /// Unit of numeric timestamps: ms, s, us or ns.
    #[arg(long, value_name = "UNIT", default_value = "ms")]
    time_unit: String,
    /// The column that names the series.
    #[arg(long, value_name = "COLUMN")]
    series_column: Option<String>,
    /// Columns that are labels, separated by commas.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    label_columns: Vec<String>,
    /// Long tables: the column that names the metric.
    #[arg(long, value_name = "COLUMN")]
    metric_column: Option<String>,
    /// Long tables: the column that holds the value.
    #[arg(long, value_name = "COLUMN")]
    value_column: Option<String>,
    /// The truth column: 1 anomalous, 0 normal, empty not labelled.
    #[arg(long, value_name = "COLUMN")]
    truth_column: Option<String>,
    /// The column that names the split: train, val, test, unused.
    #[arg(long, value_name = "COLUMN")]
    split_column: Option<String>,
    /// Share of train rows where there is no split column.
    #[arg(long, value_name = "SHARE", default_value_t = Fractions::default().train)]
    train_share: f64,
    /// Share of validation rows where there is no split column.
    #[arg(long, value_name = "SHARE", default_value_t = Fractions::default().val)]
    val_share: f64,
    /// Separator of CSV fields: one character, or 'tab'.
    #[arg(long, value_name = "CHAR")]
    separator: Option<String>,
}

impl ChoiceArgs {
    /// How to open data.
    fn options(&self) -> Result<OpenOptions, TrainError> {
        let c = &self.columns;
        let fractions = Fractions { train: c.train_share, val: c.val_share };
        fractions.check()?;
        let separator = match c.separator.as_deref() {
            None => None,
            Some("tab") => Some(b'\t'),
            Some(s) if s.len() == 1 => Some(s.as_bytes()[0]),
            Some(s) => {
                return Err(TrainError::Usage(format!("--separator {s:?}: expected one ASCII character, or 'tab'")));
            }
        };
        Ok(OpenOptions {
            series: self.series.clone(),
            metrics: self.metrics.clone(),
            timestamp: c.timestamp.clone(),
            time_unit: TimeUnit::parse(&c.time_unit)?,
            series_column: c.series_column.clone(),
            label_columns: c.label_columns.clone(),
            metric_column: c.metric_column.clone(),
            value_column: c.value_column.clone(),
            truth_column: c.truth_column.clone(),
            split_column: c.split_column.clone(),
            fractions,
            separator,
        })
    }

    /// The first option that was given.
    pub(super) fn given(&self) -> Option<&'static str> {
        let c = &self.columns;
        let choice = self.series.as_ref().map(|_| "--series").or(self.metrics.as_ref().map(|_| "--metrics"));
        let columns = [
            (&c.timestamp, "--timestamp"),
            (&c.series_column, "--series-column"),
            (&c.metric_column, "--metric-column"),
            (&c.value_column, "--value-column"),
            (&c.truth_column, "--truth-column"),
            (&c.split_column, "--split-column"),
            (&c.separator, "--separator"),
        ];
        let labels = (!c.label_columns.is_empty()).then_some("--label-columns");
        choice.or(labels).or_else(|| columns.into_iter().find(|(value, _)| value.is_some()).map(|(_, name)| name))
    }

    /// Opens data.
    ///
    /// # Errors
    /// As [`Dataset::open`], and for a time unit, a separator or shares that mean nothing.
    pub(super) fn open(&self, path: &Path) -> Result<Dataset, TrainError> {
        Ok(Dataset::open(path, &self.options()?)?)
    }
}

impl DataArgs {
    /// The first option beside `--data` that was given, for commands that read no dataset.
    pub(super) fn given_beside_path(&self) -> Option<&'static str> {
        self.choice.given()
    }

    /// How to open the data.
    ///
    /// # Errors
    /// For a time unit, a separator or shares that mean nothing.
    pub fn options(&self) -> Result<OpenOptions, TrainError> {
        self.choice.options()
    }

    /// Opens the data.
    ///
    /// # Errors
    /// As [`Dataset::open`] and [`DataArgs::options`].
    pub fn open(&self) -> Result<Dataset, TrainError> {
        self.choice.open(&self.data)
    }
}
