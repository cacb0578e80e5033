use crate::kit::{small, train};
use foreglow_datasets::{Column, read_parquet};

const FORECAST: &str = "--format json backtest --task forecast --data {} --out {}";

#[test]
fn report_and_table_agree_and_repeat_on_any_number_of_threads() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = small(dir.path());
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let recipe = dir.path().join("recipe.toml");
    let small = "[forecaster]\nkind = \"lstm\"\nhidden = 8\nsteps = 40\nbatch = 16\ncontext = 48\npatches = 8\n";
    std::fs::write(&recipe, small).expect("written");
    let more = "--recipe {} --horizon 12 --windows 3 --models auto_local,lstm,seasonal_naive,random --refit 2";
    let report = train(&format!("{FORECAST} {more} --threads 1"), &[&data, &one, &recipe]).json();
    train(&format!("{FORECAST} {more} --threads 2"), &[&data, &two, &recipe]).json();
    let bytes = |d: &std::path::Path| std::fs::read(d.join("forecasts.parquet")).expect("written");
    assert_eq!(bytes(&one), bytes(&two));
    assert!(std::fs::read_to_string(one.join("report.html")).expect("written").contains("<svg"));

    let models: Vec<&str> =
        report["models"].as_array().expect("rows").iter().filter_map(|m| m["name"].as_str()).collect();
    assert_eq!(models, ["auto_local", "lstm", "seasonal_naive", "random"]);
    assert_eq!(report["models"][0]["measures"]["windows"], 3 * 4 * 3);
    let columns = read_parquet(&one.join("forecasts.parquet")).expect("read");
    let names: Vec<&str> = columns.iter().map(|c| c.0.as_str()).collect();
    assert_eq!(
        names[..10],
        ["series", "metric", "cutoff", "timestamp", "step", "y", "model", "refit", "median", "q0.01"]
    );
    assert_eq!((names.len(), columns[0].1.len()), (22, 4 * 3 * 4 * 3 * 12));
    let (Column::Str(model), Column::Str(refit)) = (&columns[6].1, &columns[7].1) else { panic!("text columns") };
    assert!(model.iter().zip(refit).all(|(m, r)| r == if m == "lstm" { "2" } else { "each" }));
}

#[test]
fn long_term_protocol_writes_the_report_only() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = small(dir.path());
    let out = dir.path().join("out");
    let more = "--horizon 24 --protocol ltsf --models naive";
    let report = train(&format!("{FORECAST} {more}"), &[&data, &out]).json();
    // 40 % of 480 rows are test rows.
    assert_eq!(report["models"][0]["measures"]["windows"], 3 * 4 * (192 - 24 + 1));
    assert!(out.join("report.json").is_file() && !out.join("forecasts.parquet").exists());
}

#[test]
fn mistakes_name_the_option() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = small(dir.path());
    let out = dir.path().join("out");
    let fails = |more: &str, code: i32, part: &str| {
        let ran = train(&format!("{FORECAST} {more}"), &[&data, &out]);
        assert!(ran.error(code).contains(part), "{more}: {}", ran.err);
    };
    fails("", 2, "--horizon");
    fails("--horizon 0", 2, "horizon = 0");
    fails("--horizon 3 --models wizard", 2, "auto_local");
    fails("--horizon 3 --models naive,naive", 2, "twice");
    fails("--horizon 9999", 1, "shorter --horizon");
    fails("--horizon 3 --series nobody", 2, "nobody");
    fails("--horizon 3 --metrics nothing", 2, "nothing");
    assert_eq!(train(&format!("{FORECAST} --horizon 3 --refit often"), &[&data, &out]).code, 2);
    assert!(!out.exists());
}
