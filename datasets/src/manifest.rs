use crate::{DatasetError, Split};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// The version of the layout that is written, and the only one that is read.
pub(crate) const LAYOUT_VERSION: u32 = 1;

/// `manifest.json` of a tidy dataset. Only `layout_version`, `metrics` and `series` are needed; fields that are not listed
/// here are kept in `extra`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the layout: 1.
    pub layout_version: u32,
    /// Short name, that of the folder.
    #[serde(default)]
    pub name: String,
    /// One line.
    #[serde(default)]
    pub title: String,
    /// What it can be used for, such as `anomaly-multivariate`, `forecast-univariate`.
    #[serde(default)]
    pub tasks: Vec<String>,
    /// What was measured, where.
    #[serde(default)]
    pub domain: String,
    /// Who may use it, how.
    #[serde(default)]
    pub licence: Licence,
    /// Whether the timestamps are real, and their zone.
    #[serde(default)]
    pub timestamps: String,
    /// What label 1, 0 and null mean.
    #[serde(default)]
    pub label_meaning: String,
    /// Where the splits come from.
    #[serde(default)]
    pub split_rule: String,
    /// How to get comparable numbers.
    #[serde(default)]
    pub protocol: String,
    /// What to cite.
    #[serde(default)]
    pub citation: String,
    /// Known defects; read them before quoting a number.
    #[serde(default)]
    pub caveats: Vec<String>,
    /// Where it comes from.
    #[serde(default)]
    pub sources: Vec<Source>,
    /// Number of series.
    #[serde(default)]
    pub n_series: usize,
    /// Number of rows of all series.
    #[serde(default)]
    pub n_rows: usize,
    /// Number of metrics.
    #[serde(default)]
    pub n_metrics: usize,
    /// The metric columns, in file order.
    pub metrics: Vec<String>,
    /// The truth columns.
    #[serde(default)]
    pub label_columns: Vec<String>,
    /// Rows with a label.
    #[serde(default)]
    pub labelled_rows: usize,
    /// Rows with label 1.
    #[serde(default)]
    pub anomalous_rows: usize,
    /// `anomalous_rows / labelled_rows`, absent without labels.
    #[serde(default)]
    pub anomaly_rate_of_labelled: Option<f64>,
    /// Rows of `events.parquet`.
    #[serde(default)]
    pub n_events: usize,
    /// Size and checksum of the files.
    #[serde(default)]
    pub files: BTreeMap<String, FileInfo>,
    /// One entry a series, in file order.
    pub series: Vec<ManifestSeries>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// Terms of use.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Licence {
    /// SPDX id, or words.
    #[serde(default)]
    pub id: String,
    /// File with the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// What else to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A source repository.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Source {
    /// Owner and name.
    #[serde(default)]
    pub repo: String,
    /// Address.
    #[serde(default)]
    pub url: String,
    /// The commit that was read.
    #[serde(default)]
    pub commit: String,
    /// Everything else.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// Size and checksum of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// Size.
    pub bytes: u64,
    /// Lower-case hex.
    pub sha256: String,
}

/// One series of the manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ManifestSeries {
    /// Its name in the column `series_id`.
    pub id: String,
    /// Its number of rows, contiguous in the file.
    pub rows: usize,
    /// The row group that holds them.
    #[serde(default)]
    pub row_group: usize,
    /// First instant, RFC 3339.
    #[serde(default)]
    pub start: String,
    /// Last instant, RFC 3339.
    #[serde(default)]
    pub end: String,
    /// Interval that most rows keep.
    #[serde(default)]
    pub interval_ms: Option<i64>,
    /// Largest forward distance of neighbouring rows.
    #[serde(default)]
    pub longest_gap_ms: i64,
    /// Rows not after the row before.
    #[serde(default)]
    pub non_increasing_steps: usize,
    /// First row and the row behind the last, within the series.
    #[serde(default)]
    pub splits: BTreeMap<Split, [usize; 2]>,
    /// Rows with a label.
    #[serde(default)]
    pub labelled_rows: usize,
    /// Rows with label 1.
    #[serde(default)]
    pub anomalous_rows: usize,
    /// Runs of label 1.
    #[serde(default)]
    pub anomalous_segments: usize,
    /// Missing cells of the metrics this series has.
    #[serde(default)]
    pub missing_values: usize,
    /// Number of metrics that have a value in this series; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<usize>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Manifest {
    /// Reads and checks `manifest.json`.
    pub(crate) fn read(path: &Path) -> Result<Self, DatasetError> {
        let bad = |problem: String| DatasetError::Manifest { path: path.to_owned(), problem };
        let text = std::fs::read_to_string(path).map_err(|e| DatasetError::io(path, "read", e))?;
        // The version first: a later layout may not even parse as this one.
        let version = serde_json::from_str::<Value>(&text)
            .map_err(|e| bad(format!("no valid JSON: {e}")))?
            .get("layout_version")
            .and_then(Value::as_u64)
            .ok_or_else(|| bad(format!("no layout_version; expected {LAYOUT_VERSION}")))?;
        if version != u64::from(LAYOUT_VERSION) {
            return Err(bad(format!(
                "layout_version {version} is unknown; this release reads version {LAYOUT_VERSION}: update foreglow or write the set again"
            )));
        }
        let manifest: Self = serde_json::from_str(&text).map_err(|e| bad(format!("{e}")))?;
        let mut ids: Vec<&str> = manifest.series.iter().map(|s| s.id.as_str()).collect();
        ids.sort_unstable();
        if let Some([twice, ..]) = ids.windows(2).find(|w| w[0] == w[1]) {
            return Err(bad(format!("series {twice:?} is listed twice")));
        }
        Ok(manifest)
    }

    /// The text of the manifest: one line a series, the rest indented; same manifest, same bytes.
    pub(crate) fn to_text(&self) -> Result<String, serde_json::Error> {
        let mut head = serde_json::to_value(self)?;
        if let Some(map) = head.as_object_mut() {
            map.remove("series");
        }
        // `serde_json::Value` orders its keys by name; the fields' own order reads better.
        let order = [
            "layout_version",
            "name",
            "title",
            "tasks",
            "domain",
            "licence",
            "timestamps",
            "label_meaning",
            "split_rule",
            "protocol",
            "citation",
            "caveats",
            "sources",
            "n_series",
            "n_rows",
            "n_metrics",
            "metrics",
            "label_columns",
            "labelled_rows",
            "anomalous_rows",
            "anomaly_rate_of_labelled",
            "n_events",
            "files",
        ];
        let mut out = String::from("{\n");
        if let Some(map) = head.as_object() {
            let rest = map.keys().map(String::as_str).filter(|k| !order.contains(k));
            for key in order.into_iter().chain(rest) {
                if let Some(v) = map.get(key) {
                    let _ = writeln!(out, " {}: {},", Value::from(key), serde_json::to_string(v)?);
                }
            }
        }
        out.push_str(" \"series\": [\n");
        for (i, s) in self.series.iter().enumerate() {
            out.push_str("  ");
            out.push_str(&serde_json::to_string(s)?);
            out.push_str(if i + 1 < self.series.len() { ",\n" } else { "\n" });
        }
        out.push_str(" ]\n}\n");
        Ok(out)
    }
}
