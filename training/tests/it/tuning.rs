use crate::kit::train;
use foreglow_datasets::{Column, read_parquet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn table(dir: &Path) -> PathBuf {
    let mut text = String::from("workers,batch,Throughput+\n");
    for w in 0..12 {
        for b in 0..4 {
            let value = 100 - (w - 7) * (w - 7) - 3 * (b - 2) * (b - 2);
            writeln!(text, "{w},{b},{value}").expect("written");
        }
    }
    text.push_str("3,3,?\n");
    let path = dir.join("table.csv");
    std::fs::write(&path, text).expect("written");
    path
}

#[test]
fn designers_are_replayed_side_by_side() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, out) = (table(dir.path()), dir.path().join("out"));
    let args = "--format json backtest --task tuning --data {} --goal Throughput:max --designer bayes,random --budget 20 \
                --seeds 3 --out {}";
    let report = train(args, &[&data, &out]).json();
    assert_eq!((&report["rows"], &report["failed_rows"]), (&48.into(), &1.into()));
    assert_eq!((&report["best_in_table"], &report["designers"][0]["designer"]), (&100.0.into(), &"bayes".into()));
    assert!(report["designers"][0]["regret"].as_f64() <= report["designers"][1]["regret"].as_f64());
    let columns = read_parquet(&out.join("trials.parquet")).expect("read");
    let names: Vec<&str> = columns.iter().map(|c| c.0.as_str()).collect();
    assert_eq!(names, ["designer", "seed", "n", "parameters", "value", "best", "regret", "suggest_ms"]);
    assert_eq!(columns[0].1.len(), 2 * 3 * 20);
    let Column::Str(parameters) = &columns[3].1 else { panic!("text") };
    assert!(serde_json::from_str::<serde_json::Value>(&parameters[0]).expect("JSON")["workers"].is_number());
    assert!(out.join("report.html").is_file());
}

#[test]
fn mistakes_name_the_option() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, out) = (table(dir.path()), dir.path().join("out"));
    for (more, part) in [
        ("", "--goal is missing"),
        ("--goal Throughput", "COLUMN:min"),
        ("--goal speed:min", "workers"),
        ("--goal Throughput:max --designer wizard", "wizard"),
        ("--goal Throughput:max --budget 0", "--budget 0"),
        ("--goal Throughput:max --horizon 3", "--horizon means nothing"),
        ("--goal Throughput:max --series x", "--series means nothing"),
    ] {
        let ran = train(&format!("backtest --task tuning --data {{}} --out {{}} {more}"), &[&data, &out]);
        assert!(ran.error(2).contains(part), "{more}: {}", ran.err);
    }
}
