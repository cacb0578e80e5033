//! Rolling-origin backtest of forecasters: windows count back from the last row and ignore `split`; global models are
//! fitted on what lies before the first cutoff (and again where `refit` says so), local ones re-estimate at each cutoff.

use super::cost;
use super::forecast_table::ForecastTable;
use super::lanes::{Lane, lanes};
use crate::{Context, TrainError};
use foreglow_core::{Forecaster, History, QUANTILE_LEVELS, Seed, Step, Timestamp};
use foreglow_datasets::{Column, Dataset};
use foreglow_models::evaluate::report::{
    FanPlot, ForecastEntry, ForecastReport, ModelReport, Protocol, Provenance, Role,
};
use foreglow_models::evaluate::{RollingPlan, RollingWindows, WindowInput, calendar_season, window_measures};
use foreglow_models::forecast::{FittedForecaster, ForecasterSpec, TrainSeries, fit};
use ndarray::Array2;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::time::Instant;

/// Windows that are drawn in the report.
const PLOTS: usize = 6;

/// When a global model is fitted anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Refit {
    /// Once, before the first cutoff.
    #[default]
    Never,
    /// Before every n-th cutoff; 1 = each.
    Every(usize),
}

impl fmt::Display for Refit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::Every(1) => f.write_str("each"),
            Self::Every(n) => write!(f, "{n}"),
        }
    }
}

impl FromStr for Refit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "never" => Ok(Self::Never),
            "each" => Ok(Self::Every(1)),
            _ => match text.parse() {
                Ok(n) if n > 0 => Ok(Self::Every(n)),
                _ => Err(format!("{text:?}: expected never, each, or a number of windows of 1 or more")),
            },
        }
    }
}

/// A row of the report before it is judged.
#[derive(Debug, Clone)]
pub enum Contender {
    /// Fitted here, on what lies before the first cutoff.
    Fit(ForecasterSpec),
    /// Taken as it is from an artifact that was trained up to an instant: windows before that are no proof of anything.
    Ready(FittedForecaster, Timestamp),
}

impl Contender {
    /// The name of the kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Fit(spec) => spec.kind(),
            Self::Ready(f, _) => f.kind(),
        }
    }

    /// How it stands in the report at that place.
    pub(super) fn role(&self, place: usize) -> Role {
        match self.kind() {
            _ if place == 0 => Role::Subject,
            "naive" | "seasonal_naive" | "random" => Role::Baseline,
            _ => Role::Member,
        }
    }

    /// When it is fitted, for the table.
    fn refit(&self, refit: Refit) -> String {
        match self {
            Self::Fit(spec) if spec.is_global() => refit.to_string(),
            Self::Fit(_) => "each".into(),
            Self::Ready(..) => "never".into(),
        }
    }
}

/// What to judge and how.
#[derive(Debug, Clone)]
pub struct ForecastOptions {
    /// Name of the recipe, for the report.
    pub recipe: String,
    /// The models; the first is the subject of the report.
    pub models: Vec<Contender>,
    /// The windows.
    pub plan: RollingPlan,
    /// Season in steps, of models and of the scale of MASE; `None` = [`calendar_season`] of each series' step.
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

/// The rows beside a subject: the other kinds with their defaults, in a fixed order. Which of them run is the caller's choice.
pub fn all_models() -> Vec<ForecasterSpec> {
    vec![
        ForecasterSpec::AutoLocal(foreglow_models::forecast::AutoLocalParams::default()),
        ForecasterSpec::RidgeLags(foreglow_models::forecast::RidgeLagsParams::default()),
        ForecasterSpec::Lstm(foreglow_models::nn::LstmParams::default()),
        ForecasterSpec::SeasonalNaive { season: None },
        ForecasterSpec::Naive,
        ForecasterSpec::Random,
    ]
}

/// Series of one step, which share global models.
struct StepGroup {
    step: Step,
    season: usize,
    members: Vec<usize>,
}

pub(super) fn season_of(lane: &Lane, season: Option<usize>) -> usize {
    season.unwrap_or_else(|| calendar_season(lane.step))
}

/// Runs the backtest.
///
/// # Errors
/// [`TrainError::Data`] when no series has a window, [`TrainError::Model`] for parameters out of range or when the subject
/// cannot be fitted; another model that cannot be fitted is left out and named in the settings.
pub fn run(data: &Dataset, options: &ForecastOptions, context: &Context) -> Result<ForecastOutcome, TrainError> {
    let (lanes, mut notes) = lanes(data, context)?;
    let shortest = lanes.iter().map(|l| l.values.len()).min().unwrap_or(0);
    let windows = options.plan.check(shortest)?;
    let plans: Vec<Vec<(usize, Range<usize>)>> = lanes.iter().map(|l| windows.of(l.values.len())).collect();
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
    let mut complete = true;
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
        let fitted = match fit_all(model, &lanes, &plans, &groups, windows, options, context) {
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

fn step_groups(lanes: &[Lane], season: Option<usize>) -> Vec<StepGroup> {
    let mut by_step: BTreeMap<Step, Vec<usize>> = BTreeMap::new();
    for (i, lane) in lanes.iter().enumerate() {
        by_step.entry(lane.step).or_default().push(i);
    }
    let group = |(step, members): (Step, Vec<usize>)| {
        let season = season_of(&lanes[members[0]], season);
        StepGroup { step, season, members }
    };
    by_step.into_iter().map(group).collect()
}

/// Fitted forecasters of one step: for each window number from which on one holds, the forecaster.
type Fitted = Vec<(usize, FittedForecaster)>;

fn fit_all(
    model: &Contender,
    lanes: &[Lane],
    plans: &[Vec<(usize, Range<usize>)>],
    groups: &[StepGroup],
    windows: RollingWindows,
    options: &ForecastOptions,
    context: &Context,
) -> Result<BTreeMap<Step, Fitted>, TrainError> {
    let mut out = BTreeMap::new();
    for group in groups {
        let season = Some(group.season);
        let spec = match model {
            Contender::Fit(spec) => spec,
            Contender::Ready(fitted, _) => {
                out.insert(group.step, vec![(0, fitted.clone())]);
                continue;
            }
        };
        if !spec.is_global() {
            let fitted = fit(spec, &[], season, options.seed, &|_| ())?.forecaster;
            out.insert(group.step, vec![(0, fitted)]);
            continue;
        }
        // The first window that any series has: shorter plans begin later.
        let first = group.members.iter().filter_map(|&i| plans[i].first()).map(|w| w.0).min().unwrap_or(0);
        let stride = match options.refit {
            Refit::Never => windows.windows,
            Refit::Every(n) => n,
        };
        let mut fits = Vec::new();
        for number in (first..windows.windows).step_by(stride.max(1)) {
            if context.stopped() {
                break;
            }
            // A series whose own first window comes later is known up to the same distance from its end.
            let known: Vec<TrainSeries<'_>> = group
                .members
                .iter()
                .filter_map(|&i| {
                    let lane = &lanes[i];
                    let back = (windows.windows - 1 - number) * windows.step + windows.horizon;
                    let cut = lane.values.len().checked_sub(back).filter(|c| *c > 0)?;
                    Some(TrainSeries { values: &lane.values[..cut], start: lane.start, step: lane.step })
                })
                .collect();
            let progress = context.progress(&format!("training {}", spec.kind()), 1);
            let report = |p: foreglow_models::nn::TrainProgress| {
                progress.set(p.step, p.steps, &format!("validation loss {:.4}", p.validation_loss));
            };
            let fitted = fit(spec, &known, season, options.seed.nth(number as u64), &report)?.forecaster;
            fits.push((number, fitted));
        }
        if fits.is_empty() {
            return Err(TrainError::Interrupted(format!("{} was not fitted", spec.kind())));
        }
        out.insert(group.step, fits);
    }
    Ok(out)
}

fn forecast_lane(lane: &Lane, plan: &[(usize, Range<usize>)], fitted: &Fitted, horizon: usize) -> Vec<Array2<f64>> {
    let mut out = Vec::with_capacity(plan.len());
    for (k, (from, model)) in fitted.iter().enumerate() {
        let until = fitted.get(k + 1).map_or(usize::MAX, |f| f.0);
        let histories: Vec<History<'_>> = plan
            .iter()
            .filter(|(number, _)| (*from..until).contains(number))
            .map(|(_, rows)| history(lane, rows.start))
            .collect();
        out.extend(model.forecast_many(&histories, horizon, &QUANTILE_LEVELS));
    }
    out
}

pub(super) fn history(lane: &Lane, cut: usize) -> History<'_> {
    History { values: &lane.values[..cut], last: lane.time(cut - 1), step: lane.step }
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

/// Rolling windows on rows before the test split, to choose parameters by.
pub struct Validation {
    lanes: Vec<Lane>,
    plans: Vec<Vec<(usize, Range<usize>)>>,
    groups: Vec<StepGroup>,
    windows: RollingWindows,
    season: Option<usize>,
}

impl fmt::Debug for Validation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Validation")
            .field("lanes", &self.lanes.len())
            .field("windows", &self.windows)
            .finish_non_exhaustive()
    }
}

impl Validation {
    /// Cuts every series before its first test row. `windows` windows of `horizon` steps (default: a season, 1 to 48)
    /// count back from there, fewer where the validation rows (else the last 20 % of train) hold fewer.
    ///
    /// # Errors
    /// [`TrainError::Data`] when no series is long enough.
    pub fn new(
        data: &Dataset,
        season: Option<usize>,
        horizon: Option<usize>,
        windows: usize,
        context: &Context,
    ) -> Result<Self, TrainError> {
        let (mut lanes, _) = lanes(data, context)?;
        for lane in &mut lanes {
            if !lane.test.is_empty() {
                lane.values.truncate(lane.test.start);
            }
        }
        lanes.retain(|l| l.values.iter().any(|v| !v.is_nan()));
        let Some(first) = lanes.first() else {
            return Err(TrainError::Data(format!("{}: no value lies before the test rows", data.name)));
        };
        let horizon = horizon.unwrap_or_else(|| season_of(first, season).clamp(1, 48));
        let held_out = |l: &Lane| {
            let val = l.values.len().saturating_sub(l.train.end);
            if val > 0 { val } else { l.values.len() / 5 }
        };
        let room = lanes.iter().map(held_out).min().unwrap_or(0) / horizon.max(1);
        let plan = RollingPlan { horizon, windows: Some(windows.min(room.max(1))), step: None };
        let windows = plan.check(0)?;
        let plans: Vec<Vec<(usize, Range<usize>)>> = lanes.iter().map(|l| windows.of(l.values.len())).collect();
        if plans.iter().all(Vec::is_empty) {
            let problem = "no series has more rows before its test rows than the horizon; take a shorter --horizon";
            return Err(TrainError::Data(format!("{}: {problem}", data.name)));
        }
        let groups = step_groups(&lanes, season);
        Ok(Self { lanes, plans, groups, windows, season })
    }

    /// Mean scaled quantile loss of a forecaster over all windows that have a scale.
    ///
    /// # Errors
    /// [`TrainError::Model`] from the fit, [`TrainError::Data`] when every window is near-constant.
    pub fn loss(&self, spec: &ForecasterSpec, seed: Seed) -> Result<f64, TrainError> {
        let options = ForecastOptions {
            recipe: String::new(),
            models: Vec::new(),
            plan: RollingPlan { horizon: self.windows.horizon, windows: Some(self.windows.windows), step: None },
            season: self.season,
            refit: Refit::Never,
            seed,
        };
        let quiet = Context::default();
        let fitted = fit_all(
            &Contender::Fit(spec.clone()),
            &self.lanes,
            &self.plans,
            &self.groups,
            self.windows,
            &options,
            &quiet,
        )?;
        let losses: Vec<Vec<f64>> = (0..self.lanes.len())
            .into_par_iter()
            .map(|i| {
                let (lane, plan) = (&self.lanes[i], &self.plans[i]);
                let season = season_of(lane, self.season);
                let forecasts = forecast_lane(lane, plan, &fitted[&lane.step], self.windows.horizon);
                let entries = plan.iter().zip(&forecasts).filter_map(|((n, r), f)| judge(lane, r, *n, f, season));
                entries.filter_map(|e| e.measures.sql).collect()
            })
            .collect();
        let losses: Vec<f64> = losses.into_iter().flatten().collect();
        if losses.is_empty() {
            return Err(TrainError::Data("every validation window is near-constant: nothing to choose by".into()));
        }
        Ok(losses.iter().sum::<f64>() / losses.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refit_text() {
        for (text, want) in [("never", Refit::Never), ("each", Refit::Every(1)), ("4", Refit::Every(4))] {
            let refit: Refit = text.parse().unwrap();
            assert_eq!((refit, refit.to_string().as_str()), (want, text));
        }
        assert!("0".parse::<Refit>().is_err() && "often".parse::<Refit>().is_err());
    }
}
