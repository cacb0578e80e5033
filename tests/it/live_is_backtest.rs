//! What a backtest reports is what the server says: same rows, same artifact, same scores, however the rows are cut into
//! batches and with a restart in between.

use foreglow_datasets::{Column, Dataset, OpenOptions, SeriesTable, Split, read_parquet};
use foreglow_tests::testkit::{Server, shared_data, train};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// Scores of one series by instant, from `scores.parquet`; NaN where there is none.
fn reported(out: &Path, series: &str) -> BTreeMap<i64, f64> {
    let columns: BTreeMap<String, Column> = read_parquet(&out.join("scores.parquet")).unwrap().into_iter().collect();
    let (Column::Str(ids), Column::OptTimestampMs(times), Column::OptF64(scores)) =
        (&columns["series"], &columns["timestamp"], &columns["score"])
    else {
        panic!("the columns of scores.parquet have changed")
    };
    let rows = ids.iter().zip(times).zip(scores).filter(|((id, _), _)| *id == series);
    rows.map(|((_, t), s)| (t.unwrap(), s.unwrap_or(f64::NAN))).collect()
}

/// Rows of a series as the body of `POST /v1/score`.
fn body(table: &SeriesTable, rows: Range<usize>) -> Value {
    let points: Vec<Value> = rows
        .map(|row| {
            let values: serde_json::Map<String, Value> =
                table.metrics.iter().cloned().zip(table.row(row).map(|v| json!(v))).collect();
            json!({"timestamp": table.timestamps[row].ms(), "labels": {"series": table.id}, "values": values})
        })
        .collect();
    json!({"points": points})
}

/// Fits on the train rows of one series of smd_a, backtests the artifact, and replays `rows` test rows through the server
/// in batches of each size, with a restart in the middle.
async fn compare(series: &'static str, recipe: &str, sizes: &[(usize, usize)]) {
    let Some(data) = shared_data("smd_a") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (registry, out, recipe_file) = (path("registry"), path("out"), path("recipe.toml"));
    std::fs::write(&recipe_file, recipe).unwrap();
    let source = data.to_str().unwrap().to_owned();
    let fitted = (registry.clone(), out.clone());
    tokio::task::spawn_blocking(move || {
        let (registry, out) = fitted;
        let choice = ["--data", &source, "--series", series];
        let fit = ["fit", "--recipe", &recipe_file, "--registry", &registry, "--name", "smd"];
        train(&[&fit[..], &choice[..]].concat()).unwrap();
        let backtest = ["backtest", "--task", "anomaly", "--artifact", "smd", "--registry", &registry, "--out", &out];
        train(&[&backtest[..], &choice[..]].concat()).unwrap();
    })
    .await
    .unwrap();

    let expected = reported(Path::new(&out), series);
    let table = Dataset::open(&data, &OpenOptions::default()).unwrap().load_series(series, None).unwrap();
    let first = table.split.iter().position(|s| *s == Split::Test).unwrap();
    for (batch, rows) in sizes {
        let at_hand = Path::new(&registry).to_path_buf();
        let mut server = Server::start_with(move |c| c.registry = Some(at_hand), foreglow_engine::Clock::System).await;
        let rows = first..first.saturating_add(*rows).min(table.len());
        let middle = rows.start + rows.len() / 2;
        let mut scores: BTreeMap<i64, f64> = BTreeMap::new();
        let mut restarted = false;
        for at in rows.clone().step_by(*batch) {
            if at >= middle && !restarted {
                server.restart().await;
                restarted = true;
            }
            let reply = server
                .client()
                .post("/v1/score?fields=timestamp,status,score,model", &body(&table, at..(at + batch).min(rows.end)))
                .await
                .ok();
            for r in reply["results"].as_array().unwrap() {
                assert!(r["model"].as_str().unwrap().starts_with("smd/"), "{r}");
                if r["status"] != "pending" {
                    scores.insert(r["timestamp"].as_i64().unwrap(), r["score"].as_f64().unwrap_or(f64::NAN));
                }
            }
        }
        let mut worst = (0.0f64, 0);
        for row in rows.clone() {
            let t = table.timestamps[row].ms();
            let (live, offline) = (scores.get(&t).copied(), expected[&t]);
            let live = live.unwrap_or_else(|| panic!("row {row} has no live score, batches of {batch}"));
            assert_eq!(live.is_nan(), offline.is_nan(), "row {row}: live {live}, backtest {offline}");
            if (live - offline).abs() > worst.0 {
                worst = ((live - offline).abs(), row);
            }
        }
        assert!(worst.0 <= 1e-6, "batches of {batch}: row {} differs by {:e}", worst.1, worst.0);
        let above = rows.clone().filter(|r| expected[&table.timestamps[*r].ms()] >= 1.0).count();
        assert!(above > 0 || rows.end < table.len(), "a comparison of quiet rows only shows little");
    }
}

/// The recommended recipe. A batch of one is a request a row: fewer rows of those.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machine_1_5() {
    compare("machine-1-5", "", &[(1000, usize::MAX), (7, 7_000), (1, 2_000)]).await;
}

/// Every kind of member.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machine_1_6_with_all_members() {
    let kinds = ["pca", "cluster", "neighbours", "amplitude", "shift", "persistence"];
    let mut recipe = kinds.map(|k| format!("[[detectors]]\nkind = \"{k}\"\n")).concat();
    recipe += "[[detectors]]\nkind = \"baseline\"\nup_to = 100\n";
    // The automatic choice would be made anew for 38 signals every few steps.
    recipe += "[[detectors]]\nkind = \"residual\"\nforecaster = { kind = \"seasonal_naive\", season = 60 }\n";
    recipe += "[[detectors]]\nkind = \"autoencoder\"\nnet = { epochs = 2 }\n";
    compare("machine-1-6", &recipe, &[(7, 1_400)]).await;
}
