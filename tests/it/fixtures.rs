//! The recordings of the lab that lie in the repository.

use foreglow_tests::testkit::train;
use std::path::Path;

fn backtest(recording: &str, recipe: Option<&str>) -> serde_json::Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let out = tempfile::tempdir().unwrap();
    let path = |p: &Path| p.to_str().unwrap().to_owned();
    let (data, to) = (path(&root.join("datasets/fixtures").join(recording)), path(out.path()));
    train(&["datasets", "check", "--data", &data]).unwrap();
    let mut arguments = vec!["backtest", "--task", "anomaly", "--data", &data, "--out", &to];
    let recipe = recipe.map(|r| path(&root.join(r)));
    if let Some(recipe) = &recipe {
        arguments.extend(["--recipe", recipe]);
    }
    train(&arguments).unwrap()
}

#[test]
fn the_quiet_recording_raises_nothing() {
    let report = backtest("lab_normal", None);
    let means = &report["detectors"][0]["means"];
    assert_eq!(means["false_alerts_per_day"], 0.0, "{means}");
}

#[test]
fn every_fault_of_the_other_is_found() {
    let report = backtest("lab_faults", Some("engine/demo/recipe.toml"));
    let means = &report["detectors"][0]["means"];
    assert_eq!(means["recall"], 1.0, "{means}");
}
