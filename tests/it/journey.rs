//! Fit, serve, score, look: the way through that the README describes.

use foreglow_tests::testkit::{MINUTE, START, Server, Table, train};
use serde_json::{Value, json};

/// An hour is the season; the first eight hours are known.
const KNOWN: usize = 480;
/// `web`'s cpu is too high in these rows.
const FAULT: std::ops::Range<usize> = 560..580;

fn table() -> Table {
    Table::new(640).shifted(0, 0, FAULT, 60.0)
}

/// A server with the artifact of the known part in its registry.
async fn served(table: &Table) -> Server {
    let server = Server::start().await;
    let data = table.write(server.folder(), KNOWN);
    let (data, registry) = (data.to_str().unwrap().to_owned(), server.registry().to_str().unwrap().to_owned());
    tokio::task::spawn_blocking(move || {
        train(&["fit", "--data", &data, "--train-share", "0.8", "--registry", &registry, "--name", "shop"]).unwrap();
    })
    .await
    .unwrap();
    server.client().post("/v1/models/reload", &json!({})).await.ok();
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fit_serve_score_and_look() {
    let table = table();
    let server = served(&table).await;
    let client = server.client();

    let models = client.get("/v1/models").await.ok();
    let shop = models["items"].as_array().unwrap().iter().find(|m| m["model"].as_str().unwrap().starts_with("shop/"));
    assert_eq!(shop.unwrap()["served"], true, "{models}");

    let mut results: Vec<Value> = Vec::new();
    for at in (KNOWN..640).step_by(16) {
        let reply = client.post("/v1/score", &table.body(at..at + 16)).await.ok();
        assert_eq!(
            (reply["accepted"].as_u64(), reply["refused"].as_array().map(Vec::len)),
            (Some(96), Some(0)),
            "{reply}"
        );
        results.extend(reply["results"].as_array().unwrap().iter().cloned());
    }
    assert_eq!(results.len(), 2 * 160);
    assert!(results.iter().all(|r| r["status"] == "scored" && r["model"].as_str().unwrap().starts_with("shop/")));
    let above = |group: &str, inside: bool| {
        let rows = |r: &&Value| {
            let row = ((r["timestamp"].as_i64().unwrap() - START) / MINUTE) as usize;
            // A member that looks for what lasts sees a fault for up to a quarter of an hour after its end.
            let here = if inside { FAULT } else { FAULT.start..FAULT.end + 15 };
            r["group"] == group && here.contains(&row) == inside && r["is_anomaly"] == true
        };
        results.iter().filter(rows).count()
    };
    assert!(above(r#"{series="web"}"#, true) >= 5, "the fault is seen");
    let (after, beside) = (above(r#"{series="web"}"#, false), above(r#"{series="db"}"#, true));
    assert!(after <= 4 && beside <= 2, "and little else: {after} outside the fault, {beside} in the other group");
    let first = results.iter().find(|r| r["is_anomaly"] == true && r["group"] == r#"{series="web"}"#).unwrap();
    let cpu = &first["signals"].as_array().unwrap()[0];
    assert_eq!(cpu["labels"], json!({"__name__": "cpu", "series": "web"}));
    assert!(cpu["actual"].as_f64().unwrap() > cpu["upper"].as_f64().unwrap(), "{cpu}");
    assert!(cpu["share"].as_f64().unwrap() > 0.5, "{first}");

    let anomalies = client.get("/v1/anomalies?limit=1000").await.ok();
    let listed = anomalies["items"].as_array().unwrap().len();
    assert_eq!(listed, results.iter().filter(|r| r["is_anomaly"] == true).count());
    let incidents = client.get("/v1/incidents").await.ok();
    let web = incidents["items"].as_array().unwrap().iter().find(|i| i["group"] == r#"{series="web"}"#).unwrap();
    let opened = (web["opened_at"].as_i64().unwrap() - START) / MINUTE;
    assert!((560..=565).contains(&opened), "opened at row {opened}");
    assert!(web["contributors"][0]["signal"].as_str().unwrap().starts_with("cpu"), "{web}");

    let group = client.get("/v1/groups/%7Bseries=%22web%22%7D").await.ok();
    assert!(group["model"].as_str().unwrap().starts_with("shop/"), "{group}");
    let forecast = client.get("/v1/forecast?match[]=cpu%7Bseries=%22db%22%7D&horizon=60").await.ok();
    let median = forecast["forecasts"][0]["median"].as_array().unwrap();
    let error: f64 = median
        .iter()
        .enumerate()
        .map(|(h, m)| {
            let turn = std::f64::consts::TAU * (640 + h) as f64 / 60.0;
            (m.as_f64().unwrap() - 100.0 - 20.0 * turn.sin()).abs()
        })
        .sum::<f64>()
        / 60.0;
    assert!(error < 4.0, "the wave goes on: off by {error} on average");
}

/// What was acknowledged is there after a restart, and the same rows again are told from new ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_survives_a_restart() {
    let table = table();
    let mut server = served(&table).await;
    let first = server.client().post("/v1/score", &table.body(KNOWN..520)).await.ok();
    server.restart().await;
    let again = server.client().post("/v1/score", &table.body(500..540)).await.ok();
    let of = |reply: &Value, row: usize| {
        let time = START + row as i64 * MINUTE;
        let found = reply["results"]
            .as_array()
            .unwrap()
            .iter()
            .find(|r| r["timestamp"] == time && r["group"] == r#"{series="web"}"#);
        found.cloned().unwrap_or_else(|| panic!("row {row} is missing in {reply}"))
    };
    assert_eq!(of(&again, 510)["status"], "duplicate");
    assert_eq!(of(&again, 510)["score"], of(&first, 510)["score"]);
    assert_eq!(of(&again, 530)["status"], "scored");
    let groups = server.client().get("/v1/groups").await.ok();
    assert_eq!(groups["items"].as_array().unwrap().len(), 2, "{groups}");
}

/// Without any artifact, whatever is posted is scored after a warm-up that is announced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_online_baseline_needs_no_fit() {
    // The whole host is off: one of three signals, by three amplitudes of an hourly wave that the baseline has no season
    // for, stays below the line without a fit.
    let table = table().shifted(0, 1, FAULT, 60.0).shifted(0, 2, FAULT, 60.0);
    let server = Server::start().await;
    let client = server.client();
    let reply = client.post("/v1/score", &table.body(0..8)).await.ok();
    let newest = reply["results"].as_array().unwrap().last().unwrap();
    assert_eq!(newest["status"], "warming_up");
    assert!(newest["ready_at"].as_i64().unwrap() > newest["timestamp"].as_i64().unwrap(), "{newest}");
    for at in (8..640).step_by(79) {
        client.post("/v1/score", &table.body(at..(at + 79).min(640))).await.ok();
    }
    let anomalies = client.get("/v1/anomalies?limit=1000").await.ok();
    let web = |i: &&Value| {
        let row = ((i["timestamp"].as_i64().unwrap() - START) / MINUTE) as usize;
        i["group"] == r#"{series="web"}"# && FAULT.contains(&row)
    };
    let found = anomalies["items"].as_array().unwrap();
    assert!(found.iter().filter(web).count() >= 2, "{} anomalies", found.len());
    assert!(found.len() < 40, "{} anomalies", found.len());
}
