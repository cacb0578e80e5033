//! What holds changes back, and what makes them by itself.

use crate::server::{START, STEP, Server, noise};
use crate::stream::Reader;
use crate::tuning::{latency, metrics, run_with, study};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use foreglow_core::Timestamp;
use foreglow_engine::Auto;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

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

/// A hook that remembers what it was asked for; it makes every second request fail.
async fn hook() -> (String, Arc<Mutex<Vec<(bool, Value)>>>) {
    type Asked = Arc<Mutex<Vec<(bool, Value)>>>;
    async fn apply(State(asked): State<Asked>, headers: HeaderMap, body: axum::Json<Value>) -> StatusCode {
        let mut asked = asked.lock().unwrap();
        let fine = headers.get("authorization").is_some_and(|v| v == "Bearer secret") && asked.len() % 2 == 1;
        asked.push((fine, body.0));
        if fine { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }
    }
    let asked = Asked::default();
    let router = Router::new().route("/apply", post(apply)).with_state(asked.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/apply", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, asked)
}

/// Mode auto tunes a service from its first trial to a promise that was kept, one change at a time.
#[tokio::test]
async fn auto_makes_its_changes_through_the_hook() {
    let dir = tempfile::tempdir().unwrap();
    let (url, asked) = hook().await;
    let every = "20ms".parse().unwrap();
    let s = Server::start(dir.path(), |c| {
        c.auto = Auto { webhook: Some(url), token: Some("secret".into()), every };
    })
    .await;
    let mut events = Reader::open(&s, "/v1/stream?kinds=auto", None).await;
    opened(&s, &json!({"mode": "auto", "budget": {"trials": 12}})).await;
    let (mut at, mut steps) = (100_000, Vec::new());
    loop {
        let step = tokio::time::timeout(std::time::Duration::from_secs(30), events.next()).await;
        let step =
            step.unwrap_or_else(|_| panic!("no change after {steps:?}: {:?}", asked.lock().unwrap())).unwrap().data;
        let workers = step["parameters"]["workers"].as_i64().unwrap();
        let purpose = step["purpose"].as_str().unwrap().to_owned();
        steps.push(purpose.clone());
        // Nothing but the number of blocks ends such a trial: enough for 20 of them, however they correlate.
        s.clock.set(Timestamp(START + (at + 400) * STEP));
        s.posted("/v1/score", &metrics(workers, at, at + 400)).await;
        at += 400;
        if purpose == "recommendation" {
            assert!(latency(workers) < 0.8 * latency(4), "{step}");
            break;
        }
        assert!(steps.len() < 40, "{steps:?}");
    }
    assert!(steps[..steps.len() - 1].iter().all(|p| p == "trial"), "{steps:?}");
    assert_eq!(steps.len(), 13);
    let kept = s.get("/v1/recommendations?status=kept").await;
    assert_eq!(kept[0]["history"][1]["by"], "auto", "{kept}");
    let id = kept[0]["study_id"].as_str().unwrap();
    let promises = s.get(&format!("/v1/studies/{id}")).await["promises"].clone();
    assert_eq!(promises["measured"], 1, "{promises}");
    let effects = s.get(&format!("/v1/studies/{id}/effects")).await;
    assert_eq!((&effects[0]["parameter"], &effects[0]["metric"]), (&json!("workers"), &json!("latency_ms")));
    let points = effects[0]["curve"]["points"].as_array().unwrap_or_else(|| panic!("{effects}"));
    assert!(points.iter().all(|p| p["band"][0].as_f64() <= p["mean"].as_f64()), "{effects}");
    assert!(s.get(&format!("/v1/studies/{id}/effects?metric=errors")).await[0]["importance"].is_number());
    let asked = asked.lock().unwrap().clone();
    // What failed is asked for again, the same.
    assert!(asked.chunks_exact(2).all(|pair| pair[0].1 == pair[1].1 && !pair[0].0 && pair[1].0), "{asked:?}");
    assert_eq!(asked.last().unwrap().1["entity"], json!({"service": "cart"}));
    s.stop().await;

    let s = Server::start(dir.path(), |_| ()).await;
    let refused = s.post("/v1/studies", &study(&json!({"name": "other", "mode": "auto"}))).await;
    assert_eq!((refused.0, refused.1["code"].as_str()), (422, Some("no_webhook")), "{}", refused.1);
    s.stop().await;
}

/// A person who takes a trial back wins: it is ended, and not made again.
#[tokio::test]
async fn auto_fights_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (url, asked) = hook().await;
    let every = "20ms".parse().unwrap();
    let s = Server::start(dir.path(), |c| {
        c.auto = Auto { webhook: Some(url), token: Some("secret".into()), every };
    })
    .await;
    let mut events = Reader::open(&s, "/v1/stream?kinds=auto", None).await;
    let id = opened(&s, &json!({"mode": "auto", "budget": {"trials": 12}})).await;
    let mut at = 100_000;
    let trial = loop {
        let step = events.next().await.unwrap().data;
        if step["parameters"]["workers"] != 4 {
            break step["id"].as_str().unwrap().parse::<usize>().unwrap();
        }
        s.clock.set(Timestamp(START + (at + 400) * STEP));
        s.posted("/v1/score", &metrics(4, at, at + 400)).await;
        at += 400;
    };
    // Within the cooldown nothing else is tried meanwhile.
    let back = json!({"entity": {"service": "cart"}, "parameters": {"workers": 4}, "since": START + at * STEP + 1});
    s.posted("/v1/configurations", &back).await;
    let ended = async {
        loop {
            let t = s.get(&format!("/v1/studies/{id}")).await["trials"][trial].clone();
            if t["state"] != "pending" {
                return t;
            }
        }
    };
    let t = tokio::time::timeout(std::time::Duration::from_secs(30), ended).await.unwrap();
    assert_eq!(t["marks"], json!(["stopped"]), "{t}");
    let made = asked.lock().unwrap().iter().filter(|a| a.0 && a.1["id"] == json!(trial.to_string())).count();
    assert_eq!(made, 1);
    s.stop().await;
}
