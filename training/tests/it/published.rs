//! The protocols reproduce what others published for the same baseline on the same rows.

use crate::kit::{shared, train};
use serde_json::Value;

fn model<'a>(report: &'a Value, name: &str) -> &'a Value {
    let rows = report["models"].as_array().expect("rows");
    &rows.iter().find(|m| m["name"] == name).expect("the row")["measures"]
}

fn close(value: &Value, want: f64, within: f64, what: &str) {
    let got = value.as_f64().unwrap_or(f64::NAN);
    assert!((got - want).abs() <= within, "{what}: {got}, published {want}");
}

/// Runs `backtest --task forecast` with the seasonal-naive row (and others if named).
fn run(dataset: &str, more: &str) -> Option<Value> {
    let data = shared(dataset)?;
    let dir = tempfile::tempdir().expect("a folder");
    let args = format!("--format json backtest --task forecast --data {{}} --out {{}} {more}");
    Some(train(&args, &[&data, &dir.path().join("out")]).json())
}

#[test]
fn m4_hourly() {
    let Some(report) = run("m4_hourly", "--horizon 48 --windows 1 --season 24 --models seasonal_naive") else { return };
    let m = model(&report, "seasonal_naive");
    assert_eq!(m["windows"], 414);
    close(&m["smape"], 13.912, 5e-4, "sMAPE");
    close(&m["mase"], 1.193, 5e-4, "MASE");
}

#[test]
fn bizitobs_application() {
    for (horizon, windows, want) in [(60, 15, 2.242), (600, 2, 2.691), (900, 1, 3.206)] {
        let more = format!("--metrics calls_sum,latency_mean --horizon {horizon} --models seasonal_naive");
        let Some(report) = run("bizitobs_application", &more) else { return };
        let m = model(&report, "seasonal_naive");
        assert_eq!(m["windows"], 2 * windows, "windows of the default plan at horizon {horizon}");
        close(&m["mase"], want, 5e-4, &format!("MASE at {horizon}"));
    }
}

#[test]
fn ettm1() {
    for (horizon, windows, want) in [(48, 20, 0.934), (480, 15, 1.188), (720, 10, 1.191)] {
        let Some(report) = run("ett_1", &format!("--series ETTm1 --horizon {horizon} --models seasonal_naive")) else {
            return;
        };
        let m = model(&report, "seasonal_naive");
        assert_eq!(m["windows"], 7 * windows, "windows of the default plan at horizon {horizon}");
        close(&m["mase"], want, 5e-4, &format!("MASE at {horizon}"));
        if horizon == 48 {
            close(&m["nd"], 0.28253, 5e-6, "ND");
        }
    }
}

#[test]
fn etth1_long_term() {
    let Some(report) = run("ett_1", "--series ETTh1 --protocol ltsf --horizon 96 --models naive") else { return };
    let m = model(&report, "naive");
    assert_eq!(m["windows"], 7 * 2785);
    close(&m["mse"], 1.294, 5e-4, "MSE");
    close(&m["mae"], 0.713, 5e-4, "MAE");
}
