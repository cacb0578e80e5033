use crate::{DatasetError, Fractions};
use glob::Pattern;

/// The unit of timestamps that are plain numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeUnit {
    /// Milliseconds; numbers that can only be of another unit are refused by its name ("did you send seconds?"), in any
    /// unit. The default.
    #[default]
    Milliseconds,
    /// Seconds, with a fraction if there is one.
    Seconds,
    /// Microseconds.
    Microseconds,
    /// Nanoseconds.
    Nanoseconds,
}

impl TimeUnit {
    pub(crate) const ALL: [Self; 4] = [Self::Seconds, Self::Milliseconds, Self::Microseconds, Self::Nanoseconds];

    /// Milliseconds of one.
    pub(crate) fn to_ms(self) -> f64 {
        match self {
            Self::Seconds => 1e3,
            Self::Milliseconds => 1.0,
            Self::Microseconds => 1e-3,
            Self::Nanoseconds => 1e-6,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Milliseconds => "milliseconds",
            Self::Microseconds => "microseconds",
            Self::Nanoseconds => "nanoseconds",
        }
    }

    /// As [`TimeUnit::parse`] reads it.
    pub(crate) fn short(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Microseconds => "us",
            Self::Nanoseconds => "ns",
        }
    }

    /// A unit from `ms`, `s`, `us` or `ns`.
    ///
    /// # Errors
    /// [`DatasetError::Param`] for anything else.
    pub fn parse(text: &str) -> Result<Self, DatasetError> {
        match text {
            "ms" | "milliseconds" => Ok(Self::Milliseconds),
            "s" | "seconds" => Ok(Self::Seconds),
            "us" | "microseconds" => Ok(Self::Microseconds),
            "ns" | "nanoseconds" => Ok(Self::Nanoseconds),
            _ => Err(DatasetError::Param { field: "time unit", value: text.to_owned(), allowed: "s, ms, us or ns" }),
        }
    }
}

/// How to read a dataset: what to select, and, for plain tables, what the columns mean. The default recognises the usual
/// names; tidy folders use only `series`, `metrics`.
///
/// Recognised without an option (names in any case): a timestamp column called `timestamp`, `@timestamp`, `datetime`,
/// `date_time`, `time`, `ts`, `ds`, `date`, `_time`, `epoch`, `timestamp_ms`, else the only column of a date type or with
/// date text; a series column called `series_id`, `unique_id`, `series`, `item_id`; a long table by the two columns
/// `metric` (or `__name__`) and `value`; a split column called `split` with split names; a truth column called `label` or
/// `is_anomaly` with nothing but 0, 1, true, false and missing. A column without a name, `Unnamed: 0` or `__index_level_0__` is
/// the row number of pandas, and no metric unless `metrics` names it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OpenOptions {
    /// Only series whose id matches this glob (`*` also crosses `/`).
    pub series: Option<String>,
    /// Only these metrics, in this order.
    pub metrics: Option<Vec<String>>,
    /// The timestamp column.
    pub timestamp: Option<String>,
    /// The unit of numeric timestamps.
    pub time_unit: TimeUnit,
    /// The column that names the series; its value becomes the label `series`.
    pub series_column: Option<String>,
    /// Columns that are labels: rows that differ in one belong to different series.
    pub label_columns: Vec<String>,
    /// Long tables: the column that names the metric.
    pub metric_column: Option<String>,
    /// Long tables: the column that holds the value. Default `value`.
    pub value_column: Option<String>,
    /// The truth column: 1 anomalous, 0 normal, empty not labelled.
    pub truth_column: Option<String>,
    /// The column that names the split.
    pub split_column: Option<String>,
    /// The splits by time where there is no split column.
    pub fractions: Fractions,
    /// The separator of CSV fields; default: comma, semicolon or tab, whichever the header has most.
    pub separator: Option<u8>,
}

impl OpenOptions {
    /// The glob of `series`, if there is one.
    pub(crate) fn glob(&self) -> Result<Option<Pattern>, DatasetError> {
        self.series
            .as_deref()
            .map(|text| {
                Pattern::new(text).map_err(|_| DatasetError::Param {
                    field: "series",
                    value: text.to_owned(),
                    allowed: "a glob such as machine-1-*",
                })
            })
            .transpose()
    }
}
