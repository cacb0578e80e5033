use super::auth::Caller;
use super::extract::{Page, Params, ok};
use super::problem::{Problem, ProblemBody};
use crate::app::App;
use crate::store::{AnomalyFilter, ask};
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::value::RawValue;
use std::sync::Arc;
use utoipa::ToSchema;

/// A step at or above the alert line.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Anomaly {
    /// Its number.
    id: i64,
    /// The group.
    group: String,
    /// Epoch milliseconds.
    timestamp: i64,
    /// Its score, at least 1.
    score: f64,
    /// The step as `/v1/score` answered it.
    #[schema(value_type = crate::view::Step)]
    step: Box<RawValue>,
}

/// Steps at or above the alert line, newest first.
#[utoipa::path(get, path = "/v1/anomalies", tag = "reads",
    params(("group" = Option<String>, Query, description = "Only this group"),
        ("from" = Option<String>, Query, description = "Epoch milliseconds or RFC 3339"),
        ("to" = Option<String>, Query, description = "Epoch milliseconds or RFC 3339"),
        ("min_score" = Option<f64>, Query, description = "Only scores from this on"),
        ("limit" = Option<usize>, Query, description = "1 to 1000, default 100"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the page before")),
    responses((status = 200, body = Page<Anomaly>), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn list(State(app): State<Arc<App>>, caller: Caller, params: Params) -> Result<Response, Problem> {
    let params = params.only(&["group", "from", "to", "min_score", "limit", "cursor"])?;
    let limit = params.limit()?;
    let (from, to) = params.range()?;
    let filter = AnomalyFilter {
        group: params.text("group").map(str::to_owned),
        from,
        to,
        min_score: params.value("min_score")?.unwrap_or(0.0),
        before: params.value("cursor")?.unwrap_or(i64::MAX),
    };
    let rows = app.store.call(move |c| ask::anomalies(c, &caller.tenant, &filter, limit + 1)).await?;
    let items = rows
        .into_iter()
        .map(|r| Anomaly { id: r.id, group: r.group, timestamp: r.timestamp.ms(), score: r.score, step: r.body })
        .collect();
    Ok(ok(&Page::cut(items, limit, |a: &Anomaly| a.id.to_string())))
}
