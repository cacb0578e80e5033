use foreglow_core::Seed;
use serde_json::{Value, json};
use std::fmt::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The first instant of made data: 2026-01-01.
pub const START: i64 = 1_767_225_600_000;
/// The distance of rows of made data.
pub const MINUTE: i64 = 60_000;

/// The folder of a dataset that is not part of the repository, such as `smd_a`: `FOREGLOW_DATA`, or `shared/data` beside
/// the repository. `None` where it is absent, with a word on standard error.
///
/// # Panics
/// When it is absent although `CI=true`.
pub fn shared_data(name: &str) -> Option<PathBuf> {
    let beside = || Some(Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?.join("shared/data"));
    let folder = std::env::var_os("FOREGLOW_DATA").map(PathBuf::from).or_else(beside)?.join(name);
    if folder.join("manifest.json").exists() {
        return Some(folder);
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "CI=true and {} is missing", folder.display());
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    {
        eprintln!("skipped: {} is missing", folder.display());
    }
    None
}

/// A daily wave of `day` steps around 100 with seeded noise; metrics differ in phase and noise.
pub fn wave(metric: usize, rows: usize, day: usize, seed: u64) -> Vec<f64> {
    let noise = Seed(seed).nth(metric as u64);
    (0..rows)
        .map(|i| {
            let u = |k: u64| (noise.nth(2 * i as u64 + k).0 >> 11) as f64 / (1u64 << 53) as f64;
            let turn = std::f64::consts::TAU * (i as f64 / day as f64 + metric as f64 / 7.0);
            100.0 + 20.0 * turn.sin() + 2.0 * (u(0) + u(1) - 1.0)
        })
        .collect()
}

/// Two series (`web`, `db`) with the metrics `cpu`, `mem`, `rps`, one row a minute, an hourly wave.
#[derive(Debug, Clone)]
pub struct Table {
    /// Values by series, metric and row.
    pub values: [[Vec<f64>; 3]; 2],
}

impl Table {
    /// Names of the series.
    pub const SERIES: [&str; 2] = ["web", "db"];
    /// Names of the metrics.
    pub const METRICS: [&str; 3] = ["cpu", "mem", "rps"];

    /// A quiet table of `rows` rows a series.
    pub fn new(rows: usize) -> Self {
        Self { values: [0, 1].map(|s| [0, 1, 2].map(|m| wave(m, rows, 60, 10 + s))) }
    }

    /// Adds `by` to a metric of a series in these rows.
    #[must_use]
    pub fn shifted(mut self, series: usize, metric: usize, rows: Range<usize>, by: f64) -> Self {
        self.values[series][metric][rows].iter_mut().for_each(|v| *v += by);
        self
    }

    /// Writes the first `rows` rows of each series as CSV and returns the path.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn write(&self, folder: &Path, rows: usize) -> PathBuf {
        let mut text = format!("timestamp,series,{}\n", Self::METRICS.join(","));
        for (name, v) in Self::SERIES.iter().zip(&self.values) {
            for row in 0..rows {
                let time = START + row as i64 * MINUTE;
                writeln!(text, "{time},{name},{},{},{}", v[0][row], v[1][row], v[2][row]).expect("text grows");
            }
        }
        let path = folder.join("table.csv");
        std::fs::write(&path, text).expect("a file in the temporary folder");
        path
    }

    /// These rows as the body of `POST /v1/score`, in the order of time.
    pub fn body(&self, rows: Range<usize>) -> Value {
        let points: Vec<Value> = rows
            .flat_map(|row| {
                Self::SERIES.iter().zip(&self.values).map(move |(name, v)| {
                    json!({"timestamp": START + row as i64 * MINUTE, "labels": {"series": name},
                        "values": {"cpu": v[0][row], "mem": v[1][row], "rps": v[2][row]}})
                })
            })
            .collect();
        json!({"points": points})
    }
}
