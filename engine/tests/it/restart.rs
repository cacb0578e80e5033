use crate::server::{START, STEP, Server, point, points, usual, usual_rows};
use serde_json::{Value, json};
use std::path::Path;

/// All results of rows that are sent in batches of `size`, without what depends on the cut: steps that are still open.
async fn closed(s: &Server, rows: &[Value], size: usize) -> Vec<Value> {
    let mut out = Vec::new();
    for batch in rows.chunks(size) {
        let v = s.posted("/v1/score", &points(batch)).await;
        let results = v["results"].as_array().unwrap();
        out.extend(results.iter().filter(|r| r["status"] != "pending").cloned());
    }
    out.sort_by_key(|r| (r["timestamp"].as_i64(), r["group"].as_str().map(str::to_owned)));
    out
}

fn rows() -> Vec<Value> {
    let mut rows = Vec::new();
    for i in 0..400 {
        for host in ["a", "b", "c"] {
            let (cpu, mem) = usual(host, i);
            let cpu = if host == "b" && (350..355).contains(&i) { cpu + 400.0 } else { cpu };
            rows.push(point(host, i, cpu, mem));
        }
    }
    rows
}

async fn replay(dir: &Path, threads: usize, size: usize, restart_at: Option<usize>) -> (Vec<Value>, Value) {
    let start = || Server::start(dir, move |c| c.threads = Some(threads));
    let all = rows();
    let mut s = start().await;
    let mut out = Vec::new();
    match restart_at {
        None => out = closed(&s, &all, size).await,
        Some(at) => {
            out.extend(closed(&s, &all[..at], size).await);
            s.stop().await;
            s = start().await;
            out.extend(closed(&s, &all[at..], size).await);
        }
    }
    let incidents = s.get("/v1/incidents").await;
    s.stop().await;
    (out, incidents)
}

#[tokio::test]
async fn scores_do_not_depend_on_batches_threads_or_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let whole = replay(&dir.path().join("whole"), 1, 10_000, None).await;
    assert!(whole.0.len() >= 3 * 399);
    assert_eq!(whole.1["items"].as_array().unwrap().len(), 1);
    let cut = replay(&dir.path().join("cut"), 2, 7, Some(7 * 80)).await;
    assert_eq!(whole.0.len(), cut.0.len());
    for (a, b) in whole.0.iter().zip(&cut.0) {
        assert_eq!(a, b);
    }
    assert_eq!(whole.1["items"][0]["opened_at"], cut.1["items"][0]["opened_at"]);
    assert_eq!(whole.1["items"][0]["id"], cut.1["items"][0]["id"]);
}

#[tokio::test]
async fn everything_else_survives_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    s.posted("/v1/score", &points(&usual_rows("a", 0..300))).await;
    let quiet = json!({"kind": "freeze", "selector": "{host=\"a\"}", "start": START});
    let study = json!({"name": "s", "entity": {"host": "a"}, "objective": {"metric": "cpu", "goal": "min"},
        "parameters": [{"name": "workers", "type": "int", "low": 1, "high": 8, "current": 4}]});
    let id = s.posted("/v1/studies", &study).await["id"].as_str().unwrap().to_owned();
    let trial = s.posted(&format!("/v1/studies/{id}/suggest"), &json!({"client_id": "c"})).await;
    s.posted("/v1/changes", &quiet).await;
    // One that is over for long by the clock, while what is sent is a replay.
    let over = json!({"kind": "maintenance", "selector": "{host=\"b\"}", "start": START,
        "end": START + 303 * STEP});
    s.posted("/v1/changes", &over).await;
    s.posted("/v1/score", &points(&usual_rows("b", 0..300))).await;
    let groups = s.get("/v1/groups").await;
    s.stop().await;

    let s = Server::start(dir.path(), |_| ()).await;
    assert_eq!(s.get("/v1/groups").await, groups);
    assert_eq!(s.posted(&format!("/v1/studies/{id}/suggest"), &json!({"client_id": "c"})).await, trial);
    let spike: Vec<Value> = (300..306).map(|i| point("a", i, 900.0, 20.0)).collect();
    let v = s.posted("/v1/score", &points(&spike)).await;
    assert!(v["results"].as_array().unwrap().iter().all(|r| r["status"] == "suppressed"), "{v}");
    let v = s.posted("/v1/score", &points(&usual_rows("b", 300..306))).await;
    let suppressed = v["results"].as_array().unwrap().iter().filter(|r| r["status"] == "suppressed").count();
    assert_eq!(suppressed, 3, "{v}");
    let none = s.get("/v1/recommendations").await;
    assert!(none["none_because"].as_str().unwrap().contains("freeze"), "{none}");
    s.stop().await;
}

/// States are handed over some megabytes at a time: far more of them than go at once are all there again.
#[tokio::test]
async fn more_state_than_is_saved_at_once_survives() {
    const HOSTS: usize = 800;
    let dir = tempfile::tempdir().unwrap();
    let start = || Server::start(dir.path(), |c| c.threads = Some(1));
    let s = start().await;
    for i in 0..9 {
        let rows: Vec<Value> = (0..HOSTS)
            .map(|h| {
                let (cpu, mem) = usual("a", i);
                point(&format!("h{h}"), i, cpu, mem)
            })
            .collect();
        s.posted("/v1/ingest", &points(&rows)).await;
    }
    let page = format!("/v1/groups?limit={HOSTS}");
    let before = s.get(&page).await;
    let one = s.get("/v1/groups/%7Bhost%3D%22h7%22%7D").await;
    let bytes = HOSTS as u64 * one["bytes"].as_u64().unwrap();
    assert!(bytes > 3 * (2 << 20), "{bytes} bytes are saved in few pieces: more hosts are needed");
    s.stop().await;
    let s = start().await;
    let after = s.get(&page).await;
    assert_eq!(after["items"].as_array().unwrap().len(), HOSTS);
    assert_eq!(before, after);
    s.stop().await;
}
