//! The server as any client sees it: HTTP and JSON, nothing else.

use anyhow::{Context, Result, bail};
use foreglow_core::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;

/// A client of one server.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
}

/// One series of an incident and its part in it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Contributor {
    /// The series inside its group.
    pub(crate) signal: String,
    /// 0 to 1.
    pub(crate) share: f64,
    /// What was measured.
    pub(crate) actual: Option<f64>,
    /// What was expected.
    pub(crate) expected: Option<f64>,
}

/// An incident.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Incident {
    /// Its id.
    pub(crate) id: String,
    /// The group.
    pub(crate) group: String,
    /// When it opened.
    pub(crate) opened_at: Timestamp,
    /// When it was over.
    pub(crate) resolved_at: Option<Timestamp>,
    /// The highest score so far.
    pub(crate) peak_score: f64,
    /// Spike, level shift, missing, ...
    pub(crate) kind: String,
    /// By share, largest first.
    pub(crate) contributors: Vec<Contributor>,
}

/// The verdict on one group at one step.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct StepReply {
    /// The group.
    pub(crate) group: String,
    /// The step.
    pub(crate) timestamp: Timestamp,
    /// 1 is the alert line.
    pub(crate) score: Option<f64>,
    /// The model that said so.
    pub(crate) model: String,
}

/// The reply to a batch.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ScoreReply {
    /// One a group and step.
    pub(crate) results: Vec<StepReply>,
    /// What could not be taken.
    #[serde(default)]
    pub(crate) refused: Vec<Value>,
}

impl Client {
    /// A client of the server at `base`, such as `http://127.0.0.1:8780`.
    pub(crate) fn new(base: &str) -> Result<Self> {
        // Loopback only: a proxy that the environment names has no part in it.
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
        Ok(Self { http, base: base.to_owned() })
    }

    /// Sends `body` and reads the answer.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        let request = self.http.post(format!("{}{path}", self.base)).json(body);
        Self::answer(path, request).await
    }

    /// Reads what is at `path`.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T> {
        let request = self.http.get(format!("{}{path}", self.base)).query(query);
        Self::answer(path, request).await
    }

    async fn answer<T: DeserializeOwned>(path: &str, request: reqwest::RequestBuilder) -> Result<T> {
        let response = request.send().await.with_context(|| format!("no answer to {path}"))?;
        let status = response.status();
        let text = response.text().await.with_context(|| format!("reading the answer to {path}"))?;
        if !status.is_success() {
            bail!("{path}: the server said {status}: {}", text.trim());
        }
        serde_json::from_str(&text).with_context(|| format!("{path}: the answer is not what was expected: {text:.300}"))
    }
}
