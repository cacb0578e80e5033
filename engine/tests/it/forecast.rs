use crate::server::{START, STEP, Server, noise, points, usual_rows};
use serde_json::{Value, json};

#[tokio::test]
async fn from_the_history_in_the_body() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    let wave = |i: i64| 100.0 + 10.0 * (i as f64 * std::f64::consts::TAU / 24.0).sin() + 0.1 * noise(i);
    let times: Vec<i64> = (0..240).map(|i| START + i * 60 * STEP).collect();
    let values: Vec<f64> = (0..240).map(wave).collect();
    let body = json!({"series": [{"labels": {"__name__": "load"}, "timestamps": times, "values": values}],
        "horizon": 24, "quantiles": [0.1, 0.9]});
    let v = s.posted("/v1/forecast", &body).await;
    let f = &v["forecasts"][0];
    assert_eq!(f["labels"]["__name__"], "load");
    assert_eq!((f["step"].as_str(), f["cutoff"].as_i64()), (Some("1h"), Some(times[239])));
    assert_eq!(f["timestamps"][0], times[239] + 60 * STEP);
    for h in 0..24 {
        let (low, high) = (f["quantiles"][h][0].as_f64().unwrap(), f["quantiles"][h][1].as_f64().unwrap());
        let median = f["median"][h].as_f64().unwrap();
        assert!(low <= median && median <= high);
        assert!((median - wave(240 + h as i64)).abs() < 2.0, "{h}: {median}");
    }
    assert_eq!(s.get("/v1/groups").await["items"], json!([]), "nothing is kept");

    let unknown = s.post("/v1/forecast", &json!({"series": [], "horizon": 1, "model": "x"})).await;
    assert_eq!((unknown.0, unknown.1["code"].as_str()), (422, Some("unknown_model")));
    let lonely = json!({"series": [{"labels": {"__name__": "a"}, "timestamps": [START], "values": [1]}], "horizon": 1});
    assert_eq!(s.post("/v1/forecast", &lonely).await.1["code"], "no_step");
    let with_step = json!({"series": [{"labels": {"__name__": "a"}, "timestamps": [START], "values": [1]}],
        "horizon": 2, "step": "5m"});
    assert_eq!(s.posted("/v1/forecast", &with_step).await["forecasts"][0]["median"], json!([1.0, 1.0]));
    s.stop().await;
}

#[tokio::test]
async fn from_what_was_sent() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    let mut rows: Vec<Value> = usual_rows("a", 0..300);
    rows.extend(usual_rows("b", 0..300));
    s.posted("/v1/score", &points(&rows)).await;
    let v = s.get("/v1/forecast?match[]=cpu&horizon=3&quantiles=0.05,0.5,0.95").await;
    let all = v["forecasts"].as_array().unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!(all[0]["labels"], json!({"__name__": "cpu", "host": "a"}));
    let median = all[0]["median"][2].as_f64().unwrap();
    assert!((40.0..60.0).contains(&median), "{median}");
    assert_eq!(all[0]["quantiles"][0].as_array().unwrap().len(), 3);
    let coarse = s.get("/v1/forecast?match[]=cpu{host=\"a\"}&horizon=2&step=5m").await;
    let times = &coarse["forecasts"][0]["timestamps"];
    assert_eq!(times[1].as_i64().unwrap() - times[0].as_i64().unwrap(), 5 * STEP);
    let (status, p) = crate::server::answer(s.request("GET", "/v1/forecast?match[]=cpu&horizon=2&step=90s")).await;
    assert_eq!((status, p["code"].as_str()), (422, Some("invalid_step")));
    s.stop().await;
}
