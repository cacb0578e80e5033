//! Files that are not what they should be: one paragraph that names file, place and remedy, and the right exit code.

use foreglow_datasets::{Column, write_parquet};
use foreglow_tests::testkit::{MINUTE, START, Table, train};
use std::path::Path;

/// Fits on `file`; the error and the exit code, or none.
fn fit(file: &Path) -> Result<(), (String, u8)> {
    let registry = file.parent().unwrap().join("registry");
    train(&["fit", "--data", file.to_str().unwrap(), "--registry", registry.to_str().unwrap(), "--name", "x"])
        .map(|_| ())
}

/// The error of fitting on a CSV of this text, after checking that it names the file.
fn csv_error(text: &str) -> (String, u8) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.csv");
    std::fs::write(&file, text).unwrap();
    let (message, code) = fit(&file).expect_err("it is refused");
    assert!(!message.contains("panicked") && !message.is_empty(), "{message}");
    (message, code)
}

fn rows(n: usize, value: impl Fn(usize) -> String) -> String {
    let lines: Vec<String> = (0..n).map(|i| format!("{},{}\n", START + i as i64 * MINUTE, value(i))).collect();
    lines.concat()
}

#[test]
fn text_in_a_number_column_names_row_and_column() {
    let text = format!("timestamp,cpu\n{}", rows(300, |i| if i == 17 { "high".into() } else { format!("{}", i % 9) }));
    let (message, code) = csv_error(&text);
    assert!(
        message.contains("cpu") && message.contains("high") && (message.contains("18") || message.contains("19")),
        "{message}"
    );
    assert!(code == 1 || code == 2);
}

#[test]
fn empty_and_tiny_files() {
    for text in ["", "timestamp,cpu\n", "timestamp,cpu\n1767225600000,1.0\n"] {
        let (message, _) = csv_error(text);
        assert!(message.len() > 20, "{text:?}: {message}");
    }
}

#[test]
fn values_that_are_all_missing_or_enormous() {
    let missing = format!("timestamp,cpu\n{}", rows(300, |_| String::new()));
    let (message, _) = csv_error(&missing);
    assert!(message.len() > 20, "{message}");
    // Enormous values are values; beside usual ones they must not spoil the fit.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("large.csv");
    let text = format!(
        "timestamp,cpu,mem\n{}",
        rows(600, |i| if i == 100 { "1e308,5".into() } else { format!("{},{}", i % 9, i % 11) })
    );
    std::fs::write(&file, text).unwrap();
    fit(&file).unwrap();
}

#[test]
fn unsorted_and_doubled_timestamps_are_put_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let sorted = Table::new(480);
    let good = sorted.write(folder.path(), 480);
    let text = std::fs::read_to_string(&good).unwrap();
    let (head, body) = text.split_once('\n').unwrap();
    let mut lines: Vec<&str> = body.lines().collect();
    lines.swap(10, 11);
    lines.swap(700, 720);
    lines.insert(30, lines[30]);
    let mixed = folder.path().join("mixed.csv");
    std::fs::write(&mixed, format!("{head}\n{}\n", lines.join("\n"))).unwrap();
    fit(&mixed).unwrap();
}

#[test]
fn a_truncated_parquet_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cut.parquet");
    let times = (0..500).map(|i| START + i * MINUTE).collect();
    let values = (0..500).map(|i| f64::from(i % 13)).collect();
    write_parquet(&file, vec![("timestamp".into(), Column::TimestampMs(times)), ("cpu".into(), Column::F64(values))])
        .unwrap();
    fit(&file).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    for keep in [bytes.len() - 1, bytes.len() / 2, 10, 0] {
        std::fs::write(&file, &bytes[..keep]).unwrap();
        let (message, code) = fit(&file).expect_err("it is refused");
        assert!(message.contains("cut.parquet") && code == 1, "{keep} bytes: {code}: {message}");
    }
}

#[test]
fn a_damaged_or_unknown_artifact() {
    let folder = tempfile::tempdir().unwrap();
    let data = Table::new(400).write(folder.path(), 400);
    let registry = folder.path().join("registry");
    let (data, registry_text) = (data.to_str().unwrap(), registry.to_str().unwrap());
    train(&["fit", "--data", data, "--registry", registry_text, "--name", "shop"]).unwrap();
    let artifact = std::fs::read_dir(registry.join("shop"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.join("manifest.json").exists())
        .unwrap();
    let use_it = || {
        let out = folder.path().join("out");
        let task = ["backtest", "--task", "anomaly", "--data", data, "--out", out.to_str().unwrap()];
        train(&[&task[..], &["--artifact", "shop", "--registry", registry_text]].concat()).map(|_| ())
    };
    use_it().unwrap();

    for file in ["weights.safetensors", "calibration.safetensors"] {
        let path = artifact.join(file);
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        let (message, code) = use_it().expect_err("a changed byte is noticed");
        assert!(message.contains(file) && code == 1, "{code}: {message}");
        std::fs::write(&path, &good).unwrap();
    }
    let path = artifact.join("manifest.json");
    let good = std::fs::read_to_string(&path).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_str(&good).unwrap();
    let version = manifest["schema_version"].clone();
    manifest["schema_version"] = match version {
        serde_json::Value::String(_) => "99.0".into(),
        _ => 99.into(),
    };
    std::fs::write(&path, manifest.to_string()).unwrap();
    let (message, _) = use_it().expect_err("an unknown version is refused");
    assert!(message.contains("99") && message.contains("version"), "{message}");
}
