use crate::events::write_events;
use crate::manifest::LAYOUT_VERSION;
use crate::parquet::write_frames;
use crate::{
    Column, DatasetError, Event, FileInfo, Licence, Manifest, ManifestSeries, SeriesTable, Source, Split, split_ranges,
};
use foreglow_core::{Labels, Timestamp};
use polars::prelude as pl;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Rows that a row group holds before the next series opens another one.
const ROWS_PER_GROUP: usize = 1 << 17;

/// The descriptive part of a manifest; everything that can be counted is counted by [`write_tidy`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TidyMeta {
    /// Short name.
    pub name: String,
    /// One line.
    pub title: String,
    /// What it can be used for.
    pub tasks: Vec<String>,
    /// What was measured, where.
    pub domain: String,
    /// Terms of use.
    pub licence: Licence,
    /// Whether the timestamps are real.
    pub timestamps: String,
    /// What labels mean.
    pub label_meaning: String,
    /// Where the splits come from.
    pub split_rule: String,
    /// Known defects.
    pub caveats: Vec<String>,
    /// Where it comes from.
    pub sources: Vec<Source>,
    /// Further fields of the manifest.
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// A dataset in memory, ready to be written. All series have the same metrics, in the same order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TidyData {
    /// Description.
    pub meta: TidyMeta,
    /// The series, in the order of the file.
    pub series: Vec<SeriesTable>,
    /// The events.
    pub events: Vec<Event>,
}

/// Builds [`TidyData`] row by row; series appear in the order of their first row.
#[derive(Debug, Clone)]
pub struct TidyBuilder {
    metrics: Vec<String>,
    data: TidyData,
    index: HashMap<String, usize>,
}

impl TidyBuilder {
    /// An empty dataset with these metrics.
    pub fn new(meta: TidyMeta, metrics: Vec<String>) -> Self {
        Self { metrics, data: TidyData { meta, ..TidyData::default() }, index: HashMap::new() }
    }

    /// Appends a row; NaN is missing.
    ///
    /// # Errors
    /// [`DatasetError::Param`] when the number of values is not the number of metrics.
    pub fn push_row(
        &mut self,
        series_id: &str,
        timestamp: Timestamp,
        split: Split,
        label: Option<bool>,
        values: &[f64],
    ) -> Result<(), DatasetError> {
        if values.len() != self.metrics.len() {
            return Err(DatasetError::Param {
                field: "row values",
                value: values.len().to_string(),
                allowed: "one value a metric",
            });
        }
        let at = *self.index.entry(series_id.to_owned()).or_insert_with(|| {
            self.data.series.push(SeriesTable {
                id: series_id.to_owned(),
                labels: Labels::new([("series", series_id)]),
                metrics: self.metrics.clone(),
                columns: vec![Vec::new(); self.metrics.len()],
                ..SeriesTable::default()
            });
            self.data.series.len() - 1
        });
        let s = &mut self.data.series[at];
        s.timestamps.push(timestamp);
        s.split.push(split);
        s.label.push(label);
        for (column, v) in s.columns.iter_mut().zip(values) {
            column.push(*v);
        }
        Ok(())
    }

    /// Appends an event.
    pub fn push_event(&mut self, event: Event) {
        self.data.events.push(event);
    }

    /// The dataset.
    pub fn finish(self) -> TidyData {
        self.data
    }
}

/// Writes a dataset in the tidy layout: `data.parquet` (zstd; float32 where that loses nothing), `events.parquet` if there are
/// events, `manifest.json` last. The same data give the same bytes. Each file appears whole or not at all.
///
/// # Errors
/// [`DatasetError::Param`] when series differ in metrics, a metric has the name of a fixed column, an id is empty or doubled, a column has the wrong
/// length or an infinite value; [`DatasetError::Io`] when writing fails.
pub fn write_tidy(dir: &Path, data: &TidyData) -> Result<Manifest, DatasetError> {
    let metrics = check(data)?;
    std::fs::create_dir_all(dir).map_err(|e| DatasetError::io(dir, "create", e))?;
    let extra: Vec<String> = data
        .series
        .iter()
        .flat_map(|s| s.extra_labels.keys().cloned())
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect();
    let single: Vec<bool> = (0..metrics.len())
        .map(|m| data.series.iter().all(|s| s.columns[m].iter().all(|v| v.is_nan() || f64::from(*v as f32) == *v)))
        .collect();

    let mut groups: Vec<Vec<&SeriesTable>> = Vec::new();
    let mut manifest_series = Vec::new();
    let mut rows_in_group = 0;
    for s in &data.series {
        if groups.is_empty() || rows_in_group + s.len() > ROWS_PER_GROUP && rows_in_group > 0 {
            groups.push(Vec::new());
            rows_in_group = 0;
        }
        rows_in_group += s.len();
        let group = groups.len() - 1;
        groups[group].push(s);
        manifest_series.push(describe(s, group));
    }
    let path = dir.join("data.parquet");
    let frames = groups
        .iter()
        .map(|g| frame(g, &metrics, &single, &extra))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| DatasetError::Parquet { path: path.clone(), problem: format!("writing: {e}") })?;
    write_frames(&path, &frames)?;
    drop(frames);
    let mut files = BTreeMap::from([("data.parquet".to_owned(), file_info(&path)?)]);
    let events = dir.join("events.parquet");
    if data.events.is_empty() {
        if events.exists() {
            std::fs::remove_file(&events).map_err(|e| DatasetError::io(&events, "remove", e))?;
        }
    } else {
        write_events(&events, &data.events)?;
        files.insert("events.parquet".to_owned(), file_info(&events)?);
    }

    let m = &data.meta;
    let labelled: usize = manifest_series.iter().map(|s| s.labelled_rows).sum();
    let anomalous: usize = manifest_series.iter().map(|s| s.anomalous_rows).sum();
    let mut label_columns = if labelled > 0 { vec!["label".to_owned()] } else { Vec::new() };
    label_columns.extend(extra);
    let manifest = Manifest {
        layout_version: LAYOUT_VERSION,
        name: m.name.clone(),
        title: m.title.clone(),
        tasks: m.tasks.clone(),
        domain: m.domain.clone(),
        licence: m.licence.clone(),
        timestamps: m.timestamps.clone(),
        label_meaning: m.label_meaning.clone(),
        split_rule: m.split_rule.clone(),
        protocol: String::new(),
        citation: String::new(),
        caveats: m.caveats.clone(),
        sources: m.sources.clone(),
        n_series: data.series.len(),
        n_rows: data.series.iter().map(SeriesTable::len).sum(),
        n_metrics: metrics.len(),
        metrics,
        label_columns,
        labelled_rows: labelled,
        anomalous_rows: anomalous,
        anomaly_rate_of_labelled: (labelled > 0).then(|| anomalous as f64 / labelled as f64),
        n_events: data.events.len(),
        files,
        series: manifest_series,
        extra: m.extra.clone(),
    };
    let path = dir.join("manifest.json");
    let text = manifest
        .to_text()
        .map_err(|e| DatasetError::Manifest { path: path.clone(), problem: format!("cannot be written: {e}") })?;
    atomically(&path, |file| {
        std::io::Write::write_all(file, text.as_bytes()).map_err(|e| DatasetError::io(&path, "write", e))
    })?;
    Ok(manifest)
}

fn check(data: &TidyData) -> Result<Vec<String>, DatasetError> {
    let bad = |field, value: String, allowed| DatasetError::Param { field, value, allowed };
    let metrics = data.series.first().map(|s| s.metrics.clone()).unwrap_or_default();
    let mut names: Vec<&str> = metrics.iter().map(String::as_str).collect();
    names.extend(["series_id", "timestamp", "split", "label"]);
    names.extend(
        data.series
            .iter()
            .flat_map(|s| s.extra_labels.keys())
            .map(String::as_str)
            .collect::<std::collections::BTreeSet<_>>(),
    );
    names.sort_unstable();
    if let Some(w) = names.windows(2).find(|w| w[0] == w[1]) {
        return Err(bad("column name", w[0].to_owned(), "each name once, none of series_id, timestamp, split, label"));
    }
    let mut ids = std::collections::HashSet::new();
    for s in &data.series {
        if s.id.is_empty() || !ids.insert(&s.id) {
            return Err(bad("series id", format!("{:?}", s.id), "a name that no other series has"));
        }
        if s.metrics != metrics {
            return Err(bad("metrics of series", s.id.clone(), "the metrics of the first series, in the same order"));
        }
        let n = s.len();
        let lengths = s.columns.iter().map(Vec::len).chain([s.split.len(), s.label.len()]);
        if s.columns.len() != metrics.len() || lengths.chain(s.extra_labels.values().map(Vec::len)).any(|l| l != n) {
            return Err(bad("columns of series", s.id.clone(), "as many cells in each column as timestamps"));
        }
        if let Some(m) = s.columns.iter().position(|c| c.iter().any(|v| v.is_infinite())) {
            return Err(bad(
                "value",
                format!("infinite in {} of {}", metrics[m], s.id),
                "finite values, or NaN for missing",
            ));
        }
    }
    Ok(metrics)
}

fn describe(s: &SeriesTable, row_group: usize) -> ManifestSeries {
    let q = s.quality();
    let mut splits = BTreeMap::new();
    for (split, r) in split_ranges(&s.split) {
        // A split that comes back later covers the rows between, too; readers take the column, this is an overview.
        splits.entry(split).and_modify(|have: &mut [usize; 2]| have[1] = r.end).or_insert([r.start, r.end]);
    }
    let text = |t: Option<&Timestamp>| t.map(ToString::to_string).unwrap_or_default();
    let truth = |i: usize| s.label[i] == Some(true);
    let empty = q.empty_metrics.len();
    ManifestSeries {
        id: s.id.clone(),
        rows: s.len(),
        row_group,
        start: text(s.timestamps.iter().min()),
        end: text(s.timestamps.iter().max()),
        interval_ms: s.step().map(foreglow_core::Step::ms),
        longest_gap_ms: q.longest_gap_ms,
        non_increasing_steps: q.non_increasing_steps,
        splits,
        labelled_rows: s.label.iter().flatten().count(),
        anomalous_rows: s.label.iter().filter(|l| **l == Some(true)).count(),
        anomalous_segments: (0..s.len()).filter(|i| truth(*i) && (*i == 0 || !truth(i - 1))).count(),
        missing_values: q.missing_values - empty * s.len(),
        metrics: (empty > 0).then(|| s.metrics.len() - empty),
        extra: BTreeMap::new(),
    }
}

fn frame(
    series: &[&SeriesTable],
    metrics: &[String],
    single: &[bool],
    extra: &[String],
) -> Result<pl::DataFrame, pl::PolarsError> {
    let truth = |l: &Option<bool>| l.map(i8::from);
    let mut columns = vec![
        Column::Str(series.iter().flat_map(|s| std::iter::repeat_n(s.id.clone(), s.len())).collect())
            .into_polars("series_id")?,
        Column::TimestampMs(series.iter().flat_map(|s| s.timestamps.iter().map(|t| t.ms())).collect())
            .into_polars("timestamp")?,
        Column::Str(series.iter().flat_map(|s| s.split.iter().map(|x| x.name().to_owned())).collect())
            .into_polars("split")?,
        Column::OptI8(series.iter().flat_map(|s| s.label.iter().map(truth)).collect()).into_polars("label")?,
    ];
    for name in extra {
        let cells = series
            .iter()
            .flat_map(|s| match s.extra_labels.get(name) {
                Some(column) => column.iter().map(truth).collect::<Vec<_>>(),
                None => vec![None; s.len()],
            })
            .collect();
        columns.push(Column::OptI8(cells).into_polars(name)?);
    }
    for (m, name) in metrics.iter().enumerate() {
        let cells = Column::OptF64(
            series.iter().flat_map(|s| s.columns[m].iter().map(|v| (!v.is_nan()).then_some(*v))).collect(),
        );
        let column = cells.into_polars(name)?;
        columns.push(if single[m] { column.cast(&pl::DataType::Float32)? } else { column });
    }
    pl::DataFrame::new(columns[0].len(), columns)
}

/// Size and checksum of a file.
pub(crate) fn file_info(path: &Path) -> Result<FileInfo, DatasetError> {
    let mut file = File::open(path).map_err(|e| DatasetError::io(path, "open", e))?;
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0u64, vec![0u8; 1 << 16]);
    loop {
        let n = file.read(&mut buffer).map_err(|e| DatasetError::io(path, "read", e))?;
        if n == 0 {
            return Ok(FileInfo { bytes, sha256: hex(&hash.finalize()) });
        }
        hash.update(&buffer[..n]);
        bytes += n as u64;
    }
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, b| text + &format!("{b:02x}"))
}

/// Writes through a temporary neighbour that is synced and renamed, or removed when anything fails: the file appears whole
/// or not at all.
///
/// # Errors
/// What `work` says, and [`DatasetError::Io`].
pub fn atomically(path: &Path, work: impl FnOnce(&mut File) -> Result<(), DatasetError>) -> Result<(), DatasetError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let mut file = File::create(&part).map_err(|e| DatasetError::io(&part, "create", e))?;
    let done = work(&mut file)
        .and_then(|()| file.sync_all().map_err(|e| DatasetError::io(&part, "write", e)))
        .and_then(|()| std::fs::rename(&part, path).map_err(|e| DatasetError::io(path, "write", e)));
    if done.is_err() {
        // The first error is the one to report; a leftover that cannot be removed either changes nothing about it.
        let _ = std::fs::remove_file(&part);
    }
    done
}
