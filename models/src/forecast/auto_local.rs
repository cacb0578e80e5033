use super::combine::normal_levels;
use super::judge::Company;
use super::local::{Estimate, Local, LocalKind};
use super::naive::Naive;
use super::past::Past;
use super::quantiles::{LEVELS, Room, at_levels, finite, rms};
use super::season;
use super::seasonality::Seasonality;
use super::spec::AutoLocalParams;
use foreglow_core::stats::quantile_sorted;
use foreglow_core::{Forecaster, History, QUANTILE_LEVELS};
use ndarray::Array2;
use rayon::prelude::*;

/// How many past values it looks at.
const CONTEXT: usize = 4096;
/// A member is taken instead of a simpler one only when its error is below this share of the simpler one's.
const GAIN: f64 = 0.97;
/// Under this many values there is nothing to judge members by.
const FEWEST: usize = 12;
/// Levels closer to the ends than this are tails.
const TAIL: f64 = 0.1;
/// The members, simple ones first.
const MEMBERS: [LocalKind; 4] =
    [LocalKind::Naive, LocalKind::SeasonalNaive, LocalKind::RidgeLags, LocalKind::RidgeDirect];

/// The default for a series without an artifact: finds the season, tries naive, seasonal naive, ridge on lags and ridge
/// by distance ahead over rolling origins of the series' own history, and forecasts with the best.
///
/// Season: given, else a day where the step divides one and the data bear it out, else by autocorrelation, else the day. Choice: mean
/// absolute error over up to `origins` origins that lie behind one another at the end of the history, each member
/// estimated on what lies before the first, the simpler one unless the other is 3 % better. Quantiles: those of the
/// member's own errors at these origins (both signs, steps within a factor of 1.5 pooled), never narrower at the ends than
/// normal ones of the same spread, between the 13 levels linear; steps further ahead than were tried widen with the square
/// root. Under 12 values: the last value.
#[derive(Debug, Clone, PartialEq)]
pub struct AutoLocal {
    /// Checked parameters.
    pub params: AutoLocalParams,
    /// Steps of the season, where it is known.
    pub season: Option<usize>,
}

impl AutoLocal {
    /// The season of a history, 1 = none.
    pub fn season_of(&self, history: &History<'_>) -> usize {
        let values = &history.values[history.values.len().saturating_sub(CONTEXT)..];
        self.season.unwrap_or_else(|| season::of_history(&History { values, ..*history }))
    }

    /// The best member and, for each step tried, its errors at the origins.
    fn choose(&self, past: &Past, (season, week): (usize, usize), horizon: usize) -> Option<(Local, Vec<Vec<f64>>)> {
        let second = |kind| if kind == LocalKind::RidgeDirect { season::second(week, past.len()) } else { 0 };
        let member = |kind| Local { kind, season, second: second(kind), lags: self.params.lags, weekly: false };
        let direct = self.params.direct;
        let there = |k: &LocalKind| (season > 1 || !k.wants_season()) && (direct || *k != LocalKind::RidgeDirect);
        let locals = MEMBERS.into_iter().filter(there).map(member).collect();
        let company = Company { locals, net: None, origins: self.params.origins, anew: !direct, tested: Vec::new() };
        let judged = company.judge(past, horizon)?;
        let mut best: Option<(f64, Local, Vec<Vec<f64>>)> = None;
        for (i, member) in company.locals.iter().enumerate() {
            let mut errors = vec![Vec::with_capacity(judged.trials.len()); judged.span];
            let (mut sum, mut count) = (0.0, 0usize);
            for t in &judged.trials {
                let Some((points, _)) = &t.attempt.locals[i] else { continue };
                for (k, (actual, p)) in t.actual.iter().zip(points).enumerate() {
                    let e = actual - p;
                    if e.is_finite() {
                        errors[k].push(e);
                        sum += e.abs();
                        count += 1;
                    }
                }
            }
            let mean = sum / count as f64;
            if count > 0 && best.as_ref().is_none_or(|b| mean < GAIN * b.0) {
                best = Some((mean, *member, errors));
            }
        }
        best.map(|(_, m, e)| (m, e))
    }

    /// What it looks at of a history with this season.
    fn read(history: &History<'_>, season: usize) -> Option<Past> {
        let values = &history.values[history.values.len().saturating_sub(CONTEXT)..];
        (values.len() >= FEWEST).then(|| Past::read(values, season)).flatten()
    }

    /// See [`FittedForecaster::plan`](super::FittedForecaster::plan).
    pub(super) fn plan(&self, history: &History<'_>, horizon: usize) -> Option<Best> {
        let season = self.season_of(history);
        let past = Self::read(history, season)?;
        let (member, errors) = self.choose(&past, (season, season::week(season, history.step)), horizon)?;
        // None of the members wants the season measured.
        let estimate = member.estimate(past.until(past.len()), &Seasonality::absent(), horizon)?;
        Some(Best { member, estimate, bands: bands(&errors), span: errors.len(), unit: past.unit() })
    }

    /// The chosen member's name for a history, for reports.
    pub fn chosen(&self, history: &History<'_>, horizon: usize) -> &'static str {
        self.plan(history, horizon).map_or(LocalKind::Naive.name(), |p| p.leader())
    }
}

/// The member that did best on a history, what it learned there, and its bands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Best {
    member: Local,
    estimate: Estimate,
    /// Distances of the quantiles from the point, by the step they begin to hold at.
    bands: Vec<(usize, [f64; LEVELS])>,
    /// Steps that were tried.
    span: usize,
    /// What one unit of estimate and offsets is.
    unit: f64,
}

impl Best {
    pub(super) fn season(&self) -> usize {
        self.member.season
    }

    pub(super) fn leader(&self) -> &'static str {
        self.member.kind.name()
    }

    /// See [`FittedForecaster::follow`](super::FittedForecaster::follow).
    pub(super) fn follow(&self, history: &History<'_>, horizon: usize, levels: &[f64]) -> Array2<f64> {
        self.table(history, horizon, levels).unwrap_or_else(|| Naive.forecast(history, horizon, levels))
    }

    fn table(&self, history: &History<'_>, horizon: usize, levels: &[f64]) -> Option<Array2<f64>> {
        let past = AutoLocal::read(history, self.member.season)?;
        let (view, absent) = (past.until(past.len()), Seasonality::absent());
        // An estimate is in scaled units: in others it means nothing.
        let renewed = if past.unit() == self.unit { None } else { Some(self.member.estimate(view, &absent, horizon)?) };
        let estimate = renewed.as_ref().unwrap_or(&self.estimate);
        let (points, _) = self.member.points(estimate, view, &absent, horizon)?;
        let room = Room::around(history.values);
        let mut out = Array2::zeros((horizon, levels.len()));
        for (k, p) in points.iter().enumerate() {
            let far = if k < self.span { 1.0 } else { ((k + 1) as f64 / self.span as f64).sqrt() };
            let (_, offsets) = self.bands[self.bands.partition_point(|(from, _)| *from <= k) - 1];
            let row: [f64; LEVELS] =
                std::array::from_fn(|l| room.hold(finite(p * past.unit() + finite(offsets[l] * far * self.unit))));
            at_levels(&row, levels, |l, v| out[[k, l]] = v);
        }
        Some(out)
    }
}

/// Distances of the quantiles from the point, from the errors at each step tried: those of the errors of both signs, steps
/// within a factor of 1.5 pooled, at the ends at least those of a normal variable of the same spread. One row for each step
/// near, and for one in twenty far ahead, where the pools of neighbours are nearly the same.
fn bands(errors: &[Vec<f64>]) -> Vec<(usize, [f64; LEVELS])> {
    let z = normal_levels();
    let band = |k: usize| {
        let step = (k + 1) as f64;
        let (low, high) = ((step / 1.5) as usize, ((step * 1.5) as usize).min(errors.len()));
        let pooled = errors[low.min(k)..high.max(k + 1)].iter().flatten();
        let mut both: Vec<f64> = pooled.flat_map(|e| [*e, -*e]).collect();
        both.sort_unstable_by(f64::total_cmp);
        let sd = rms(both.iter().copied());
        let mut offsets = std::array::from_fn(|l| {
            let level = QUANTILE_LEVELS[l];
            let seen = if both.is_empty() { 0.0 } else { quantile_sorted(&both, level) };
            // Few errors say little of the tails: there the normal quantile holds where it is wider.
            let tail = level.min(1.0 - level) < TAIL;
            let normal = sd * z[l];
            if tail && normal.abs() > seen.abs() { normal } else { seen }
        });
        offsets.sort_unstable_by(f64::total_cmp);
        (k, offsets)
    };
    std::iter::successors(Some(0), |k| Some(k + 1 + k / 20)).take_while(|k| *k < errors.len()).map(band).collect()
}

impl Forecaster for AutoLocal {
    fn name(&self) -> &'static str {
        "auto_local"
    }

    fn context(&self) -> usize {
        CONTEXT
    }

    fn forecast(&self, history: &History<'_>, horizon: usize, levels: &[f64]) -> Array2<f64> {
        let made = self.plan(history, horizon).and_then(|p| p.table(history, horizon, levels));
        made.unwrap_or_else(|| Naive.forecast(history, horizon, levels))
    }
    fn forecast_many(&self, histories: &[History<'_>], horizon: usize, levels: &[f64]) -> Vec<Array2<f64>> {
        histories.par_iter().map(|h| self.forecast(h, horizon, levels)).collect()
    }
}
