use crate::server::{START, STEP, Server, point, points, usual_rows};
use foreglow_core::Timestamp;
use std::io::{Read, Write};
use std::net::TcpStream;

/// Reads until `end` was read. The server runs on threads of its own, so this one may wait.
fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut got = Vec::new();
    while !String::from_utf8_lossy(&got).contains(end) {
        let mut buffer = [0; 4096];
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "closed after {}", String::from_utf8_lossy(&got));
        got.extend_from_slice(&buffer[..n]);
    }
    String::from_utf8(got).unwrap()
}

/// A body that is on its way has its place: `100 Continue` says that the server waits for it.
fn half_sent(s: &Server, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(s.address).unwrap();
    let head = format!(
        "POST /v1/score HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Expect: 100-continue\r\n\r\n",
        s.address,
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    read_until(&mut stream, "100 Continue");
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_and_never_grows() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |c| c.limits.queue = 1).await;
    let body = points(&usual_rows("a", 0..3)).to_string();
    let mut first = half_sent(&s, &body);
    let busy = s.request("POST", "/v1/score").json(&points(&usual_rows("b", 0..3))).send().await.unwrap();
    assert_eq!(busy.status(), 503);
    assert_eq!(busy.headers()["retry-after"], "1");
    assert_eq!(busy.json::<serde_json::Value>().await.unwrap()["code"], "busy");
    let ready = s.request("GET", "/readyz").send().await.unwrap();
    assert_eq!(ready.status(), 503);
    first.write_all(body.as_bytes()).unwrap();
    let answer = read_until(&mut first, "\"accepted\":6");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    s.posted("/v1/score", &points(&usual_rows("b", 0..3))).await;
    s.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_finishes_what_runs() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    let body = points(&usual_rows("a", 0..3)).to_string();
    let mut running = half_sent(&s, &body);
    let stopped = tokio::spawn(s.stop());
    running.write_all(body.as_bytes()).unwrap();
    let answer = read_until(&mut running, "\"accepted\":6");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(running);
    stopped.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_gives_its_place_back() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |c| c.limits.queue = 2).await;
    let body = points(&usual_rows("a", 0..3)).to_string();
    let gone = half_sent(&s, &body);
    let mut stays = half_sent(&s, &body);
    drop(gone);
    // The server notices the end of the connection by itself; that it did is seen by the place being free again.
    let metric = |text: &str| text.lines().find(|l| l.starts_with("foreglow_queue_used")).unwrap().to_owned();
    while metric(s.get("/metrics").await.as_str().unwrap()) != "foreglow_queue_used 1" {
        tokio::task::yield_now().await;
    }
    stays.write_all(body.as_bytes()).unwrap();
    read_until(&mut stays, "\"accepted\":6");
    s.stop().await;
}

/// Pods come and go: where a tenant has as many groups as it may, those that have sent nothing for a day make room, with
/// their incidents.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_that_are_gone_make_room_for_new_ones() {
    const DAY: i64 = 1_440;
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |c| c.limits.max_groups = 3).await;
    let mut rows = usual_rows("old", 0..300);
    rows.extend((300..305).map(|i| point("old", i, 900.0, 20.0)));
    s.posted("/v1/score", &points(&rows)).await;
    let open = s.get("/v1/incidents?state=open").await;
    assert_eq!(open["items"].as_array().unwrap().len(), 1, "{open}");
    // A day and a half later others come, one too many.
    saved(&s, 1).await;
    s.clock.set(Timestamp(START + (100_000 + 3 * DAY / 2) * STEP));
    for host in ["b", "c"] {
        s.posted("/v1/score", &points(&usual_rows(host, 0..5))).await;
    }
    saved(&s, 3).await;
    let newest = points(&usual_rows("d", 0..5));
    let v = s.posted("/v1/score", &newest).await;
    assert_eq!(v["refused"][0]["code"], "too_many_groups", "{v}");
    let room = async { while s.posted("/v1/score", &newest).await["accepted"] == 0 {} };
    soon(room).await;
    let groups = s.get("/v1/groups").await;
    let ids: Vec<&str> = groups["items"].as_array().unwrap().iter().map(|g| g["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [r#"{host="b"}"#, r#"{host="c"}"#, r#"{host="d"}"#]);
    soon(async { while !s.get("/v1/incidents?state=open").await["items"].as_array().unwrap().is_empty() {} }).await;
    let ended = s.get("/v1/incidents").await["items"][0].clone();
    assert_eq!(ended["resolved_at"], START + 304 * STEP, "{ended}");
    assert!(!s.get("/metrics").await.as_str().unwrap().contains("old"));
    // Those that are there still are not given up for one more.
    let v = s.posted("/v1/score", &points(&usual_rows("e", 0..5))).await;
    assert_eq!(v["refused"][0]["code"], "too_many_groups", "{v}");
    s.stop().await;
}

/// What the server does by itself within a second or two.
async fn soon(what: impl Future<Output = ()>) {
    tokio::time::timeout(std::time::Duration::from_mins(1), what).await.unwrap();
}

/// Waits until so many states of groups were saved.
async fn saved(s: &Server, n: usize) {
    let metric = |text: &str| {
        let line = text.lines().find(|l| l.starts_with("foreglow_groups_saved_total")).unwrap();
        line.split(' ').nth(1).unwrap().parse::<usize>().unwrap()
    };
    soon(async { while metric(s.get("/metrics").await.as_str().unwrap()) < n {} }).await;
}
