use crate::server::{START, STEP, Server, noise};
use serde_json::{Value, json};

fn experiment(extra: &Value) -> Value {
    let mut v = json!({
        "name": "checkout",
        "variants": [{"name": "control", "match": "{service=\"shop\",version=\"1\"}"},
            {"name": "new", "match": "{service=\"shop\",version=\"2\"}"}],
        "metrics": [{"metric": "latency_ms", "goal": "min"}], "start": START});
    for (k, x) in extra.as_object().unwrap() {
        v[k] = x.clone();
    }
    v
}

/// Both versions' latency over `steps`; version 2 shows `second`.
fn metrics(steps: std::ops::Range<i64>, second: f64) -> Value {
    let rows: Vec<Value> = steps
        .flat_map(|i| {
            ["1", "2"].map(|version| {
                let (level, salt) = if version == "1" { (10.0, 0) } else { (second, 1_000_000) };
                json!({"timestamp": START + i * STEP, "labels": {"service": "shop", "version": version},
                    "values": {"latency_ms": level + noise(i + salt)}})
            })
        })
        .collect();
    json!({ "points": rows })
}

/// Numbers that follow one another slowly.
fn slow(n: i64, keep: f64) -> Vec<f64> {
    let mut x = 0.0;
    let next = |i: i64| {
        x = keep * x + (1.0 - keep * keep).sqrt() * 1.7 * noise(i);
        10.0 + x
    };
    (0..n).map(next).collect()
}

#[tokio::test]
async fn two_versions_are_told_apart_by_their_ordinary_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    let (status, v) = s.post("/v1/experiments", &experiment(&json!({}))).await;
    assert_eq!(status, 201, "{v}");
    let id = v["id"].as_str().unwrap().to_owned();
    assert_eq!((v["state"].as_str(), v["verdict"].as_str()), (Some("running"), Some("not_enough_independent_data")));
    assert!(v["why"].as_str().unwrap().contains("not enough independent data"), "{v}");
    assert_eq!(s.post("/v1/experiments", &experiment(&json!({}))).await.0, 200, "the same again");
    let other = s.post("/v1/experiments", &experiment(&json!({"alpha": 0.01}))).await;
    assert_eq!((other.0, other.1["code"].as_str()), (409, Some("experiment_exists")));

    let place = format!("/v1/experiments/{id}");
    s.posted("/v1/score", &metrics(0..20, 9.0)).await;
    let early = s.get(&place).await;
    assert_eq!(
        (&early["samples_so_far"]["new"], early["verdict"].as_str()),
        (&20.into(), Some("not_enough_independent_data"))
    );
    s.posted("/v1/score", &metrics(20..400, 9.0)).await;
    let found = s.get(&place).await;
    assert_eq!((found["verdict"].as_str(), found["winner"].as_str()), (Some("winner"), Some("new")), "{found}");
    let c = &found["comparisons"][0];
    assert!((c["effect"]["mean"].as_f64().unwrap() + 0.1).abs() < 0.02, "{c}");
    assert!(c["interval"][1].as_f64().unwrap() < 0.0 && c["decision"] == "better", "{c}");
    assert_eq!(s.get("/v1/experiments").await["items"][0]["id"], id.as_str());

    s.stop().await;
    let s = Server::start(dir.path(), |_| ()).await;
    assert_eq!(s.get(&place).await, found, "after a restart");
    s.posted("/v1/score", &metrics(400..420, 9.0)).await;
    assert_eq!(s.get(&place).await["samples_so_far"]["new"], 420, "it goes on");
    s.clock.set(foreglow_core::Timestamp(START + 410 * STEP));
    let stopped = s.posted(&format!("{place}/stop"), &json!({})).await;
    assert_eq!((stopped["state"].as_str(), &stopped["samples_so_far"]["new"]), (Some("stopped"), &410.into()));
    let late = s.post(&format!("{place}/observations"), &json!({"observations": []})).await;
    assert_eq!((late.0, late.1["state"].as_str()), (409, Some("stopped")));
    s.stop().await;
}

/// The load moves latency far more than the version does.
#[tokio::test]
async fn a_covariate_takes_out_what_no_variant_can_change() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    let begin = |name: &'static str, more: Value| {
        experiment(&json!({"name": name}))
            .as_object()
            .unwrap()
            .clone()
            .into_iter()
            .chain(more.as_object().unwrap().clone())
            .collect::<serde_json::Map<_, _>>()
    };
    let plain = s.posted("/v1/experiments", &begin("plain", json!({})).into()).await["id"].clone();
    let (status, v) = s.post("/v1/experiments", &begin("with load", json!({"covariate": "requests"})).into()).await;
    assert_eq!((status, v["covariate"].as_str()), (201, Some("requests")), "{v}");
    let id = v["id"].as_str().unwrap().to_owned();
    let mut body = metrics(0..600, 9.8);
    for (i, p) in body["points"].as_array_mut().unwrap().iter_mut().enumerate() {
        let load = 3.0 * noise(i as i64 + 5_000_000);
        p["values"]["requests"] = json!(100.0 + load);
        p["values"]["latency_ms"] = json!(p["values"]["latency_ms"].as_f64().unwrap() + load);
    }
    s.posted("/v1/score", &body).await;
    let v = s.get(&format!("/v1/experiments/{}", plain.as_str().unwrap())).await;
    assert_eq!(
        (v["verdict"].as_str(), v["comparisons"][0]["covariate_explained"].as_f64()),
        (Some("undecided"), Some(0.0)),
        "{v}"
    );
    let v = s.get(&format!("/v1/experiments/{id}")).await;
    assert_eq!((v["verdict"].as_str(), v["winner"].as_str()), (Some("winner"), Some("new")), "{v}");
    assert!(v["comparisons"][0]["covariate_explained"].as_f64().unwrap() > 0.7, "{v}");
    let e = s.post("/v1/experiments", &begin("bad", json!({"covariate": "latency_ms"})).into()).await;
    assert!(e.0 == 422 && e.1["pointer"] == "/covariate", "{}", e.1);

    let body = json!({"name": "users", "variants": [{"name": "a"}, {"name": "b"}],
        "metrics": [{"metric": "revenue", "goal": "max"}], "covariate": "before", "start": START});
    let id = s.posted("/v1/experiments", &body).await["id"].as_str().unwrap().to_owned();
    let rows: Vec<Value> = (0..400)
        .flat_map(|i| {
            [("a", 5.0), ("b", 5.3)].map(|(variant, level)| {
                let salt = i64::from(variant.as_bytes()[0]) * 100_000;
                let before = 4.0 * noise(i + 3 * salt);
                json!({"variant": variant, "timestamp": START + i, "unit": format!("{variant}{i}"),
                    "values": {"revenue": level + before + noise(i + salt), "before": before}})
            })
        })
        .collect();
    s.posted(&format!("/v1/experiments/{id}/observations"), &json!({ "observations": rows })).await;
    let v = s.get(&format!("/v1/experiments/{id}")).await;
    assert_eq!((v["winner"].as_str(), &v["samples_so_far"]["a"]), (Some("b"), &400.into()), "{v}");
    s.stop().await;
}

/// One system: whose turn it is comes from the server, and its ordinary metrics are compared.
#[tokio::test]
async fn one_system_takes_turns() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    s.clock.set(foreglow_core::Timestamp(START));
    let body = json!({"name": "pool", "variants": [{"name": "small"}, {"name": "large"}], "start": START,
        "metrics": [{"metric": "latency_ms", "goal": "min"}],
        "switchback": {"match": "{service=\"shop\"}", "period_ms": 10 * STEP, "washout_ms": 3 * STEP}});
    let with = |k: &str, v: Value| {
        let mut b = body.clone();
        b[k] = v;
        b
    };
    let e = s.post("/v1/experiments", &with("covariate", json!("requests"))).await;
    assert_eq!((e.0, e.1["pointer"].as_str()), (422, Some("/covariate")), "{}", e.1);
    let e = s.post("/v1/experiments", &with("variants", json!([{"name": "a"}, {"name": "b"}, {"name": "c"}]))).await;
    assert_eq!((e.0, e.1["pointer"].as_str()), (422, Some("/variants")), "{}", e.1);
    let v = s.posted("/v1/experiments", &body).await;
    let place = format!("/v1/experiments/{}", v["id"].as_str().unwrap());
    assert_eq!(v["now"]["until"], START + 10 * STEP, "{v}");
    let mut turns = Vec::new();
    for period in 0..24 {
        s.clock.set(foreglow_core::Timestamp(START + period * 10 * STEP));
        let now = s.get(&place).await["now"]["variant"].as_str().unwrap().to_owned();
        let rows: Vec<Value> = (0..10)
            .map(|k| {
                let i = period * 10 + k;
                // In the washout the other variant shows; a slow drift is larger than the effect.
                let level = if k < 3 {
                    50.0
                } else if now == "large" {
                    9.0
                } else {
                    10.0
                };
                json!({"timestamp": START + i * STEP, "labels": {"service": "shop"},
                    "values": {"latency_ms": level + 0.01 * i as f64 + noise(i)}})
            })
            .collect();
        s.posted("/v1/score", &json!({ "points": rows })).await;
        turns.push(now);
    }
    assert!(turns.chunks(2).all(|pair| pair[0] != pair[1]) && turns.windows(2).any(|w| w[0] == w[1]), "{turns:?}");
    let v = s.get(&place).await;
    assert_eq!((v["verdict"].as_str(), v["winner"].as_str()), (Some("winner"), Some("large")), "{v}");
    assert_eq!(v["comparisons"][0]["blocks"], json!([12, 12]), "pairs of periods: {v}");
    assert_eq!(v["samples_so_far"], json!({"small": 84, "large": 84}));
    let e = s.post(&format!("{place}/observations"), &json!({"observations": []})).await;
    assert_eq!((e.0, e.1["code"].as_str()), (422, Some("switchback")), "{}", e.1);
    assert!(s.posted(&format!("{place}/stop"), &json!({})).await.get("now").is_none());
    s.stop().await;
}

#[tokio::test]
async fn posted_values_are_looked_at_once_where_that_was_planned() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    let body = json!({"name": "signup", "variants": [{"name": "a"}, {"name": "b"}, {"name": "c"}],
        "metrics": [{"metric": "revenue", "goal": "max"}, {"metric": "seconds", "goal": "min"}],
        "mode": "fixed", "samples": 200, "start": START});
    let id = s.posted("/v1/experiments", &body).await["id"].as_str().unwrap().to_owned();
    let place = format!("/v1/experiments/{id}");
    let post = |from: i64, to: i64| {
        let rows: Vec<Value> = (from..to)
            .flat_map(|i| {
                [("a", 5.0), ("b", 6.0), ("c", 5.0)].map(|(variant, level)| {
                    let salt = i64::from(variant.as_bytes()[0]) * 100_000;
                    json!({"variant": variant, "timestamp": START + i, "unit": format!("user-{i}"), "values":
                        {"revenue": level + noise(i + salt), "seconds": 30.0 + noise(i + 7 * salt)}})
                })
            })
            .collect();
        json!({ "observations": rows })
    };
    let add = format!("{place}/observations");
    assert_eq!(s.posted(&add, &post(0, 150)).await["accepted"], 900);
    let early = s.get(&place).await;
    assert_eq!((early["verdict"].as_str(), early["finished"].as_bool()), (Some("undecided"), Some(false)), "{early}");
    s.posted(&add, &post(140, 260)).await;
    let found = s.get(&place).await;
    assert_eq!((found["winner"].as_str(), found["finished"].as_bool()), (Some("b"), Some(true)), "{found}");
    assert_eq!(found["samples_so_far"]["a"], 200, "what was planned, and nothing beyond");
    let c = found["comparisons"].as_array().unwrap();
    let decision =
        |v: &str, m: &str| c.iter().find(|c| c["variant"] == v && c["metric"] == m).unwrap()["decision"].clone();
    assert_eq!((decision("b", "revenue"), decision("c", "revenue")), ("better".into(), "no_difference".into()));

    let bad = |variant: &str, metric: &str| json!({"observations": [{"variant": variant, "timestamp": START, "values": {metric: 1.0}}]});
    let e = s.post(&add, &bad("d", "revenue")).await;
    assert_eq!((e.0, e.1["pointer"].as_str()), (422, Some("/observations/0/variant")), "{}", e.1);
    let e = s.post(&add, &bad("a", "clicks")).await;
    assert_eq!((e.0, e.1["code"].as_str()), (422, Some("unknown_metric")), "{}", e.1);
    s.stop().await;
}

#[tokio::test]
async fn dependent_data_are_refused_and_durations_are_known_before() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    let power = |history: &[f64], more: &Value| {
        let mut v = json!({"history": history, "samples": 3600, "step_ms": 1000, "effect": 0.03});
        for (k, x) in more.as_object().unwrap() {
            v[k] = x.clone();
        }
        v
    };
    let p = s.posted("/v1/experiments/power", &power(&slow(8000, 0.9), &json!({"mode": "planned"}))).await;
    let number = |k: &str| p[k].as_f64().unwrap();
    assert!((0.3..1.0).contains(&number("power")) && number("autocorrelation_time") > 10.0, "{p}");
    assert_eq!((number("duration_ms"), number("duration_for_80_ms")), (3.6e6, 1000.0 * number("samples_for_80")));
    let e = s.post("/v1/experiments/power", &power(&slow(8000, 0.999), &json!({}))).await;
    assert_eq!((e.0, e.1["code"].as_str()), (422, Some("not_enough_independent_data")), "{}", e.1);
    assert!(e.1["detail"].as_str().unwrap().contains("autocorrelation time"), "{}", e.1);
    let e = s.post("/v1/experiments", &experiment(&json!({"baseline": {"latency_ms": slow(8000, 0.999)}}))).await;
    assert_eq!((e.0, e.1["code"].as_str()), (422, Some("not_enough_independent_data")), "{}", e.1);
    assert!(s.get("/v1/experiments").await["items"].as_array().unwrap().is_empty(), "nothing was begun");
    let planned = experiment(&json!({"baseline": {"latency_ms": slow(8000, 0.5)}}));
    let v = s.posted("/v1/experiments", &planned).await;
    assert!(v["plans"]["latency_ms"]["power"].as_f64().unwrap() > 0.0, "{v}");

    let live = json!({"metric": "latency_ms", "match": "{service=\"shop\",version=\"1\"}", "samples": 500});
    let e = s.post("/v1/experiments/power", &live).await;
    assert_eq!((e.0, e.1["code"].as_str()), (422, Some("no_history")), "{}", e.1);
    s.posted("/v1/score", &metrics(0..200, 10.0)).await;
    let p = s.posted("/v1/experiments/power", &live).await;
    assert_eq!(p["duration_ms"], 500 * STEP, "{p}");

    for (extra, pointer) in [
        (json!({"variants": [{"name": "a"}]}), "/variants"),
        (json!({"variants": [{"name": "a", "match": "{x="}, {"name": "b"}]}), "/variants/0/match"),
        (json!({"metrics": []}), "/metrics"),
        (json!({"alpha": 0.9}), "/alpha"),
        (json!({"mode": "fixed"}), "/samples"),
        (json!({"name": " "}), "/name"),
    ] {
        let mut body = experiment(&json!({"name": "bad"}));
        for (k, x) in extra.as_object().unwrap() {
            body[k] = x.clone();
        }
        let e = s.post("/v1/experiments", &body).await;
        assert_eq!((e.0, e.1["pointer"].as_str()), (422, Some(pointer)), "{}", e.1);
    }
    let e = s.post("/v1/experiments", &json!({"name": "x", "variants": [], "metrics": [{"metric": "m"}]})).await;
    assert_eq!((e.0, e.1["pointer"].as_str()), (400, Some("/metrics/0")), "{}", e.1);
    let (status, _) = s.post("/v1/experiments/none/stop", &json!({})).await;
    assert_eq!(status, 404);
    s.stop().await;
}
