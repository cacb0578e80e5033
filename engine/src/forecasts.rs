//! What is kept between two forecasts of one series from the server's state, so that the next costs a fraction of the first.

use crate::compute::lock;
use foreglow_core::{Forecaster, History, QUANTILE_LEVELS, Step, Timestamp};
use foreglow_models::forecast::{Adaptive, FittedForecaster, Plan, at_levels};
use ndarray::Array2;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Series that something is kept of, at most.
const MOST: usize = 4096;
/// Steps after which a series' members are judged again, at least; with a season once a season.
const LEAST_TERM: usize = 24;
/// Steps of a forecast that are kept until what followed is known, at most: the near ones.
const AWAITED: usize = 96;

/// A series of a tenant as one model sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) tenant: Arc<str>,
    /// Fingerprint of the key.
    pub(crate) series: u64,
    pub(crate) model: Arc<str>,
}

/// Kept plans and what was learned from forecasts that came due. In memory only: after a restart the first forecast of a
/// series judges its members anew.
#[derive(Debug, Default)]
pub(crate) struct Forecasts {
    kept: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    /// Questions so far; the series asked longest ago goes first.
    asked: u64,
    series: HashMap<Place, (u64, Arc<Mutex<Kept>>)>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The distance of values that all of this is about.
    step: Option<Step>,
    plan: Option<(Plan, Made)>,
    adaptive: Adaptive,
    /// The start of a forecast as its model gave it, and the instant of the last value it knew.
    awaited: Option<(Timestamp, Array2<f64>)>,
}

/// What a plan was made for.
#[derive(Debug, Clone, Copy)]
struct Made {
    at: Timestamp,
    horizon: usize,
}

impl Forecasts {
    /// Quantiles at `levels` of the next `horizon` values of each series.
    ///
    /// A forecaster that judges its members does so when it is asked first, for a longer horizon than before, and then once
    /// a season; in between it follows the plan. Its bands are adapted by how its earlier forecasts of this series held.
    pub(crate) fn quantiles(
        &self,
        asked: Vec<(Place, History<'_>)>,
        forecaster: &FittedForecaster,
        horizon: usize,
        levels: &[f64],
    ) -> Vec<Array2<f64>> {
        if !forecaster.plans() {
            let histories: Vec<History<'_>> = asked.into_iter().map(|(_, h)| h).collect();
            return forecaster.forecast_many(&histories, horizon, levels);
        }
        let one = |(place, history): (Place, History<'_>)| {
            let table = lock(&self.of(place)).forecast(forecaster, &history, horizon);
            let mut out = Array2::zeros((horizon, levels.len()));
            for (k, row) in table.rows().into_iter().enumerate() {
                at_levels(&row.to_vec(), levels, |l, v| out[[k, l]] = v);
            }
            out
        };
        asked.into_iter().map(one).collect()
    }

    /// What is kept of a series.
    fn of(&self, place: Place) -> Arc<Mutex<Kept>> {
        let mut shelf = lock(&self.kept);
        shelf.asked += 1;
        let now = shelf.asked;
        if shelf.series.len() >= MOST
            && !shelf.series.contains_key(&place)
            && let Some(oldest) = shelf.series.iter().min_by_key(|(_, (at, _))| *at).map(|(p, _)| p.clone())
        {
            shelf.series.remove(&oldest);
        }
        let entry = shelf.series.entry(place).or_default();
        entry.0 = now;
        entry.1.clone()
    }
}

impl Kept {
    fn forecast(&mut self, forecaster: &FittedForecaster, history: &History<'_>, horizon: usize) -> Array2<f64> {
        if self.step.replace(history.step).is_some_and(|s| s != history.step) {
            *self = Self { step: Some(history.step), ..Self::default() };
        }
        self.learn(history);
        let behind = |at: Timestamp| (history.last.ms() - at.ms()) / history.step.ms();
        let holds = |plan: &Plan, made: Made| {
            let term = plan.season().max(LEAST_TERM) as i64;
            horizon <= made.horizon && (0..term).contains(&behind(made.at))
        };
        if !self.plan.as_ref().is_some_and(|(plan, made)| holds(plan, *made)) {
            let made = Made { at: history.last, horizon };
            self.plan = forecaster.plan(history, horizon).map(|plan| (plan, made));
        }
        let mut table = match &self.plan {
            Some((plan, _)) => forecaster.follow(plan, history, horizon, &QUANTILE_LEVELS),
            None => forecaster.forecast(history, horizon, &QUANTILE_LEVELS),
        };
        if self.awaited.is_none() && self.plan.is_some() && horizon > 0 {
            let start = table.slice(ndarray::s![..horizon.min(AWAITED), ..]).to_owned();
            self.awaited = Some((history.last, start));
        }
        self.adaptive.apply(&mut table, history.values);
        table
    }

    /// Learns from the kept forecast when all of it has come due; forgets it when the past is not that long any more.
    fn learn(&mut self, history: &History<'_>) {
        let Some((cutoff, table)) = &self.awaited else { return };
        let steps = (history.last.ms() - cutoff.ms()) / history.step.ms();
        if steps >= 0 && (steps as usize) < table.nrows() {
            return;
        }
        if let Some(from) = usize::try_from(steps).ok().and_then(|s| history.values.len().checked_sub(s)) {
            self.adaptive.learn(table, &history.values[from..from + table.nrows()]);
        }
        self.awaited = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreglow_core::Seed;
    use foreglow_models::forecast::{EnsembleParams, ForecasterSpec, fit};

    fn place(series: u64) -> Place {
        Place { tenant: "t".into(), series, model: "m/1".into() }
    }

    fn ask(k: &Forecasts, of: u64, f: &FittedForecaster, h: &History<'_>, steps: usize, levels: &[f64]) -> Array2<f64> {
        k.quantiles(vec![(place(of), *h)], f, steps, levels).remove(0)
    }

    fn company() -> FittedForecaster {
        let spec = ForecasterSpec::Ensemble(EnsembleParams { network: false, ..EnsembleParams::default() });
        fit(&spec, &[], Some(24), Seed(1), &|_| ()).unwrap().forecaster
    }

    /// A daily wave with a little noise that grows tenfold from `calm` on.
    fn wave(n: usize, calm: usize) -> Vec<f64> {
        let mut state = 7u32;
        (0..n)
            .map(|i| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let noise = f64::from(state >> 8) / f64::from(1u32 << 24) - 0.5;
                let size = if i < calm { 0.2 } else { 2.0 };
                10.0 + 3.0 * sine(i) + size * noise
            })
            .collect()
    }

    fn sine(i: usize) -> f64 {
        (std::f64::consts::TAU * i as f64 / 24.0).sin()
    }

    fn history(values: &[f64]) -> History<'_> {
        let step: Step = "1h".parse().unwrap();
        History { values, last: Timestamp(1_767_225_600_000).plus(values.len() as i64 * step.ms()), step }
    }

    #[test]
    fn the_first_answer_is_the_forecast_and_the_same_question_has_the_same_answer() {
        let (kept, f, x) = (Forecasts::default(), company(), wave(400, 400));
        let levels = [0.1, 0.5, 0.9];
        let h = history(&x[..380]);
        let first = ask(&kept, 1, &f, &h, 12, &levels);
        assert_eq!(first, f.forecast(&h, 12, &levels));
        assert_eq!(ask(&kept, 1, &f, &h, 12, &levels), first);
        // Shorter follows the same plan, longer makes one.
        assert_eq!(ask(&kept, 1, &f, &h, 6, &levels).nrows(), 6);
        assert_eq!(ask(&kept, 1, &f, &h, 30, &levels).nrows(), 30);
        let local = fit(&ForecasterSpec::Naive, &[], None, Seed(1), &|_| ()).unwrap().forecaster;
        assert_eq!(ask(&kept, 2, &local, &h, 3, &levels), local.forecast(&h, 3, &levels));
        assert_eq!(lock(&kept.kept).series.len(), 1);
    }

    #[test]
    fn bands_grow_after_forecasts_that_failed() {
        let (f, x) = (company(), wave(640, 400));
        let (kept, mut widths) = (Forecasts::default(), (0.0, 0.0));
        for at in (400..600).step_by(12) {
            let h = history(&x[..at]);
            let q = ask(&kept, 1, &f, &h, 12, &[0.1, 0.9]);
            let plain = f.forecast(&h, 12, &[0.1, 0.9]);
            if at == 436 {
                widths = (q[[5, 1]] - q[[5, 0]], plain[[5, 1]] - plain[[5, 0]]);
            }
        }
        assert!(widths.0 > 1.1 * widths.1, "{widths:?}");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let kept = Forecasts::default();
        for i in 0..(MOST as u64 + 10) {
            kept.of(place(i));
            kept.of(place(0));
        }
        let shelf = lock(&kept.kept);
        assert_eq!(shelf.series.len(), MOST);
        assert!(shelf.series.contains_key(&place(0)) && !shelf.series.contains_key(&place(1)));
    }
}
