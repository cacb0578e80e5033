//! Bodies, query parameters and pages as every route reads them.

use super::auth::Caller;
use super::decode::parse;
use super::problem::Problem;
use crate::app::App;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use foreglow_core::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;

/// Items of a page when the request says nothing.
const PAGE: usize = 100;
/// The most items of a page.
const LARGEST_PAGE: usize = 1000;

/// Bytes of a body that holds no metrics.
const SMALL_BODY: usize = 1 << 20;

/// A whole body of at most `most` bytes.
///
/// # Errors
/// 413 for too many bytes, 408 when it does not arrive in time.
pub(crate) async fn read_body(app: &App, request: Request, most: usize) -> Result<Bytes, Problem> {
    let seconds = app.config.limits.body_seconds;
    let too_large = || {
        let detail = format!("the body is larger than {most} bytes: send less at a time");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    };
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|l| l > most as u64) {
        return Err(too_large());
    }
    let body = axum::body::to_bytes(request.into_body(), most);
    match tokio::time::timeout(Duration::from_secs(seconds), body).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(e)) => {
            let inner = std::error::Error::source(&e);
            if inner.is_some_and(|s| s.to_string().contains("length limit exceeded")) {
                Err(too_large())
            } else {
                Err(Problem::bad("broken_body", format!("the body ended early: {e}")))
            }
        }
        Err(_) => {
            let detail = format!("the body did not arrive within {seconds} s");
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", detail))
        }
    }
}

/// What changes something has to be JSON, with or without a body: a page on another site cannot send that unasked.
///
/// # Errors
/// 415.
pub(crate) fn check_type(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    if *method != Method::POST {
        return Ok(());
    }
    let given = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let essence = given.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    if essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(());
    }
    let detail = format!("the body's type is {given:?}: send Content-Type: application/json");
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_type", detail).at("Content-Type"))
}

/// A JSON body.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Problem> {
        let bytes = read_body(app, request, SMALL_BODY.min(app.config.limits.max_body)).await?;
        Ok(Self(parse(&bytes)?))
    }
}

/// A JSON answer.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(e) => Problem::from(crate::EngineError::from(e)).into_response(),
    }
}

/// 200 with a JSON answer.
pub(crate) fn ok<T: Serialize>(value: &T) -> Response {
    json(StatusCode::OK, value)
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Problem::bad("no_caller", "the request has no tenant"))
    }
}

/// The query string, read name by name; a name that the route does not know is refused.
#[derive(Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl FromRequestParts<Arc<App>> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let Query(pairs) = Query::from_request_parts(parts, app)
            .await
            .map_err(|e| Problem::bad("invalid_query", format!("the query string does not parse: {e}")))?;
        Ok(Self(pairs))
    }
}

impl Params {
    /// Refuses names that are not among `known`.
    pub(crate) fn only(self, known: &[&str]) -> Result<Self, Problem> {
        match self.0.iter().find(|(n, _)| !known.contains(&n.as_str())) {
            None => Ok(self),
            Some((n, _)) => {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                Err(Problem::bad("unknown_parameter", format!("parameter {n:?} is not known here: there is {known}"))
                    .at(n))
            }
        }
    }

    /// The text of a parameter; the last one wins, an empty one is none.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    /// All values of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// A parameter as a value.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub(crate) fn value<T: FromStr>(&self, name: &str) -> Result<Option<T>, Problem>
    where
        T::Err: std::fmt::Display,
    {
        self.text(name)
            .map(|t| t.parse().map_err(|e| Problem::bad("invalid_parameter", format!("{name}={t}: {e}")).at(name)))
            .transpose()
    }

    /// `from` and `to`.
    pub(crate) fn range(&self) -> Result<(Timestamp, Timestamp), Problem> {
        Ok((self.value("from")?.unwrap_or(Timestamp(i64::MIN)), self.value("to")?.unwrap_or(Timestamp(i64::MAX))))
    }

    /// `limit`, 1 to 1000, default 100.
    pub(crate) fn limit(&self) -> Result<usize, Problem> {
        match self.value::<usize>("limit")? {
            None => Ok(PAGE),
            Some(n @ 1..=LARGEST_PAGE) => Ok(n),
            Some(n) => {
                Err(Problem::bad("invalid_parameter", format!("limit={n}: give 1 to {LARGEST_PAGE}")).at("limit"))
            }
        }
    }
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    /// The items.
    pub(crate) items: Vec<T>,
    /// Give it as `cursor` to get the next page; null on the last one.
    pub(crate) next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A page out of up to `limit + 1` items; `cursor` names the last one shown.
    pub(crate) fn cut(mut items: Vec<T>, limit: usize, cursor: impl Fn(&T) -> String) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = if more { items.last().map(cursor) } else { None };
        Self { items, next_cursor }
    }
}
