use crate::columns::numbers;
use crate::dataset::Source;
use crate::events::read_events;
use crate::parquet::{ParquetFile, instants};
use crate::{Dataset, DatasetError, Event, Manifest, SeriesRef, SeriesTable, Split};
use foreglow_core::{Labels, Step, Timestamp};
use polars::prelude as pl;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files of a tidy folder.
pub(crate) struct TidySource {
    manifest: Arc<Manifest>,
    data: ParquetFile,
    events: PathBuf,
    truths: Vec<String>,
}

/// Opens a tidy folder: reads the manifest and the footer of `data.parquet`, and compares them.
pub(crate) fn open(dir: &Path) -> Result<Dataset, DatasetError> {
    let manifest = Arc::new(Manifest::read(&dir.join("manifest.json"))?);
    let data = ParquetFile::open(&dir.join("data.parquet"))?;
    let odd = |problem: String| DatasetError::Inconsistent { path: data.path.clone(), problem };
    let rows: usize = manifest.series.iter().map(|s| s.rows).sum();
    if rows != data.rows() {
        return Err(odd(format!("{} rows, but the manifest's series have {rows}", data.rows())));
    }
    let groups = data.row_groups().len();
    if let Some(s) = manifest.series.iter().find(|s| s.row_group >= groups && s.rows > 0) {
        return Err(odd(format!(
            "{groups} row groups, but the manifest puts series {:?} into number {}",
            s.id, s.row_group
        )));
    }
    let needed = ["series_id", "timestamp"].map(String::from);
    if let Some(c) = needed.iter().chain(&manifest.metrics).find(|c| !data.names.contains(c)) {
        return Err(odd(format!("no column {c:?}, which the manifest or the layout names")));
    }
    let truths = manifest.label_columns.iter().filter(|c| *c != "label" && data.names.contains(c)).cloned().collect();
    let mut at = 0;
    let series = manifest
        .series
        .iter()
        .map(|s| {
            let first = at;
            at += s.rows;
            SeriesRef {
                id: s.id.clone(),
                labels: Labels::new([("series", &s.id)]),
                rows: s.rows,
                start: s.start.parse().ok(),
                end: s.end.parse().ok(),
                step: s.interval_ms.and_then(|ms| Step::from_ms(ms).ok()),
                splits: s.splits.iter().map(|(k, [a, b])| (*k, *a..*b)).collect(),
                at: first,
            }
        })
        .collect();
    let folder = dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Dataset {
        name: if manifest.name.is_empty() { folder } else { manifest.name.clone() },
        path: dir.to_owned(),
        metrics: manifest.metrics.clone(),
        series,
        source: Source::Tidy(Arc::new(TidySource {
            manifest: manifest.clone(),
            data,
            events: dir.join("events.parquet"),
            truths,
        })),
        manifest: Some(manifest),
    })
}

impl TidySource {
    pub(crate) fn metrics(&self) -> &[String] {
        &self.manifest.metrics
    }

    pub(crate) fn data_path(&self) -> &Path {
        &self.data.path
    }

    pub(crate) fn events(&self) -> Result<Vec<Event>, DatasetError> {
        if self.events.exists() { read_events(&self.events) } else { Ok(Vec::new()) }
    }

    /// Reads series that follow one another in the file.
    pub(crate) fn load(&self, run: &[SeriesRef], metrics: &[String]) -> Result<Vec<SeriesTable>, DatasetError> {
        let first = run.first().map_or(0, |s| s.at);
        let rows = run.iter().map(|s| s.rows).sum();
        let has = |name: &str| self.data.names.iter().any(|n| n == name);
        let mut names = vec!["series_id".to_owned(), "timestamp".to_owned()];
        names.extend(["split", "label"].into_iter().filter(|c| has(c)).map(String::from));
        names.extend(self.truths.iter().cloned());
        names.extend(metrics.iter().cloned());
        let frame = self.data.read(Some(names), Some((first, rows)))?;
        let fail = |e: pl::PolarsError| DatasetError::parquet(&self.data.path, e);
        let odd = |problem: String| DatasetError::Inconsistent { path: self.data.path.clone(), problem };

        let ids = frame.column("series_id").map_err(fail)?.cast(&pl::DataType::String).map_err(fail)?;
        let ids = ids.str().map_err(fail)?;
        let owner = run.iter().flat_map(|s| std::iter::repeat_n(s.id.as_str(), s.rows));
        if let Some((i, (have, want))) = ids.iter().zip(owner).enumerate().find(|(_, (have, want))| *have != Some(want))
        {
            return Err(odd(format!(
                "row {} belongs to series {:?}, but the manifest's row counts put it into {want:?}",
                first + i + 1,
                have.unwrap_or("(missing)")
            )));
        }
        let timestamps = instants(frame.column("timestamp").map_err(fail)?)
            .map_err(fail)?
            .into_iter()
            .enumerate()
            .map(|(i, t)| {
                t.map(Timestamp).ok_or_else(|| DatasetError::Time {
                    path: self.data.path.clone(),
                    row: first + i + 1,
                    column: "timestamp".into(),
                    problem: "the timestamp is missing; every row needs one".into(),
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let split = match frame.column("split") {
            Err(_) => vec![Split::Unused; rows],
            Ok(c) => {
                let c = c.cast(&pl::DataType::String).map_err(fail)?;
                c.str()
                    .map_err(fail)?
                    .iter()
                    .enumerate()
                    .map(|(i, s)| {
                        s.unwrap_or("unused").parse().map_err(|()| DatasetError::Value {
                            path: self.data.path.clone(),
                            row: first + i + 1,
                            column: "split".into(),
                            value: s.unwrap_or_default().into(),
                            expected: "train, val, test, unused",
                        })
                    })
                    .collect::<Result<Vec<Split>, _>>()?
            }
        };
        let truth = |name: &str| -> Result<Vec<Option<bool>>, DatasetError> {
            match frame.column(name) {
                Err(_) => Ok(vec![None; rows]),
                Ok(c) => {
                    let c = c.cast(&pl::DataType::Int64).map_err(fail)?;
                    Ok(c.i64().map_err(fail)?.iter().map(|v| v.map(|v| v != 0)).collect())
                }
            }
        };
        let label = truth("label")?;
        let extra = self.truths.iter().map(|n| Ok((n, truth(n)?))).collect::<Result<Vec<_>, DatasetError>>()?;
        let columns = metrics
            .iter()
            .map(|m| numbers(&self.data.path, frame.column(m).map_err(fail)?, first))
            .collect::<Result<Vec<_>, _>>()?;

        let mut from = 0;
        Ok(run
            .iter()
            .map(|s| {
                let r = from..from + s.rows;
                from = r.end;
                SeriesTable {
                    id: s.id.clone(),
                    labels: s.labels.clone(),
                    timestamps: timestamps[r.clone()].to_vec(),
                    split: split[r.clone()].to_vec(),
                    label: label[r.clone()].to_vec(),
                    file_rows: Vec::new(),
                    extra_labels: extra
                        .iter()
                        .map(|(n, v)| ((*n).clone(), v[r.clone()].to_vec()))
                        .collect::<BTreeMap<_, _>>(),
                    metrics: metrics.to_vec(),
                    columns: columns.iter().map(|c| c.values[r.clone()].to_vec()).collect(),
                    infinite_values: columns
                        .iter()
                        .map(|c| c.infinite.iter().filter(|i| r.contains(&(**i as usize))).count())
                        .sum(),
                }
            })
            .collect())
    }
}
