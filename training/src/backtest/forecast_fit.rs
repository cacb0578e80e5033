//! Fitting forecasters before a cutoff and asking them for their windows.

use super::contender::{Contender, Refit};
use super::forecast::ForecastOptions;
use super::lanes::Lane;
use crate::{Context, TrainError};
use foreglow_core::{Forecaster, History, QUANTILE_LEVELS, Step};
use foreglow_models::evaluate::{RollingWindows, calendar_season};
use foreglow_models::forecast::{Adaptive, FittedForecaster, ForecasterSpec, TrainSeries, fit};
use ndarray::Array2;
use std::collections::BTreeMap;
use std::ops::Range;

/// Series of one step, which share global models.
pub(super) struct StepGroup {
    pub(super) step: Step,
    pub(super) season: usize,
    pub(super) members: Vec<usize>,
}

pub(super) fn season_of(lane: &Lane, season: Option<usize>) -> usize {
    season.unwrap_or_else(|| calendar_season(lane.step))
}

pub(super) fn step_groups(lanes: &[Lane], season: Option<usize>) -> Vec<StepGroup> {
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
pub(super) type Fitted = Vec<(usize, FittedForecaster)>;

/// The nets of an earlier row's fits, where they are what fitting `model` would give: training is what costs.
pub(super) fn taken(model: &Contender, earlier: &[BTreeMap<Step, Fitted>]) -> Option<BTreeMap<Step, Fitted>> {
    let Contender::Fit(ForecasterSpec::Lstm(params)) = model else { return None };
    let nets = |fits: &Fitted| fits.iter().map(|(n, f)| Some((*n, f.net(params)?))).collect::<Option<Fitted>>();
    earlier.iter().find_map(|all| all.iter().map(|(step, fits)| Some((*step, nets(fits)?))).collect())
}

pub(super) fn fit_all(
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
        let spec = match model {
            Contender::Fit(spec) => spec,
            Contender::Ready(fitted, _) => {
                out.insert(group.step, vec![(0, fitted.clone())]);
                continue;
            }
        };
        let season = spec.season_beside(options.season, group.season);
        // The first window that any series has: shorter plans begin later.
        let first = group.members.iter().filter_map(|&i| plans[i].first()).map(|w| w.0).min().unwrap_or(0);
        let stride = match options.refit {
            Refit::Never => windows.windows,
            Refit::Every(n) => n,
        };
        // A series whose own first window comes later is known up to the same distance from its end.
        let known = |number: usize| -> Vec<TrainSeries<'_>> {
            let cut = |&i: &usize| {
                let lane = &lanes[i];
                let back = (windows.windows - 1 - number) * windows.step + windows.horizon;
                let cut = lane.values.len().checked_sub(back).filter(|c| *c > 0)?;
                Some(TrainSeries { values: &lane.values[..cut], start: lane.start, step: lane.step })
            };
            group.members.iter().filter_map(cut).collect()
        };
        if !spec.is_global() {
            let fitted = fit(spec, &known(first), season, options.seed, &|_| ())?.forecaster;
            out.insert(group.step, vec![(0, fitted)]);
            continue;
        }
        let mut fits = Vec::new();
        for number in (first..windows.windows).step_by(stride.max(1)) {
            if context.stopped() {
                break;
            }
            let progress = context.progress(&format!("training {}", spec.kind()), 1);
            let report = |p: foreglow_models::nn::TrainProgress| {
                progress.set(p.step, p.steps, &format!("validation loss {:.4}", p.validation_loss));
            };
            let fitted = fit(spec, &known(number), season, options.seed.nth(number as u64), &report)?.forecaster;
            fits.push((number, fitted));
        }
        if fits.is_empty() {
            return Err(TrainError::Interrupted(format!("{} was not fitted", spec.kind())));
        }
        out.insert(group.step, fits);
    }
    Ok(out)
}

pub(super) fn forecast_lane(
    lane: &Lane,
    plan: &[(usize, Range<usize>)],
    fitted: &Fitted,
    horizon: usize,
) -> Vec<Array2<f64>> {
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
    if fitted.iter().any(|(_, model)| model.adapts()) {
        let windows: Vec<Range<usize>> = plan.iter().map(|(_, rows)| rows.clone()).collect();
        Adaptive::replay(&mut out, &windows, &lane.values);
    }
    out
}

pub(super) fn history(lane: &Lane, cut: usize) -> History<'_> {
    History { values: &lane.values[..cut], last: lane.time(cut - 1), step: lane.step }
}
