use crate::kit::{small, train};
use foreglow_datasets::{Column, read_parquet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

const RECIPE: &str = "[[detectors]]\nkind = \"baseline\"\nup_to = 100\n[[detectors]]\nkind = \"pca\"\n[forecaster]\nkind = \"seasonal_naive\"\n";

fn recipe(dir: &Path) -> PathBuf {
    let path = dir.join("recipe.toml");
    std::fs::write(&path, RECIPE).expect("written");
    path
}

fn column<'a>(table: &'a [(String, Column)], name: &str) -> &'a Column {
    &table.iter().find(|c| c.0 == name).unwrap_or_else(|| panic!("no column {name}")).1
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("written")
}

#[test]
fn causal_backtest_is_complete_repeats_and_equals_the_artifacts_replay() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, recipe) = (small(dir.path()), recipe(dir.path()));
    let out = |name: &str| dir.path().join(name);
    let args = "--format json backtest --task anomaly --protocol causal --data {} --recipe {} --out {} --expected all";
    let report = train(&format!("{args} --threads 1"), &[&data, &recipe, &out("one")]).json();
    train(&format!("{args} --threads 2"), &[&data, &recipe, &out("two")]).json();
    for file in ["scores.parquet", "expected.parquet"] {
        assert!(bytes(&out("one").join(file)) == bytes(&out("two").join(file)), "{file}");
    }
    let names: Vec<&str> =
        report["detectors"].as_array().expect("rows").iter().filter_map(|d| d["name"].as_str()).collect();
    assert_eq!(names, ["recipe", "baseline", "pca", "random", "|x - median|", "PCA"]);
    assert_eq!(report["provenance"]["protocol"], "causal");
    assert!(std::fs::read_to_string(out("one").join("report.html")).expect("written").contains("<svg"));

    let scores = read_parquet(&out("one").join("scores.parquet")).expect("read");
    let heads: Vec<&str> = scores.iter().map(|c| c.0.as_str()).collect();
    assert_eq!(
        heads[..9],
        ["series", "timestamp", "row", "split", "label", "score", "p_value", "is_anomaly", "status"]
    );
    let (Column::Str(split), Column::Str(status), Column::OptF64(score)) =
        (column(&scores, "split"), column(&scores, "status"), column(&scores, "score"))
    else {
        panic!("types")
    };
    assert_eq!(split.len(), 3 * 480, "one row an input row");
    for ((split, status), score) in split.iter().zip(status).zip(score) {
        assert_eq!(split == "test", status != "not_replayed");
        assert_eq!(score.is_some(), status == "scored", "{status}");
    }
    let expected = read_parquet(&out("one").join("expected.parquet")).expect("read");
    assert_eq!(column(&expected, "metric").len(), 3 * 192 * 4);

    let registry = out("registry");
    let fit = train("--format json fit --data {} --recipe {} --registry {}", &[&data, &recipe, &registry]);
    assert_eq!(fit.code, 0, "{}", fit.err);
    let replay =
        "--format json backtest --task anomaly --data {} --artifact small --registry {} --out {} --expected all";
    train(replay, &[&data, &registry, &out("replayed")]).json();
    assert!(bytes(&out("one").join("scores.parquet")) == bytes(&out("replayed").join("scores.parquet")));
}

#[test]
fn tsb_scores_the_whole_labelled_range() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, recipe) = (small(dir.path()), recipe(dir.path()));
    let out = dir.path().join("out");
    let args = "--format json backtest --task anomaly --protocol tsb --data {} --recipe {} --out {}";
    let report = train(args, &[&data, &recipe, &out]).json();
    assert_eq!(report["detectors"][0]["series"][0]["rank"]["rows"], 480, "generated rows are all labelled");
    train(&format!("{args} --prefix 120"), &[&data, &recipe, &out]).json();
    let causal = args.replace("tsb", "causal") + " --prefix 120";
    assert!(train(&causal, &[&data, &recipe, &out]).error(2).contains("--prefix"));
}

#[test]
fn a_model_of_other_metrics_refuses_each_row_and_says_why() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, recipe) = (small(dir.path()), recipe(dir.path()));
    let (registry, out) = (dir.path().join("registry"), dir.path().join("out"));
    let fit = "fit --data {} --recipe {} --registry {} --metrics g1_metric_01,g1_metric_03 --name half";
    assert_eq!(train(fit, &[&data, &recipe, &registry]).code, 0);
    let replay = "--format json backtest --task anomaly --data {} --artifact half --registry {} --out {} \
                  --metrics g2_metric_02,g2_metric_04";
    let ran = train(replay, &[&data, &registry, &out]);
    // Either all rows are refused by name, or the replay says that nothing fits; a score would be a lie.
    if ran.code == 0 {
        let scores = read_parquet(&out.join("scores.parquet")).expect("read");
        let (Column::Str(split), Column::Str(status)) = (column(&scores, "split"), column(&scores, "status")) else {
            panic!("types")
        };
        assert!(split.iter().zip(status).all(|(split, s)| split != "test" || s == "unknown_signal"), "{status:?}");
    } else {
        ran.error(1);
    }
}

#[test]
fn odd_series_cost_the_others_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let recipe = recipe(dir.path());
    let mut text = String::from("time,series_id,v,w\n");
    let mut push = |name: &str, i: i64, v: &str, w: &str| {
        writeln!(text, "{},{name},{v},{w}", 1_767_225_600_000 + i * 60_000).expect("written");
    };
    for i in 0..900 {
        let (v, w) = (((i * 37) % 101).to_string(), ((i * 13) % 17).to_string());
        push("good", i, &v, &w);
        push("constant", i, "5", "5");
        push("missing", i, "", "");
        push("huge", i, if i % 2 == 0 { "1e308" } else { "-1e308" }, &w);
        // Every tenth instant twice, and some of them going back.
        push("shuffled", if i % 10 == 3 { i - 2 } else { i }, &v, &w);
    }
    push("single", 0, "1", "2");
    let data = dir.path().join("mixed.csv");
    std::fs::write(&data, text).expect("written");
    let out = dir.path().join("out");
    let report =
        train("--format json backtest --task anomaly --data {} --recipe {} --out {}", &[&data, &recipe, &out]).json();
    let notes = report["provenance"]["settings"].to_string();
    assert!(notes.contains("single") && notes.contains("missing"), "{notes}");
    let scores = read_parquet(&out.join("scores.parquet")).expect("read");
    let (Column::Str(series), Column::OptF64(score)) = (column(&scores, "series"), column(&scores, "score")) else {
        panic!("types")
    };
    assert_eq!(series.len(), 5 * 900 + 1);
    for name in ["good", "constant", "huge", "shuffled"] {
        let of: Vec<f64> = series.iter().zip(score).filter(|(s, _)| s.contains(name)).filter_map(|(_, v)| *v).collect();
        assert!(of.len() > 150 && of.iter().all(|v| v.is_finite()), "{name}: {} scores", of.len());
    }
}
