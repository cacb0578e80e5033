use crate::server::{START, STEP, Server, answer, points, usual_rows};
use foreglow_engine::{Role, Token};
use serde_json::{Value, json};

/// SHA-256 of `secret`.
const SECRET: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

fn told(v: &(u16, Value)) -> (u16, &str) {
    (v.0, v.1["code"].as_str().unwrap_or("none"))
}

async fn raw(s: &Server, path: &str, body: &'static str) -> (u16, Value) {
    answer(s.request("POST", path).header("content-type", "application/json").body(body)).await
}

#[tokio::test]
async fn malformed_bodies_name_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    for (body, code, pointer) in [
        (r#"{"points":["#, "malformed_json", "/points"),
        (r#"{"points":[{"timestamp":1767225600000,"values":{"cpu":NaN}}]}"#, "malformed_json", "/points/0/values/cpu"),
        (
            r#"{"points":[{"timestamp":1767225600000,"values":{"cpu":1e999}}]}"#,
            "malformed_json",
            "/points/0/values/cpu",
        ),
        (r#"{"points":[{"timestamp":1767225600000,"values":{"cpu":"NaN"}}]}"#, "invalid_field", "/points/0/values/cpu"),
        (r#"{"points":[{"timestamp":true,"values":{}}]}"#, "invalid_field", "/points/0/timestamp"),
    ] {
        let v = raw(&s, "/v1/score", body).await;
        assert_eq!(told(&v), (400, code), "{body}: {}", v.1);
        assert_eq!(v.1["pointer"], pointer, "{body}");
    }
    for (path, body, status, code) in [
        ("/v1/score", "{}", 422, "empty"),
        ("/v1/score?dry_run=perhaps", "{}", 400, "invalid_parameter"),
        ("/v1/score?dry=true", "{}", 400, "unknown_parameter"),
        ("/v1/score?fields=scor", "{}", 400, "invalid_parameter"),
        ("/v1/score?session=a%2Fb", "{}", 400, "invalid_parameter"),
        ("/v1/ingest", r#"{"points":[{"timestamp":1767225600,"values":{"cpu":1}}]}"#, 422, "all_refused"),
        ("/v1/changes", r#"{"kind":"freeze"}"#, 422, "no_selector"),
        ("/v1/changes", r#"{"kind":"party"}"#, 400, "invalid_field"),
        ("/v1/changes", r#"{"kind":"deploy","selector":"{"}"#, 422, "invalid_selector"),
        ("/v1/configurations", r#"{"entity":{},"parameters":{}}"#, 422, "empty"),
        ("/v1/configurations", r#"{"entity":{},"parameters":{"a":1},"since":1767225600}"#, 422, "invalid_timestamp"),
        ("/v1/feedback", r#"{"incident":"x","verdict":"expected"}"#, 404, "not_found"),
        ("/v1/forecast", r#"{"series":[],"horizon":0}"#, 422, "invalid_horizon"),
        ("/v1/nothing", "{}", 404, "not_found"),
    ] {
        let v = raw(&s, path, body).await;
        assert_eq!(told(&v), (status, code), "{path} {body}: {}", v.1);
    }
    let wrong = answer(s.request("GET", "/v1/score")).await;
    assert_eq!(told(&wrong), (405, "method_not_allowed"));
    for path in ["/v1/groups/none", "/v1/incidents/none", "/v1/studies/none"] {
        assert_eq!(told(&answer(s.request("GET", path)).await), (404, "not_found"), "{path}");
    }
    for path in
        ["/v1/groups?limit=0", "/v1/anomalies?from=yesterday", "/v1/incidents?state=half", "/v1/forecast?horizon=1"]
    {
        assert_eq!(answer(s.request("GET", path)).await.0, 400, "{path}");
    }
    s.stop().await;
}

/// What a caller makes up becomes no label of `/metrics`, which would grow with it.
#[tokio::test]
async fn unknown_paths_are_counted_together() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    for path in ["/v1/made-up-1", "/made-up-2", "/v1/groups/made-up-3", "/v1/score/made-up-4"] {
        assert_eq!(told(&answer(s.request("GET", path)).await), (404, "not_found"), "{path}");
    }
    let text = s.get("/metrics").await.as_str().unwrap().to_owned();
    assert!(!text.contains("made-up"), "{text}");
    assert!(text.contains(r#"route="other",status="404""#) && text.contains(r#"route="/v1/groups/{id}",status="404""#));
    s.stop().await;
}

#[tokio::test]
async fn a_forecast_of_everything_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    let one = |i: usize| json!({"labels": {"__name__": format!("m{i}")}, "timestamps": [START, START + STEP], "values": [1, 2]});
    let many: Vec<Value> = (0..1000).map(one).collect();
    let v =
        s.post("/v1/forecast", &json!({"series": many, "horizon": 4096, "quantiles": [0.1, 0.2, 0.3, 0.7, 0.9]})).await;
    assert_eq!((told(&v), v.1["pointer"].as_str()), ((422, "too_much"), Some("/horizon")), "{}", v.1);
    let far = json!({"series": [{"labels": {"__name__": "m"}, "timestamps": [START - 1_000_000 * STEP, START], "values": [1, 2]}], "horizon": 2,
        "step": "10s"});
    let v = s.post("/v1/forecast", &far).await;
    assert_eq!(told(&v), (422, "too_sparse"), "{}", v.1);
    s.stop().await;
}

#[tokio::test]
async fn types_sizes_and_hosts() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |c| c.limits.max_body = 1000).await;
    let text = answer(s.request("POST", "/v1/score").header("content-type", "text/plain").body("{}")).await;
    assert_eq!(told(&text), (415, "unsupported_type"));
    let large = s.post("/v1/score", &points(&usual_rows("a", 0..100))).await;
    assert_eq!(told(&large), (413, "too_large"));
    let chunks = futures_util::stream::iter((0..100).map(|_| Ok::<_, std::io::Error>("            ".repeat(10))));
    let body = reqwest::Body::wrap_stream(chunks);
    let request = s.request("POST", "/v1/score").header("content-type", "application/json").body(body);
    assert_eq!(told(&answer(request).await), (413, "too_large"), "also without a content length");
    let foreign = s.request("POST", "/v1/score").header("host", "evil.example").json(&json!({"points": []}));
    assert_eq!(told(&answer(foreign).await), (403, "host_not_allowed"));
    let tenant = s.request("GET", "/v1/groups").header("x-scope-orgid", "a b");
    assert_eq!(told(&answer(tenant).await), (400, "invalid_tenant"));
    s.stop().await;
}

#[tokio::test]
async fn tokens() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |c| {
        c.tokens = vec![Token { sha256: SECRET.into(), tenants: vec!["a".into()], role: Role::Read }];
    })
    .await;
    assert_eq!(told(&answer(s.request("GET", "/v1/groups")).await), (401, "unauthorized"));
    let mine = |method: &str| s.request(method, "/v1/groups").bearer_auth("secret").header("x-scope-orgid", "a");
    assert_eq!(answer(mine("GET")).await.0, 200);
    assert_eq!(told(&answer(mine("POST").json(&json!({}))).await), (403, "read_only"));
    let other = s.request("GET", "/v1/groups").bearer_auth("secret").header("x-scope-orgid", "b");
    assert_eq!(told(&answer(other).await), (403, "tenant_forbidden"));
    assert_eq!(answer(s.request("GET", "/livez")).await.0, 200, "health needs no token");
    s.stop().await;
}

#[tokio::test]
async fn quotas_fill_with_time() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |c| c.limits.samples_per_second = Some(1.0)).await;
    s.posted("/v1/score", &points(&usual_rows("a", 0..5))).await;
    let v = s.post("/v1/score", &points(&usual_rows("a", 5..6))).await;
    assert_eq!(told(&v), (429, "quota"));
    assert_eq!(v.1["retry_after"], 2);
    s.clock.set(s.clock.now().plus(2000));
    s.posted("/v1/score", &points(&usual_rows("a", 5..6))).await;
    s.stop().await;
}

#[tokio::test]
async fn a_state_folder_belongs_to_one_server() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    s.get("/livez").await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = foreglow_engine::Config { state: dir.path().join("state"), ..Default::default() };
    let e = foreglow_engine::run(listener, config, std::future::pending()).await.unwrap_err().to_string();
    assert!(e.contains("another process uses it"), "{e}");
    s.stop().await;
}
