use super::{
    anomalies, changes, experiments, forecast, groups, health, incidents, models, power, problem, recommendations,
    score, stream, studies,
};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "foreglow",
        description = "Scores live metric batches, forecasts, watches incidents, searches parameters. Every answer that is \
            no success is application/problem+json with a stable code. Header X-Scope-OrgID names the tenant."
    ),
    paths(
        score::score,
        score::ingest,
        forecast::stateless,
        forecast::from_state,
        groups::list,
        groups::one,
        anomalies::list,
        incidents::list,
        incidents::one,
        incidents::feedback,
        models::list,
        models::reload,
        changes::add,
        changes::list,
        changes::configure,
        studies::create,
        studies::list,
        studies::one,
        studies::suggest,
        studies::measure,
        studies::complete,
        studies::stop_trial,
        studies::stop,
        studies::effects,
        experiments::create,
        experiments::list,
        experiments::one,
        experiments::observe,
        experiments::stop,
        power::power,
        recommendations::list,
        recommendations::accept,
        recommendations::reject,
        recommendations::applied,
        stream::stream,
        health::livez,
        health::readyz,
        health::metrics,
    ),
    components(schemas(problem::ProblemBody, recommendations::Nothing))
)]
struct Document;

/// The interface as an OpenAPI document.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn openapi_json() -> Result<String, crate::EngineError> {
    Ok(serde_json::to_string_pretty(&Document::openapi())?)
}

/// The interface as an OpenAPI document.
pub(crate) async fn document() -> Result<Response, problem::Problem> {
    Ok(([(header::CONTENT_TYPE, "application/json")], openapi_json()?).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_described() {
        let text = openapi_json().unwrap();
        let v: serde_json::Value = serde_json::from_str(&text).unwrap();
        let paths = v["paths"].as_object().unwrap();
        for p in [
            "/v1/score",
            "/v1/studies/{id}/trials/{n}/complete",
            "/v1/experiments/{id}/observations",
            "/v1/stream",
            "/metrics",
        ] {
            assert!(paths.contains_key(p), "{p}");
        }
        assert!(v["components"]["schemas"]["Problem"]["properties"]["code"].is_object());
    }
}
