use crate::server::{START, STEP, Server, point, points, usual, usual_rows};
use serde_json::{Value, json};

const A: &str = r#"{host="a"}"#;
/// The id of group a in an address.
const A_PATH: &str = "/v1/groups/%7Bhost%3D%22a%22%7D";

fn statuses(v: &Value) -> Vec<&str> {
    v["results"].as_array().unwrap().iter().map(|r| r["status"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn any_series_is_scored_after_an_announced_warm_up() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    let first = s.posted("/v1/score", &points(&usual_rows("a", 0..20))).await;
    assert_eq!(first["accepted"], 40);
    assert_eq!(first["refused"], json!([]));
    let warm = first["results"].as_array().unwrap().iter().find(|r| r["status"] == "warming_up").unwrap();
    assert_eq!(warm["group"], A);
    assert_eq!(warm["model"], "online");
    assert!(warm["ready_at"].as_i64().unwrap() > START, "{warm}");

    let many = s.posted("/v1/score", &points(&usual_rows("a", 20..600))).await;
    let last = many["results"].as_array().unwrap().last().unwrap();
    assert_eq!(last["status"], "scored", "{last}");
    assert!(last["score"].as_f64().unwrap() < 1.0);
    let signals = last["signals"].as_array().unwrap();
    assert_eq!(signals[0]["labels"], json!({"__name__": "cpu", "host": "a"}));
    assert!(signals[0]["lower"].as_f64().unwrap() < signals[0]["upper"].as_f64().unwrap());

    // Columns say the same as rows.
    let (cpu, mem) = usual("a", 600);
    let t = START + 600 * STEP;
    let columns = json!({"series": [
        {"labels": {"__name__": "cpu", "host": "a"}, "timestamps": [t], "values": [cpu]},
        {"labels": {"__name__": "mem", "host": "a"}, "timestamps": [t], "values": [mem]}]});
    let dry = s.posted("/v1/score?dry_run=true", &columns).await;
    let rows = s.posted("/v1/score", &points(&[point("a", 600, cpu, mem)])).await;
    assert_eq!(dry["results"], rows["results"], "a dry run says what the real one says");
    let again = s.posted("/v1/score", &columns).await;
    assert_eq!(statuses(&again), ["duplicate"]);
    assert_eq!(again["results"][0]["score"], rows["results"][0]["score"]);

    let few = s.posted("/v1/score?fields=status,score", &points(&usual_rows("a", 601..602))).await;
    let keys: Vec<&String> = few["results"][0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["score", "status"]);
    s.stop().await;
}

#[tokio::test]
async fn a_disturbance_becomes_an_incident_and_is_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    let mut rows = usual_rows("a", 0..600);
    rows.extend((600..603).map(|i| point("a", i, 500.0, usual("a", i).1)));
    // Not waited for, and seen by whoever asks afterwards.
    let taken = s.posted("/v1/ingest", &points(&rows)).await;
    assert_eq!((taken["accepted"].as_u64(), taken["refused_count"].as_u64()), (Some(1206), Some(0)));

    let groups = s.get("/v1/groups").await;
    assert_eq!(groups["items"][0]["id"], A);
    assert_eq!(groups["items"][0]["step"], "1m");
    let one = s.get(A_PATH).await;
    assert_eq!(one["model"], "online");
    assert_eq!(one["signal_keys"], json!(["cpu", "mem"]));
    assert!(one["bytes"].as_u64().unwrap() > 0 && one["reason"].is_string());
    assert_eq!(one["recent"][0]["timestamp"], START + 602 * STEP);

    let anomalies = s.get("/v1/anomalies?limit=2").await;
    assert_eq!(anomalies["items"].as_array().unwrap().len(), 2, "{anomalies}");
    assert!(anomalies["items"][0]["score"].as_f64().unwrap() >= 1.0);
    assert_eq!(anomalies["items"][0]["step"]["signals"][0]["labels"]["__name__"], "cpu");
    let next = format!("/v1/anomalies?limit=2&cursor={}", anomalies["next_cursor"].as_str().unwrap());
    assert_ne!(s.get(&next).await["items"][0]["id"], anomalies["items"][0]["id"]);

    let incidents = s.get("/v1/incidents?state=open").await;
    let incident = &incidents["items"][0];
    assert_eq!(incident["group"], A);
    assert_eq!(incident["contributors"][0]["signal"], "cpu");
    let id = incident["id"].as_str().unwrap();
    let told = s.posted("/v1/feedback", &json!({"incident": id, "verdict": true, "by": "kim"})).await;
    assert_eq!(told["feedback"][0]["verdict"], "true");
    assert_eq!(s.get(&format!("/v1/incidents/{id}")).await["feedback"][0]["by"], "kim");

    let metrics = s.get("/metrics").await;
    let metrics = metrics.as_str().unwrap();
    for part in [
        "foreglow_group_score{group=\"{host=\\\"a\\\"}\"}",
        "foreglow_yhat_upper{for=\"cpu\",host=\"a\"}",
        "foreglow_samples_accepted_total 1206",
        "foreglow_incidents_opened_total 1",
    ] {
        assert!(metrics.contains(part), "{part}\n{metrics}");
    }
    s.stop().await;
}

#[tokio::test]
async fn sessions_and_tenants_are_apart() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |c| c.limits.max_sessions = 1).await;
    let rows = points(&usual_rows("a", 0..30));
    s.posted("/v1/score?session=one", &rows).await;
    assert_eq!(s.get("/v1/groups").await["items"], json!([]), "a session leaves no trace");
    let (status, p) = s.post("/v1/score?session=two", &rows).await;
    assert_eq!((status, p["code"].as_str()), (429, Some("too_many_scopes")));
    // A session that is there goes on.
    s.posted("/v1/score?session=one", &points(&usual_rows("a", 30..31))).await;

    let other = s.request("POST", "/v1/score").header("x-scope-orgid", "b").json(&rows);
    assert_eq!(other.send().await.unwrap().status(), 200);
    assert_eq!(s.get("/v1/groups").await["items"], json!([]));
    let theirs = s.request("GET", "/v1/groups").header("x-scope-orgid", "b");
    assert_eq!(crate::server::answer(theirs).await.1["items"][0]["id"], A);
    s.stop().await;
}

#[tokio::test]
async fn bad_samples_are_refused_alone() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    let body = json!({"points": [
        {"timestamp": START, "labels": {"host": "a"}, "values": {"cpu": 1.0}},
        {"timestamp": START / 1000, "labels": {"host": "a"}, "values": {"cpu": 1.0}},
        {"timestamp": START + 10_000_000 * STEP, "labels": {"host": "a"}, "values": {"cpu": 1.0}},
        {"timestamp": "2026-01-01T00:01:00Z", "labels": {"host": "a"}, "values": {"cpu": null}},
        {"timestamp": START + 2 * STEP, "labels": {"host": "a"}, "values": {"cpu": 1e308}},
    ]});
    let v = s.posted("/v1/score", &body).await;
    let codes: Vec<(u64, &str)> = v["refused"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (r["index"].as_u64().unwrap(), r["code"].as_str().unwrap()))
        .collect();
    assert_eq!(codes, [(1, "seconds"), (2, "future")]);
    assert!(v["refused"][0]["detail"].as_str().unwrap().contains("did you send seconds?"));
    assert_eq!(v["accepted"], 3);

    let labels: serde_json::Map<String, Value> = (0..1_000_000).map(|i| (format!("l{i}"), json!("v"))).collect();
    let huge = json!({"series": [
        {"labels": labels, "timestamps": [START], "values": [1.0]},
        {"labels": {"__name__": "cpu", "host": "b"}, "timestamps": [START], "values": [1.0]}]});
    let (status, v) = {
        let big = Server::start(&dir.path().join("big"), |c| c.limits.max_body = 64 << 20).await;
        let answer = big.post("/v1/score", &huge).await;
        big.stop().await;
        answer
    };
    assert_eq!((status, v["refused"][0]["code"].as_str()), (200, Some("too_many_labels")), "{v}");
    assert_eq!(v["accepted"], 1);
    s.stop().await;
}

/// What `signals.toml` says of a signal is told with its incidents, and its load is the workload of studies.
#[tokio::test]
async fn units_and_loads_are_used() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("signals.toml");
    let rules = "[[signal]]\nname = \"load\"\nmatch = 'mem'\n\
        [[signal]]\nname = \"busy\"\nmatch = 'cpu{host=\"a\"}'\nunit = \"%\"\nload = \"load\"\n";
    std::fs::write(&file, rules).unwrap();
    let s = Server::start(dir.path(), |c| c.signals = Some(file)).await;
    s.posted("/v1/score", &points(&usual_rows("a", 0..300))).await;
    let rows: Vec<Value> = (300..305).map(|i| point("a", i, 900.0, 20.0)).collect();
    s.posted("/v1/score", &points(&rows)).await;
    let incident = s.get("/v1/incidents").await["items"][0].clone();
    let told = |signal: &str| {
        let all = incident["contributors"].as_array().unwrap();
        all.iter().find(|c| c["signal"] == signal).unwrap()["unit"].clone()
    };
    assert_eq!((told("busy"), told("load")), (json!("%"), Value::Null), "{incident}");
    let study = json!({"name": "s", "entity": {"host": "a"}, "objective": {"metric": "cpu", "goal": "min"},
        "parameters": [{"name": "workers", "type": "int", "low": 1, "high": 8, "current": 4}]});
    let made = s.posted("/v1/studies", &study).await;
    assert_eq!(made["workload"], "mem", "{made}");
    assert_eq!(s.posted("/v1/studies", &study).await["id"], made["id"], "the same again is the same study");
    s.stop().await;
}

#[tokio::test]
async fn maintenance_raises_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    s.posted("/v1/score", &points(&usual_rows("a", 0..600))).await;
    let change = json!({"kind": "maintenance", "selector": "{host=\"a\"}", "start": START + 600 * STEP,
        "end": START + 700 * STEP, "reference": "ticket 7"});
    let told = s.posted("/v1/changes", &change).await;
    assert_eq!(told["change"]["reference"], "ticket 7");
    let rows: Vec<Value> = (600..610).map(|i| point("a", i, 500.0, 500.0)).collect();
    let v = s.posted("/v1/score", &points(&rows)).await;
    assert!(statuses(&v).iter().all(|s| *s == "suppressed"), "{v}");
    assert_eq!(s.get("/v1/incidents").await["items"], json!([]));
    assert_eq!(s.get("/v1/changes").await["items"][0]["change"]["kind"], "maintenance");
    // Done sooner than planned: told again, it ends.
    let mut sooner = change.clone();
    sooner["end"] = json!(START + 610 * STEP);
    assert_eq!(s.posted("/v1/changes", &sooner).await["id"], told["id"]);
    let rows: Vec<Value> = (610..613).map(|i| point("a", i, 900.0, 900.0)).collect();
    let v = s.posted("/v1/score", &points(&rows)).await;
    assert!(statuses(&v).iter().all(|s| *s == "scored"), "{v}");
    assert_eq!(s.get("/v1/incidents").await["items"].as_array().unwrap().len(), 1);
    s.stop().await;
}

#[tokio::test]
async fn the_server_describes_itself() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    assert_eq!(s.get("/livez").await["ready"], true);
    let ready = s.get("/readyz").await;
    assert_eq!(ready["ready"], true);
    assert!(ready["checks"].as_array().unwrap().iter().any(|c| c["name"] == "store"));
    let api = s.get("/v1/openapi.json").await;
    for path in ["/v1/score", "/v1/forecast", "/v1/groups/{id}", "/v1/stream", "/v1/recommendations/{id}/applied"] {
        assert!(api["paths"].get(path).is_some(), "{path}");
    }
    assert!(s.get("/").await.as_str().unwrap().contains("/v1/openapi.json"));
    assert_eq!(s.get("/v1/models").await["items"][0]["model"], "online");
    s.stop().await;
}
