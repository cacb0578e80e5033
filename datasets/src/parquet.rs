use crate::DatasetError;
use polars::io::parquet::metadata::FileMetadataRef;
use polars::prelude as pl;
use polars::prelude::{
    DataFrame, DataType, IntoColumn, ListBuilderTrait, NamedFrom, ParallelStrategy, ParquetReader, ParquetWriter,
    SerReader,
};
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// A column of a report table. `None` and the missing option become null; NaN in a plain float column stays NaN.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// Text.
    Str(Vec<String>),
    /// Text with gaps.
    OptStr(Vec<Option<String>>),
    /// Double precision.
    F64(Vec<f64>),
    /// Double precision with gaps.
    OptF64(Vec<Option<f64>>),
    /// Single precision.
    F32(Vec<f32>),
    /// 64-bit integers.
    I64(Vec<i64>),
    /// 8-bit integers.
    I8(Vec<i8>),
    /// 8-bit integers with gaps: labels.
    OptI8(Vec<Option<i8>>),
    /// Truth values.
    Bool(Vec<bool>),
    /// Instants in epoch milliseconds, written as UTC timestamps.
    TimestampMs(Vec<i64>),
    /// Instants with gaps.
    OptTimestampMs(Vec<Option<i64>>),
    /// Lists of text.
    ListStr(Vec<Vec<String>>),
}

impl Column {
    /// How many rows it has.
    pub fn len(&self) -> usize {
        match self {
            Self::Str(v) => v.len(),
            Self::OptStr(v) => v.len(),
            Self::F64(v) => v.len(),
            Self::OptF64(v) => v.len(),
            Self::F32(v) => v.len(),
            Self::I64(v) | Self::TimestampMs(v) => v.len(),
            Self::I8(v) => v.len(),
            Self::OptI8(v) => v.len(),
            Self::Bool(v) => v.len(),
            Self::OptTimestampMs(v) => v.len(),
            Self::ListStr(v) => v.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn into_polars(self, name: &str) -> Result<pl::Column, pl::PolarsError> {
        let n = || name.into();
        let instants = || DataType::Datetime(pl::TimeUnit::Milliseconds, Some(pl::TimeZone::UTC));
        Ok(match self {
            Self::Str(v) => pl::Series::new(n(), v).into_column(),
            Self::OptStr(v) => pl::Series::new(n(), v).into_column(),
            Self::F64(v) => pl::Series::new(n(), v).into_column(),
            Self::OptF64(v) => pl::Series::new(n(), v).into_column(),
            Self::F32(v) => pl::Series::new(n(), v).into_column(),
            Self::I64(v) => pl::Series::new(n(), v).into_column(),
            Self::I8(v) => pl::Series::new(n(), v).into_column(),
            Self::OptI8(v) => pl::Series::new(n(), v).into_column(),
            Self::Bool(v) => pl::Series::new(n(), v).into_column(),
            Self::TimestampMs(v) => pl::Series::new(n(), v).cast(&instants())?.into_column(),
            Self::OptTimestampMs(v) => pl::Series::new(n(), v).cast(&instants())?.into_column(),
            Self::ListStr(v) => {
                let mut b = pl::ListStringChunkedBuilder::new(n(), v.len(), v.iter().map(Vec::len).sum());
                for list in &v {
                    b.append_values_iter(list.iter().map(String::as_str));
                }
                pl::IntoSeries::into_series(b.finish()).into_column()
            }
        })
    }
}

/// Writes a table as Parquet (zstd, row groups of at most 2^18 rows) so that training need not know polars. The same
/// columns give the same bytes. The file appears whole or not at all.
///
/// # Errors
/// [`DatasetError::Parquet`] when columns differ in length or share a name, [`DatasetError::Io`] when writing fails.
pub fn write_parquet(path: &Path, columns: Vec<(String, Column)>) -> Result<(), DatasetError> {
    let fail = |e: pl::PolarsError| DatasetError::Parquet { path: path.to_owned(), problem: format!("writing: {e}") };
    let height = columns.first().map_or(0, |(_, c)| c.len());
    let columns: Vec<_> =
        columns.into_iter().map(|(n, c)| c.into_polars(&n)).collect::<Result<_, _>>().map_err(fail)?;
    let frame = DataFrame::new(height, columns).map_err(fail)?;
    write_frames(path, &[frame])
}

/// Writes frames of one schema, one row group each (split above 2^18 rows), atomically.
pub(crate) fn write_frames(path: &Path, groups: &[DataFrame]) -> Result<(), DatasetError> {
    let fail = |e: pl::PolarsError| DatasetError::Parquet { path: path.to_owned(), problem: format!("writing: {e}") };
    crate::write::atomically(path, |file| {
        let Some(first) = groups.first() else { return Ok(()) };
        let mut writer = ParquetWriter::new(std::io::BufWriter::new(file))
            .with_row_group_size(Some(1 << 18))
            .batched(first.schema())
            .map_err(fail)?;
        for group in groups {
            let mut group = group.clone();
            group.rechunk_mut_par();
            let mut at = 0;
            while at < group.height() {
                let mut part = group.slice(at as i64, 1 << 18);
                part.rechunk_mut_par();
                writer.write_batch(&part).map_err(fail)?;
                at += part.height();
            }
        }
        writer.finish().map_err(fail)?;
        Ok(())
    })
}

/// Reads a whole Parquet file as columns: numbers as [`Column::OptF64`], integers without gaps as [`Column::I64`], text,
/// truth values, instants and lists of text as what they are. For tools and tests; datasets go through
/// [`crate::Dataset::open`].
///
/// # Errors
/// [`DatasetError::Parquet`] for a damaged file or a type not named above.
pub fn read_parquet(path: &Path) -> Result<Vec<(String, Column)>, DatasetError> {
    let file = ParquetFile::open(path)?;
    let frame = file.read(None, None)?;
    frame
        .columns()
        .iter()
        .map(|c| {
            let fail = |e: pl::PolarsError| DatasetError::parquet(path, e);
            let column = match c.dtype() {
                DataType::String => {
                    let v: Vec<Option<String>> = c.str().map_err(fail)?.iter().map(|s| s.map(str::to_owned)).collect();
                    if v.iter().all(Option::is_some) {
                        Column::Str(v.into_iter().flatten().collect())
                    } else {
                        Column::OptStr(v)
                    }
                }
                DataType::Boolean if c.null_count() == 0 => {
                    Column::Bool(c.bool().map_err(fail)?.iter().flatten().collect())
                }
                DataType::Int8 => Column::OptI8(c.i8().map_err(fail)?.iter().collect()),
                DataType::Datetime(..) | DataType::Date => Column::OptTimestampMs(instants(c).map_err(fail)?),
                DataType::List(_) => Column::ListStr(lists(c).map_err(fail)?),
                t if t.is_integer() && c.null_count() == 0 => {
                    let c = c.cast(&DataType::Int64).map_err(fail)?;
                    Column::I64(c.i64().map_err(fail)?.iter().flatten().collect())
                }
                t if t.is_primitive_numeric() || *t == DataType::Boolean => {
                    let c = c.cast(&DataType::Float64).map_err(fail)?;
                    Column::OptF64(c.f64().map_err(fail)?.iter().collect())
                }
                t => return Err(DatasetError::parquet(path, format!("column {:?} has type {t}", c.name()))),
            };
            Ok((c.name().to_string(), column))
        })
        .collect()
}

/// An opened Parquet file: its footer is read once, its rows on demand.
#[derive(Clone)]
pub(crate) struct ParquetFile {
    pub(crate) path: PathBuf,
    metadata: FileMetadataRef,
    pub(crate) names: Vec<String>,
}

impl ParquetFile {
    pub(crate) fn open(path: &Path) -> Result<Self, DatasetError> {
        let file = File::open(path).map_err(|e| DatasetError::io(path, "open", e))?;
        guarded(path, || {
            let mut reader = ParquetReader::new(file);
            let metadata = reader.get_metadata()?.clone();
            let names = reader.schema()?.iter_names().map(ToString::to_string).collect();
            Ok(Self { path: path.to_owned(), metadata, names })
        })
    }

    pub(crate) fn rows(&self) -> usize {
        self.metadata.num_rows
    }

    /// The rows of each row group.
    #[expect(clippy::redundant_closure_for_method_calls, reason = "polars does not export the type")]
    pub(crate) fn row_groups(&self) -> Vec<usize> {
        self.metadata.row_groups.iter().map(|g| g.num_rows()).collect()
    }

    /// Rows `slice = (first, count)` of the named columns; row groups outside the slice are not touched.
    pub(crate) fn read(
        &self,
        columns: Option<Vec<String>>,
        slice: Option<(usize, usize)>,
    ) -> Result<DataFrame, DatasetError> {
        let file = File::open(&self.path).map_err(|e| DatasetError::io(&self.path, "open", e))?;
        let len = file.metadata().map_err(|e| DatasetError::io(&self.path, "read", e))?.len();
        let needed = self.metadata.row_groups.iter().map(|g| g.full_byte_range().end).max().unwrap_or(0);
        if len < needed {
            return Err(DatasetError::parquet(&self.path, format!("{len} bytes, but its row groups need {needed}")));
        }
        guarded(&self.path, || {
            let mut reader = ParquetReader::new(file)
                .with_columns(columns)
                .with_slice(slice)
                .read_parallel(ParallelStrategy::RowGroups)
                .set_rechunk(true);
            reader.set_metadata(self.metadata.clone());
            reader.finish()
        })
    }
}

/// Runs a polars reader; its errors, and its panics on damaged pages, become [`DatasetError::Parquet`].
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, pl::PolarsError>) -> Result<T, DatasetError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => Err(DatasetError::parquet(path, e)),
        Err(_) => Err(DatasetError::parquet(path, "a page does not decode")),
    }
}

/// A column of dates or instants as epoch milliseconds.
pub(crate) fn instants(column: &pl::Column) -> Result<Vec<Option<i64>>, pl::PolarsError> {
    let per_ms: fn(i64) -> i64 = match column.dtype() {
        DataType::Datetime(pl::TimeUnit::Nanoseconds, _) => |v| v.div_euclid(1_000_000),
        DataType::Datetime(pl::TimeUnit::Microseconds, _) => |v| v.div_euclid(1000),
        DataType::Date => |v| v * foreglow_core::DAY_MS,
        _ => |v| v,
    };
    let physical = column.to_physical_repr().cast(&DataType::Int64)?;
    Ok(physical.i64()?.iter().map(|v| v.map(per_ms)).collect())
}

/// A column of lists of text; a missing list is empty.
pub(crate) fn lists(column: &pl::Column) -> Result<Vec<Vec<String>>, pl::PolarsError> {
    let list = column.list()?;
    (0..list.len())
        .map(|i| match list.get_as_series(i) {
            None => Ok(Vec::new()),
            Some(s) => Ok(s.str()?.iter().flatten().map(str::to_owned).collect()),
        })
        .collect()
}
