use crate::csv::read_text;
use crate::error::some_of;
use crate::parquet::ParquetFile;
use crate::table::TableSource;
use crate::tidy::TidySource;
use crate::{DatasetError, Event, Manifest, OpenOptions, Quality, SeriesTable, Split};
use foreglow_core::{Labels, Step, Timestamp};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One series of a dataset, before its rows are read.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesRef {
    /// Its name.
    pub id: String,
    /// The labels of its keys.
    pub labels: Labels,
    /// Number of rows.
    pub rows: usize,
    /// First instant.
    pub start: Option<Timestamp>,
    /// Last instant.
    pub end: Option<Timestamp>,
    /// The interval that most rows keep.
    pub step: Option<Step>,
    /// Row ranges of the splits, where a manifest gives them.
    pub splits: BTreeMap<Split, Range<usize>>,
    /// First row in the file (tidy), or number of the series (tables).
    pub(crate) at: usize,
}

#[derive(Clone)]
pub(crate) enum Source {
    Tidy(Arc<TidySource>),
    Table(Arc<TableSource>),
}

/// What a folder or file holds. Cheap to clone; series are read on demand, from several threads if wanted.
#[derive(Clone)]
pub struct Dataset {
    /// Name of the set: from the manifest, else the file name.
    pub name: String,
    /// The folder or file.
    pub path: PathBuf,
    /// The manifest of a tidy folder.
    pub manifest: Option<Arc<Manifest>>,
    /// The selected metrics, in file order or in the order asked for.
    pub metrics: Vec<String>,
    /// The selected series, in file order.
    pub series: Vec<SeriesRef>,
    pub(crate) source: Source,
}

impl std::fmt::Debug for Dataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dataset")
            .field("name", &self.name)
            .field("path", &self.path)
            .field("metrics", &self.metrics)
            .field("series", &self.series.len())
            .finish_non_exhaustive()
    }
}

impl Dataset {
    /// Opens what `path` is: a folder with `manifest.json` and `data.parquet`, a `.parquet` (or `.pq`) file, or a `.csv`
    /// (or `.tsv`, `.txt`) file.
    ///
    /// # Errors
    /// [`DatasetError`] naming file, row, column and remedy; also when the selection of series or metrics is empty.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), foreglow_datasets::DatasetError> {
    /// use foreglow_datasets::{Dataset, OpenOptions};
    /// let dir = tempfile::tempdir().expect("a temporary folder");
    /// let file = dir.path().join("cpu.csv");
    /// std::fs::write(&file, "time,cpu\n2026-01-01 00:00:00,0.5\n2026-01-01 00:01:00,\n").expect("written");
    /// let set = Dataset::open(&file, &OpenOptions::default())?;
    /// let table = set.load_series("cpu", None)?;
    /// assert_eq!(table.timestamps[1].ms() - table.timestamps[0].ms(), 60_000);
    /// assert!(table.columns[0][1].is_nan());
    /// # Ok(()) }
    /// ```
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self, DatasetError> {
        let meta = std::fs::metadata(path).map_err(|e| DatasetError::io(path, "open", e))?;
        let mut set = if meta.is_dir() {
            if !path.join("manifest.json").is_file() {
                return Err(DatasetError::NotADataset {
                    path: path.to_owned(),
                    problem: "a folder without manifest.json".into(),
                });
            }
            crate::tidy::open(path)?
        } else {
            let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
            match extension.as_str() {
                "parquet" | "pq" => crate::table::open(path, &ParquetFile::open(path)?.read(None, None)?, options)?,
                "csv" | "tsv" | "txt" => crate::table::open(path, &read_text(path, options.separator)?, options)?,
                other => {
                    return Err(DatasetError::NotADataset {
                        path: path.to_owned(),
                        problem: format!("a file of kind {other:?}"),
                    });
                }
            }
        };
        if let Some(glob) = options.glob()? {
            let present = some_of(set.series.iter().map(|s| &s.id));
            set.series.retain(|s| glob.matches(&s.id));
            if set.series.is_empty() {
                return Err(DatasetError::NoSeries {
                    dataset: set.name,
                    id: options.series.clone().unwrap_or_default(),
                    present,
                });
            }
        }
        if let Some(metrics) = &options.metrics {
            set.check_metrics(metrics)?;
            set.metrics.clone_from(metrics);
        }
        Ok(set)
    }

    /// Reads one series: the given metrics, or the selected ones.
    ///
    /// Of a tidy folder only the row group of the series is read.
    ///
    /// # Errors
    /// [`DatasetError::NoSeries`], [`DatasetError::NoMetric`], and whatever reading meets.
    pub fn load_series(&self, id: &str, metrics: Option<&[String]>) -> Result<SeriesTable, DatasetError> {
        let series = self.series.iter().find(|s| s.id == id).ok_or_else(|| DatasetError::NoSeries {
            dataset: self.name.clone(),
            id: id.to_owned(),
            present: some_of(self.series.iter().map(|s| &s.id)),
        })?;
        let metrics = self.choose(metrics)?;
        match &self.source {
            Source::Tidy(t) => Ok(t.load(std::slice::from_ref(series), &metrics)?.remove(0)),
            Source::Table(t) => t.load(series, &metrics),
        }
    }

    /// Reads all selected series, in file order; neighbours in a file are read together.
    ///
    /// # Errors
    /// As [`Dataset::load_series`].
    pub fn load_all(&self, metrics: Option<&[String]>) -> Result<Vec<SeriesTable>, DatasetError> {
        let metrics = self.choose(metrics)?;
        match &self.source {
            Source::Tidy(t) => {
                let mut out = Vec::with_capacity(self.series.len());
                for run in self.series.chunk_by(|a, b| a.at + a.rows == b.at) {
                    out.extend(t.load(run, &metrics)?);
                }
                Ok(out)
            }
            Source::Table(t) => self.series.iter().map(|s| t.load(s, &metrics)).collect(),
        }
    }

    /// The events of the selected series, in file order; none where the set has no `events.parquet`.
    ///
    /// # Errors
    /// [`DatasetError::Parquet`] for a damaged file.
    pub fn events(&self) -> Result<Vec<Event>, DatasetError> {
        let Source::Tidy(t) = &self.source else { return Ok(Vec::new()) };
        let mut events = t.events()?;
        events.retain(|e| self.series.iter().any(|s| s.id == e.series_id));
        Ok(events)
    }

    /// What is remarkable about each selected series, read one after the other.
    ///
    /// # Errors
    /// As [`Dataset::load_series`].
    pub fn quality(&self) -> Result<Vec<(String, Quality)>, DatasetError> {
        self.series.iter().map(|s| Ok((s.id.clone(), self.load_series(&s.id, None)?.quality()))).collect()
    }

    /// SHA-256 of the data file (`data.parquet`, or the file itself): what an artifact records as its origin.
    ///
    /// # Errors
    /// [`DatasetError::Io`].
    pub fn sha256(&self) -> Result<String, DatasetError> {
        let file = match &self.source {
            Source::Tidy(t) => t.data_path(),
            Source::Table(_) => &self.path,
        };
        Ok(crate::write::file_info(file)?.sha256)
    }

    fn choose(&self, metrics: Option<&[String]>) -> Result<Vec<String>, DatasetError> {
        match metrics {
            None => Ok(self.metrics.clone()),
            Some(m) => self.check_metrics(m).map(|()| m.to_vec()),
        }
    }

    fn check_metrics(&self, metrics: &[String]) -> Result<(), DatasetError> {
        let all = match &self.source {
            Source::Tidy(t) => t.metrics(),
            Source::Table(t) => t.metrics(),
        };
        if metrics.is_empty() {
            return Err(DatasetError::Param {
                field: "metrics",
                value: "nothing".into(),
                allowed: "at least one metric",
            });
        }
        let mut seen = std::collections::HashSet::new();
        for m in metrics {
            if !all.contains(m) {
                return Err(DatasetError::NoMetric {
                    dataset: self.name.clone(),
                    metric: m.clone(),
                    present: some_of(all),
                });
            }
            if !seen.insert(m) {
                return Err(DatasetError::Param { field: "metrics", value: m.clone(), allowed: "each metric once" });
            }
        }
        Ok(())
    }
}
