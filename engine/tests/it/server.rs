//! One server of a test.

use foreglow_core::Timestamp;
use foreglow_engine::{Clock, Config, EngineError, run_with_clock};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// 2026-01-01T00:00:00Z.
pub(crate) const START: i64 = 1_767_225_600_000;
/// One minute.
pub(crate) const STEP: i64 = 60_000;

/// A running server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) clock: Clock,
    client: reqwest::Client,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), EngineError>>,
}

impl Server {
    /// A server with its state in `dir`, a clock far behind all samples' future, and small limits.
    pub(crate) async fn start(dir: &Path, edit: impl FnOnce(&mut Config)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = Config { state: dir.join("state"), threads: Some(2), ..Config::default() };
        edit(&mut config);
        let clock = Clock::fixed(Timestamp(START + 100_000 * STEP));
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let task = tokio::spawn(run_with_clock(listener, config, clock.clone(), shutdown));
        Self { address, clock, client: reqwest::Client::new(), stop, task }
    }

    /// Stops gracefully: everything is saved afterwards.
    pub(crate) async fn stop(self) {
        drop(self.client);
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method.parse().unwrap(), format!("http://{}{path}", self.address))
    }

    /// Status and body of a POST.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        answer(self.request("POST", path).json(body)).await
    }

    /// The body of a POST that has to succeed.
    pub(crate) async fn posted(&self, path: &str, body: &Value) -> Value {
        let (status, v) = self.post(path, body).await;
        assert!((200..300).contains(&status), "{path}: {status} {v}");
        v
    }

    /// The body of a GET that has to succeed.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, v) = answer(self.request("GET", path)).await;
        assert_eq!(status, 200, "{path}: {v}");
        v
    }
}

/// Sends, and reads the answer as JSON (text becomes a string).
pub(crate) async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let r = request.send().await.unwrap();
    let status = r.status().as_u16();
    if status >= 400 {
        assert_eq!(r.headers()["content-type"], "application/problem+json");
    }
    let text = r.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// A number between -1 and 1 that depends on `i` alone.
pub(crate) fn noise(i: i64) -> f64 {
    let mut x = (i as u64).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 29;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 32;
    (x >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// What `host` shows at step `i`: two metrics around 50 and 20.
pub(crate) fn usual(host: &str, i: i64) -> (f64, f64) {
    let salt = host.bytes().map(i64::from).sum::<i64>() * 1_000_003;
    (50.0 + 3.0 * noise(i + salt), 20.0 + noise(7 * i + salt + 1))
}

/// One row.
pub(crate) fn point(host: &str, i: i64, cpu: f64, mem: f64) -> Value {
    json!({"timestamp": START + i * STEP, "labels": {"host": host}, "values": {"cpu": cpu, "mem": mem}})
}

/// Rows of usual values.
pub(crate) fn usual_rows(host: &str, steps: std::ops::Range<i64>) -> Vec<Value> {
    steps
        .map(|i| {
            let (cpu, mem) = usual(host, i);
            point(host, i, cpu, mem)
        })
        .collect()
}

/// A body of rows.
pub(crate) fn points(rows: &[Value]) -> Value {
    json!({ "points": rows })
}
