use crate::columns::column;
use crate::csv::is_missing;
use crate::error::some_of;
use crate::{DatasetError, OpenOptions, Split, timeparse};
use polars::prelude as pl;
use std::path::Path;

const TIMESTAMPS: [&str; 11] =
    ["timestamp", "@timestamp", "datetime", "date_time", "time", "ts", "ds", "date", "_time", "epoch", "timestamp_ms"];
const SERIES: [&str; 4] = ["series_id", "unique_id", "series", "item_id"];
const TRUTHS: [&str; 2] = ["label", "is_anomaly"];

/// Names of the row number that pandas writes beside the columns: no measurement.
const ROW_NUMBERS: [&str; 3] = ["", "Unnamed: 0", "__index_level_0__"];

/// What the columns of a table mean.
pub(crate) struct Roles {
    pub(crate) timestamp: String,
    pub(crate) series: Option<String>,
    pub(crate) labels: Vec<String>,
    /// Metric name and value of a long table.
    pub(crate) long: Option<(String, String)>,
    pub(crate) truth: Option<String>,
    pub(crate) split: Option<String>,
    /// The rest, in file order.
    pub(crate) metrics: Vec<String>,
}

impl Roles {
    /// Takes what the options name, recognises the usual names, and calls the rest metrics.
    pub(crate) fn find(path: &Path, frame: &pl::DataFrame, o: &OpenOptions) -> Result<Self, DatasetError> {
        for named in
            [&o.timestamp, &o.series_column, &o.metric_column, &o.value_column, &o.truth_column, &o.split_column]
                .into_iter()
                .flatten()
                .chain(&o.label_columns)
        {
            column(path, frame, named)?;
        }
        let names: Vec<String> = crate::columns::column_names(frame);
        let by_name = |known: &[&str]| -> Option<String> {
            known.iter().find_map(|k| names.iter().find(|n| n.trim().eq_ignore_ascii_case(k)).cloned())
        };
        let timestamp = match o.timestamp.clone().or_else(|| by_name(&TIMESTAMPS)) {
            Some(t) => t,
            None => by_type(path, frame, &names)?,
        };
        let free = |n: &String| *n != timestamp && !o.label_columns.contains(n);
        let series = o.series_column.clone().or_else(|| by_name(&SERIES).filter(free));
        let truth = o
            .truth_column
            .clone()
            .or_else(|| by_name(&TRUTHS).filter(free).filter(|n| all(frame, n, |c| truth(c).is_some())));
        let split = o.split_column.clone().or_else(|| {
            by_name(&["split"]).filter(free).filter(|n| all(frame, n, |c| c.trim().parse::<Split>().is_ok()))
        });
        let metric = o.metric_column.clone().or_else(|| {
            by_name(&["metric", "__name__"]).filter(free).filter(|n| {
                // Both must be there, and the metric column must hold names.
                by_name(&["value"]).is_some() && !all(frame, n, |c| c.trim().parse::<f64>().is_ok() || is_missing(c))
            })
        });
        let long = match metric {
            None => None,
            Some(m) => {
                let v = o.value_column.clone().or_else(|| by_name(&["value"])).ok_or_else(|| {
                    DatasetError::NoColumn { path: path.to_owned(), column: "value".into(), present: some_of(&names) }
                })?;
                Some((m, v))
            }
        };
        // Asked for by name, they are metrics like any other.
        let asked = |n: &String| o.metrics.as_ref().is_some_and(|m| m.contains(n));
        let metrics: Vec<String> = names
            .iter()
            .filter(|n| !ROW_NUMBERS.contains(&n.trim()) || asked(n))
            .filter(|n| {
                free(n)
                    && series.as_ref() != Some(*n)
                    && truth.as_ref() != Some(*n)
                    && split.as_ref() != Some(*n)
                    && long.as_ref().is_none_or(|(m, v)| *n != m && *n != v)
            })
            // Where metrics are selected, text in the others is nobody's business.
            .filter(|n| long.is_some() || o.metrics.as_ref().is_none_or(|m| m.contains(n)))
            .cloned()
            .collect();
        if let (Some(_), Some(other)) = (&long, metrics.first()) {
            return Err(DatasetError::Columns {
                path: path.to_owned(),
                problem: format!(
                    "a long table has one value column, but there is also {other:?}; name it as a label column"
                ),
            });
        }
        if long.is_none() && metrics.is_empty() {
            if let Some(asked) = &o.metrics {
                return Err(DatasetError::NoMetric {
                    dataset: path.display().to_string(),
                    metric: some_of(asked),
                    present: some_of(&names),
                });
            }
            return Err(DatasetError::Columns {
                path: path.to_owned(),
                problem: format!("no metric column is left; the columns are: {}", some_of(&names)),
            });
        }
        Ok(Self { timestamp, series, labels: o.label_columns.clone(), long, truth, split, metrics })
    }
}

/// A truth value from a cell: `Some(None)` for a missing one, `None` for what is no truth value.
#[expect(clippy::option_option, reason = "missing and unreadable are different answers")]
pub(crate) fn truth(cell: &str) -> Option<Option<bool>> {
    match cell.trim() {
        "1" | "1.0" => Some(Some(true)),
        "0" | "0.0" => Some(Some(false)),
        c if c.eq_ignore_ascii_case("true") => Some(Some(true)),
        c if c.eq_ignore_ascii_case("false") => Some(Some(false)),
        c if is_missing(c) => Some(None),
        _ => None,
    }
}

/// The one column of a date type, or the first whose first cell is date text.
fn by_type(path: &Path, frame: &pl::DataFrame, names: &[String]) -> Result<String, DatasetError> {
    let typed: Vec<&pl::Column> = frame.columns().iter().filter(|c| c.dtype().is_temporal()).collect();
    if let [one] = typed.as_slice() {
        return Ok(one.name().to_string());
    }
    let dated = frame
        .columns()
        .iter()
        .find(|c| c.str().is_ok_and(|s| s.iter().flatten().next().is_some_and(timeparse::is_date_text)));
    dated.filter(|_| typed.is_empty()).map(|c| c.name().to_string()).ok_or_else(|| DatasetError::Columns {
        path: path.to_owned(),
        problem: format!(
            "no timestamp column was recognised among {}; name it with the timestamp option, or call it \"timestamp\"",
            some_of(names)
        ),
    })
}

fn all(frame: &pl::DataFrame, name: &str, fits: impl Fn(&str) -> bool) -> bool {
    let Ok(c) = frame.column(name).and_then(|c| c.cast(&pl::DataType::String)) else { return false };
    c.str().is_ok_and(|s| s.iter().flatten().all(&fits))
}
