use crate::server::{START, STEP, Server, noise};
use serde_json::{Value, json};

pub(crate) fn study(extra: &Value) -> Value {
    let mut v = json!({
        "name": "cart", "entity": {"service": "cart"},
        "parameters": [{"name": "workers", "type": "int", "low": 1, "high": 32, "current": 4, "cost": "reload"}],
        "objective": {"metric": "latency_ms", "aggregate": "mean", "goal": "min"},
        "guard_rails": [{"metric": "errors", "aggregate": "mean", "at_most": "1.5*baseline"}],
        "workload": "requests", "seed": 3});
    for (k, x) in extra.as_object().unwrap() {
        v[k] = x.clone();
    }
    v
}

/// Latency under so many workers: best at 20.
pub(crate) fn latency(workers: i64) -> f64 {
    100.0 + (workers as f64 - 20.0).powi(2) / 4.0
}

/// Metrics of the service while it runs with `workers`, steps `from..to`; latency follows the load more than it varies by
/// itself.
pub(crate) fn metrics(workers: i64, from: i64, to: i64) -> Value {
    let rows: Vec<Value> = (from..to)
        .map(|i| {
            json!({"timestamp": START + i * STEP, "labels": {"service": "cart"}, "values": {
                "latency_ms": latency(workers) + 2.0 * noise(i) + 4.0 * noise(i + 5), "errors": 1.0 + 0.05 * noise(i + 9),
                "requests": 200.0 + 5.0 * noise(i + 5)}})
        })
        .collect();
    json!({ "points": rows })
}

pub(crate) async fn run_with(s: &Server, workers: i64, from: i64, steps: i64) {
    let body = json!({"entity": {"service": "cart"}, "parameters": {"workers": workers}, "since": START + from * STEP});
    s.posted("/v1/configurations", &body).await;
    s.posted("/v1/score", &metrics(workers, from, from + steps)).await;
}

#[tokio::test]
async fn ask_and_tell() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    let v = s.post("/v1/studies", &study(&json!({"budget": {"trials": 3}}))).await;
    assert_eq!(v.0, 201, "{}", v.1);
    let id = v.1["id"].as_str().unwrap();
    assert_eq!(s.post("/v1/studies", &study(&json!({"budget": {"trials": 3}}))).await.0, 200, "the same again");
    let other = s.post("/v1/studies", &study(&json!({"seed": 4}))).await;
    assert_eq!((other.0, other.1["code"].as_str()), (409, Some("study_exists")));
    let bad = s.post("/v1/studies", &study(&json!({"name": "x", "parameters": [{"name": "a", "type": "int"}]}))).await;
    assert_eq!((bad.0, bad.1["code"].as_str()), (422, Some("invalid_space")));
    let typo = s.post("/v1/studies", &study(&json!({"objektive": {}}))).await;
    assert_eq!((typo.0, typo.1["pointer"].as_str()), (400, Some("/objektive")));

    let suggest = format!("/v1/studies/{id}/suggest");
    let first = s.posted(&suggest, &json!({"client_id": "one"})).await;
    assert_eq!(first["parameters"], json!({"workers": 4}), "the current configuration comes first");
    assert_eq!(s.posted(&suggest, &json!({"client_id": "one"})).await, first, "the pending trial again");
    let second = s.posted(&suggest, &json!({"client_id": "two"})).await;
    assert_eq!(second["id"], 1);

    let trial = |n: u64, what: &str| format!("/v1/studies/{id}/trials/{n}/{what}");
    let early = s.post(&trial(0, "complete"), &json!({})).await;
    assert_eq!((early.0, early.1["code"].as_str()), (422, Some("nothing_measured")), "{}", early.1);
    for value in [10.0, 12.0] {
        s.posted(&trial(0, "measurements"), &json!({"value": value, "metrics": {"errors": 1.0}})).await;
    }
    let done = s.posted(&trial(0, "complete"), &json!({})).await;
    assert_eq!(
        (done["measurement"]["value"].as_f64(), done["measurement"]["replicates"].as_u64()),
        (Some(11.0), Some(2))
    );
    let twice = s.post(&trial(0, "complete"), &json!({"value": 1.0})).await;
    assert_eq!(
        (twice.0, twice.1["code"].as_str(), twice.1["state"].as_str()),
        (409, Some("wrong_state"), Some("completed"))
    );
    let failed = s.posted(&trial(1, "complete"), &json!({"state": "failed", "reason": "did not start"})).await;
    assert_eq!(failed["state"]["failed"]["reason"], "did not start");
    let third = s.posted(&suggest, &json!({"client_id": "one"})).await["id"].as_u64().unwrap();
    let stopped = s.posted(&trial(third, "stop"), &json!({"reason": "enough"})).await;
    assert_eq!(stopped["state"]["failed"]["reason"], "enough");
    let spent = s.post(&suggest, &json!({"client_id": "one"})).await;
    assert_eq!((spent.0, spent.1["code"].as_str()), (409, Some("budget_spent")));
    assert_eq!(s.post(&trial(99, "stop"), &json!({})).await.0, 404);

    let none = s.get("/v1/recommendations").await;
    assert!(none["none_because"].as_str().unwrap().contains("too few trials"), "{none}");
    assert_eq!(s.posted(&format!("/v1/studies/{id}/stop"), &json!({})).await["state"], "stopped");
    assert_eq!(s.post(&suggest, &json!({"client_id": "one"})).await.1["state"], "stopped");
    assert_eq!(s.get("/v1/studies").await["items"][0]["trials"].as_array().unwrap().len(), 3);
    s.stop().await;
}

/// Once the trials are spent, what is to be recommended and what runs are measured in turn: the promise is what that gave.
#[tokio::test]
async fn a_promise_is_measured_before_it_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    let run = async |name: &str, value: &dyn Fn(i64, u64) -> f64| {
        let body = study(&json!({"name": name, "budget": {"trials": 12}, "confirm": 4, "guard_rails": []}));
        let id = s.posted("/v1/studies", &body).await["id"].as_str().unwrap().to_owned();
        let mut seen = Vec::new();
        loop {
            let (status, t) = s.post(&format!("/v1/studies/{id}/suggest"), &json!({"client_id": "c"})).await;
            if status == 409 {
                break;
            }
            let (n, workers) = (t["id"].as_u64().unwrap(), t["parameters"]["workers"].as_i64().unwrap());
            let told = json!({"value": value(workers, n)});
            s.posted(&format!("/v1/studies/{id}/trials/{n}/complete"), &told).await;
            seen.push(s.get(&format!("/v1/recommendations?study={id}")).await);
        }
        (seen, id)
    };
    let (seen, _) = run("real", &|w, n| latency(w) + noise(n as i64)).await;
    assert_eq!(seen.len(), 20, "12 trials and 4 rounds");
    let verdict = |v: &Value| v[0]["confirmation"]["verdict"].as_str().map(str::to_owned);
    assert_eq!((verdict(&seen[14]).as_deref(), verdict(&seen[19]).as_deref()), (Some("open"), Some("confirmed")));
    assert_eq!(seen[14][0]["evidence"]["unverified"], true, "{}", seen[14]);
    let r = &seen[19][0];
    assert_eq!(r["effect"][0]["relative"], r["confirmation"]["measured"][0]["relative"], "{r}");
    assert_eq!((r["id"].clone(), r["status"].as_str()), (seen[14][0]["id"].clone(), Some("proposed")));

    // Everything gets faster, whatever is configured.
    let (seen, _) = run("drift", &|_, n| 100.0 - 3.0 * n.min(11) as f64 + 0.2 * noise(n as i64)).await;
    let last = seen.last().unwrap();
    let proposed = last.as_array().into_iter().flatten().filter(|r| r["status"] == "proposed").count();
    assert_eq!(proposed, 0, "{last}");
    s.stop().await;
}

/// An exporter says what runs: nobody posts a configuration.
#[tokio::test]
async fn a_metric_that_tells_a_parameter_makes_trials() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    let told = json!([{"name": "workers", "type": "int", "low": 1, "high": 32,
        "from_metric": "pool_size_thousands", "metric_scale": 1000.0}]);
    let odd = json!([{"name": "workers", "type": "cat", "choices": ["a", "b"], "from_metric": "pool_size"}]);
    let refused = s.post("/v1/studies", &study(&json!({"parameters": odd}))).await;
    assert_eq!(refused.0, 422);
    assert!(refused.1["detail"].as_str().unwrap().contains("`from_metric` tells numbers and bools"), "{}", refused.1);
    let id = s.posted("/v1/studies", &study(&json!({"parameters": told}))).await["id"].as_str().unwrap().to_owned();
    let steps = 130;
    for (k, workers) in [4, 12, 20].into_iter().enumerate() {
        let from = k as i64 * steps;
        let mut body = metrics(workers, from, from + steps);
        for p in body["points"].as_array_mut().unwrap() {
            p["values"]["pool_size_thousands"] = json!(workers as f64 / 1000.0);
        }
        s.posted("/v1/score", &body).await;
    }
    let v = s.get(&format!("/v1/studies/{id}")).await;
    let trials = v["trials"].as_array().unwrap();
    let said: Vec<(i64, f64)> = trials
        .iter()
        .map(|t| (t["parameters"]["workers"].as_i64().unwrap(), t["measurement"]["value"].as_f64().unwrap()))
        .collect();
    assert_eq!(said.iter().map(|t| t.0).collect::<Vec<_>>(), [4, 12, 20], "{v}");
    for (workers, value) in said {
        assert!((value - latency(workers)).abs() < 1.0, "{workers}: {value}");
    }
    assert!(trials.iter().all(|t| t["source"] == "observed" && t["marks"].as_array().is_none_or(Vec::is_empty)), "{v}");
    s.stop().await;
}

#[tokio::test]
async fn configurations_and_metrics_become_a_recommendation_that_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    let id = s.posted("/v1/studies", &study(&json!({}))).await["id"].as_str().unwrap().to_owned();
    // Long enough for warm-up and 20 blocks: such a trial is over by itself.
    let steps = 130;
    let mut at = 0;
    // A suggestion that runs is measured by itself.
    let suggested = s.posted(&format!("/v1/studies/{id}/suggest"), &json!({"client_id": "c"})).await;
    assert_eq!(suggested["parameters"]["workers"], 4);
    for workers in [4, 8, 12, 16, 20, 24, 28, 32, 6, 10, 4] {
        run_with(&s, workers, at, steps).await;
        at += steps;
    }
    let v = s.get(&format!("/v1/studies/{id}")).await;
    let trials = v["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 11, "{v}");
    assert_eq!((trials[0]["source"].as_str(), trials[0]["state"].as_str()), (Some("suggested"), Some("completed")));
    assert_eq!(trials[3]["source"], "observed");
    let measured = trials[4]["measurement"]["value"].as_f64().unwrap();
    assert!((measured - 100.0).abs() < 1.0, "{measured}");
    assert!(trials[4]["context"]["workload"].as_f64().is_some());
    assert_eq!(s.get(&format!("/v1/studies/{id}")).await["trials"].as_array().unwrap().len(), 11, "each only once");

    let all = s.get("/v1/recommendations").await;
    let r = &all[0];
    let rid = r["id"].as_str().unwrap_or_else(|| panic!("{all}"));
    assert_eq!((r["status"].as_str(), r["study_id"].as_str()), (Some("proposed"), Some(id.as_str())));
    let to = r["change"][0]["to"].as_i64().unwrap();
    assert!((14..=26).contains(&to), "{r}");
    assert_eq!(r["rollback"][0]["to"], 4);
    let promised = r["effect"][0]["relative"]["mean"].as_f64().unwrap();
    assert!((promised - (latency(to) / latency(4) - 1.0)).abs() < 0.1, "{promised}");
    assert_eq!(s.get("/v1/recommendations").await[0]["id"], rid, "asking again says the same");

    let decide = |what: &str| format!("/v1/recommendations/{rid}/{what}");
    assert_eq!(s.posted(&decide("accept"), &json!({"by": "kim"})).await["status"], "accepted");
    let since = START + at * STEP;
    let applied = s.posted(&decide("applied"), &json!({"at": since})).await;
    assert_eq!(applied["applied"]["workers"], to);
    let late = s.post(&decide("reject"), &json!({})).await;
    assert_eq!((late.0, late.1["state"].as_str()), (409, Some("applied")));
    assert_eq!(s.post("/v1/recommendations/none/accept", &json!({})).await.0, 404);

    let measuring = s.get(&format!("/v1/recommendations?study={id}&status=applied")).await;
    assert_eq!(measuring[0]["verification"]["verdict"], "measuring", "{measuring}");
    s.posted("/v1/score", &metrics(to, at, at + steps)).await;
    let kept = s.get("/v1/recommendations?status=kept").await;
    assert_eq!(kept[0]["verification"]["verdict"], "kept", "{kept}");
    let real = kept[0]["verification"]["relative"].as_f64().unwrap();
    assert!((real - (latency(to) / latency(4) - 1.0)).abs() < 0.02, "{real}");
    assert!(kept[0]["verification"]["load_explained"].as_f64().unwrap() > 0.5, "{kept}");
    s.stop().await;
}
