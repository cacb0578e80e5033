//! Datasets from outside: files are written, read, damaged and read again.

mod bad_input;
mod round_trip;
mod shared;
mod tables;

use foreglow_datasets::{Dataset, DatasetError, OpenOptions, SeriesTable};
use std::path::PathBuf;

/// A file in a temporary folder that lives as long as the value.
struct Scratch {
    dir: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder") }
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).expect("written");
        path
    }
}

/// Reads CSV text with options.
fn csv(text: &str, options: &OpenOptions) -> Result<Vec<SeriesTable>, DatasetError> {
    let s = Scratch::new();
    Dataset::open(&s.file("data.csv", text.as_bytes()), options)?.load_all(None)
}

/// Equal cell by cell, NaN equal to NaN.
fn same(a: &[Vec<f64>], b: &[Vec<f64>]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(x, y)| {
            x.len() == y.len() && x.iter().zip(y).all(|(p, q)| p.to_bits() == q.to_bits() || p.is_nan() && q.is_nan())
        })
}
