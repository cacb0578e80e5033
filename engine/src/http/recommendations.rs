use super::auth::Caller;
use super::changes::Instant;
use super::extract::{Json, Params, ok};
use super::problem::{Problem, ProblemBody};
use crate::app::App;
use crate::tuner::{Decision, Kept, Verification};
use axum::extract::{Path, State};
use axum::response::Response;
use foreglow_search::Assignment;
use foreglow_search::recommend::Status;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// A recommendation as `foreglow_search` writes it, with its life so far.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes in OpenAPI what Kept writes")]
pub(crate) struct Recommendation {
    /// Its id: the same trials give the same one.
    id: String,
    /// The study's name.
    study: String,
    /// The study's id.
    study_id: String,
    /// `proposed`, `accepted`, `rejected`, `applied`, `kept`, `roll_back` or `expired`.
    status: String,
    /// `configuration` or `allocation`.
    kind: String,
    /// What made somebody ask: `request`, `objective_degraded`, `limit_nears`, `workload_changed` or `schedule`.
    trigger: String,
    /// `{name, from, to}`.
    #[schema(value_type = Vec<Object>)]
    change: Vec<()>,
    /// The whole configuration that results.
    #[schema(value_type = Object)]
    parameters: (),
    /// `{metric, relative: {mean, i80, i95}}`: the objective first.
    #[schema(value_type = Vec<Object>)]
    effect: Vec<()>,
    /// `{metric, limit, probability}` of each guard-rail.
    #[schema(value_type = Vec<Object>)]
    p_break: Vec<()>,
    /// `{trials, replicates, nearest, basis}`.
    #[schema(value_type = Object)]
    evidence: (),
    /// What matters, most important first.
    #[schema(value_type = Vec<Object>)]
    drivers: Vec<()>,
    /// `{level, reasons}`.
    #[schema(value_type = Object)]
    risk: (),
    /// `none`, `reload` or `restart`.
    cost: String,
    /// How it will be checked.
    #[schema(value_type = Object)]
    verify: (),
    /// How to undo it: `{name, from, to}`.
    #[schema(value_type = Vec<Object>)]
    rollback: Vec<()>,
    /// `{verdict, rounds, planned, promised, measured, why}`, where it was measured in turn with the current configuration.
    #[schema(value_type = Option<Object>)]
    confirmation: Option<()>,
    /// Epoch milliseconds.
    expires: Option<i64>,
    /// Epoch milliseconds.
    created_at: i64,
    /// `{status, at, by}`, oldest first.
    #[schema(value_type = Vec<Object>)]
    history: Vec<()>,
    /// The parameters that were really applied.
    #[schema(value_type = Option<Object>)]
    applied: Option<()>,
    /// What was measured afterwards.
    verification: Option<Verification>,
}

/// Why nothing is recommended.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Nothing {
    /// One reason a study.
    none_because: String,
}

/// What somebody decided.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DecisionBody {
    /// When; default now.
    #[serde(default)]
    at: Option<Instant>,
    /// Who.
    #[serde(default)]
    by: Option<String>,
    /// For `applied`: parameters really applied, where they differ.
    #[serde(default)]
    #[schema(value_type = Object)]
    parameters: Assignment,
}

const STATES: [(&str, Status); 7] = [
    ("proposed", Status::Proposed),
    ("accepted", Status::Accepted),
    ("rejected", Status::Rejected),
    ("applied", Status::Applied),
    ("kept", Status::Kept),
    ("roll_back", Status::RollBack),
    ("expired", Status::Expired),
];

/// What to change, newest first, or why nothing is to be changed. Without `status`: all but rejected and expired ones.
#[utoipa::path(get, path = "/v1/recommendations", tag = "tuning",
    params(("study" = Option<String>, Query, description = "Only this study, by id"),
        ("status" = Option<String>, Query, description = "Only with this status")),
    responses((status = 200, description = "An array, or an object with none_because", body = Vec<Recommendation>),
        (status = "4XX", body = ProblemBody)))]
pub(crate) async fn list(State(app): State<Arc<App>>, caller: Caller, params: Params) -> Result<Response, Problem> {
    let params = params.only(&["study", "status"])?;
    let status = match params.text("status") {
        None => None,
        Some(name) => Some(STATES.iter().find(|(n, _)| *n == name).map(|(_, s)| *s).ok_or_else(|| {
            let known = STATES.map(|(n, _)| n).join(", ");
            Problem::bad("invalid_parameter", format!("status={name}: there is {known}")).at("status")
        })?),
    };
    let study = params.text("study").map(str::to_owned);
    let (mut all, reason) =
        app.slow(move |app| app.tuner.recommendations(&caller.tenant, study.as_deref(), app.clock.now())).await?;
    all.retain(|k| match status {
        Some(s) => k.recommendation.status == s,
        None => !matches!(k.recommendation.status, Status::Rejected | Status::Expired),
    });
    all.sort_by(|a, b| (b.created_at, &b.recommendation.id).cmp(&(a.created_at, &a.recommendation.id)));
    if all.is_empty() {
        return Ok(ok(&Nothing { none_because: reason }));
    }
    Ok(ok(&all))
}

async fn decide(
    app: &Arc<App>,
    caller: Caller,
    id: String,
    status: Status,
    b: DecisionBody,
) -> Result<Response, Problem> {
    if status != Status::Applied && !b.parameters.is_empty() {
        let detail = "parameters say what was really applied: send them with applied";
        return Err(Problem::meaningless("parameters", detail).at("/parameters"));
    }
    let at = b.at.map(|t| t.check("/at")).transpose()?.unwrap_or_else(|| app.clock.now());
    let decision = Decision { status, at, by: b.by, parameters: b.parameters };
    let kept: Kept = app.slow(move |app| app.tuner.decide(&caller.tenant, &id, decision)).await?;
    Ok(ok(&kept))
}

/// Somebody wants it.
#[utoipa::path(post, path = "/v1/recommendations/{id}/accept", tag = "tuning", params(("id" = String, Path)),
    request_body = DecisionBody, responses((status = 200, body = Recommendation),
        (status = 409, description = "Names the state in the way", body = ProblemBody), (status = 404, body = ProblemBody)))]
pub(crate) async fn accept(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Json(b): Json<DecisionBody>,
) -> Result<Response, Problem> {
    decide(&app, caller, id, Status::Accepted, b).await
}

/// Somebody does not want it.
#[utoipa::path(post, path = "/v1/recommendations/{id}/reject", tag = "tuning", params(("id" = String, Path)),
    request_body = DecisionBody, responses((status = 200, body = Recommendation),
        (status = 409, description = "Names the state in the way", body = ProblemBody), (status = 404, body = ProblemBody)))]
pub(crate) async fn reject(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Json(b): Json<DecisionBody>,
) -> Result<Response, Problem> {
    decide(&app, caller, id, Status::Rejected, b).await
}

/// It runs now: its effect is measured from here on.
#[utoipa::path(post, path = "/v1/recommendations/{id}/applied", tag = "tuning", params(("id" = String, Path)),
    request_body = DecisionBody, responses((status = 200, body = Recommendation),
        (status = 409, description = "Names the state in the way", body = ProblemBody), (status = 404, body = ProblemBody)))]
pub(crate) async fn applied(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Json(b): Json<DecisionBody>,
) -> Result<Response, Problem> {
    decide(&app, caller, id, Status::Applied, b).await
}
