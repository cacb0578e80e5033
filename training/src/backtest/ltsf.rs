//! The long-term forecasting protocol of the literature: values z-scored by the train rows, every window of the test range
//! at stride 1, mean squared and mean absolute error on the scaled values. It writes a report only.

use super::cost;
use super::forecast::{Contender, ForecastOptions, ForecastOutcome, history, judge, provenance, season_of};
use super::lanes::{Lane, lanes};
use crate::{Context, TrainError};
use foreglow_core::stats::mean;
use foreglow_core::{Forecaster, History, QUANTILE_LEVELS};
use foreglow_datasets::Dataset;
use foreglow_models::evaluate::ltsf_windows;
use foreglow_models::evaluate::report::{ForecastEntry, ForecastReport, ModelReport, Protocol};
use foreglow_models::forecast::{FittedForecaster, ForecasterSpec, TrainSeries, fit};
use ndarray::Array2;
use rayon::prelude::*;
use std::time::Instant;

/// Windows of one lane that are forecast and judged together: enough to keep threads busy, few enough to stop soon.
const BLOCK: usize = 128;

/// Runs the backtest; of the options, windows, step and refit play no part. All series share one step.
///
/// # Errors
/// [`TrainError::Data`] without train or test rows or with mixed steps, and as [`super::forecast::run`].
pub fn run(data: &Dataset, options: &ForecastOptions, context: &Context) -> Result<ForecastOutcome, TrainError> {
    let horizon = options.plan.check(1)?.horizon;
    let (mut lanes, mut notes) = lanes(data, context)?;
    if let Some(other) = lanes.iter().find(|l| l.step != lanes[0].step) {
        return Err(TrainError::Data(format!(
            "{}: {} has a step of {}, {} one of {}; choose series of one step with --series",
            data.name, lanes[0].series, lanes[0].step, other.series, other.step
        )));
    }
    for lane in &mut lanes {
        if lane.train.is_empty() || lane.test.len() < horizon {
            return Err(TrainError::Data(format!(
                "{}, series {}: {} train rows and {} test rows; the ltsf protocol needs train rows and at least {horizon} \
                 test rows",
                data.name,
                lane.series,
                lane.train.len(),
                lane.test.len()
            )));
        }
        standardise(lane);
    }
    let season = season_of(&lanes[0], options.season);
    let blocks: Vec<(usize, Vec<std::ops::Range<usize>>)> = lanes
        .iter()
        .enumerate()
        .flat_map(|(i, lane)| {
            let all: Vec<_> = ltsf_windows(lane.test.clone(), horizon).collect();
            all.chunks(BLOCK).map(|c| (i, c.to_vec())).collect::<Vec<_>>()
        })
        .collect();
    let (mut fit_seconds, mut score_seconds, mut reports, mut complete) = (0.0, 0.0, Vec::new(), true);
    let mut earlier = Vec::new();
    for (place, model) in options.models.iter().enumerate() {
        let start = Instant::now();
        let known: Vec<TrainSeries<'_>> = lanes
            .iter()
            .map(|l| TrainSeries { values: &l.values[..l.test.start], start: l.start, step: l.step })
            .collect();
        let progress = context.progress(&format!("training {}", model.kind()), 1);
        let heard = |p: foreglow_models::nn::TrainProgress| {
            progress.set(p.step, p.steps, &format!("validation loss {:.4}", p.validation_loss));
        };
        // Training is what costs: a net that an earlier row holds is taken from there.
        let net = match model {
            Contender::Fit(ForecasterSpec::Lstm(p)) => earlier.iter().find_map(|f: &FittedForecaster| f.net(p)),
            _ => None,
        };
        let fitted = match (model, net) {
            (_, Some(net)) => Ok(net),
            (Contender::Fit(spec), None) => {
                let own = spec.season_beside(options.season, season);
                fit(spec, &known, own, options.seed, &heard).map(|f| f.forecaster)
            }
            (Contender::Ready(fitted, _), None) => Ok(fitted.clone()),
        };
        let fitted = match fitted {
            Ok(fitted) => fitted,
            Err(e) if place == 0 => return Err(e.into()),
            Err(e) => {
                tracing::warn!("{} is left out: {e}", model.kind());
                notes.push(format!("{} is left out: {e}", model.kind()));
                continue;
            }
        };
        drop(progress);
        fit_seconds += start.elapsed().as_secs_f64();
        let start = Instant::now();
        let progress = context.progress(&format!("forecasting by {}", model.kind()), blocks.len());
        let judged: Vec<Option<Vec<ForecastEntry>>> = blocks
            .par_iter()
            .map(|(i, rows)| {
                if context.stopped() {
                    return None;
                }
                let lane = &lanes[*i];
                let histories: Vec<_> = rows.iter().map(|r| history(lane, r.start)).collect();
                let forecasts = follow(&fitted, &histories, horizon, season);
                progress.advance();
                let entry = |(r, f)| judge(lane, r, r.start - lane.test.start, f, season);
                Some(rows.iter().zip(&forecasts).filter_map(entry).collect())
            })
            .collect();
        score_seconds += start.elapsed().as_secs_f64();
        complete &= judged.iter().all(Option::is_some);
        let entries = judged.into_iter().flatten().flatten().collect();
        reports.push(ModelReport::new(model.kind(), model.role(place), entries));
        earlier.push(fitted);
        if context.stopped() {
            complete = false;
            break;
        }
    }
    let mut settings = vec![
        ("horizon".to_owned(), horizon.to_string()),
        ("season".to_owned(), season.to_string()),
        ("windows".to_owned(), format!("{} a metric, stride 1", ltsf_windows(lanes[0].test.clone(), horizon).count())),
        ("scale".to_owned(), "z-scored by the train rows; MSE and MAE are on that scale".to_owned()),
    ];
    settings.extend(notes.into_iter().map(|n| ("note".to_owned(), n)));
    let report = ForecastReport::new(
        provenance(data, options, Protocol::Ltsf, settings),
        reports,
        cost(fit_seconds, score_seconds),
        options.seed.child("bootstrap"),
    );
    Ok(ForecastOutcome { report, plots: Vec::new(), columns: Vec::new(), complete })
}

/// Forecasts of windows one step apart. A forecaster that plans does so once a season, as a server would.
fn follow(f: &FittedForecaster, histories: &[History<'_>], horizon: usize, season: usize) -> Vec<Array2<f64>> {
    if !f.plans() {
        return f.forecast_many(histories, horizon, &QUANTILE_LEVELS);
    }
    let made = |some: &[History<'_>]| -> Vec<Array2<f64>> {
        let plan = f.plan(&some[0], horizon);
        let one = |h: &History<'_>| match &plan {
            Some(plan) => f.follow(plan, h, horizon, &QUANTILE_LEVELS),
            None => f.forecast(h, horizon, &QUANTILE_LEVELS),
        };
        some.iter().map(one).collect()
    };
    histories.chunks(season.max(1)).flat_map(made).collect()
}

/// `(x - mean) / sd` by the train rows, population standard deviation as scikit-learn's `StandardScaler`.
fn standardise(lane: &mut Lane) {
    let train = &lane.values[lane.train.clone()];
    let centre = mean(train);
    let squares: Vec<f64> = train.iter().map(|v| (v - centre) * (v - centre)).collect();
    let spread = Some(mean(&squares).sqrt()).filter(|s| s.is_finite() && *s > 0.0).unwrap_or(1.0);
    let centre = if centre.is_finite() { centre } else { 0.0 };
    for v in &mut lane.values {
        *v = (*v - centre) / spread;
    }
}
