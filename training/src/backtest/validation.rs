//! Rolling windows on rows before the test split, to choose parameters by.

use super::contender::{Contender, Refit};
use super::forecast::{ForecastOptions, judge};
use super::forecast_fit::{StepGroup, fit_all, forecast_lane, season_of, step_groups};
use super::lanes::{Lane, lanes};
use crate::{Context, TrainError};
use foreglow_core::Seed;
use foreglow_datasets::Dataset;
use foreglow_models::evaluate::{RollingPlan, RollingWindows};
use foreglow_models::forecast::ForecasterSpec;
use rayon::prelude::*;
use std::fmt;
use std::ops::Range;

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
            within_test: false,
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
