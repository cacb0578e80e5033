//! Studies that make their changes themselves.

use crate::server::{START, STEP, Server};
use crate::stream::Reader;
use crate::tuning::{latency, metrics, study};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use foreglow_core::Timestamp;
use foreglow_engine::{Auto, Horizon};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Each request to the hook: whether it was granted, and its body.
type Asked = Arc<Mutex<Vec<(bool, Value)>>>;

/// A hook that remembers what it was asked for; it makes every second request fail.
async fn hook() -> (String, Asked) {
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

/// A server with a hook, and the service it changes.
struct World {
    _dir: tempfile::TempDir,
    s: Server,
    asked: Asked,
    events: Reader,
    /// Up to this step there are metrics, and there the clock stands.
    at: i64,
}

impl World {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (url, asked) = hook().await;
        let every = "20ms".parse().unwrap();
        let s = Server::start(dir.path(), |c| {
            c.auto = Auto { webhook: Some(url), token: Some("secret".into()), every };
            // Metrics come before the clock is moved behind them: in between nothing is silent.
            c.limits.max_future = Horizon(None);
        })
        .await;
        let events = Reader::open(&s, "/v1/stream?kinds=auto", None).await;
        Self { _dir: dir, s, asked, events, at: 100_000 }
    }

    async fn open(&self, extra: &Value) -> String {
        let mut all = json!({"mode": "auto", "budget": {"trials": 12}});
        for (k, v) in extra.as_object().unwrap() {
            all[k] = v.clone();
        }
        self.s.posted("/v1/studies", &study(&all)).await["id"].as_str().unwrap().to_owned()
    }

    /// The next change that was made.
    async fn next(&mut self) -> Value {
        let next = tokio::time::timeout(Duration::from_secs(30), self.events.next()).await;
        next.unwrap_or_else(|_| panic!("no change: {:?}", self.asked.lock().unwrap())).unwrap().data
    }

    /// The metrics of so many steps, each row after `edit`.
    async fn run(&mut self, workers: i64, steps: i64, edit: impl Fn(&mut Value)) {
        let mut rows = metrics(workers, self.at, self.at + steps);
        rows["points"].as_array_mut().unwrap().iter_mut().for_each(edit);
        self.s.posted("/v1/score", &rows).await;
        self.at += steps;
        self.s.clock.set(Timestamp(START + self.at * STEP));
    }

    /// Lives with every change until one is for something else than a trial of what runs; nothing but the number of blocks
    /// ends such a trial, and 400 steps are enough for 20 of them.
    async fn until(&mut self, stop: impl Fn(&Value) -> bool) -> (Value, Vec<String>) {
        let mut purposes = Vec::new();
        loop {
            let step = self.next().await;
            purposes.push(step["purpose"].as_str().unwrap().to_owned());
            if stop(&step) {
                return (step, purposes);
            }
            self.run(workers(&step), 400, |_| ()).await;
            assert!(purposes.len() < 40, "{purposes:?}");
        }
    }
}

fn workers(step: &Value) -> i64 {
    step["parameters"]["workers"].as_i64().unwrap()
}

/// Mode auto tunes a service from its first trial to a promise that was kept, one change at a time.
#[tokio::test]
async fn auto_makes_its_changes_through_the_hook() {
    let mut w = World::start().await;
    let id = w.open(&json!({})).await;
    let (step, purposes) = w.until(|s| s["purpose"] == "recommendation").await;
    assert!(latency(workers(&step)) < 0.8 * latency(4), "{step}");
    assert!(purposes[..12].iter().all(|p| p == "trial") && purposes.len() == 13, "{purposes:?}");
    w.run(workers(&step), 130, |_| ()).await;
    let kept = w.s.get("/v1/recommendations?status=kept").await;
    assert_eq!(kept[0]["history"][1]["by"], "auto", "{kept}");
    let promises = w.s.get(&format!("/v1/studies/{id}")).await["promises"].clone();
    assert_eq!(promises["measured"], 1, "{promises}");
    let effects = w.s.get(&format!("/v1/studies/{id}/effects")).await;
    assert_eq!((&effects[0]["parameter"], &effects[0]["metric"]), (&json!("workers"), &json!("latency_ms")));
    let points = effects[0]["curve"]["points"].as_array().unwrap_or_else(|| panic!("{effects}"));
    assert!(points.iter().all(|p| p["band"][0].as_f64() <= p["mean"].as_f64()), "{effects}");
    assert!(w.s.get(&format!("/v1/studies/{id}/effects?metric=errors")).await[0]["importance"].is_number());
    let asked = w.asked.lock().unwrap().clone();
    // What failed is asked for again, the same.
    assert!(asked.chunks_exact(2).all(|pair| pair[0].1 == pair[1].1 && !pair[0].0 && pair[1].0), "{asked:?}");
    assert_eq!(asked.last().unwrap().1["entity"], json!({"service": "cart"}));
    w.s.stop().await;
}

#[tokio::test]
async fn without_a_hook_there_is_no_such_mode() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    let refused = s.post("/v1/studies", &study(&json!({"mode": "auto"}))).await;
    assert_eq!((refused.0, refused.1["code"].as_str()), (422, Some("no_webhook")), "{}", refused.1);
    s.stop().await;
}

#[tokio::test]
async fn what_breaks_its_promise_is_undone_once() {
    let mut w = World::start().await;
    w.open(&json!({})).await;
    let (step, _) = w.until(|s| s["purpose"] == "recommendation").await;
    // Whatever the trials said: now it is slower than what ran before.
    w.run(workers(&step), 130, |row| row["values"]["latency_ms"] = json!(2.0 * latency(4))).await;
    let undone = w.next().await;
    assert_eq!((undone["purpose"].as_str(), &undone["id"]), (Some("rollback"), &step["id"]), "{undone}");
    assert_eq!(workers(&undone), 4);
    let told = w.s.get("/v1/recommendations?status=roll_back").await;
    assert_eq!(told[0]["id"], step["id"]);
    let made = |purpose: &str| {
        let asked = w.asked.lock().unwrap();
        asked.iter().filter(|a| a.0 && a.1["purpose"] == purpose).count()
    };
    let asked = || w.asked.lock().unwrap().iter().rev().take(8).cloned().collect::<Vec<_>>();
    assert_eq!((made("rollback"), made("recommendation")), (1, 1), "{:?}", asked());
    w.s.stop().await;
}

/// A trial that breaks a guard-rail is not measured to its end.
#[tokio::test]
async fn a_trial_that_breaks_a_guard_rail_is_ended_early_and_undone() {
    let mut w = World::start().await;
    let id = w.open(&json!({})).await;
    let (step, _) = w.until(|s| workers(s) != 4).await;
    let trial = step["id"].as_str().unwrap().parse::<usize>().unwrap();
    w.run(workers(&step), 80, |row| row["values"]["errors"] = json!(5.0 + row["values"]["errors"].as_f64().unwrap()))
        .await;
    let undone = w.next().await;
    assert_eq!((undone["purpose"].as_str(), workers(&undone)), (Some("rollback"), 4), "{undone}");
    assert!(undone["why"].as_str().unwrap().contains("guard-rail broken: `errors`"), "{undone}");
    let trials = w.s.get(&format!("/v1/studies/{id}")).await["trials"].clone();
    assert!(trials[trial]["state"]["unsafe"].is_object(), "{trials}");
    let blocks = trials[trial]["measurement"]["replicates"].as_u64().unwrap();
    assert!((4..20).contains(&blocks), "{blocks} blocks");
    w.s.stop().await;
}

/// What kills the service it runs in is not waited for.
#[tokio::test]
async fn a_trial_whose_metrics_stop_is_undone() {
    let mut w = World::start().await;
    w.open(&json!({})).await;
    let (step, _) = w.until(|s| workers(s) != 4).await;
    w.run(workers(&step), 3, |_| ()).await;
    w.s.clock.set(Timestamp(START + (w.at + 12) * STEP));
    let undone = w.next().await;
    assert_eq!((undone["purpose"].as_str(), workers(&undone)), (Some("rollback"), 4), "{undone}");
    assert!(undone["why"].as_str().unwrap().contains("has come no more"), "{undone}");
    w.s.stop().await;
}

/// A person who takes a trial back wins: it is ended, and not made again.
#[tokio::test]
async fn auto_fights_nobody() {
    let mut w = World::start().await;
    let id = w.open(&json!({})).await;
    let (step, _) = w.until(|s| workers(s) != 4).await;
    let trial = step["id"].as_str().unwrap().parse::<usize>().unwrap();
    // Within the cooldown nothing else is tried meanwhile.
    let back = json!({"entity": {"service": "cart"}, "parameters": {"workers": 4}, "since": START + w.at * STEP + 1});
    w.s.posted("/v1/configurations", &back).await;
    let ended = async {
        loop {
            let t = w.s.get(&format!("/v1/studies/{id}")).await["trials"][trial].clone();
            if t["state"] != "pending" {
                return t;
            }
        }
    };
    let t = tokio::time::timeout(Duration::from_secs(30), ended).await.unwrap();
    assert_eq!(t["marks"], json!(["stopped"]), "{t}");
    let made = w.asked.lock().unwrap().iter().filter(|a| a.0 && a.1["id"] == json!(trial.to_string())).count();
    assert_eq!(made, 1);
    w.s.stop().await;
}

/// Two studies of one service take turns: while one measures, the other changes nothing.
#[tokio::test]
async fn of_one_entity_one_thing_changes_at_a_time() {
    let mut w = World::start().await;
    let one = w.open(&json!({"name": "one", "budget": {"trials": 3}})).await;
    let cache = json!([{"name": "cache", "type": "int", "low": 1, "high": 32, "current": 4}]);
    let two = w.open(&json!({"name": "two", "budget": {"trials": 3}, "parameters": cache})).await;
    let mut turns = Vec::new();
    for _ in 0..6 {
        let step = w.next().await;
        turns.push(step["study"].as_str().unwrap().to_owned());
        let pending = async |id: &str| {
            let v = w.s.get(&format!("/v1/studies/{id}")).await;
            v["trials"].as_array().unwrap().iter().filter(|t| t["state"] == "pending").count()
        };
        assert!(pending(&one).await + pending(&two).await <= 1, "{turns:?}");
        w.run(4, 400, |_| ()).await;
    }
    turns.dedup();
    assert!(turns.len() <= 3, "one after the other: {turns:?}");
    w.s.stop().await;
}
