//! Any CSV or Parquet table with a timestamp column: finds out what the columns mean, wide or long, and cuts it into series.

use crate::columns::{Numbers, column, numbers, splits, text, times, truths};
use crate::dataset::Source;
use crate::error::some_of;
use crate::roles::Roles;
use crate::{Dataset, DatasetError, OpenOptions, SeriesRef, SeriesTable, Split, split_by_time};
use foreglow_core::{Labels, Step, Timestamp};
use polars::prelude as pl;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

/// A table in memory, cut into series.
pub(crate) struct TableSource {
    metrics: Vec<String>,
    series: Vec<SeriesTable>,
}

impl TableSource {
    pub(crate) fn metrics(&self) -> &[String] {
        &self.metrics
    }

    pub(crate) fn load(&self, series: &SeriesRef, metrics: &[String]) -> Result<SeriesTable, DatasetError> {
        let full = &self.series[series.at];
        let columns =
            metrics.iter().map(|m| full.column(m).map(<[f64]>::to_vec)).collect::<Option<Vec<_>>>().ok_or_else(
                || DatasetError::NoMetric {
                    dataset: series.id.clone(),
                    metric: some_of(metrics),
                    present: some_of(&self.metrics),
                },
            )?;
        Ok(SeriesTable { metrics: metrics.to_vec(), columns, ..full.clone() })
    }
}

/// Cuts the table of a file into series.
pub(crate) fn open(path: &Path, frame: &pl::DataFrame, options: &OpenOptions) -> Result<Dataset, DatasetError> {
    let fractions = options.fractions.check()?;
    if frame.height() == 0 {
        return Err(DatasetError::Empty { path: path.to_owned() });
    }
    let roles = Roles::find(path, frame, options)?;
    let times = times(path, frame, &roles.timestamp, options)?;
    let splits = roles.split.as_deref().map(|c| splits(path, frame, c)).transpose()?;
    let truth = roles.truth.as_deref().map(|c| truths(path, frame, c)).transpose()?;
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let groups = group_rows(path, frame, &roles, &stem)?;

    let (metrics, mut series) = match &roles.long {
        None => {
            let numbers = roles
                .metrics
                .iter()
                .map(|m| numbers(path, column(path, frame, m)?, 0))
                .collect::<Result<Vec<_>, _>>()?;
            let series: Vec<SeriesTable> = groups
                .into_iter()
                .map(|g| wide(g, &roles.metrics, &numbers, &times, splits.as_deref(), truth.as_deref()).sorted())
                .collect();
            (roles.metrics.clone(), series)
        }
        Some((metric, value)) => {
            let names = text(path, column(path, frame, metric)?)?;
            let values = numbers(path, column(path, frame, value)?, 0)?;
            let mut metrics: Vec<String> = Vec::new();
            let mut seen = HashMap::new();
            let mut index = Vec::with_capacity(names.len());
            for (row, name) in names.iter().enumerate() {
                let Some(name) = name else {
                    return Err(DatasetError::Value {
                        path: path.to_owned(),
                        row: row + 1,
                        column: metric.clone(),
                        value: String::new(),
                        expected: "metric names (the cell is empty)",
                    });
                };
                index.push(*seen.entry(name.clone()).or_insert_with(|| {
                    metrics.push(name.clone());
                    metrics.len() - 1
                }));
            }
            let series = groups
                .into_iter()
                .map(|g| long(g, &metrics, &index, &values, &times, splits.as_deref(), truth.as_deref()).sorted())
                .collect();
            (metrics, series)
        }
    };
    if splits.is_none() {
        for s in &mut series {
            s.split = split_by_time(&s.timestamps, fractions);
        }
    }
    let refs = series
        .iter()
        .enumerate()
        .map(|(at, s)| SeriesRef {
            id: s.id.clone(),
            labels: s.labels.clone(),
            rows: s.len(),
            start: s.timestamps.iter().min().copied(),
            end: s.timestamps.iter().max().copied(),
            step: Step::detect(&s.timestamps),
            splits: BTreeMap::new(),
            at,
        })
        .collect();
    Ok(Dataset {
        name: stem,
        path: path.to_owned(),
        manifest: None,
        metrics: metrics.clone(),
        series: refs,
        source: Source::Table(Arc::new(TableSource { metrics, series })),
    })
}

/// The rows of one series.
struct Group {
    id: String,
    labels: Labels,
    rows: Vec<usize>,
}

/// Rows by series and label columns, in the order of first appearance. The id is the series column's value if that alone
/// tells the series apart, else all values joined by `/`, else the file's name.
fn group_rows(path: &Path, frame: &pl::DataFrame, roles: &Roles, stem: &str) -> Result<Vec<Group>, DatasetError> {
    let names: Vec<(&str, &String)> =
        roles.series.iter().map(|c| ("series", c)).chain(roles.labels.iter().map(|c| (c.as_str(), c))).collect();
    if names.is_empty() {
        return Ok(vec![Group { id: stem.to_owned(), labels: Labels::default(), rows: (0..frame.height()).collect() }]);
    }
    let cells = names.iter().map(|(_, c)| text(path, column(path, frame, c)?)).collect::<Result<Vec<_>, _>>()?;
    let mut index: HashMap<Vec<&str>, usize> = HashMap::new();
    let mut groups: Vec<(Vec<&str>, Vec<usize>)> = Vec::new();
    for row in 0..frame.height() {
        let key: Vec<&str> = cells.iter().map(|c| c[row].as_deref().unwrap_or("")).collect();
        let at = *index.entry(key.clone()).or_insert_with(|| {
            groups.push((key, Vec::new()));
            groups.len() - 1
        });
        groups[at].1.push(row);
    }
    let distinct: std::collections::HashSet<&str> = groups.iter().map(|(k, _)| k[0]).collect();
    let short = distinct.len() == groups.len() && !distinct.contains("");
    Ok(groups
        .into_iter()
        .map(|(key, rows)| Group {
            id: if short { key[0].to_owned() } else { key.join("/") },
            labels: Labels::new(names.iter().map(|(n, _)| *n).zip(key)),
            rows,
        })
        .collect())
}

fn wide(
    group: Group,
    metrics: &[String],
    numbers: &[Numbers],
    times: &[Timestamp],
    split: Option<&[Split]>,
    truth: Option<&[Option<bool>]>,
) -> SeriesTable {
    let rows = &group.rows;
    let members: std::collections::HashSet<u32> = if numbers.iter().any(|n| !n.infinite.is_empty()) {
        rows.iter().map(|r| *r as u32).collect()
    } else {
        std::collections::HashSet::new()
    };
    SeriesTable {
        timestamps: rows.iter().map(|r| times[*r]).collect(),
        split: split.map(|s| rows.iter().map(|r| s[*r]).collect()).unwrap_or_default(),
        label: rows.iter().map(|r| truth.and_then(|t| t[*r])).collect(),
        extra_labels: BTreeMap::new(),
        file_rows: Vec::new(),
        metrics: metrics.to_vec(),
        columns: numbers.iter().map(|n| rows.iter().map(|r| n.values[*r]).collect()).collect(),
        infinite_values: numbers.iter().flat_map(|n| &n.infinite).filter(|i| members.contains(i)).count(),
        id: group.id,
        labels: group.labels,
    }
}

/// Pivots the rows of one series: the k-th sample of a metric at an instant goes into the k-th row of that instant, rows in
/// the order of first appearance, so that repeated instants stay repeated.
fn long(
    group: Group,
    metrics: &[String],
    index: &[usize],
    values: &Numbers,
    times: &[Timestamp],
    split: Option<&[Split]>,
    truth: Option<&[Option<bool>]>,
) -> SeriesTable {
    let mut out = SeriesTable {
        id: group.id,
        labels: group.labels,
        metrics: metrics.to_vec(),
        columns: vec![Vec::new(); metrics.len()],
        ..SeriesTable::default()
    };
    let mut taken: HashMap<(usize, Timestamp), usize> = HashMap::new();
    let mut row_of: HashMap<(Timestamp, usize), usize> = HashMap::new();
    for r in group.rows {
        let (metric, t) = (index[r], times[r]);
        let nth = taken.entry((metric, t)).or_insert(0);
        let row = *row_of.entry((t, *nth)).or_insert_with(|| {
            out.timestamps.push(t);
            if let Some(s) = split {
                out.split.push(s[r]);
            }
            out.label.push(truth.and_then(|l| l[r]));
            for c in &mut out.columns {
                c.push(f64::NAN);
            }
            out.timestamps.len() - 1
        });
        *nth += 1;
        out.columns[metric][row] = values.values[r];
        out.infinite_values += usize::from(values.infinite.binary_search(&(r as u32)).is_ok());
        // A row is anomalous if any of its samples is said to be.
        if let Some(l) = truth {
            out.label[row] = match (out.label[row], l[r]) {
                (Some(a), Some(b)) => Some(a || b),
                (a, b) => a.or(b),
            };
        }
    }
    out
}
