use crate::parquet::{ParquetFile, instants, lists};
use crate::{Column, DatasetError, write_parquet};
use foreglow_core::Timestamp;
use polars::prelude as pl;
use std::path::Path;

/// One anomaly segment, injection or issue: a row of `events.parquet`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// The series it was seen in.
    pub series_id: String,
    /// First instant.
    pub start: Option<Timestamp>,
    /// Last instant, inclusive; `None` = unknown.
    pub end: Option<Timestamp>,
    /// What happened, such as `spike`, `level_shift`, `cpu_contention`.
    pub kind: Option<String>,
    /// Where it was seen.
    pub target: Option<String>,
    /// What caused it.
    pub root_cause: Option<String>,
    /// The affected metric columns.
    pub metrics: Vec<String>,
    /// Anything else.
    pub note: Option<String>,
}

/// Reads `events.parquet`; columns that are absent are missing in all events.
pub(crate) fn read_events(path: &Path) -> Result<Vec<Event>, DatasetError> {
    let frame = ParquetFile::open(path)?.read(None, None)?;
    let fail = |e: pl::PolarsError| DatasetError::parquet(path, e);
    let text = |name: &str| -> Result<Vec<Option<String>>, DatasetError> {
        match frame.column(name) {
            Ok(c) if !c.dtype().is_null() => Ok(c.str().map_err(fail)?.iter().map(|s| s.map(str::to_owned)).collect()),
            _ => Ok(vec![None; frame.height()]),
        }
    };
    let time = |name: &str| -> Result<Vec<Option<i64>>, DatasetError> {
        match frame.column(name) {
            Ok(c) if !c.dtype().is_null() => instants(c).map_err(fail),
            _ => Ok(vec![None; frame.height()]),
        }
    };
    let metrics = match frame.column("metrics") {
        Ok(c) if !c.dtype().is_null() => lists(c).map_err(fail)?,
        _ => vec![Vec::new(); frame.height()],
    };
    let (series, start, end) = (text("series_id")?, time("start")?, time("end")?);
    let (kind, target, root, note) = (text("kind")?, text("target")?, text("root_cause")?, text("note")?);
    Ok(metrics
        .into_iter()
        .enumerate()
        .map(|(i, metrics)| Event {
            series_id: series[i].clone().unwrap_or_default(),
            start: start[i].map(Timestamp),
            end: end[i].map(Timestamp),
            kind: kind[i].clone(),
            target: target[i].clone(),
            root_cause: root[i].clone(),
            metrics,
            note: note[i].clone(),
        })
        .collect())
}

/// Writes `events.parquet`.
pub(crate) fn write_events(path: &Path, events: &[Event]) -> Result<(), DatasetError> {
    let opt = |f: fn(&Event) -> &Option<String>| Column::OptStr(events.iter().map(|e| f(e).clone()).collect());
    let time = |f: fn(&Event) -> Option<Timestamp>| {
        Column::OptTimestampMs(events.iter().map(|e| f(e).map(Timestamp::ms)).collect())
    };
    write_parquet(
        path,
        vec![
            ("series_id".into(), Column::Str(events.iter().map(|e| e.series_id.clone()).collect())),
            ("start".into(), time(|e| e.start)),
            ("end".into(), time(|e| e.end)),
            ("kind".into(), opt(|e| &e.kind)),
            ("target".into(), opt(|e| &e.target)),
            ("root_cause".into(), opt(|e| &e.root_cause)),
            ("metrics".into(), Column::ListStr(events.iter().map(|e| e.metrics.clone()).collect())),
            ("note".into(), opt(|e| &e.note)),
        ],
    )
}
