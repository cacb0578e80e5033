use super::auth::Caller;
use super::extract::{json, ok};
use super::problem::Problem;
use crate::app::App;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// Whether the server can do its work.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// All checks are fine.
    ready: bool,
    /// What was looked at.
    checks: Vec<Check>,
}

/// One check.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Check {
    /// What was looked at.
    name: &'static str,
    /// Whether it is fine.
    ok: bool,
    /// What was found.
    detail: String,
}

/// Whether the process answers.
#[utoipa::path(get, path = "/livez", tag = "operation", responses((status = 200, body = Health)))]
pub(crate) async fn livez() -> Response {
    ok(&Health { ready: true, checks: Vec::new() })
}

/// Whether the server can do its work, with reasons.
#[utoipa::path(get, path = "/readyz", tag = "operation",
    responses((status = 200, body = Health), (status = 503, body = Health)))]
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let store = app.store.call(|c| Ok(c.query_row("SELECT 1", [], |r| r.get::<_, i64>(0))?)).await;
    let store = match store {
        Ok(_) => Check { name: "store", ok: true, detail: "answers".to_owned() },
        Err(e) => Check { name: "store", ok: false, detail: e.to_string() },
    };
    let room = app.live.has_room();
    let queue = Check {
        name: "queue",
        ok: room,
        detail: if room { "has room" } else { "is full; requests are refused" }.to_owned(),
    };
    // A damaged artifact does not make the server useless: the others and the online baseline go on.
    let catalogue = app.registry.catalogue();
    let broken = catalogue.broken.iter().map(|(m, e)| format!("; {m} does not load: {e}"));
    let detail = format!("{} artifacts are served", catalogue.artifacts.len()) + &broken.collect::<String>();
    let registry = Check { name: "registry", ok: true, detail };
    let stopping = *app.stopping.borrow();
    let state =
        Check { name: "server", ok: !stopping, detail: if stopping { "is stopping" } else { "is running" }.to_owned() };
    let checks = vec![state, store, queue, registry];
    let ready = checks.iter().all(|c| c.ok);
    json(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &Health { ready, checks })
}

/// The engine's own numbers and the last scores of the tenants that the token speaks for, in Prometheus's text format.
#[utoipa::path(get, path = "/metrics", tag = "operation",
    responses((status = 200, description = "Prometheus text", content_type = "text/plain", body = String)))]
pub(crate) async fn metrics(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, Problem> {
    let (mut gauges, scores) = app.live.measure(move |tenant| caller.sees(tenant)).await?;
    gauges.streams = app.events.readers();
    let text = app.telemetry.render(&gauges, &scores);
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// A plain page that leads to the API.
pub(crate) async fn page() -> Html<&'static str> {
    Html(include_str!("page.html"))
}
