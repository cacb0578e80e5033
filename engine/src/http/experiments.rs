use super::auth::Caller;
use super::changes::Instant;
use super::extract::{Json, Page, Params, json, ok};
use super::power::{PlanReply, effect};
use super::problem::{Problem, ProblemBody};
use crate::app::App;
use crate::store::ObservationRow;
use crate::tuner::experiments::{Look, New, Switchback, Verdict};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use foreglow_core::{Seed, Selector, Timestamp};
use foreglow_search::Goal;
use foreglow_search::experiment::{Analysis, Comparison, ExperimentMetric, ExperimentSpec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// Samples at which an experiment without an end is most precise, unless it says so itself.
pub(super) const SAMPLES: usize = 2000;
/// The most variants or metrics.
pub(super) const MOST: usize = 20;

/// When looking is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// Once, when the planned samples are there.
    Fixed,
    /// At any time until the planned samples are there.
    Planned,
    /// At any time, without an end.
    #[default]
    AlwaysValid,
}

impl Mode {
    pub(super) fn analysis(self) -> Analysis {
        match self {
            Self::Fixed => Analysis::FixedHorizon,
            Self::Planned => Analysis::Planned,
            Self::AlwaysValid => Analysis::AlwaysValid,
        }
    }

    fn of(a: Analysis) -> Self {
        match a {
            Analysis::FixedHorizon => Self::Fixed,
            Analysis::Planned => Self::Planned,
            Analysis::AlwaysValid => Self::AlwaysValid,
        }
    }
}

/// One variant.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VariantBody {
    /// Its name; the first variant is the control.
    name: String,
    /// The live series that belong to it, as `{service="a",version="2"}`: their values count from the start on. Without
    /// it, values are posted.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    selector: Option<String>,
}

/// One metric.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetricBody {
    /// The metric's name.
    metric: String,
    /// `min` or `max`.
    #[schema(value_type = String)]
    goal: Goal,
}

/// One system runs both variants in turn: it cannot run them at once.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SwitchbackBody {
    /// The live series of the system, as `{service="a"}`.
    #[serde(rename = "match")]
    selector: String,
    /// How long a variant runs at a time, in milliseconds. Periods go in pairs, and a coin decides which has the variant.
    period_ms: i64,
    /// What is left out at the start of each period, because the other variant still shows. Default 0.
    #[serde(default)]
    washout_ms: i64,
}

/// Whose turn it is in a switchback.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Turn {
    /// The variant that is to run now.
    variant: String,
    /// Until then, epoch milliseconds.
    until: i64,
}

/// An experiment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExperimentBody {
    /// Its name, unique for the tenant.
    name: String,
    /// Two or more; the first is the control.
    variants: Vec<VariantBody>,
    /// The metrics that decide.
    metrics: Vec<MetricBody>,
    /// Default `always_valid`.
    #[serde(default)]
    mode: Mode,
    /// The probability of any false alarm, over all looks, variants and metrics together. Default 0.05.
    #[serde(default = "five_percent")]
    alpha: f64,
    /// Samples an arm at the end; needed but for `always_valid`, which is most precise there (default 2000).
    #[serde(default)]
    samples: Option<usize>,
    /// A metric that is measured beside the others and that no variant can change (the load): its movement is taken out
    /// of them (CUPED, Deng et al. 2013, doi:10.1145/2433396.2433413).
    #[serde(default)]
    covariate: Option<String>,
    /// One system takes turns between the two variants, which have no `match` of their own then.
    #[serde(default)]
    switchback: Option<SwitchbackBody>,
    /// Values from here on count; default now.
    #[serde(default)]
    start: Option<Instant>,
    /// Samples of metrics from before: power and duration are planned from them, and what is too dependent is refused.
    #[serde(default)]
    baseline: BTreeMap<String, Vec<f64>>,
    /// The relative difference to plan for. Default 0.05.
    #[serde(default = "effect")]
    effect: f64,
    /// The seed of assignments; default 1.
    #[serde(default)]
    seed: Option<u64>,
}

pub(super) fn five_percent() -> f64 {
    0.05
}

/// An experiment as it stands.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExperimentReply {
    /// Its id.
    id: String,
    /// Its name.
    name: String,
    /// `running` or `stopped`.
    state: &'static str,
    variants: Vec<VariantBody>,
    metrics: Vec<MetricBody>,
    mode: Mode,
    alpha: f64,
    samples: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    covariate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    switchback: Option<SwitchbackBody>,
    /// Whose turn it is, in a switchback that goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    now: Option<Turn>,
    /// Epoch milliseconds.
    created_at: i64,
    /// Epoch milliseconds.
    start: i64,
    /// Epoch milliseconds.
    stopped_at: Option<i64>,
    /// By metric, where there was a baseline.
    plans: BTreeMap<String, PlanReply>,
    /// Values so far by variant, of the metric that has the fewest.
    samples_so_far: BTreeMap<String, usize>,
    verdict: Verdict,
    /// The variant to take.
    winner: Option<String>,
    /// Whether it can end.
    finished: bool,
    /// In words.
    why: String,
    /// `{variant, metric, decision, effect: {mean, i80, i95}, interval, blocks, block_length, covariate_explained, why}` of
    /// every variant but the control in every metric.
    #[schema(value_type = Vec<Object>)]
    comparisons: Vec<Comparison>,
}

impl ExperimentReply {
    fn of(l: Look, now: Timestamp) -> Self {
        let k = l.kept;
        let turn = k.turn(now).map(|(variant, until)| Turn { variant: variant.to_owned(), until: until.ms() });
        let spec = k.spec;
        Self {
            id: k.id,
            name: spec.name,
            state: if k.stopped_at.is_some() { "stopped" } else { "running" },
            variants: spec
                .variants
                .into_iter()
                .map(|name| VariantBody { selector: k.selectors.get(&name).cloned(), name })
                .collect(),
            metrics: spec.metrics.into_iter().map(|m| MetricBody { metric: m.metric, goal: m.goal }).collect(),
            mode: Mode::of(spec.analysis),
            alpha: spec.alpha,
            samples: spec.samples,
            covariate: spec.covariate,
            switchback: k.switchback.map(|s| SwitchbackBody {
                selector: s.selector,
                period_ms: s.period_ms,
                washout_ms: s.washout_ms,
            }),
            now: turn,
            created_at: k.created_at.ms(),
            start: k.start.ms(),
            stopped_at: k.stopped_at.map(Timestamp::ms),
            plans: k.plans.iter().map(|(m, p)| (m.clone(), PlanReply::of(p, spec.samples, None))).collect(),
            samples_so_far: l.samples,
            verdict: l.verdict,
            winner: l.report.winner,
            finished: l.report.finished,
            why: l.why,
            comparisons: l.report.comparisons,
        }
    }
}

/// Begins an experiment.
#[utoipa::path(post, path = "/v1/experiments", tag = "experiments", request_body = ExperimentBody,
    responses((status = 201, body = ExperimentReply), (status = 200, description = "The same was there", body = ExperimentReply),
        (status = 409, description = "Another experiment has the name", body = ProblemBody),
        (status = 422, description = "With a baseline also not_enough_independent_data", body = ProblemBody)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(b): Json<ExperimentBody>,
) -> Result<Response, Problem> {
    let start = b.start.as_ref().map(|t| t.check("/start")).transpose()?.unwrap_or_else(|| app.clock.now());
    if b.variants.len() > MOST || b.metrics.len() > MOST {
        let detail = format!("at most {MOST} variants and {MOST} metrics");
        return Err(Problem::meaningless("invalid_experiment", detail).at("/variants"));
    }
    if b.name.trim().is_empty() {
        return Err(Problem::meaningless("invalid_experiment", "`name` is empty").at("/name"));
    }
    let mut selectors = BTreeMap::new();
    for (i, v) in b.variants.iter().enumerate() {
        if let Some(s) = &v.selector {
            selector(s, &format!("/variants/{i}/match"))?;
            selectors.insert(v.name.clone(), s.clone());
        }
    }
    let switchback = b.switchback.as_ref().map(|s| taking_turns(s, &b)).transpose()?;
    let spec = ExperimentSpec {
        name: b.name,
        variants: b.variants.into_iter().map(|v| v.name).collect(),
        metrics: b.metrics.into_iter().map(|m| ExperimentMetric { metric: m.metric, goal: m.goal }).collect(),
        analysis: b.mode.analysis(),
        alpha: b.alpha,
        samples: planned(b.mode, b.samples)?,
        covariate: b.covariate,
        seed: b.seed.map_or_else(Seed::default, Seed),
    };
    let new = New { spec, selectors, switchback, start, baseline: b.baseline, effect: b.effect };
    let now = app.clock.now();
    let (look, new) = app.slow(move |app| app.tuner.experiments.create(&caller.tenant, new, now)).await?;
    Ok(json(if new { StatusCode::CREATED } else { StatusCode::OK }, &ExperimentReply::of(look, now)))
}

fn taking_turns(s: &SwitchbackBody, b: &ExperimentBody) -> Result<Switchback, Problem> {
    selector(&s.selector, "/switchback/match")?;
    let bad = |detail: &str, place: &str| Err(Problem::meaningless("invalid_experiment", detail).at(place));
    if b.variants.len() != 2 || b.variants.iter().any(|v| v.selector.is_some()) {
        return bad(
            "a switchback has two variants, without `match`: both are the system of the switchback",
            "/variants",
        );
    }
    if b.covariate.is_some() {
        return bad("a switchback compares periods next to each other: it takes no covariate", "/covariate");
    }
    if !(s.washout_ms >= 0 && s.washout_ms < s.period_ms) {
        return bad("`washout_ms` is 0 or more and shorter than `period_ms`", "/switchback/washout_ms");
    }
    Ok(Switchback { selector: s.selector.clone(), period_ms: s.period_ms, washout_ms: s.washout_ms })
}

fn planned(mode: Mode, samples: Option<usize>) -> Result<usize, Problem> {
    match samples {
        Some(n) => Ok(n),
        None if mode == Mode::AlwaysValid => Ok(SAMPLES),
        None => {
            let detail =
                "`samples` is missing: say how many samples an arm are planned (POST /v1/experiments/power helps)";
            Err(Problem::meaningless("invalid_experiment", detail).at("/samples"))
        }
    }
}

pub(super) fn selector(text: &str, place: &str) -> Result<Selector, Problem> {
    text.parse()
        .map_err(|e: foreglow_core::CoreError| Problem::meaningless("invalid_selector", e.to_string()).at(place))
}

/// All experiments, by id, each with a look at it.
#[utoipa::path(get, path = "/v1/experiments", tag = "experiments",
    params(("limit" = Option<usize>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = Page<ExperimentReply>)))]
pub(crate) async fn list(State(app): State<Arc<App>>, caller: Caller, params: Params) -> Result<Response, Problem> {
    let params = params.only(&["limit", "cursor"])?;
    let (limit, cursor) = (params.limit()?, params.text("cursor").map(str::to_owned));
    let now = app.clock.now();
    let looks = app
        .slow(move |app| {
            let all = app.tuner.experiments.list(&caller.tenant);
            let page = all.iter().filter(|k| cursor.as_ref().is_none_or(|c| k.id > *c)).take(limit + 1);
            page.map(|k| app.tuner.experiments.look(&caller.tenant, &k.id)).collect::<Result<Vec<_>, _>>()
        })
        .await?;
    let items = looks.into_iter().map(|l| ExperimentReply::of(l, now)).collect();
    Ok(ok(&Page::cut(items, limit, |e: &ExperimentReply| e.id.clone())))
}

/// One experiment: estimates, intervals and verdict so far, or why nothing can be said.
#[utoipa::path(get, path = "/v1/experiments/{id}", tag = "experiments", params(("id" = String, Path)),
    responses((status = 200, body = ExperimentReply), (status = 404, body = ProblemBody)))]
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let now = app.clock.now();
    let look = app.slow(move |app| app.tuner.experiments.look(&caller.tenant, &id)).await?;
    Ok(ok(&ExperimentReply::of(look, now)))
}

/// What was measured of one variant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ObservationBody {
    variant: String,
    /// When; values of one variant are taken in this order.
    timestamp: Instant,
    /// What tells values of one instant apart (a user, a request): the same variant, metric, time and unit again replaces.
    #[serde(default)]
    unit: String,
    /// By metric.
    values: BTreeMap<String, f64>,
}

/// Values of variants.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ObservationsBody {
    observations: Vec<ObservationBody>,
}

/// How much was taken.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Accepted {
    /// Values.
    accepted: usize,
}

/// Adds values that are no live series of the server; all of them, or none.
#[utoipa::path(post, path = "/v1/experiments/{id}/observations", tag = "experiments", params(("id" = String, Path)),
    request_body = ObservationsBody, responses((status = 200, body = Accepted),
        (status = 409, description = "It is stopped", body = ProblemBody), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn observe(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Json(b): Json<ObservationsBody>,
) -> Result<Response, Problem> {
    let mut rows = Vec::new();
    for (i, o) in b.observations.into_iter().enumerate() {
        let at = o.timestamp.check(&format!("/observations/{i}/timestamp"))?;
        for (metric, value) in o.values {
            rows.push(ObservationRow { variant: o.variant.clone(), metric, at, unit: o.unit.clone(), value });
        }
    }
    let accepted = app.slow(move |app| app.tuner.experiments.observe(&caller.tenant, &id, rows)).await?;
    Ok(ok(&Accepted { accepted }))
}

/// Ends an experiment: later values do not count.
#[utoipa::path(post, path = "/v1/experiments/{id}/stop", tag = "experiments", params(("id" = String, Path)),
    responses((status = 200, body = ExperimentReply), (status = 404, body = ProblemBody)))]
pub(crate) async fn stop(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let now = app.clock.now();
    let look = app.slow(move |app| app.tuner.experiments.stop(&caller.tenant, &id, now)).await?;
    Ok(ok(&ExperimentReply::of(look, now)))
}
