use super::auth::Caller;
use super::extract::{Json, Page, Params, json, ok};
use super::problem::{Problem, ProblemBody};
use crate::app::App;
use crate::tuner::{Completion, Entry, StudyState};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use foreglow_search::experiment::PromiseRecord;
use foreglow_search::{
    Assignment, Context, Measurement, MetricValue, Mode, StudySpec, Trial, TrialState, Trigger, Value,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// A study, as `foreglow_search` reads it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes in OpenAPI what StudySpec reads")]
pub(crate) struct StudyBody {
    /// Its name, unique for the tenant.
    name: String,
    /// Labels of what is tuned.
    entity: Option<BTreeMap<String, String>>,
    /// `{name, type: float|int|discrete|cat|bool, low, high, log, step, choices, values, current, max_step, cost, when, from_metric,
    /// metric_scale}`; a parameter with `from_metric` is read from that metric of the entity, and need not be posted.
    #[schema(value_type = Vec<Object>)]
    parameters: Vec<()>,
    /// `{metric, aggregate: mean|p50|p95|p99|rate|min|max, goal: min|max}`.
    #[schema(value_type = Object)]
    objective: (),
    /// `{metric, aggregate, at_most | at_least: number or "1.2*baseline"}`.
    #[schema(value_type = Vec<Object>)]
    guard_rails: Option<Vec<()>>,
    /// The metric that is the load.
    workload: Option<String>,
    /// Default `auto`.
    designer: Option<String>,
    /// `{trials}`; default no limit.
    #[schema(value_type = Option<Object>)]
    budget: Option<()>,
    /// Further objectives, like `objective`; `nsga2` weighs them.
    #[schema(value_type = Option<Vec<Object>>)]
    also: Option<Vec<()>>,
    /// Rules between parameters that every suggestion keeps, such as `min_conn < max_conn`.
    rules: Option<Vec<String>>,
    /// `observe`, `recommend` (default), `canary` or `auto`.
    mode: Option<String>,
    /// For `canary` and `auto`: `{confidence, stop_after, cooldown_ms, restarts_per_day}`.
    #[schema(value_type = Option<Object>)]
    safety: Option<()>,
    /// After how many trials the current configuration is measured again; 0 never. Default 10.
    remeasure_every: Option<usize>,
    /// `configuration` (default), or `allocation`: load weights of agents, numbers of instances.
    kind: Option<String>,
    /// What opens and resumes it: `{degraded, limit, workload: 0.2, every: "7d", trials, wait, cooldown: "1h"}`.
    #[schema(value_type = Option<Object>)]
    triggers: Option<()>,
    /// In how many rounds, once the budget is spent, suggestions take turns between what is to be recommended and what runs:
    /// the promise is what that gave then, or nothing is recommended. Default none.
    confirm: Option<usize>,
    /// Default 1.
    seed: Option<u64>,
}

/// A study as it stands.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Study {
    /// Its id.
    id: String,
    /// `active`, `waiting` (for a trigger) or `stopped`.
    state: StudyState,
    /// The last trigger that went off: `{kind, at, noticed_at, why}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    trigger: Option<Trigger>,
    /// Epoch milliseconds.
    created_at: i64,
    /// The specification, with the values that run now.
    #[serde(flatten)]
    #[schema(value_type = StudyBody)]
    spec: StudySpec,
    /// How many trials were suggested.
    suggested: usize,
    /// How many trials were measured.
    completed: usize,
    /// The trial with the best measured value; under noise it promises too much, see /v1/recommendations.
    best_measured: Option<u64>,
    /// `{measured, held}`: applied recommendations whose effect was measured, and of these those whose 80 % interval agreed
    /// with the promised one.
    #[schema(value_type = Object)]
    promises: PromiseRecord,
    /// Trials that no other beats in all objectives; empty where there is one objective.
    pareto: Vec<u64>,
    /// All trials by number.
    #[schema(value_type = Vec<Object>)]
    trials: Vec<Trial>,
}

impl Study {
    fn of(e: Entry, promises: PromiseRecord) -> Self {
        let completed = e.study.trials().iter().filter(|t| t.state == TrialState::Completed).count();
        Self {
            id: e.id,
            state: e.state,
            trigger: e.trigger,
            created_at: e.created_at.ms(),
            suggested: e.study.suggested(),
            completed,
            best_measured: e.study.best_measured().map(|t| t.id),
            promises,
            pareto: if e.study.spec().also.is_empty() { Vec::new() } else { e.study.pareto() },
            trials: e.study.trials().to_vec(),
            spec: e.study.spec().clone(),
        }
    }
}

fn told(app: &App, tenant: &str, e: Entry) -> Study {
    let promises = app.tuner.promises(tenant, &e.id);
    Study::of(e, promises)
}

/// Who asks.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SuggestBody {
    /// The same client gets its pending trial again until it is completed.
    client_id: String,
    /// What surrounds the coming trial, where that is known: workload, version, host.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    context: Option<Context>,
}

/// A measurement.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MeasurementBody {
    /// The objective's value, in its own unit.
    value: f64,
    /// Its standard error.
    #[serde(default)]
    se: Option<f64>,
    /// Independent repeats behind it; default 1.
    #[serde(default)]
    replicates: Option<u32>,
    /// Other metrics by name; guard-rails look here.
    #[serde(default)]
    metrics: BTreeMap<String, f64>,
}

impl MeasurementBody {
    fn read(self) -> Measurement {
        Measurement {
            value: self.value,
            se: self.se,
            replicates: self.replicates.unwrap_or(1),
            metrics: self.metrics.into_iter().map(|(n, value)| (n, MetricValue { value, se: None })).collect(),
        }
    }
}

/// How a trial ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// It was measured.
    #[default]
    Ok,
    /// It could not be measured.
    Failed,
    /// It broke something.
    Unsafe,
}

/// The end of a trial. Without `value` it is the mean of what was reported; without reports, what the metrics showed since
/// the configuration was posted.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompleteBody {
    /// Default `ok`.
    #[serde(default)]
    state: Outcome,
    /// Why it failed or broke something.
    #[serde(default)]
    reason: Option<String>,
    /// The objective's value, in its own unit.
    #[serde(default)]
    value: Option<f64>,
    /// Its standard error.
    #[serde(default)]
    se: Option<f64>,
    /// Independent repeats behind it; default 1.
    #[serde(default)]
    replicates: Option<u32>,
    /// Other metrics by name.
    #[serde(default)]
    metrics: BTreeMap<String, f64>,
    /// The parameters that really ran, where they differ from the suggested ones.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    parameters: Option<Assignment>,
    /// What surrounded it.
    #[serde(default)]
    #[schema(value_type = Object)]
    context: BTreeMap<String, Value>,
}

/// Why a trial is stopped.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StopBody {
    /// In words.
    #[serde(default)]
    reason: String,
}

/// Opens a study.
#[utoipa::path(post, path = "/v1/studies", tag = "tuning", request_body = StudyBody,
    responses((status = 201, body = Study), (status = 200, description = "The same study was there", body = Study),
        (status = 409, description = "Another study has the name", body = ProblemBody), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(spec): Json<StudySpec>,
) -> Result<Response, Problem> {
    if spec.mode == Mode::Auto && app.config.auto.webhook.is_none() {
        let detail =
            "mode auto needs a hook that makes the changes: set webhook under [auto] in the server's configuration";
        return Err(Problem::meaningless("no_webhook", detail).at("/mode"));
    }
    let answer = app.slow(move |app| {
        let (entry, new) = app.tuner.create(&caller.tenant, spec, app.clock.now())?;
        Ok((if new { StatusCode::CREATED } else { StatusCode::OK }, told(app, &caller.tenant, entry)))
    });
    let (status, study) = answer.await?;
    Ok(json(status, &study))
}

/// All studies, by id.
#[utoipa::path(get, path = "/v1/studies", tag = "tuning",
    params(("limit" = Option<usize>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = Page<Study>)))]
pub(crate) async fn list(State(app): State<Arc<App>>, caller: Caller, params: Params) -> Result<Response, Problem> {
    let params = params.only(&["limit", "cursor"])?;
    let limit = params.limit()?;
    let cursor = params.text("cursor").map(str::to_owned);
    let items = app.slow(move |app| {
        let after = app.tuner.list(&caller.tenant).into_iter().filter(|e| cursor.as_ref().is_none_or(|c| e.id > *c));
        Ok(after.take(limit + 1).map(|e| told(app, &caller.tenant, e)).collect())
    });
    let items = items.await?;
    Ok(ok(&Page::cut(items, limit, |s: &Study| s.id.clone())))
}

/// One study, with the trials that its metrics gave until now.
#[utoipa::path(get, path = "/v1/studies/{id}", tag = "tuning", params(("id" = String, Path)),
    responses((status = 200, body = Study), (status = 404, body = ProblemBody)))]
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    Ok(ok(&app.slow(move |app| Ok(told(app, &caller.tenant, app.tuner.get(&caller.tenant, &id)?))).await?))
}

/// The next configuration to try.
#[utoipa::path(post, path = "/v1/studies/{id}/suggest", tag = "tuning", params(("id" = String, Path)),
    request_body = SuggestBody, responses((status = 200, description = "A trial", body = Object),
        (status = 409, description = "Stopped, held back for safety, or the budget is spent", body = ProblemBody), (status = 404, body = ProblemBody)))]
pub(crate) async fn suggest(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Json(b): Json<SuggestBody>,
) -> Result<Response, Problem> {
    if b.client_id.is_empty() || b.client_id.len() > 128 {
        let problem = Problem::meaningless("invalid_client", "client_id is to have 1 to 128 characters");
        return Err(problem.at("/client_id"));
    }
    Ok(ok(&app.slow(move |app| app.tuner.suggest(&caller.tenant, &id, &b.client_id, b.context)).await?))
}

/// Adds a measurement to a pending trial.
#[utoipa::path(post, path = "/v1/studies/{id}/trials/{n}/measurements", tag = "tuning",
    params(("id" = String, Path), ("n" = u64, Path)), request_body = MeasurementBody,
    responses((status = 200, description = "The trial", body = Object), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn measure(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, n)): Path<(String, u64)>,
    Json(b): Json<MeasurementBody>,
) -> Result<Response, Problem> {
    Ok(ok(&app.slow(move |app| app.tuner.report(&caller.tenant, &id, n, b.read())).await?))
}

/// Ends a pending trial.
#[utoipa::path(post, path = "/v1/studies/{id}/trials/{n}/complete", tag = "tuning",
    params(("id" = String, Path), ("n" = u64, Path)), request_body = CompleteBody,
    responses((status = 200, description = "The trial", body = Object),
        (status = 409, description = "It is no longer pending", body = ProblemBody), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn complete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, n)): Path<(String, u64)>,
    Json(b): Json<CompleteBody>,
) -> Result<Response, Problem> {
    let measured =
        MeasurementBody { value: b.value.unwrap_or_default(), se: b.se, replicates: b.replicates, metrics: b.metrics };
    let measurement = b.value.map(|_| measured.read());
    let reason = b.reason.unwrap_or_else(|| "no reason given".to_owned());
    let completion = Completion {
        measurement,
        failed: (b.state == Outcome::Failed).then(|| reason.clone()),
        broke: (b.state == Outcome::Unsafe).then_some(reason),
        applied: b.parameters,
        context: b.context,
    };
    Ok(ok(&app.slow(move |app| app.tuner.complete(&caller.tenant, &id, n, completion)).await?))
}

/// Ends a pending trial without a measurement: it says nothing of its configuration, as one that failed does.
#[utoipa::path(post, path = "/v1/studies/{id}/trials/{n}/stop", tag = "tuning",
    params(("id" = String, Path), ("n" = u64, Path)), request_body = StopBody,
    responses((status = 200, description = "The trial", body = Object), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn stop_trial(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, n)): Path<(String, u64)>,
    Json(b): Json<StopBody>,
) -> Result<Response, Problem> {
    Ok(ok(&app.slow(move |app| app.tuner.stop_trial(&caller.tenant, &id, n, &b.reason)).await?))
}

/// What each parameter does to a metric, most important first: `{parameter, metric, importance, curve}`, the curve either
/// `{points: [{value, mean, band, trials}]}` with 80 % bands or `{unknown_because}`.
#[utoipa::path(get, path = "/v1/studies/{id}/effects", tag = "tuning",
    params(("id" = String, Path), ("metric" = Option<String>, Query, description = "Default: the objective")),
    responses((status = 200, body = Vec<Object>), (status = 404, body = ProblemBody),
        (status = 422, description = "Too few trials have the metric", body = ProblemBody)))]
pub(crate) async fn effects(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response, Problem> {
    let params = params.only(&["metric"])?;
    let metric = params.text("metric").map(str::to_owned);
    let effects = app.slow(move |app| {
        let study = app.tuner.get(&caller.tenant, &id)?.study;
        let metric = metric.unwrap_or_else(|| study.spec().objective.metric.clone());
        Ok(study.partial_effects(&metric)?)
    });
    Ok(ok(&effects.await?))
}

/// Ends a study: it suggests and recommends nothing any more.
#[utoipa::path(post, path = "/v1/studies/{id}/stop", tag = "tuning", params(("id" = String, Path)),
    responses((status = 200, body = Study), (status = 404, body = ProblemBody)))]
pub(crate) async fn stop(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    Ok(ok(&app.slow(move |app| Ok(told(app, &caller.tenant, app.tuner.stop(&caller.tenant, &id)?))).await?))
}
