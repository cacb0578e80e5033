use crate::EngineError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use foreglow_search::SearchError;
use serde::Serialize;
use utoipa::ToSchema;

/// An answer that is no success: `application/problem+json` (RFC 9457) with a stable code.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Problem(Box<ProblemBody>);

/// What a [`Problem`] writes.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// The code is the type: this is always `about:blank`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What went wrong, for programs; never changes its meaning.
    code: &'static str,
    /// What went wrong, where, and what to do, for people.
    detail: String,
    /// JSON pointer into the body, or the name of a query parameter or header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    /// Seconds until another try makes sense; also in the header.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u32>,
    /// The state that forbids it (409).
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(ProblemBody {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Problem"),
            status: status.as_u16(),
            code,
            detail: detail.into(),
            pointer: None,
            retry_after: None,
            state: None,
        }))
    }

    /// 400: what cannot be understood.
    pub(crate) fn bad(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 422: understood, and meaningless.
    pub(crate) fn meaningless(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    /// 404.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// 503: try again soon.
    pub(crate) fn busy(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail).retry_after(1)
    }

    /// 409 that names the state in the way.
    pub(crate) fn conflict(code: &'static str, state: impl Into<String>, detail: impl Into<String>) -> Self {
        let mut p = Self::new(StatusCode::CONFLICT, code, detail);
        p.0.state = Some(state.into());
        p
    }

    /// With the place of the problem.
    pub(crate) fn at(mut self, pointer: impl Into<String>) -> Self {
        self.0.pointer = Some(pointer.into());
        self
    }

    /// With the seconds until another try makes sense.
    pub(crate) fn retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    /// What is written.
    pub(crate) fn body(&self) -> &ProblemBody {
        &self.0
    }

    pub(crate) fn code(&self) -> &'static str {
        self.0.code
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(self.body()).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(s) = self.0.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(s));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<EngineError> for Problem {
    /// What is the client's to mend is told; internals go to the log.
    fn from(e: EngineError) -> Self {
        match e {
            EngineError::Search(e) => e.into(),
            EngineError::Core(e) => Self::meaningless("invalid_value", e.to_string()),
            EngineError::Model(e) => {
                tracing::error!(error = %e, "a model refused");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "a model failed; the server's log says more")
            }
            e => {
                tracing::error!(error = %e, "a request failed");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the server failed; its log says more")
            }
        }
    }
}

impl From<SearchError> for Problem {
    fn from(e: SearchError) -> Self {
        let detail = e.to_string();
        match e {
            SearchError::Trial { problem, .. } if problem.starts_with("does not exist") => Self::not_found(detail),
            SearchError::Trial { problem, .. } => {
                let state = problem.strip_prefix("is already ").and_then(|p| p.split(':').next()).unwrap_or("unknown");
                Self::conflict("wrong_state", state, detail)
            }
            SearchError::HeldBack { .. } => Self::conflict("held_back", "held_back", detail),
            SearchError::Budget { .. } => Self::conflict("budget_spent", "budget_spent", detail),
            SearchError::Study { field, .. } => Self::meaningless("invalid_study", detail).at(format!("/{field}")),
            SearchError::Parameter { .. } | SearchError::Space { .. } => {
                Self::meaningless("invalid_space", detail).at("/parameters")
            }
            SearchError::Value { .. } | SearchError::Assignment { .. } => {
                Self::meaningless("invalid_parameters", detail).at("/parameters")
            }
            SearchError::Designer { .. } => Self::meaningless("unknown_designer", detail).at("/designer"),
            SearchError::Measurement { .. } => Self::meaningless("invalid_measurement", detail),
            _ => Self::meaningless("search", detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_body() {
        let r = Problem::busy("the queue is full").into_response();
        assert_eq!(r.status(), 503);
        assert_eq!(r.headers()["retry-after"], "1");
        assert_eq!(r.headers()["content-type"], "application/problem+json");
        let p = Problem::bad("malformed_json", "x").at("/series/0");
        let v = serde_json::to_value(&p.0).unwrap();
        assert_eq!(v["code"], "malformed_json");
        assert_eq!(v["pointer"], "/series/0");
        assert_eq!(v["title"], "Bad Request");
    }
}
