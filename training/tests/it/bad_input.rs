use crate::kit::train;
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn file(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("written");
    path
}

fn row(i: i64, value: &str) -> String {
    format!("{},{value}\n", 1_767_225_600_000 + i * 60_000)
}

fn forecast(data: &Path, out: &Path) -> crate::kit::Ran {
    train(
        "--format json backtest --task forecast --data {} --out {} --horizon 3 --windows 2 --models naive,auto_local",
        &[data, out],
    )
}

#[test]
fn files_that_cannot_be_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("out");
    let fails = |path: &Path, code: i32, part: &str| {
        let ran = forecast(path, &out);
        assert!(ran.error(code).contains(part), "{}: {}", path.display(), ran.err);
        assert!(!out.exists(), "nothing is written for {}", path.display());
    };
    fails(&dir.path().join("nowhere.csv"), 2, "nowhere.csv");
    fails(dir.path(), 2, "manifest.json");
    fails(&file(dir.path(), "empty.csv", "time,v\n"), 1, "no data rows");
    let text = format!("time,v\n{}{}{}", row(0, "1"), row(1, "2"), row(2, "slow"));
    fails(&file(dir.path(), "text.csv", &text), 1, "row 3");
    fails(&file(dir.path(), "seconds.csv", "time,v\n1767225600,1\n1767225660,2\n"), 1, "seconds");

    let set = crate::kit::small(dir.path());
    let whole = std::fs::read(set.join("data.parquet")).expect("read");
    std::fs::write(set.join("data.parquet"), &whole[..whole.len() / 2]).expect("written");
    fails(&set, 1, "data.parquet");
    std::fs::write(set.join("data.parquet"), &whole).expect("written");
    let manifest = std::fs::read_to_string(set.join("manifest.json")).expect("read");
    std::fs::write(set.join("manifest.json"), manifest.replace("\"layout_version\": 1", "\"layout_version\": 9"))
        .expect("written");
    fails(&set, 1, "layout_version 9");
}

#[test]
fn one_bad_series_costs_the_others_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut text = String::from("time,series_id,v\n");
    let mut push = |name: &str, i: i64, v: &str| {
        writeln!(text, "{},{name},{v}", 1_767_225_600_000 + i * 60_000).expect("written");
    };
    for i in 0..40 {
        push("good", i, &format!("{}", (i * 7) % 11));
        push("missing", i, "");
        push("huge", i, if i % 2 == 0 { "1e308" } else { "-1e308" });
        push("constant", i, "5");
    }
    push("single", 0, "1");
    // Unsorted, doubled.
    for i in [5, 3, 3, 4, 0, 1, 2, 9, 8, 7, 6, 6] {
        push("shuffled", i, &format!("{i}"));
    }
    let path = file(dir.path(), "mixed.csv", &text);
    let report = forecast(&path, &dir.path().join("out")).json();
    let series: Vec<&str> =
        report["models"][0]["series"].as_array().expect("series").iter().filter_map(|s| s["series"].as_str()).collect();
    for name in ["good", "huge", "constant", "shuffled"] {
        assert!(series.iter().any(|s| s.contains(name)), "{name}: {series:?}");
    }
    let notes = report["provenance"]["settings"].to_string();
    assert!(notes.contains("single") && notes.contains("missing"), "{notes}");
    // Errors of ±1e308 add up to more than a number holds: those windows count as failed, the others stand.
    for s in report["models"][0]["series"].as_array().expect("series") {
        let huge = s["series"].as_str().is_some_and(|n| n.contains("huge"));
        let m = &s["measures"];
        // Of a constant series all windows are judged apart.
        let judged = m["mae"].is_number() || m["near_constant"] == m["windows"] && m["near_constant_mae"].is_number();
        assert_eq!(m["failed"] == 0 && judged, !huge, "{s}");
    }
}
