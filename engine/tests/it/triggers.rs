use crate::server::{START, STEP, Server, noise};
use foreglow_core::Timestamp;
use serde_json::{Value, json};

fn study(name: &str, goal: &str, triggers: &Value) -> Value {
    json!({
        "name": name, "entity": {"service": "cart"},
        "parameters": [{"name": "workers", "type": "int", "low": 1, "high": 32, "current": 4}],
        "objective": {"metric": "latency_ms", "aggregate": "mean", "goal": goal},
        "guard_rails": [{"metric": "errors", "aggregate": "mean", "at_most": 5.0}],
        "workload": "requests", "budget": {"trials": 9}, "seed": 3, "triggers": triggers})
}

/// Metrics of the service over `steps`.
async fn play(s: &Server, steps: std::ops::Range<i64>, of: impl Fn(i64) -> [f64; 3]) {
    let rows: Vec<Value> = steps
        .map(|i| {
            let [latency, errors, requests] = of(i);
            json!({"timestamp": START + i * STEP, "labels": {"service": "cart"}, "values": {
                "latency_ms": latency + noise(i), "errors": errors + 0.05 * noise(i + 9),
                "requests": requests + 5.0 * noise(i + 5)}})
        })
        .collect();
    s.posted("/v1/score", &json!({ "points": rows })).await;
}

#[tokio::test]
async fn a_degraded_objective_opens_the_study_that_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    let wait = json!({"degraded": true, "wait": true});
    let id = |v: &Value| v["id"].as_str().unwrap().to_owned();
    let small = id(&s.posted("/v1/studies", &study("small", "min", &wait)).await);
    // For this one the same incident is good news.
    let large = id(&s.posted("/v1/studies", &study("large", "max", &wait)).await);
    let suggest = format!("/v1/studies/{small}/suggest");
    let early = s.post(&suggest, &json!({"client_id": "c"})).await;
    assert_eq!((early.0, early.1["state"].as_str()), (409, Some("waiting")), "{}", early.1);
    play(&s, 0..300, |_| [20.0, 1.0, 200.0]).await;
    assert_eq!(s.get(&format!("/v1/studies/{small}")).await["state"], "waiting");
    play(&s, 300..310, |_| [90.0, 1.0, 200.0]).await;
    let incidents = s.get("/v1/incidents").await;
    assert_eq!(incidents["items"][0]["contributors"][0]["signal"], "latency_ms", "{incidents}");
    let v = s.get(&format!("/v1/studies/{small}")).await;
    assert_eq!(
        (v["state"].as_str(), v["trigger"]["kind"].as_str()),
        (Some("active"), Some("objective_degraded")),
        "{v}"
    );
    assert!(v["trigger"]["why"].as_str().unwrap().contains("`latency_ms` was 9"), "{v}");
    assert_eq!(s.get(&format!("/v1/studies/{large}")).await["state"], "waiting");
    assert_eq!(s.posted(&suggest, &json!({"client_id": "c"})).await["id"], 0);
    s.stop().await;
    let s = Server::start(dir.path(), |_| ()).await;
    assert_eq!(s.get(&format!("/v1/studies/{small}")).await["trigger"], v["trigger"], "after a restart");
    s.stop().await;
}

#[tokio::test]
async fn a_spent_study_is_resumed_by_another_load_and_by_the_clock() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    let triggers = json!({"workload": 0.3, "every": "7d", "trials": 1, "cooldown": "1m"});
    let body = study("cart", "min", &triggers);
    let id = s.posted("/v1/studies", &body).await["id"].as_str().unwrap().to_owned();
    let place = format!("/v1/studies/{id}");
    let run = async |n: u64| {
        let t = s.posted(&format!("{place}/suggest"), &json!({"client_id": "c"})).await;
        assert_eq!(t["id"], n);
        let w = t["parameters"]["workers"].as_f64().unwrap();
        let told = json!({"value": 100.0 + (w - 20.0).powi(2) / 4.0, "se": 0.5, "replicates": 10,
            "metrics": {"errors": 1.0}, "context": {"workload": 200.0}});
        s.posted(&format!("{place}/trials/{n}/complete"), &told).await;
    };
    for n in 0..9 {
        run(n).await;
    }
    let spent = s.get(&place).await;
    assert_eq!((spent["state"].as_str(), spent["trigger"].is_null()), (Some("waiting"), true), "{spent}");
    assert_eq!(s.get("/v1/recommendations").await[0]["trigger"], "request");
    play(&s, 0..60, |_| [164.0, 1.0, 210.0]).await;
    assert_eq!(s.get(&place).await["state"], "waiting", "about the load that the trials have seen");
    play(&s, 60..120, |_| [164.0, 1.0, 400.0]).await;
    let v = s.get(&place).await;
    assert_eq!((v["state"].as_str(), v["trigger"]["kind"].as_str()), (Some("active"), Some("workload_changed")), "{v}");
    assert_eq!(v["budget"]["trials"], 10);
    assert_eq!(s.get("/v1/recommendations").await[0]["trigger"], "workload_changed");
    assert_eq!(s.post("/v1/studies", &body).await.0, 200, "the same study, whatever its triggers added");
    run(9).await;
    assert_eq!(s.get(&place).await["state"], "waiting");
    s.clock.set(Timestamp(s.clock.now().ms() + 8 * 86_400_000));
    // The load is still another one; one trial under it does not make it known as the rest.
    let v = s.get(&place).await;
    assert!(v["state"] == "active" && v["budget"]["trials"] == 11, "{v}");
    s.stop().await;
}

#[tokio::test]
async fn a_limit_that_nears_and_the_calendar_are_triggers_too() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    let id = |v: &Value| v["id"].as_str().unwrap().to_owned();
    let limit = id(&s.posted("/v1/studies", &study("limit", "min", &json!({"limit": true, "wait": true}))).await);
    let weekly = id(&s.posted("/v1/studies", &study("weekly", "min", &json!({"every": "7d", "wait": true}))).await);
    play(&s, 0..120, |i| [20.0, 1.0 + 0.03 * i as f64, 200.0]).await;
    let v = s.get(&format!("/v1/studies/{limit}")).await;
    assert_eq!(v["trigger"]["kind"], "limit_nears", "{v}");
    let why = v["trigger"]["why"].as_str().unwrap();
    assert!(why.contains("`errors` is forecast to cross its limit of 5"), "{why}");
    assert_eq!(s.get(&format!("/v1/studies/{weekly}")).await["state"], "waiting");
    s.clock.set(Timestamp(s.clock.now().ms() + 8 * 86_400_000));
    let v = s.get(&format!("/v1/studies/{weekly}")).await;
    assert_eq!((v["state"].as_str(), v["trigger"]["kind"].as_str()), (Some("active"), Some("schedule")), "{v}");
    let bad = s.post("/v1/studies", &study("bad", "min", &json!({"wait": true}))).await;
    assert_eq!((bad.0, bad.1["pointer"].as_str()), (422, Some("/triggers")), "{}", bad.1);
    s.stop().await;
}
