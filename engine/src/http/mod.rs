//! The HTTP edge: one file a route. Bodies are structs of their own here; the rest of the engine knows no HTTP but
//! [`Problem`].

mod anomalies;
mod auth;
mod changes;
mod decode;
mod experiments;
mod extract;
mod forecast;
mod groups;
mod health;
mod incidents;
mod models;
mod openapi;
mod power;
mod problem;
mod quota;
mod recommendations;
mod score;
mod stream;
mod studies;
mod wire;

pub(crate) use auth::Gate;
pub use decode::decode_batch;
pub use openapi::openapi_json;
pub(crate) use problem::Problem;
pub(crate) use quota::Quota;

use crate::app::App;
use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use std::sync::Arc;
use std::time::Instant;

/// All routes.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(health::page))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .route("/v1/openapi.json", get(openapi::document))
        .route("/v1/score", post(score::score))
        .route("/v1/ingest", post(score::ingest))
        .route("/v1/forecast", post(forecast::stateless).get(forecast::from_state))
        .route("/v1/groups", get(groups::list))
        .route("/v1/groups/{id}", get(groups::one))
        .route("/v1/anomalies", get(anomalies::list))
        .route("/v1/incidents", get(incidents::list))
        .route("/v1/incidents/{id}", get(incidents::one))
        .route("/v1/feedback", post(incidents::feedback))
        .route("/v1/models", get(models::list))
        .route("/v1/models/reload", post(models::reload))
        .route("/v1/changes", post(changes::add).get(changes::list))
        .route("/v1/configurations", post(changes::configure))
        .route("/v1/studies", post(studies::create).get(studies::list))
        .route("/v1/studies/{id}", get(studies::one))
        .route("/v1/studies/{id}/suggest", post(studies::suggest))
        .route("/v1/studies/{id}/stop", post(studies::stop))
        .route("/v1/studies/{id}/effects", get(studies::effects))
        .route("/v1/studies/{id}/trials/{n}/measurements", post(studies::measure))
        .route("/v1/studies/{id}/trials/{n}/complete", post(studies::complete))
        .route("/v1/studies/{id}/trials/{n}/stop", post(studies::stop_trial))
        .route("/v1/experiments", post(experiments::create).get(experiments::list))
        .route("/v1/experiments/power", post(power::power))
        .route("/v1/experiments/{id}", get(experiments::one))
        .route("/v1/experiments/{id}/observations", post(experiments::observe))
        .route("/v1/experiments/{id}/stop", post(experiments::stop))
        .route("/v1/recommendations", get(recommendations::list))
        .route("/v1/recommendations/{id}/accept", post(recommendations::accept))
        .route("/v1/recommendations/{id}/reject", post(recommendations::reject))
        .route("/v1/recommendations/{id}/applied", post(recommendations::applied))
        .route("/v1/stream", get(stream::stream))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(app.clone(), watch))
        .with_state(app)
}

async fn unknown(request: Request) -> Problem {
    Problem::not_found(format!("there is no {}; see /v1/openapi.json", request.uri().path()))
}

async fn wrong_method(request: Request) -> Problem {
    let detail = format!("{} does not take {}; see /v1/openapi.json", request.uri().path(), request.method());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}

/// Admits a request, and counts and logs it with its answer.
async fn watch(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = method_name(request.method());
    // What is no route is one, or a scanner could make series without end.
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let open = matches!(route.as_str(), "/livez" | "/readyz");
    let response = match app.gate.admit(request.method(), request.headers()) {
        Ok(caller) => match extract::check_type(request.method(), request.headers()) {
            Ok(()) => {
                request.extensions_mut().insert(caller);
                next.run(request).await
            }
            Err(p) => p.into_response(),
        },
        Err(_) if open => next.run(request).await,
        Err(p) => p.into_response(),
    };
    let (status, seconds) = (response.status(), started.elapsed().as_secs_f64());
    tracing::debug!(method, route, status = status.as_u16(), ms = seconds * 1000.0, "request");
    app.telemetry.request(method, &route, status.as_u16(), seconds);
    response
}

fn method_name(m: &Method) -> &'static str {
    match *m {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        _ => "other",
    }
}
