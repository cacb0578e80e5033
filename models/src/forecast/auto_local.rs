use super::judge::Company;
use super::local::{Local, LocalKind};
use super::naive::Naive;
use super::past::Past;
use super::quantiles::{finite, rms};
use super::season;
use super::seasonality::Seasonality;
use super::spec::AutoLocalParams;
use foreglow_core::stats::{normal_quantile, quantile_sorted};
use foreglow_core::{Forecaster, History};
use ndarray::Array2;

/// How many past values it looks at.
const CONTEXT: usize = 4096;
/// A member is taken instead of a simpler one only when its error is below this share of the simpler one's.
const GAIN: f64 = 0.97;
/// Under this many values there is nothing to judge members by.
const FEWEST: usize = 12;
/// The members, simple ones first.
const MEMBERS: [LocalKind; 4] =
    [LocalKind::Naive, LocalKind::SeasonalNaive, LocalKind::RidgeLags, LocalKind::RidgeDirect];
/// The season is looked for up to this lag.
const MAX_LAG: usize = 1400;

/// The default for a series without an artifact: finds the season, tries naive, seasonal naive, ridge on lags and ridge
/// by distance ahead over rolling origins of the series' own history, and forecasts with the best.
///
/// Season: given, else a day where the step divides one and the data bear it out, else by autocorrelation. Choice: mean
/// absolute error over up to `origins` origins that lie behind one another at the end of the history, each member
/// estimated on what lies before the first, the simpler one unless the other is 3 % better. Quantiles: those of the member's own errors at these origins (both signs, steps within
/// a factor of 1.5 pooled), never narrower at the ends than normal ones of the same spread; steps further ahead than were
/// tried widen with the square root. Under 12 values: the last value.
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
        self.season.unwrap_or_else(|| season::of_history(&History { values, ..*history }, MAX_LAG))
    }

    /// The best member and, for each step tried, its errors at the origins.
    fn choose(&self, past: &Past, (season, week): (usize, usize), horizon: usize) -> Option<(Local, Vec<Vec<f64>>)> {
        let second = |kind| if kind == LocalKind::RidgeDirect && past.len() > 3 * week { week } else { 0 };
        let member = |kind| Local { kind, season, second: second(kind), lags: self.params.lags, weekly: false };
        let seasonal = |k: &LocalKind| matches!(k, LocalKind::SeasonalNaive | LocalKind::RidgeDirect);
        let direct = self.params.direct;
        let there = |k: &LocalKind| (season > 1 || !seasonal(k)) && (direct || *k != LocalKind::RidgeDirect);
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

    /// What it looks at of a history, with the season and the week; `None` where there is too little to judge members by.
    fn read(&self, history: &History<'_>) -> Option<(Past, (usize, usize))> {
        let values = &history.values[history.values.len().saturating_sub(CONTEXT)..];
        let season = self.season_of(history);
        (values.len() >= FEWEST)
            .then(|| Past::read(values, season))
            .flatten()
            .map(|past| (past, (season, season::week(season, history.step))))
    }

    /// The chosen member's name for a history, for reports.
    pub fn chosen(&self, history: &History<'_>, horizon: usize) -> &'static str {
        let chosen = self.read(history).and_then(|(past, seasons)| self.choose(&past, seasons, horizon));
        chosen.map_or(LocalKind::Naive, |(member, _)| member.kind).name()
    }

    /// Point forecasts of the best member and its errors at the origins, in the series' own units.
    fn points(&self, history: &History<'_>, horizon: usize) -> Option<(Vec<f64>, Vec<Vec<f64>>)> {
        let (past, seasons) = self.read(history)?;
        let (member, mut errors) = self.choose(&past, seasons, horizon)?;
        let view = past.until(past.len());
        // None of the members wants the season measured.
        let absent = Seasonality::absent();
        let (mut points, _) = member.points(&member.estimate(view, &absent, horizon)?, view, &absent, horizon)?;
        for v in points.iter_mut().chain(errors.iter_mut().flatten()) {
            *v = finite(*v * past.unit());
        }
        Some((points, errors))
    }
}

impl Forecaster for AutoLocal {
    fn name(&self) -> &'static str {
        "auto_local"
    }

    fn context(&self) -> usize {
        CONTEXT
    }

    fn forecast(&self, history: &History<'_>, horizon: usize, levels: &[f64]) -> Array2<f64> {
        let Some((points, errors)) = self.points(history, horizon) else {
            return Naive.forecast(history, horizon, levels);
        };
        let z: Vec<f64> = levels.iter().map(|l| normal_quantile(l.clamp(1e-9, 1.0 - 1e-9))).collect();
        let span = errors.len();
        let mut out = Array2::zeros((horizon, levels.len()));
        let mut offsets = vec![0.0; levels.len()];
        let mut next = 0;
        for k in 0..horizon {
            // The pools of neighbouring steps are nearly the same: far ahead one in twenty is enough.
            if k < span && k >= next {
                next = k + 1 + k / 20;
                let step = (k + 1) as f64;
                let (low, high) = ((step / 1.5) as usize, ((step * 1.5) as usize).min(span));
                let pooled = errors[low.min(k)..high.max(k + 1)].iter().flatten();
                let mut both: Vec<f64> = pooled.flat_map(|e| [*e, -*e]).collect();
                both.sort_unstable_by(f64::total_cmp);
                let sd = rms(both.iter().copied());
                for (l, o) in offsets.iter_mut().enumerate() {
                    let seen = if both.is_empty() { 0.0 } else { quantile_sorted(&both, levels[l]) };
                    // Few errors say little of the tails: there the normal quantile holds where it is wider.
                    let far = levels[l].min(1.0 - levels[l]) < 0.1;
                    let normal = sd * z[l];
                    *o = if far && normal.abs() > seen.abs() { normal } else { seen };
                }
                offsets.sort_unstable_by(f64::total_cmp);
            }
            let widen = if k < span { 1.0 } else { ((k + 1) as f64 / span as f64).sqrt() };
            for l in 0..levels.len() {
                out[[k, l]] = finite(points[k] + finite(offsets[l] * widen));
            }
        }
        out
    }
}
