use super::naive::Naive;
use super::quantiles::{finite, rms};
use super::ridge_lags::RidgeLags;
use super::season;
use super::seasonal_naive::SeasonalNaive;
use super::spec::{AutoLocalParams, RidgeLagsParams};
use crate::transform::last_observed;
use foreglow_core::stats::{normal_quantile, quantile_sorted};
use foreglow_core::{Forecaster, History};
use ndarray::Array2;

/// How many past values it looks at.
const CONTEXT: usize = 4096;
/// A member is taken instead of a simpler one only when its error is below this share of the simpler one's.
const GAIN: f64 = 0.97;
/// The season is looked for up to this lag.
const MAX_LAG: usize = 1400;

/// The default for a series without an artifact: finds the season, tries naive, seasonal naive and ridge on lags over
/// rolling origins of the series' own history, and forecasts with the best.
///
/// Season: given, else a day where the step divides one and the data bear it out, else by autocorrelation. Choice: mean
/// absolute error over up to `origins` origins that lie behind one another at the end of the history, the simpler member
/// unless the other is 3 % better. Quantiles: those of the member's own errors at these origins (both signs, steps within
/// a factor of 1.5 pooled), never narrower at the ends than normal ones of the same spread; steps further ahead than were
/// tried widen with the square root. Under 12 values: the last value.
#[derive(Debug, Clone, PartialEq)]
pub struct AutoLocal {
    /// Checked parameters.
    pub params: AutoLocalParams,
    /// Steps of the season, where it is known.
    pub season: Option<usize>,
}

enum Member {
    Last,
    Seasonal(SeasonalNaive),
    Ridge(RidgeLags),
}

impl Member {
    fn points(&self, values: &[f64], horizon: usize) -> Option<Vec<f64>> {
        match self {
            Self::Last => last_observed(values).map(|l| vec![l.1; horizon]),
            Self::Seasonal(s) => (values.len() > s.season).then(|| s.points(values, horizon)),
            Self::Ridge(r) => r.points(values, horizon).map(|p| p.0),
        }
    }
}

impl AutoLocal {
    /// The season of a history, 1 = none.
    pub fn season_of(&self, history: &History<'_>) -> usize {
        let values = &history.values[history.values.len().saturating_sub(CONTEXT)..];
        self.season.unwrap_or_else(|| season::of_history(&History { values, ..*history }, MAX_LAG))
    }

    /// The best member and, for each step tried, its errors at the origins.
    fn choose(&self, values: &[f64], season: usize, horizon: usize) -> Option<(Member, Vec<Vec<f64>>)> {
        let span = horizon.clamp(1, (values.len() / 4).max(1));
        let origins = self.params.origins;
        // Origins stand one horizon apart where there is room, closer otherwise.
        let room = values.len() / 2 - span.min(values.len() / 2);
        let stride = if origins > 1 { (room / (origins - 1)).clamp(1, span) } else { 1 };
        let lags = self.params.lags;
        let mut members = vec![Member::Last];
        if season > 1 {
            members.push(Member::Seasonal(SeasonalNaive { season }));
        }
        let ridge = RidgeLagsParams { lags, ..RidgeLagsParams::default() };
        members.push(Member::Ridge(RidgeLags { params: ridge, season, second: 0 }));
        let mut best: Option<(f64, Member, Vec<Vec<f64>>)> = None;
        for member in members {
            let mut errors = vec![Vec::with_capacity(origins); span];
            let (mut sum, mut count) = (0.0, 0usize);
            for o in 0..origins {
                let Some(cut) = values.len().checked_sub(span + o * stride).filter(|c| *c > 0) else { break };
                let Some(points) = member.points(&values[..cut], span) else { continue };
                for (k, p) in points.iter().enumerate() {
                    let e = values[cut + k] - p;
                    if e.is_finite() {
                        errors[k].push(e);
                        sum += e.abs() / span as f64;
                        count += 1;
                    }
                }
            }
            let mean = sum / count as f64;
            if count > 0 && best.as_ref().is_none_or(|b| mean < GAIN * b.0) {
                best = Some((mean, member, errors));
            }
        }
        best.map(|(_, m, e)| (m, e))
    }

    /// The chosen member's name for a history, for reports.
    pub fn chosen(&self, history: &History<'_>, horizon: usize) -> &'static str {
        let values = &history.values[history.values.len().saturating_sub(CONTEXT)..];
        let season = self.season_of(history);
        match if values.len() < 12 { None } else { self.choose(values, season, horizon) } {
            None | Some((Member::Last, _)) => "naive",
            Some((Member::Seasonal(_), _)) => "seasonal_naive",
            Some((Member::Ridge(_), _)) => "ridge_lags",
        }
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
        let values = &history.values[history.values.len().saturating_sub(CONTEXT)..];
        if values.len() < 12 {
            return Naive.forecast(history, horizon, levels);
        }
        let season = self.season_of(history);
        let chosen = self.choose(values, season, horizon);
        let Some((points, errors)) = chosen.and_then(|(m, e)| m.points(values, horizon).map(|p| (p, e))) else {
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
