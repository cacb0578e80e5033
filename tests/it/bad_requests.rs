//! What clients should not send, and what they are told. The rest of a batch is scored, and the server goes on.

use foreglow_tests::testkit::{Client, MINUTE, START, Server, Table};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

const JSON: &str = "application/json";

async fn refused(client: &Client, point: Value) -> Value {
    // A good row beside the bad one: it must come through.
    let good = json!({"timestamp": START, "labels": {"host": "good"}, "values": {"x": 1.0}});
    let reply = client.post("/v1/score?dry_run=true", &json!({"points": [point, good]})).await.ok();
    assert_eq!(reply["accepted"].as_u64(), Some(1), "{reply}");
    reply["refused"][0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_no_batch() {
    let server = Server::start().await;
    let client = server.client();
    for (body, status) in [
        (r#"{"points":[{"timestamp":1767225600000,"labels":{"host":"a"},"values":{"x":1.0}]}"#, 400),
        (r#"{"points":[{"timestamp":1767225600000,"labels":{"host":"a"},"values":{"x":NaN}}]}"#, 400),
        (r#"{"points":[{"timestamp":1767225600000,"labels":{"host":"a"},"values":{"x":"1"}}]}"#, 400),
        (r#"{"series":[],"points":[]}"#, 422),
        ("", 400),
    ] {
        let answer = client.post_raw("/v1/score", JSON, body).await;
        assert!(!answer.problem(status).is_empty(), "{body}");
    }
    let malformed = client.post_raw("/v1/score", JSON, r#"{"points":[{"timestamp":1767225600000,]}"#).await;
    malformed.problem(400);
    assert!(malformed.text.contains("line 1") || malformed.body["pointer"].is_string(), "a place: {}", malformed.text);
    assert_eq!(client.post_raw("/v1/score", "text/plain", "{}").await.status, 415);
    let lengths = r#"{"series":[{"labels":{"__name__":"x"},"timestamps":[1767225600000],"values":[1.0,2.0]}]}"#;
    client.post_raw("/v1/score", JSON, lengths).await.problem(422);
    // Refused by its length, before the body: a client that went on writing would see the connection close instead.
    let head = format!(
        "POST /v1/score HTTP/1.1\r\nhost: {0}\r\ncontent-type: {JSON}\r\ncontent-length: {1}\r\n\r\n",
        server.address(),
        17 << 20
    );
    let address = server.address().to_owned();
    let status = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        String::from_utf8_lossy(&status).into_owned()
    });
    assert_eq!(status.await.unwrap(), "HTTP/1.1 413");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn points_that_cannot_be_taken_are_refused_alone() {
    let server = Server::start().await;
    let client = server.client();
    let point = |timestamp: Value, value: Value| json!({"timestamp": timestamp, "labels": {"host": "a"}, "values": {"x": value}});

    let seconds = refused(&client, point(json!(1_767_225_600), json!(1.0))).await;
    assert!(seconds["detail"].as_str().unwrap().contains("did you send seconds?"), "{seconds}");
    let word = refused(&client, point(json!("yesterday"), json!(1.0))).await;
    assert_eq!((word["code"].as_str(), word["index"].as_u64()), (Some("timestamp"), Some(0)), "{word}");
    let future = refused(&client, point(json!(4_102_444_800_000_i64), json!(1.0))).await;
    assert_eq!(future["code"], "future", "{future}");

    let mut labels = String::from("{");
    for i in 0..1_000_000 {
        write!(labels, "{}\"l{i}\":\"v\"", if i == 0 { "" } else { "," }).unwrap();
    }
    labels.push('}');
    let body = format!(
        r#"{{"points":[{{"timestamp":{START},"labels":{labels},"values":{{"x":1.0}}}},{{"timestamp":{START},"labels":{{"host":"good"}},"values":{{"x":1.0}}}}]}}"#
    );
    let answer = client.post_raw("/v1/score", JSON, body).await;
    // 13.8 MB: within the limit of a body, far beyond that of a series.
    let reply = answer.ok();
    assert_eq!(reply["accepted"].as_u64(), Some(1), "{}", reply["refused"]);
    assert!(reply["refused"][0]["code"].as_str().unwrap().contains("labels"), "{}", reply["refused"]);
}

/// Unsorted, doubled, late and enormous values: a verdict each, and the series goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_order_of_things() {
    let server = Server::start().await;
    let client = server.client();
    let at = |row: i64, value: f64| json!({"timestamp": START + row * MINUTE, "labels": {"host": "a"}, "values": {"x": value}});
    let quiet: Vec<Value> = (0..200).map(|r| at(r, 100.0 + (r % 7) as f64)).collect();
    client.post("/v1/score", &json!({"points": quiet})).await.ok();

    // A batch is taken in its order, as if each point had come alone: what lies behind a closed step is refused by index.
    let mixed = json!({"points": [at(202, 103.0), at(200, 101.0), at(201, 102.0)]});
    let reply = client.post("/v1/score", &mixed).await.ok();
    assert_eq!(reply["accepted"].as_u64(), Some(1), "{reply}");
    let late: Vec<(u64, &str)> = reply["refused"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (r["index"].as_u64().unwrap(), r["code"].as_str().unwrap()))
        .collect();
    assert_eq!(late, [(1, "late"), (2, "late")], "{reply}");

    // The same again is known; another value for a closed step comes too late.
    let reply = client.post("/v1/score", &json!({"points": [at(150, 103.0)]})).await.ok();
    assert_eq!(reply["results"][0]["status"], "duplicate", "{reply}");
    let reply = client.post("/v1/score", &json!({"points": [at(202, 103.0)]})).await.ok();
    assert_eq!(reply["results"][0]["status"], "duplicate", "{reply}");
    let reply = client.post("/v1/score", &json!({"points": [at(150, 999.0)]})).await.ok();
    assert_eq!(reply["refused"][0]["code"], "conflict", "{reply}");

    // An enormous value is a value: scored, finite, and forgotten soon.
    let reply = client.post("/v1/score", &json!({"points": [at(203, 1e308), at(204, 101.0)]})).await.ok();
    for r in reply["results"].as_array().unwrap() {
        assert!(r["score"].is_null() || r["score"].as_f64().unwrap().is_finite(), "{r}");
    }
    let after: Vec<Value> = (205..260).map(|r| at(r, 100.0 + (r % 7) as f64)).collect();
    let reply = client.post("/v1/score", &json!({"points": after})).await.ok();
    let last = reply["results"].as_array().unwrap().last().unwrap();
    assert!(last["score"].as_f64().is_none_or(|s| s < 1.0), "the series is usual again: {last}");
}

/// Series that say nothing: constant, all missing, one point.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn series_that_say_nothing() {
    let server = Server::start().await;
    let client = server.client();
    let rows = |host: &str, value: Value, n: i64| -> Value {
        (0..n)
            .map(|r| json!({"timestamp": START + r * MINUTE, "labels": {"host": host}, "values": {"x": value}}))
            .collect()
    };
    for (host, value, n) in [("constant", json!(5.0), 300), ("missing", Value::Null, 300), ("single", json!(1.0), 1)] {
        let reply = client.post("/v1/score", &json!({"points": rows(host, value, n)})).await.ok();
        assert!(reply["results"].as_array().unwrap().iter().all(|r| r["is_anomaly"] != true), "{host}");
    }
    assert_eq!(client.post("/v1/score", &json!({"points": []})).await.ok()["accepted"], 0);
}

/// A group with other metrics than the artifact knows is not its business, and is told so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wrong_metrics_for_the_artifact() {
    let server = Server::start().await;
    let data = Table::new(400).write(server.folder(), 400);
    let (data, registry) = (data.to_str().unwrap().to_owned(), server.registry().to_str().unwrap().to_owned());
    tokio::task::spawn_blocking(move || {
        foreglow_tests::testkit::train(&["fit", "--data", &data, "--registry", &registry, "--name", "shop"]).unwrap();
    })
    .await
    .unwrap();
    let client = server.client();
    client.post("/v1/models/reload", &json!({})).await.ok();
    let rows: Vec<Value> = (0..20)
        .map(|r| json!({"timestamp": START + r * MINUTE, "labels": {"series": "mail"}, "values": {"queue": 3.0, "sent": 5.0}}))
        .collect();
    let reply = client.post("/v1/score", &json!({"points": rows})).await.ok();
    assert!(reply["results"].as_array().unwrap().iter().all(|r| r["model"] == "online"), "{reply}");
    let group = client.get("/v1/groups/%7Bseries=%22mail%22%7D").await.ok();
    let text = group.to_string();
    assert!(text.contains("shop/") && text.contains("cpu"), "the runner-up and why it does not serve: {text}");
}
