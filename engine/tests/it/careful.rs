//! What holds changes back.

use crate::server::{START, STEP, Server, noise};
use crate::tuning::{metrics, run_with, study};
use foreglow_core::Timestamp;
use serde_json::{Value, json};

/// Configurations and metrics from which `cart` gets a recommendation; where they end, in steps.
async fn history(s: &Server) -> i64 {
    for (k, workers) in [4, 8, 12, 16, 20, 24, 28, 32, 6, 10, 4].into_iter().enumerate() {
        run_with(s, workers, 130 * k as i64, 130).await;
    }
    130 * 11
}

async fn opened(s: &Server, extra: &Value) -> String {
    s.posted("/v1/studies", &study(extra)).await["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn inside_a_freeze_nothing_is_recommended_accepted_or_suggested() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    let id = opened(&s, &json!({})).await;
    history(&s).await;
    let rid = s.get("/v1/recommendations").await[0]["id"].as_str().unwrap().to_owned();
    let now = START + 100_000 * STEP;
    let freeze = json!({"kind": "freeze", "selector": "{service=\"cart\"}", "start": now, "end": now + STEP});
    s.posted("/v1/changes", &freeze).await;
    let none = s.get("/v1/recommendations").await;
    assert!(none["none_because"].as_str().unwrap().contains("freeze"), "{none}");
    let accept = format!("/v1/recommendations/{rid}/accept");
    let refused = s.post(&accept, &json!({})).await;
    assert_eq!((refused.0, refused.1["state"].as_str()), (409, Some("frozen")), "{}", refused.1);
    let suggest = format!("/v1/studies/{id}/suggest");
    let held = s.post(&suggest, &json!({"client_id": "c"})).await;
    assert_eq!((held.0, held.1["code"].as_str()), (409, Some("held_back")), "{}", held.1);
    s.clock.set(Timestamp(now + STEP));
    assert_eq!(s.get("/v1/recommendations").await[0]["id"], rid.as_str());
    s.posted(&suggest, &json!({"client_id": "c"})).await;
    s.posted(&accept, &json!({})).await;
    s.stop().await;
}

#[tokio::test]
async fn what_was_refused_or_is_too_old_is_not_recommended_again() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    opened(&s, &json!({})).await;
    history(&s).await;
    let rid = s.get("/v1/recommendations").await[0]["id"].as_str().unwrap().to_owned();
    // What a caller says of the time does not age it.
    let later = s.post(&format!("/v1/recommendations/{rid}/accept"), &json!({"at": START + 900_000 * STEP})).await;
    assert_eq!(later.0, 200, "{}", later.1);
    s.clock.set(Timestamp(START + 110_000 * STEP));
    let none = s.get("/v1/recommendations").await;
    let why = none["none_because"].as_str().unwrap();
    assert!(why.contains(&rid) && why.contains("has expired") && why.contains("try more"), "{none}");
    s.stop().await;
}

#[tokio::test]
async fn a_careful_study_waits_between_changes_and_counts_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    let workers = json!([{"name": "workers", "type": "int", "low": 1, "high": 32, "current": 4, "cost": "restart"}]);
    let safety = json!({"cooldown_ms": 10 * STEP, "restarts_per_day": 1});
    let id = opened(&s, &json!({"mode": "canary", "safety": safety, "parameters": workers})).await;
    let suggest = format!("/v1/studies/{id}/suggest");
    let now = START + 100_000 * STEP;
    let runs = async |workers: &Value, since: i64| {
        let body = json!({"entity": {"service": "cart"}, "parameters": {"workers": workers}, "since": since});
        s.posted("/v1/configurations", &body).await;
    };
    let told = async |t: &Value, value: f64| {
        let body = json!({"value": value, "metrics": {"errors": 1.0}});
        s.posted(&format!("/v1/studies/{id}/trials/{}/complete", t["id"]), &body).await;
    };
    runs(&json!(4), now - 100 * STEP).await;
    let ask = json!({"client_id": "c", "context": {"host": "blue"}});
    // What runs is measured a few times first: that is no change.
    let mut trial = s.posted(&suggest, &ask).await;
    assert_eq!((&trial["parameters"]["workers"], &trial["context"]["host"]), (&json!(4), &json!("blue")));
    while trial["parameters"]["workers"] == 4 {
        told(&trial, 160.0).await;
        trial = s.posted(&suggest, &ask).await;
        assert!(trial["id"].as_u64().unwrap() < 10);
    }
    runs(&trial["parameters"]["workers"], now).await;
    told(&trial, 150.0).await;
    let held = s.post(&suggest, &json!({"client_id": "c"})).await;
    assert!(held.0 == 409 && held.1["detail"].as_str().unwrap().contains("cooldown"), "{}", held.1);
    s.clock.set(Timestamp(now + 11 * STEP));
    let held = s.post(&suggest, &json!({"client_id": "c"})).await;
    assert!(held.0 == 409 && held.1["detail"].as_str().unwrap().contains("1 restarts"), "{}", held.1);
    s.clock.set(Timestamp(now + 25 * 60 * STEP));
    s.posted(&suggest, &json!({"client_id": "c"})).await;
    s.stop().await;
}

#[tokio::test]
async fn what_a_client_measured_counts_more_than_what_metrics_showed() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    let id = opened(&s, &json!({})).await;
    let trial = s.posted(&format!("/v1/studies/{id}/suggest"), &json!({"client_id": "c"})).await;
    let path = |what: &str| format!("/v1/studies/{id}/trials/{}/{what}", trial["id"]);
    // The metrics complete it, and the client's own word comes after.
    run_with(&s, 4, 0, 130).await;
    run_with(&s, 9, 130, 10).await;
    let there = &s.get(&format!("/v1/studies/{id}")).await["trials"][0];
    assert_eq!(there["state"], "completed");
    let same = s.posted(&path("complete"), &json!({})).await;
    assert_eq!(same["measurement"], there["measurement"]);
    let told = s.posted(&path("complete"), &json!({"value": 500.0, "context": {"host": "blue"}})).await;
    assert_eq!((&told["measurement"]["value"], &told["context"]["host"]), (&json!(500.0), &json!("blue")));
    assert_eq!(s.post(&path("complete"), &json!({"value": 1.0})).await.0, 409, "once");
    s.stop().await;
}

#[tokio::test]
async fn a_deploy_in_the_middle_leaves_a_promise_open() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    opened(&s, &json!({})).await;
    let at = history(&s).await;
    let r = s.get("/v1/recommendations").await[0].clone();
    let since = START + at * STEP;
    let applied = format!("/v1/recommendations/{}/applied", r["id"].as_str().unwrap());
    s.posted(&applied, &json!({"at": since})).await;
    let deploy = json!({"kind": "deploy", "selector": "{service=\"cart\"}", "start": since + 2 * STEP});
    s.posted("/v1/changes", &deploy).await;
    s.posted("/v1/score", &metrics(r["change"][0]["to"].as_i64().unwrap(), at, at + 130)).await;
    let v = s.get("/v1/recommendations").await[0]["verification"].clone();
    assert_eq!(v["verdict"], "inconclusive", "{v}");
    assert!(v["reason"].as_str().unwrap().starts_with("something else was changed"), "{v}");
    s.stop().await;
}

#[tokio::test]
async fn what_another_objective_pays_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    let id = opened(&s, &json!({"designer": "nsga2", "also": [{"metric": "cost", "goal": "min"}]})).await;
    for (k, workers) in [4, 8, 12, 16, 20, 24, 28, 32, 6, 10, 4].into_iter().enumerate() {
        let from = 130 * k as i64;
        let body =
            json!({"entity": {"service": "cart"}, "parameters": {"workers": workers}, "since": START + from * STEP});
        s.posted("/v1/configurations", &body).await;
        let mut rows = metrics(workers, from, from + 130);
        for (i, row) in rows["points"].as_array_mut().unwrap().iter_mut().enumerate() {
            row["values"]["cost"] = json!(50.0 + 10.0 * workers as f64 + noise(from + i as i64 + 77));
        }
        s.posted("/v1/score", &rows).await;
    }
    let r = s.get("/v1/recommendations").await[0].clone();
    let cost = r["effect"].as_array().unwrap().iter().find(|e| e["metric"] == "cost").unwrap();
    assert!(cost["relative"]["mean"].as_f64().unwrap() > 0.5, "{r}");
    assert!(r["risk"]["reasons"].to_string().contains("objective `cost` gets worse"), "{r}");
    let study = s.get(&format!("/v1/studies/{id}")).await;
    assert!(study["pareto"].as_array().unwrap().len() > 2, "{study}");
    s.stop().await;
}

#[tokio::test]
async fn metrics_show_a_token_its_own_tenants() {
    let dir = tempfile::tempdir().unwrap();
    let sha256 = |token: &str| {
        use sha2::{Digest, Sha256};
        format!("{:x}", Sha256::digest(token.as_bytes()))
    };
    let token = |name: &str, tenants: &[&str]| foreglow_engine::Token {
        sha256: sha256(name),
        tenants: tenants.iter().map(|t| (*t).to_owned()).collect(),
        role: foreglow_engine::Role::Write,
    };
    let s = Server::start(dir.path(), |c| c.tokens = vec![token("one", &["a"]), token("all", &[])]).await;
    let ask = async |method: &str, path: &str, scheme: &str, token: &str, tenant: &str, body: &Value| {
        let r = s.request(method, path).header("authorization", format!("{scheme} {token}"));
        let r = r.header("x-scope-orgid", tenant).json(body).send().await.unwrap();
        (r.status().as_u16(), r.text().await.unwrap())
    };
    for tenant in ["a", "b"] {
        let rows: Vec<Value> = (0..80)
            .map(|i| json!({"timestamp": START + i * STEP, "labels": {"of": tenant}, "values": {"cpu": 50.0 + noise(i)}}))
            .collect();
        assert_eq!(ask("POST", "/v1/score", "bearer", "all", tenant, &json!({ "points": rows })).await.0, 200);
    }
    let (one, all) = (
        ask("GET", "/metrics", "Bearer", "one", "a", &json!({})).await.1,
        ask("GET", "/metrics", "Bearer", "all", "a", &json!({})).await.1,
    );
    assert!(one.contains("of=\"a\"") && !one.contains("of=\"b\"") && !one.contains("tenant=\"b\""), "{one}");
    assert!(all.contains("of=\"b\""), "{all}");
    s.stop().await;
}
