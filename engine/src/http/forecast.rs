use super::auth::Caller;
use super::decode::{Decoded, RefusedSample, from_body, parse};
use super::extract::{Params, ok, read_body};
use super::problem::{Problem, ProblemBody};
use super::wire::{BatchBody, PointBody, SeriesBody};
use crate::app::App;
use crate::forecasts::Place;
use crate::live::{Past, Scope};
use crate::registry::Loaded;
use crate::view::number;
use axum::extract::{Request, State};
use axum::response::Response;
use foreglow_core::{Forecaster, History, MetricBatch, MetricKey, QUANTILE_LEVELS, Selector, Step, Timestamp};
use foreglow_models::forecast::{AutoLocal, AutoLocalParams, FittedForecaster};
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// Steps ahead at most.
const LONGEST: usize = 4096;
/// Series of one answer at most.
const SERIES: usize = 1000;
/// Steps of all histories of a body at most, gaps included.
const HISTORY: usize = 4_000_000;
/// Numbers of one answer at most, with those that are computed on the way to a longer step.
const NUMBERS: usize = 20_000_000;

/// A history to forecast from: exactly one of `series` and `points`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForecastBody<'a> {
    /// By column.
    #[serde(borrow, default)]
    series: Option<Vec<SeriesBody<'a>>>,
    /// By row.
    #[serde(borrow, default)]
    points: Option<Vec<PointBody<'a>>>,
    /// Steps ahead, 1 to 4096.
    horizon: usize,
    /// Distance of values, as `1m`; default: what most values keep.
    #[serde(default)]
    step: Option<String>,
    /// Levels between 0 and 1; default the 13 of every forecast.
    #[serde(default)]
    quantiles: Option<Vec<f64>>,
    /// `name` or `name/id` of an artifact whose forecaster is used; default: the automatic local choice.
    #[serde(default)]
    model: Option<String>,
}

/// The forecast of one series.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SeriesForecast {
    /// All labels, `__name__` among them.
    labels: BTreeMap<String, String>,
    /// Epoch milliseconds of the last known step.
    cutoff: i64,
    /// Distance of steps.
    step: String,
    /// What made it.
    model: String,
    /// Quantile levels, ascending.
    levels: Vec<f64>,
    /// Epoch milliseconds of each step ahead.
    timestamps: Vec<i64>,
    /// One row a step ahead, one value a level.
    quantiles: Vec<Vec<Option<f64>>>,
    /// The 0.5 quantile of each step.
    median: Vec<Option<f64>>,
    /// What to know about it: `no_history`, `constant`, `short_history`, `gaps`, ...
    flags: Vec<String>,
}

/// Forecasts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ForecastReply {
    /// One a series, by key.
    forecasts: Vec<SeriesForecast>,
    /// Samples of the history that were not taken.
    refused: Vec<RefusedSample>,
}

struct Wanted {
    horizon: usize,
    levels: Vec<f64>,
    /// The levels with the median among them, which is always told.
    with_median: Vec<f64>,
}

impl Wanted {
    fn check(horizon: usize, levels: Option<Vec<f64>>) -> Result<Self, Problem> {
        if !(1..=LONGEST).contains(&horizon) {
            let detail = format!("horizon is {horizon}: give 1 to {LONGEST} steps");
            return Err(Problem::meaningless("invalid_horizon", detail).at("/horizon"));
        }
        let levels = levels.unwrap_or_else(|| QUANTILE_LEVELS.to_vec());
        let fine = |l: &[f64]| !l.is_empty() && l.len() <= 99 && l.windows(2).all(|w| w[0] < w[1]);
        if !fine(&levels) || levels.iter().any(|l| !(*l > 0.0 && *l < 1.0)) {
            let detail = format!("quantiles are {levels:?}: give up to 99 ascending levels between 0 and 1");
            return Err(Problem::meaningless("invalid_quantiles", detail).at("/quantiles"));
        }
        let mut with_median = levels.clone();
        if !with_median.contains(&0.5) {
            with_median.push(0.5);
            with_median.sort_by(f64::total_cmp);
        }
        Ok(Self { horizon, levels, with_median })
    }

    /// Refuses what would take more memory than any reader has a use for; `steps` are those of all series together that are
    /// computed for one step asked.
    fn bounded(&self, steps: usize) -> Result<(), Problem> {
        let numbers = steps.saturating_mul(self.horizon).saturating_mul(self.with_median.len());
        if numbers <= NUMBERS {
            return Ok(());
        }
        let detail =
            format!("{numbers} numbers are asked for, {NUMBERS} are allowed: fewer series, steps or quantiles");
        Err(Problem::meaningless("too_much", detail).at("/horizon"))
    }
}

/// One series on its grid.
struct Gridded {
    key: MetricKey,
    values: Vec<f64>,
    last: Timestamp,
    step: Step,
}

fn local() -> FittedForecaster {
    FittedForecaster::AutoLocal(AutoLocal { params: AutoLocalParams::default(), season: None })
}

impl Gridded {
    fn history(&self) -> History<'_> {
        History { values: &self.values, last: self.last, step: self.step }
    }
}

/// What a forecast of one series says: of `table`, a row a step of its own, every `every`-th.
fn shown(
    f: &FittedForecaster,
    model: &str,
    g: &Gridded,
    w: &Wanted,
    every: usize,
    table: &Array2<f64>,
) -> SeriesForecast {
    let middle = w.with_median.iter().position(|l| *l == 0.5).unwrap_or(0);
    let asked = w.with_median.len() == w.levels.len();
    let rows: Vec<usize> = (0..w.horizon).map(|h| (h + 1) * every - 1).collect();
    let row = |r: usize| {
        let kept = table.row(r).into_iter().enumerate().filter(|(i, _)| asked || *i != middle);
        kept.map(|(_, v)| number(*v)).collect()
    };
    let mut labels: BTreeMap<String, String> = g.key.labels.iter().map(|(n, v)| (n.into(), v.into())).collect();
    labels.insert("__name__".into(), g.key.name.to_string());
    SeriesForecast {
        labels,
        cutoff: g.last.ms(),
        step: Step::from_ms(g.step.ms() * every as i64).unwrap_or(g.step).to_string(),
        model: format!("{model}:{}", f.kind()),
        levels: w.levels.clone(),
        timestamps: rows.iter().map(|r| g.last.plus((*r as i64 + 1) * g.step.ms()).ms()).collect(),
        quantiles: rows.iter().map(|r| row(*r)).collect(),
        median: rows.iter().map(|r| number(table[[*r, middle]])).collect(),
        flags: f.flags(&g.history()).into_iter().map(str::to_owned).collect(),
    }
}

/// Forecasts from the history in the body; nothing is kept.
#[utoipa::path(post, path = "/v1/forecast", tag = "forecasting", request_body = ForecastBody<'static>,
    responses((status = 200, body = ForecastReply), (status = "4XX", body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(crate) async fn stateless(
    State(app): State<Arc<App>>,
    params: Params,
    request: Request,
) -> Result<Response, Problem> {
    params.only(&[])?;
    let permit = app.live.permit()?;
    let body = read_body(&app, request, app.config.limits.max_body).await?;
    let a = app.clone();
    let reply = app.compute.run(move || {
        let _held = permit;
        let body: ForecastBody<'_> = parse(&body)?;
        let wanted = Wanted::check(body.horizon, body.quantiles)?;
        let step = body.step.as_deref().map(str::parse::<Step>).transpose();
        let step = step.map_err(|e| Problem::meaningless("invalid_step", e.to_string()).at("/step"))?;
        let model = body.model.as_deref().map(|m| model_named(&a, m)).transpose()?;
        let batch = BatchBody { series: body.series, points: body.points };
        let Decoded { batch, refused } = from_body(&batch, a.config.limits.max_labels)?;
        if batch.keys.len() > SERIES {
            let detail = format!("{} series: send at most {SERIES} at a time", batch.keys.len());
            return Err(Problem::meaningless("too_many_series", detail));
        }
        let series = grid(&batch, step)?;
        wanted.bounded(series.len())?;
        let own = local();
        let (forecaster, name) = match model.as_ref().and_then(|l| Some((l.pipeline.forecaster()?, &*l.model))) {
            Some(found) => found,
            None => (&own, "local"),
        };
        let histories: Vec<History<'_>> = series.iter().map(Gridded::history).collect();
        let tables = forecaster.forecast_many(&histories, wanted.horizon, &wanted.with_median);
        let forecasts = series.iter().zip(&tables).map(|(g, t)| shown(forecaster, name, g, &wanted, 1, t)).collect();
        Ok::<_, Problem>(ForecastReply { forecasts, refused })
    });
    Ok(ok(&reply.await??))
}

fn model_named(app: &App, name: &str) -> Result<Arc<Loaded>, Problem> {
    let catalogue = app.registry.catalogue();
    let named = |l: &&Arc<Loaded>| *l.model == *name || l.model.split('/').next() == Some(name);
    let found = catalogue.artifacts.iter().find(named).ok_or_else(|| {
        Problem::meaningless("unknown_model", format!("no artifact {name:?} is served: see /v1/models")).at("/model")
    })?;
    if found.pipeline.forecaster().is_none() {
        let detail = format!("artifact {name:?} was fitted without a forecaster");
        return Err(Problem::meaningless("no_forecaster", detail).at("/model"));
    }
    Ok(found.clone())
}

/// Puts each series on its grid: the nearest multiple of the step from its first value, the last value wins.
fn grid(batch: &MetricBatch, step: Option<Step>) -> Result<Vec<Gridded>, Problem> {
    let mut columns: Vec<Vec<(Timestamp, f64)>> = vec![Vec::new(); batch.keys.len()];
    for s in &batch.samples {
        columns[s.series as usize].push((s.timestamp, s.value));
    }
    let (mut out, mut total) = (Vec::with_capacity(columns.len()), 0);
    for (key, mut column) in batch.keys.iter().zip(columns) {
        // Stable: of equal instants the later one in the body stays later.
        column.sort_by_key(|(t, _)| *t);
        let Some((first, _)) = column.first().copied() else { continue };
        let times: Vec<Timestamp> = column.iter().map(|(t, _)| *t).collect();
        let refuse = |code, detail: String| Err(Problem::meaningless(code, format!("series {key}: {detail}")));
        let Some(step) = step.or_else(|| Step::detect(&times)) else {
            return refuse("no_step", "one instant says nothing about the distance of values: give step".to_owned());
        };
        let last = step.nearest(first, times[times.len() - 1]).max(0) as usize;
        total = last.saturating_add(total).saturating_add(1);
        if total > HISTORY {
            let detail = format!("{} steps of {step} lie between first and last value", last + 1);
            return refuse("too_sparse", format!("{detail}; all series together may have {HISTORY}"));
        }
        let mut values = vec![f64::NAN; last + 1];
        for (t, v) in column {
            values[step.nearest(first, t).max(0) as usize] = v;
        }
        out.push(Gridded { key: key.clone(), values, last: first.plus(last as i64 * step.ms()), step });
    }
    out.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(out)
}

/// Forecasts series that the server knows from what was sent.
#[utoipa::path(get, path = "/v1/forecast", tag = "forecasting",
    params(
        ("match[]" = Vec<String>, Query, description = "Selectors, as cpu{host=\"a\"}; one or more"),
        ("horizon" = usize, Query, description = "Steps ahead, 1 to 4096"),
        ("step" = Option<String>, Query, description = "Distance of steps, a multiple of the series' own; default its own"),
        ("quantiles" = Option<String>, Query, description = "Levels, comma-separated; default the 13 of every forecast"),
    ),
    responses((status = 200, body = ForecastReply), (status = "4XX", body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(crate) async fn from_state(
    State(app): State<Arc<App>>,
    caller: Caller,
    params: Params,
) -> Result<Response, Problem> {
    let params = params.only(&["match[]", "horizon", "step", "quantiles"])?;
    let selectors = params
        .all("match[]")
        .map(str::parse::<Selector>)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| Problem::bad("invalid_parameter", e.to_string()).at("match[]"))?;
    if selectors.is_empty() {
        return Err(Problem::bad("missing_parameter", "match[] names the series: give at least one").at("match[]"));
    }
    let horizon = params
        .value::<usize>("horizon")?
        .ok_or_else(|| Problem::bad("missing_parameter", "horizon is the number of steps ahead").at("horizon"))?;
    let levels = params.text("quantiles").map(|t| t.split(',').map(|l| l.trim().parse::<f64>()).collect());
    let levels: Option<Vec<f64>> =
        levels.transpose().map_err(|e| Problem::bad("invalid_parameter", format!("quantiles: {e}")).at("quantiles"))?;
    let step = params.value::<Step>("step")?;
    let wanted = Wanted::check(horizon, levels)?;
    let tenant = caller.tenant.clone();
    let scope = Scope { tenant: caller.tenant, session: None };
    let permit = app.live.permit()?;
    let pasts = app.live.pasts(&scope, selectors, SERIES).await?;
    if pasts.len() > SERIES {
        let detail = format!("more than {SERIES} series match: select fewer");
        return Err(Problem::meaningless("too_many_series", detail).at("match[]"));
    }
    let a = app.clone();
    let reply = app.compute.run(move || {
        let _held = permit;
        let own = local();
        // Series of one model and one distance of steps are forecast together.
        let mut together: BTreeMap<(Arc<str>, usize), Vec<usize>> = BTreeMap::new();
        let (mut series, mut computed) = (Vec::with_capacity(pasts.len()), 0);
        for (at, Past { key, history, loaded }) in pasts.into_iter().enumerate() {
            let every = multiple(step, history.step, &key)?;
            computed += every;
            together.entry((loaded.model.clone(), every)).or_default().push(at);
            series.push((Gridded { key, values: history.values, last: history.last, step: history.step }, loaded));
        }
        wanted.bounded(computed)?;
        let mut forecasts: Vec<(usize, SeriesForecast)> = Vec::with_capacity(series.len());
        for ((model, every), members) in together {
            let (f, name) = match series[members[0]].1.pipeline.forecaster() {
                Some(f) => (f, &*model),
                None => (&own, "local"),
            };
            let asked: Vec<(Place, History<'_>)> = members
                .iter()
                .map(|at| {
                    let g = &series[*at].0;
                    let (tenant, model) = (tenant.clone(), model.clone());
                    (Place { tenant, series: g.key.fingerprint(), model }, g.history())
                })
                .collect();
            let tables = a.forecasts.quantiles(asked, f, wanted.horizon * every, &wanted.with_median);
            let each = members.into_iter().zip(&tables);
            forecasts.extend(each.map(|(at, t)| (at, shown(f, name, &series[at].0, &wanted, every, t))));
        }
        forecasts.sort_by_key(|(at, _)| *at);
        let forecasts = forecasts.into_iter().map(|(_, f)| f).collect();
        Ok::<_, Problem>(ForecastReply { forecasts, refused: Vec::new() })
    });
    Ok(ok(&reply.await??))
}

fn multiple(asked: Option<Step>, own: Step, key: &MetricKey) -> Result<usize, Problem> {
    let Some(asked) = asked else { return Ok(1) };
    let every = asked.ms() / own.ms();
    if asked.ms() % own.ms() == 0 && every <= 1000 {
        return Ok(every as usize);
    }
    let detail = format!("step {asked} is no multiple (up to 1000) of {own}, the step of {key}");
    Err(Problem::meaningless("invalid_step", detail).at("step"))
}
