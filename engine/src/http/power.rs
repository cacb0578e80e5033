use super::auth::Caller;
use super::experiments::{MOST, Mode, SAMPLES, five_percent, selector};
use super::extract::{Json, ok};
use super::problem::{Problem, ProblemBody};
use crate::app::App;
use axum::extract::State;
use axum::response::Response;
use foreglow_core::Seed;
use foreglow_search::Goal;
use foreglow_search::experiment::{ExperimentMetric, ExperimentSpec, Plan};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// The relative difference that a plan looks for, unless it says so itself.
pub(super) fn effect() -> f64 {
    0.05
}

/// What an experiment will take.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlanReply {
    /// In samples.
    autocorrelation_time: f64,
    /// Independent blocks an arm in the planned samples.
    blocks: usize,
    /// The probability to find the effect in them.
    power: f64,
    /// Samples an arm for a power of 80 %.
    samples_for_80: usize,
    /// The smallest absolute difference found with a power of 80 %.
    smallest_effect: f64,
    /// How long the planned samples take, in milliseconds, where the step is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<i64>,
    /// How long a power of 80 % takes, in milliseconds, where the step is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_for_80_ms: Option<i64>,
}

impl PlanReply {
    pub(super) fn of(p: &Plan, samples: usize, step_ms: Option<i64>) -> Self {
        Self {
            autocorrelation_time: p.autocorrelation_time,
            blocks: p.blocks,
            power: p.power,
            samples_for_80: p.samples_for_80,
            smallest_effect: p.smallest_effect,
            duration_ms: step_ms.map(|s| s.saturating_mul(samples as i64)),
            duration_for_80_ms: step_ms.map(|s| s.saturating_mul(p.samples_for_80 as i64)),
        }
    }
}

/// An experiment that has not begun.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PowerBody {
    /// Samples of the metric from before, in the order of time; or `metric` and `match`.
    #[serde(default)]
    history: Vec<f64>,
    /// A live metric whose kept values are the history.
    #[serde(default)]
    metric: Option<String>,
    /// Which series of it.
    #[serde(default, rename = "match")]
    selector: Option<String>,
    /// The relative difference to find. Default 0.05.
    #[serde(default = "effect")]
    effect: f64,
    /// Samples an arm; default 2000.
    #[serde(default)]
    samples: Option<usize>,
    /// Default `always_valid`.
    #[serde(default)]
    mode: Mode,
    /// Default 0.05.
    #[serde(default = "five_percent")]
    alpha: f64,
    /// How many variants; default 2.
    #[serde(default)]
    variants: Option<usize>,
    /// How many metrics; default 1.
    #[serde(default)]
    metrics: Option<usize>,
    /// Distance of posted samples in milliseconds, for the duration.
    #[serde(default)]
    step_ms: Option<i64>,
}

/// Power and duration before the start.
#[utoipa::path(post, path = "/v1/experiments/power", tag = "experiments", request_body = PowerBody,
    responses((status = 200, body = PlanReply),
        (status = 422, description = "Among others not_enough_independent_data and no_history", body = ProblemBody)))]
pub(crate) async fn power(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(b): Json<PowerBody>,
) -> Result<Response, Problem> {
    let (variants, metrics) = (b.variants.unwrap_or(2), b.metrics.unwrap_or(1));
    for (name, n, least) in [("variants", variants, 2), ("metrics", metrics, 1)] {
        if !(least..=MOST).contains(&n) {
            let detail = format!("`{name}` is {n}: give {least} to {MOST}");
            return Err(Problem::meaningless("invalid_experiment", detail).at(format!("/{name}")));
        }
    }
    let live = match (b.metric, b.selector) {
        (Some(metric), Some(s)) => Some((metric, selector(&s, "/match")?)),
        (None, None) => None,
        _ => {
            let detail = "`metric` and `match` belong together: which metric, of which series";
            return Err(Problem::meaningless("invalid_experiment", detail).at("/match"));
        }
    };
    let samples = b.samples.unwrap_or(SAMPLES);
    let spec = ExperimentSpec {
        name: "power".to_owned(),
        variants: (0..variants).map(|i| i.to_string()).collect(),
        metrics: (0..metrics).map(|i| ExperimentMetric { metric: i.to_string(), goal: Goal::Min }).collect(),
        analysis: b.mode.analysis(),
        alpha: b.alpha,
        samples,
        covariate: None,
        seed: Seed::default(),
    };
    let (plan, step) =
        app.slow(move |app| app.tuner.experiments.power(&caller.tenant, spec, &b.history, live, b.effect)).await?;
    Ok(ok(&PlanReply::of(&plan, samples, step.map(foreglow_core::Step::ms).or(b.step_ms))))
}
