use super::holt::Holt;
use super::past::{Past, View};
use super::quantiles::{finite, normal_table, rms};
use super::ridge_direct::{LEAST_SEASONS, RidgeDirect};
use super::ridge_lags::{Coefficients, RidgeLags};
use super::season;
use super::seasonal_naive::SeasonalNaive;
use super::seasonality::Seasonality;
use super::spec::{ForecasterSpec, RidgeLagsParams};
use super::theta::Theta;
use foreglow_core::stats::median;
use foreglow_core::{Forecaster, History};
use ndarray::Array2;
use serde::{Deserialize, Serialize};

/// Seasons that the seasonal median looks back.
const MEDIAN_SEASONS: usize = 7;
/// Values that the median of a series without a season is taken of.
const MEDIAN_VALUES: usize = 256;
/// Seasonal changes that the spread of the simple members is estimated from, in seasons.
const SPREAD_SEASONS: usize = 20;

/// A kind of member that is estimated on one series alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocalKind {
    /// The last value.
    Naive,
    /// The value one season before.
    SeasonalNaive,
    /// The median of the same phase in the last 7 seasons; without a season of the last 256 values. The best guess under
    /// absolute error for a series that jumps about a fixed profile.
    SeasonalMedian,
    /// The dynamic optimised theta model (Fiorucci et al. 2016).
    Theta,
    /// Damped Holt, with a season damped Holt-Winters.
    Holt,
    /// Ridge regression on lags.
    RidgeLags,
    /// Ridge regression made for each distance ahead, with a season only.
    RidgeDirect,
}

impl LocalKind {
    /// All of them, simple ones first.
    pub const ALL: [Self; 7] = [
        Self::Naive,
        Self::SeasonalNaive,
        Self::SeasonalMedian,
        Self::Theta,
        Self::Holt,
        Self::RidgeLags,
        Self::RidgeDirect,
    ];

    /// The name, as recipes write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Naive => "naive",
            Self::SeasonalNaive => "seasonal_naive",
            Self::SeasonalMedian => "seasonal_median",
            Self::Theta => "theta",
            Self::Holt => "holt",
            Self::RidgeLags => "ridge_lags",
            Self::RidgeDirect => "ridge_direct",
        }
    }

    /// Whether it says nothing of its own without a season.
    pub(super) fn wants_season(self) -> bool {
        matches!(self, Self::SeasonalNaive | Self::RidgeDirect)
    }

    /// Seasons of history under which something simpler stands in.
    pub(super) fn least_seasons(self) -> usize {
        if self == Self::RidgeDirect { LEAST_SEASONS } else { 2 }
    }
}

/// Kinds that were there when places were first written down.
const FIRST: usize = 6;
/// The net's place in a [`Prior`](super::weights::Prior), behind the first kinds with the season and with the week. What
/// came later stands behind it, so that artifacts keep their meaning.
pub(super) const NET_SLOT: usize = 2 * FIRST;
/// Places of members in a [`Prior`](super::weights::Prior).
pub(super) const SLOTS: usize = 1 + 2 * LocalKind::ALL.len();

/// A local member: its kind and the seasons it works with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Local {
    pub(super) kind: LocalKind,
    /// Steps, 1 = none.
    pub(super) season: usize,
    /// A second season for those who can use one, 0 = none.
    pub(super) second: usize,
    /// Recent lags of the ridge.
    pub(super) lags: usize,
    /// Whether `season` is the week beside the day.
    pub(super) weekly: bool,
}

/// What a local member learned from a history; good for longer histories of the same series too.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Estimate {
    Nothing,
    Theta(Theta),
    Holt(Holt),
    Ridge(Coefficients),
    Direct(RidgeDirect),
}

impl Local {
    /// The members for a series of `length` values with a season (1 = none) and a week (0 = none), simple ones first.
    pub(super) fn company(season: usize, week: usize, length: usize, lags: usize) -> Vec<Self> {
        let day = Self { kind: LocalKind::Naive, season, second: 0, lags, weekly: false };
        let mut all = Vec::with_capacity(SLOTS);
        for kind in LocalKind::ALL.into_iter().filter(|k| season > 1 || !k.wants_season()) {
            all.push(Self { kind, second: season::second(week, length), ..day });
        }
        if week > 0 && length >= 2 * week {
            // The others have no use for a week, or the week inside.
            let weekly = [LocalKind::SeasonalNaive, LocalKind::SeasonalMedian, LocalKind::Theta];
            for kind in weekly {
                all.push(Self { kind, season: week, second: season, weekly: true, ..day });
            }
        }
        all
    }

    /// Its place in a prior.
    pub(super) fn slot(&self) -> usize {
        let kind = LocalKind::ALL.iter().position(|k| *k == self.kind).unwrap_or(0);
        let weekly = usize::from(self.weekly);
        if kind < FIRST { kind + weekly * FIRST } else { NET_SLOT + 1 + 2 * (kind - FIRST) + weekly }
    }

    /// Whether it wants the season measured.
    pub(super) fn wants_indices(&self) -> bool {
        matches!(self.kind, LocalKind::Theta | LocalKind::Holt)
    }

    /// Estimates on `past`, whose season of [`Local::season`] steps is `season`, for forecasts of `horizon` steps; `None`
    /// when it is too short for this member.
    pub(super) fn estimate(&self, past: View<'_>, season: &Seasonality, horizon: usize) -> Option<Estimate> {
        match self.kind {
            LocalKind::Naive => Some(Estimate::Nothing),
            LocalKind::SeasonalNaive => (past.len() > self.season).then_some(Estimate::Nothing),
            LocalKind::SeasonalMedian => (past.len() >= (2 * self.season).max(3)).then_some(Estimate::Nothing),
            LocalKind::Theta => Theta::estimate(past, season).map(Estimate::Theta),
            LocalKind::Holt => Holt::estimate(past, season).map(Estimate::Holt),
            LocalKind::RidgeLags => self.ridge().estimate(past).map(Estimate::Ridge),
            LocalKind::RidgeDirect => {
                let past = past.last(context_for(self.season));
                RidgeDirect::estimate(past, self.season, self.second, horizon).map(Estimate::Direct)
            }
        }
    }

    fn ridge(&self) -> RidgeLags {
        let params = RidgeLagsParams { lags: self.lags, ..RidgeLagsParams::default() };
        RidgeLags { params, season: self.season, second: self.second }
    }

    /// Point forecasts and standard deviations behind `past`, held inside its range and as much again; `None` when
    /// `past` is too short.
    pub(super) fn points(
        &self,
        estimate: &Estimate,
        past: View<'_>,
        season: &Seasonality,
        horizon: usize,
    ) -> Option<(Vec<f64>, Vec<f64>)> {
        let m = self.season;
        let (mut points, mut sds) = match (self.kind, estimate) {
            (LocalKind::Naive, _) => {
                let recent = past.last(1024);
                let sd = rms(recent.raw.windows(2).map(|w| w[1] - w[0]));
                (vec![past.newest(); horizon], (0..horizon).map(|k| sd * ((k + 1) as f64).sqrt()).collect())
            }
            (LocalKind::SeasonalNaive, _) => {
                if past.len() <= m {
                    return None;
                }
                let points = SeasonalNaive { season: m }.points(past.raw, horizon);
                let sd = self.seasonal_change(past);
                (points, (0..horizon).map(|k| sd * ((k + 1).div_ceil(m) as f64).sqrt()).collect())
            }
            (LocalKind::SeasonalMedian, _) => self.medians(past, horizon),
            (_, Estimate::Theta(t)) => t.points(past, season, horizon),
            (_, Estimate::Holt(h)) => h.points(past, season, horizon),
            (_, Estimate::Ridge(c)) => c.points(past.last(self.ridge().context()), horizon)?,
            (_, Estimate::Direct(d)) => d.points(past, horizon)?,
            (_, Estimate::Nothing) => return None,
        };
        let (low, high) = past.range();
        let room = high - low;
        for (p, s) in points.iter_mut().zip(&mut sds) {
            *p = if p.is_finite() { p.clamp(low - room, high + room) } else { past.newest() };
            *s = if s.is_finite() { s.clamp(0.0, room) } else { room };
        }
        Some((points, sds))
    }

    /// Root mean square of the seasonal changes of the last 20 seasons.
    fn seasonal_change(&self, past: View<'_>) -> f64 {
        let m = self.season;
        let x = past.last((SPREAD_SEASONS + 1) * m + 1).raw;
        rms((m..x.len()).map(|t| x[t] - x[t - m]))
    }

    fn medians(&self, past: View<'_>, horizon: usize) -> (Vec<f64>, Vec<f64>) {
        let m = self.season;
        let x = past.raw;
        if m == 1 {
            let recent = past.last(MEDIAN_VALUES).raw;
            let centre = median(recent);
            let sd = rms(recent.iter().map(|v| v - centre));
            return (vec![centre; horizon], vec![sd; horizon]);
        }
        let n = x.len();
        let profile: Vec<(f64, f64)> = (0..m.min(horizon))
            .map(|phase| {
                let same: Vec<f64> = (1..=MEDIAN_SEASONS)
                    .filter_map(|s| (s * m).checked_sub(phase).and_then(|back| n.checked_sub(back)))
                    .map(|t| x[t])
                    .filter(|v| v.is_finite())
                    .collect();
                let centre = if same.is_empty() { past.newest() } else { median(&same) };
                (centre, rms(same.iter().map(|v| v - centre)))
            })
            .collect();
        let sd = rms(profile.iter().map(|p| p.1));
        ((0..horizon).map(|k| profile[k % m].0).collect(), vec![sd; horizon])
    }
}

/// A local member on its own, as a forecaster: estimated anew on each history, normal quantiles around its points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalForecaster {
    /// Which.
    pub kind: LocalKind,
    /// Steps of a season, 1 = none.
    pub season: usize,
}

impl LocalForecaster {
    /// As a recipe would write it.
    pub(super) fn spec(&self) -> ForecasterSpec {
        let season = Some(self.season);
        match self.kind {
            LocalKind::Naive => ForecasterSpec::Naive,
            LocalKind::SeasonalNaive => ForecasterSpec::SeasonalNaive { season },
            LocalKind::SeasonalMedian => ForecasterSpec::SeasonalMedian { season },
            LocalKind::Theta => ForecasterSpec::Theta { season },
            LocalKind::Holt => ForecasterSpec::Holt { season },
            LocalKind::RidgeDirect => ForecasterSpec::RidgeDirect { season },
            LocalKind::RidgeLags => ForecasterSpec::RidgeLags(RidgeLagsParams { season, ..RidgeLagsParams::default() }),
        }
    }
}

impl Forecaster for LocalForecaster {
    fn name(&self) -> &str {
        self.kind.name()
    }

    fn context(&self) -> usize {
        context_for(self.season)
    }

    fn forecast(&self, history: &History<'_>, horizon: usize, levels: &[f64]) -> Array2<f64> {
        let values = &history.values[history.values.len().saturating_sub(self.context())..];
        let Some(past) = Past::read(values, self.season) else { return Array2::zeros((horizon, levels.len())) };
        let view = past.until(past.len());
        let second = season::second(season::week(self.season, history.step), past.len());
        let full = Local { kind: self.kind, season: self.season, second, lags: 6, weekly: false };
        let simple = [
            full,
            Local { kind: LocalKind::SeasonalNaive, ..full },
            Local { kind: LocalKind::Naive, season: 1, ..full },
        ];
        let season = Seasonality::measure(view.filled, self.season);
        let found = simple.iter().find_map(|m| m.points(&m.estimate(view, &season, horizon)?, view, &season, horizon));
        let (points, sds) = found.unwrap_or_else(|| (vec![view.newest(); horizon], vec![0.0; horizon]));
        let unit = past.unit();
        normal_table(horizon, levels, |k| finite(points[k] * unit), |k| finite(sds[k] * unit))
    }
}

/// How many past values members with this season make use of: 28 seasons, at least 4,096 and at most 16,384. With a day as
/// the season these are four weeks, the least that members with the week are estimated and then tried on.
pub(super) fn context_for(season: usize) -> usize {
    (28 * season).clamp(4096, 16_384)
}
