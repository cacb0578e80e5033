//! Rolling-origin backtest of forecasters: windows count back from the last row and ignore `split`; global models are
//! fitted on what lies before the first cutoff (and again where `refit` says so), local ones re-estimate at each cutoff.

use super::cost;
use super::forecast_fit::{fit_all, forecast_lane, step_groups, taken};
use super::forecast_table::ForecastTable;
use super::lanes::{Lane, lanes};
use crate::{Context, TrainError};
use foreglow_core::{QUANTILE_LEVELS, Seed};
use foreglow_datasets::{Column, Dataset};
use foreglow_models::evaluate::report::{FanPlot, ForecastEntry, ForecastReport, ModelReport, Protocol, Provenance};
use foreglow_models::evaluate::{RollingPlan, WindowInput, window_measures};
use ndarray::Array2;
use rayon::prelude::*;
use std::ops::Range;
use std::time::Instant;

pub use super::contender::{Contender, Refit, all_models};
pub(super) use super::forecast_fit::{history, season_of};
pub use super::validation::Validation;

/// Windows that are drawn in the report.
const PLOTS: usize = 6;

/// What to judge and how.
#[derive(Debug, Clone)]
pub struct ForecastOptions {
    /// Name of the recipe, for the report.
    pub recipe: String,
    /// The models; the first is the subject of the report.
    pub models: Vec<Contender>,
    /// The windows.
    pub plan: RollingPlan,
    /// Series end with their last test row, and only windows inside test rows count: as many as fit, whatever `plan` says
    /// of their number.
    pub within_test: bool,
    /// Season in steps, of models and of the scale of MASE; `None` = [`calendar_season`] of each series' step, and for models
    /// that find a season themselves the one that they find.
    pub season: Option<usize>,
    /// When global models are fitted anew.
    pub refit: Refit,
    /// The seed of fits.
    pub seed: Seed,
}

/// What a forecast backtest found.
#[derive(Debug, Clone)]
pub struct ForecastOutcome {
    /// The figures.
    pub report: ForecastReport,
    /// The last windows of the first series, for the page.
    pub plots: Vec<FanPlot>,
    /// The columns of `forecasts.parquet`; none under the long-term protocol.
    pub columns: Vec<(String, Column)>,
    /// Whether it ran to its end; otherwise it holds the series that were finished.
    pub complete: bool,
}

/// Runs the backtest.
///
/// # Errors
/// [`TrainError::Data`] when no series has a window, [`TrainError::Model`] for parameters out of range or when the subject
/// cannot be fitted; another model that cannot be fitted is left out and named in the settings.
pub fn run(data: &Dataset, options: &ForecastOptions, context: &Context) -> Result<ForecastOutcome, TrainError> {
    let (mut lanes, mut notes) = lanes(data, context)?;
    let mut plan = options.plan;
    if options.within_test {
        for lane in &mut lanes {
            lane.values.truncate(lane.test.end);
        }
        plan.windows = lanes.iter().map(|l| plan.inside(l.test.len())).max().filter(|most| *most > 0).or(Some(1));
    }
    let shortest = lanes.iter().map(|l| l.values.len()).min().unwrap_or(0);
    let windows = plan.check(shortest)?;
    let plan_of = |l: &Lane| {
        let all = windows.of(l.values.len()).into_iter();
        all.filter(|w| !options.within_test || w.1.start >= l.test.start).collect()
    };
    let plans: Vec<Vec<(usize, Range<usize>)>> = lanes.iter().map(plan_of).collect();
    for (lane, plan) in lanes.iter().zip(&plans) {
        if plan.len() < windows.windows {
            notes.push(format!("{}: {} of {} windows", lane.name(), plan.len(), windows.windows));
        }
    }
    if plans.iter().all(Vec::is_empty) {
        return Err(TrainError::Data(format!(
            "{}: no series is longer than the horizon of {} steps; the longest has {}: take a shorter --horizon",
            data.name,
            windows.horizon,
            lanes.iter().map(|l| l.values.len()).max().unwrap_or(0)
        )));
    }
    let groups = step_groups(&lanes, options.season);
    let (mut fit_seconds, mut score_seconds) = (0.0, 0.0);
    let (mut reports, mut table, mut plots, mut times) = (Vec::new(), ForecastTable::default(), Vec::new(), Vec::new());
    let (mut complete, mut earlier) = (true, Vec::new());
    for (place, model) in options.models.iter().enumerate() {
        let start = Instant::now();
        if let Contender::Ready(_, until) = model {
            let early =
                |(l, p): (&Lane, &Vec<(usize, Range<usize>)>)| p.iter().filter(|w| l.time(w.1.start) <= *until).count();
            let seen: usize = lanes.iter().zip(&plans).map(early).sum();
            notes.push(format!(
                "{} comes from an artifact trained up to {until}; {seen} windows begin before that",
                model.kind()
            ));
        }
        let fit = || fit_all(model, &lanes, &plans, &groups, windows, options, context);
        let fitted = match taken(model, &earlier).map_or_else(fit, Ok) {
            Ok(fitted) => fitted,
            Err(e) if place == 0 => return Err(e),
            Err(e) => {
                tracing::warn!("{} is left out: {e}", model.kind());
                notes.push(format!("{} is left out: {e}", model.kind()));
                continue;
            }
        };
        let fitting = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let progress = context.progress(&format!("forecasting by {}", model.kind()), lanes.len());
        let answers: Vec<Option<Vec<Array2<f64>>>> = (0..lanes.len())
            .into_par_iter()
            .map(|i| {
                let done = (!context.stopped())
                    .then(|| forecast_lane(&lanes[i], &plans[i], &fitted[&lanes[i].step], windows.horizon));
                progress.advance();
                done
            })
            .collect();
        drop(progress);
        let scoring = start.elapsed().as_secs_f64();
        fit_seconds += fitting;
        score_seconds += scoring;
        times.push((format!("{} seconds", model.kind()), format!("fit {fitting:.2}, forecast {scoring:.2}")));
        complete &= answers.iter().all(Option::is_some);
        let refit = model.refit(options.refit);
        let mut entries = Vec::new();
        for ((lane, plan), answer) in lanes.iter().zip(&plans).zip(answers) {
            let Some(answer) = answer else { continue };
            let season = season_of(lane, options.season);
            for ((number, rows), forecast) in plan.iter().zip(&answer) {
                table.push(lane, rows, forecast, model.kind(), &refit);
                if let Some(entry) = judge(lane, rows, *number, forecast, season) {
                    entries.push(entry);
                }
            }
            if place == 0
                && plots.len() < PLOTS
                && let (Some((_, rows)), Some(forecast)) = (plan.last(), answer.last())
            {
                plots.push(fan(lane, rows, forecast, model.kind()));
            }
        }
        reports.push(ModelReport::new(model.kind(), model.role(place), entries));
        earlier.push(fitted);
        if context.stopped() {
            complete = false;
            break;
        }
    }
    let seasons: Vec<String> = groups.iter().map(|g| format!("{} at {}", g.season, g.step)).collect();
    let mut settings = vec![
        ("horizon".to_owned(), windows.horizon.to_string()),
        ("windows".to_owned(), windows.windows.to_string()),
        ("step".to_owned(), windows.step.to_string()),
        ("season".to_owned(), seasons.join(", ")),
        ("refit".to_owned(), format!("{}; local models estimate at each cutoff", options.refit)),
    ];
    settings.extend(times);
    settings.extend(notes.into_iter().map(|n| ("note".to_owned(), n)));
    let report = ForecastReport::new(
        provenance(data, options, Protocol::RollingOrigin, settings),
        reports,
        cost(fit_seconds, score_seconds),
        options.seed.child("bootstrap"),
    );
    Ok(ForecastOutcome { report, plots, columns: table.columns(), complete })
}

pub(super) fn provenance(
    data: &Dataset,
    options: &ForecastOptions,
    protocol: Protocol,
    settings: Vec<(String, String)>,
) -> Provenance {
    Provenance {
        data: data.name.clone(),
        model: options.recipe.clone(),
        protocol,
        seeds: vec![options.seed.0],
        version: env!("CARGO_PKG_VERSION").to_owned(),
        settings,
    }
}

/// One judged window; `None` where no step has a value.
pub(super) fn judge(
    lane: &Lane,
    rows: &Range<usize>,
    number: usize,
    forecast: &Array2<f64>,
    season: usize,
) -> Option<ForecastEntry> {
    let quantiles: Vec<Vec<f64>> = forecast.rows().into_iter().map(|r| r.to_vec()).collect();
    let measures = window_measures(&WindowInput {
        actual: &lane.values[rows.clone()],
        quantiles: &quantiles,
        levels: &QUANTILE_LEVELS,
        past: &lane.values[..rows.start],
        season,
    })?;
    Some(ForecastEntry { series: lane.series.clone(), metric: lane.metric.clone(), window: number, measures })
}

fn fan(lane: &Lane, rows: &Range<usize>, forecast: &Array2<f64>, model: &str) -> FanPlot {
    let first = rows.start.saturating_sub(3 * rows.len());
    FanPlot {
        title: format!("{}, {model}", lane.name()),
        times: (first..rows.end).map(|k| lane.time(k)).collect(),
        past: lane.values[first..rows.start].to_vec(),
        actual: lane.values[rows.clone()].to_vec(),
        levels: QUANTILE_LEVELS.to_vec(),
        quantiles: forecast.rows().into_iter().map(|r| r.to_vec()).collect(),
    }
}
