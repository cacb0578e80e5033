use super::auto_local::AutoLocal;
use super::ensemble::Ensemble;
use super::local::{LocalForecaster, LocalKind};
use super::lstm::{LstmForecaster, Training};
use super::naive::Naive;
use super::plan::{Kind, Plan};
use super::random::RandomDraw;
use super::ridge_lags::RidgeLags;
use super::season;
use super::seasonal_naive::SeasonalNaive;
use super::series::TrainSeries;
use super::spec::ForecasterSpec;
use crate::ModelError;
use crate::artifact::TensorMap;
use crate::nn::{LstmParams, OptimizerState, Progress, TrainReport};
use foreglow_core::{Forecaster, History, Seed};
use ndarray::Array2;

/// A forecaster that is ready: the one closed list of kinds and its dispatch.
#[derive(Debug, Clone, PartialEq)]
pub enum FittedForecaster {
    /// The last value.
    Naive(Naive),
    /// The value one season before.
    SeasonalNaive(SeasonalNaive),
    /// Ridge regression on lags.
    RidgeLags(RidgeLags),
    /// One of the other local members on its own: seasonal median, theta, Holt, ridge by distance ahead.
    Local(LocalForecaster),
    /// The best of the cheap local members.
    AutoLocal(AutoLocal),
    /// The global LSTM.
    Lstm(Box<LstmForecaster>),
    /// Local members and the LSTM, weighted.
    Ensemble(Box<Ensemble>),
    /// A random past value.
    Random(RandomDraw),
}

/// A fit: the forecaster and, where there was training, how it went and what a warm start needs.
#[derive(Debug, Clone)]
pub struct ForecasterFit {
    /// The forecaster.
    pub forecaster: FittedForecaster,
    /// Report and optimiser of a trained net.
    pub training: Option<(TrainReport, OptimizerState)>,
    /// What to know about the fit: a member left out, a warm start that was not kept, and why.
    pub notes: Vec<String>,
}

impl ForecasterFit {
    fn trained(forecaster: FittedForecaster, training: Option<Training>, mut notes: Vec<String>) -> Self {
        let training = training.map(|t| {
            notes.extend(t.notes);
            (t.report, t.optimizer)
        });
        Self { forecaster, training, notes }
    }
}

/// Fits `spec`. Local kinds only keep their parameters and `season` (steps; `None` = not known: the one that most `series`
/// have, or for those that judge their members one found in each history); global ones train over all `series`.
///
/// # Errors
/// [`ModelError::Parameter`] for a field out of range, [`ModelError::Data`] when a global model has nothing to learn from.
pub fn fit(
    spec: &ForecasterSpec,
    series: &[TrainSeries<'_>],
    season: Option<usize>,
    seed: Seed,
    progress: Progress<'_>,
) -> Result<ForecasterFit, ModelError> {
    spec.check()?;
    if season == Some(0) {
        return Err(ModelError::parameter("season", 0, "1 step or more"));
    }
    let local = |forecaster| Ok(ForecasterFit { forecaster, training: None, notes: Vec::new() });
    let found = |own: Option<usize>| own.or(season).unwrap_or_else(|| season::of_series(series));
    let alone = |kind, own| local(FittedForecaster::Local(LocalForecaster { kind, season: found(own) }));
    match spec {
        ForecasterSpec::Naive => local(FittedForecaster::Naive(Naive)),
        ForecasterSpec::SeasonalNaive { season: own } => {
            local(FittedForecaster::SeasonalNaive(SeasonalNaive { season: found(*own) }))
        }
        ForecasterSpec::RidgeLags(p) => {
            local(FittedForecaster::RidgeLags(RidgeLags { params: p.clone(), season: found(p.season), second: 0 }))
        }
        ForecasterSpec::SeasonalMedian { season } => alone(LocalKind::SeasonalMedian, *season),
        ForecasterSpec::Theta { season } => alone(LocalKind::Theta, *season),
        ForecasterSpec::Holt { season } => alone(LocalKind::Holt, *season),
        ForecasterSpec::RidgeDirect { season } => alone(LocalKind::RidgeDirect, *season),
        ForecasterSpec::AutoLocal(p) => {
            local(FittedForecaster::AutoLocal(AutoLocal { params: p.clone(), season: p.season.or(season) }))
        }
        ForecasterSpec::Random => local(FittedForecaster::Random(RandomDraw { seed: seed.child("random forecaster") })),
        ForecasterSpec::Lstm(p) => {
            let (made, training) = LstmForecaster::fit(p, series, season, seed, progress)?;
            Ok(ForecasterFit::trained(FittedForecaster::Lstm(Box::new(made)), Some(training), Vec::new()))
        }
        ForecasterSpec::Ensemble(p) => {
            let (made, training, notes) = Ensemble::fit(p, series, season, None, seed, progress)?;
            Ok(ForecasterFit::trained(FittedForecaster::Ensemble(Box::new(made)), training, notes))
        }
    }
}

/// Fits `spec` going on from an earlier fit of the same kind (warm start); kinds without training are fitted anew.
///
/// # Errors
/// As [`fit`], and [`ModelError::Artifact`] when `before` or `optimizer` is of another kind.
pub fn fit_from(
    before: &FittedForecaster,
    optimizer: Option<&OptimizerState>,
    spec: &ForecasterSpec,
    series: &[TrainSeries<'_>],
    season: Option<usize>,
    seed: Seed,
    progress: Progress<'_>,
) -> Result<ForecasterFit, ModelError> {
    spec.check()?;
    if before.kind() != spec.kind() {
        let problem = format!("it is a {} forecaster, the recipe asks for {}", before.kind(), spec.kind());
        return Err(ModelError::artifact("forecaster", problem));
    }
    match (before, spec) {
        (FittedForecaster::Lstm(old), ForecasterSpec::Lstm(p)) => {
            let (made, training) = old.fit_on(optimizer, p, series, seed, progress)?;
            Ok(ForecasterFit::trained(FittedForecaster::Lstm(Box::new(made)), Some(training), Vec::new()))
        }
        (FittedForecaster::Ensemble(old), ForecasterSpec::Ensemble(p)) => {
            let before = Some((old.as_ref(), optimizer));
            let (made, training, notes) = Ensemble::fit(p, series, season, before, seed, progress)?;
            Ok(ForecasterFit::trained(FittedForecaster::Ensemble(Box::new(made)), training, notes))
        }
        _ => fit(spec, series, season, seed, progress),
    }
}

impl FittedForecaster {
    fn inner(&self) -> &dyn Forecaster {
        match self {
            Self::Naive(f) => f,
            Self::SeasonalNaive(f) => f,
            Self::RidgeLags(f) => f,
            Self::AutoLocal(f) => f,
            Self::Local(f) => f,
            Self::Lstm(f) => f.as_ref(),
            Self::Ensemble(f) => f.as_ref(),
            Self::Random(f) => f,
        }
    }

    /// The name of the kind, as recipes write it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Naive(_) => "naive",
            Self::SeasonalNaive(_) => "seasonal_naive",
            Self::RidgeLags(_) => "ridge_lags",
            Self::AutoLocal(_) => "auto_local",
            Self::Local(f) => f.kind.name(),
            Self::Lstm(_) => "lstm",
            Self::Ensemble(_) => "ensemble",
            Self::Random(_) => "random",
        }
    }

    /// Whether it judges its members on each history, see [`FittedForecaster::plan`].
    pub fn plans(&self) -> bool {
        matches!(self, Self::AutoLocal(_) | Self::Ensemble(_))
    }

    /// What forecasters that judge their members on a history learn from it; `None` for those that do not, and for a
    /// history too short or constant. Making it costs tens of member fits, following it one of each that serves: keep it
    /// for a series and renew it, say, once a season.
    pub fn plan(&self, history: &History<'_>, horizon: usize) -> Option<Plan> {
        match self {
            Self::AutoLocal(f) => f.plan(history, horizon).map(|p| Plan(Kind::Best(Box::new(p)))),
            Self::Ensemble(f) => f.plan(history, horizon).map(|p| Plan(Kind::Weighed(Box::new(p)))),
            _ => None,
        }
    }

    /// A forecast that follows a plan made earlier by this forecaster for this series. With the plan of the same history
    /// and horizon it equals [`Forecaster::forecast`].
    pub fn follow(&self, plan: &Plan, history: &History<'_>, horizon: usize, levels: &[f64]) -> Array2<f64> {
        match (self, &plan.0) {
            (Self::AutoLocal(_), Kind::Best(p)) => p.follow(history, horizon, levels),
            (Self::Ensemble(f), Kind::Weighed(p)) => f.follow(p, history, horizon, levels),
            _ => self.forecast(history, horizon, levels),
        }
    }

    /// Whether its bands are to be adapted online by how earlier ones held, see [`Adaptive`](super::Adaptive): of those that
    /// judge their members. Members on their own are shown as they are.
    pub fn adapts(&self) -> bool {
        self.plans()
    }

    /// The net inside as a forecaster of its own, where fitting an LSTM with `params` on the same series by the same seed
    /// would give the same one.
    #[must_use]
    pub fn net(&self, params: &LstmParams) -> Option<Self> {
        let Self::Ensemble(f) = self else { return None };
        let same = f.params.network && f.params.season.is_none() && f.params.lstm == *params;
        f.net.clone().filter(|_| same).map(|net| Self::Lstm(Box::new(net)))
    }

    /// What to know about a forecast from this history: `no_history`, `constant`, `short_history`, `gaps`.
    pub fn flags(&self, history: &History<'_>) -> Vec<&'static str> {
        if let Self::Lstm(f) = self {
            return f.net.flags(history);
        }
        let recent = &history.values[history.values.len().saturating_sub(self.context())..];
        let there: Vec<f64> = recent.iter().copied().filter(|v| v.is_finite()).collect();
        let mut flags = Vec::new();
        if there.is_empty() {
            flags.push("no_history");
        } else if there.iter().all(|v| *v == there[0]) {
            flags.push("constant");
        }
        let least = match self {
            Self::SeasonalNaive(f) => f.season + 1,
            Self::RidgeLags(f) => 3 * (f.params.lags + 5) + 2 * f.season,
            Self::Local(f) => (f.kind.least_seasons() * f.season).max(12),
            Self::AutoLocal(f) => f.season.map_or(12, |m| (2 * m).max(12)),
            Self::Ensemble(f) => f.season.map_or(12, |m| (2 * m).max(12)),
            _ => 2,
        };
        if recent.len() < least {
            flags.push("short_history");
        }
        if there.len() * 10 < recent.len() * 9 {
            flags.push("gaps");
        }
        flags
    }

    /// Saves kind, parameters and weights under `prefix`.
    ///
    /// # Errors
    /// [`ModelError::Artifact`] when the parameters cannot be written as JSON.
    pub fn save(&self, map: &mut TensorMap, prefix: &str) -> Result<(), ModelError> {
        let (spec, season, seed) = match self {
            Self::Naive(_) => (ForecasterSpec::Naive, None, 0),
            Self::SeasonalNaive(f) => (ForecasterSpec::SeasonalNaive { season: Some(f.season) }, Some(f.season), 0),
            Self::RidgeLags(f) => (ForecasterSpec::RidgeLags(f.params.clone()), Some(f.season), 0),
            Self::AutoLocal(f) => (ForecasterSpec::AutoLocal(f.params.clone()), f.season, 0),
            Self::Local(f) => (f.spec(), Some(f.season), 0),
            Self::Random(f) => (ForecasterSpec::Random, None, f.seed.0),
            Self::Lstm(f) => {
                map.put_u8(format!("{prefix}forecaster"), b"lstm".to_vec());
                return f.save(map, prefix);
            }
            Self::Ensemble(f) => {
                map.put_u8(format!("{prefix}forecaster"), b"ensemble".to_vec());
                return f.save(map, prefix);
            }
        };
        let name = format!("{prefix}forecaster");
        let text = serde_json::to_vec(&(spec, season, seed)).map_err(|e| ModelError::artifact(&name, e.to_string()))?;
        map.put_u8(name, text);
        Ok(())
    }

    /// Loads what [`FittedForecaster::save`] wrote.
    ///
    /// # Errors
    /// [`ModelError::Artifact`] when a tensor is missing or damaged, [`ModelError::Parameter`] for a value out of range.
    pub fn load(map: &TensorMap, prefix: &str) -> Result<Self, ModelError> {
        let name = format!("{prefix}forecaster");
        let text = map.u8s(&name)?;
        if text == b"lstm" {
            return Ok(Self::Lstm(Box::new(LstmForecaster::load(map, prefix)?)));
        }
        if text == b"ensemble" {
            return Ok(Self::Ensemble(Box::new(Ensemble::load(map, prefix)?)));
        }
        let damaged = |e: serde_json::Error| ModelError::artifact(&name, e.to_string());
        let mut saved: serde_json::Value = serde_json::from_slice(text).map_err(damaged)?;
        if let Some(serde_json::Value::Object(spec)) = saved.get_mut(0).filter(|s| s["kind"] == "auto_local") {
            // Artifacts from before this member go on without it: their calibration knows no other forecasts.
            spec.entry("direct").or_insert(false.into());
        }
        let (spec, season, seed): (ForecasterSpec, Option<usize>, u64) =
            serde_json::from_value(saved).map_err(damaged)?;
        spec.check()?;
        if season == Some(0) {
            return Err(ModelError::artifact(name, "a season of 0 steps"));
        }
        let alone = |kind| Self::Local(LocalForecaster { kind, season: season.unwrap_or(1) });
        Ok(match spec {
            ForecasterSpec::Naive => Self::Naive(Naive),
            ForecasterSpec::SeasonalNaive { .. } => Self::SeasonalNaive(SeasonalNaive { season: season.unwrap_or(1) }),
            ForecasterSpec::RidgeLags(params) => {
                Self::RidgeLags(RidgeLags { params, season: season.unwrap_or(1), second: 0 })
            }
            ForecasterSpec::SeasonalMedian { .. } => alone(LocalKind::SeasonalMedian),
            ForecasterSpec::Theta { .. } => alone(LocalKind::Theta),
            ForecasterSpec::Holt { .. } => alone(LocalKind::Holt),
            ForecasterSpec::RidgeDirect { .. } => alone(LocalKind::RidgeDirect),
            ForecasterSpec::AutoLocal(params) => Self::AutoLocal(AutoLocal { params, season }),
            ForecasterSpec::Random => Self::Random(RandomDraw { seed: Seed(seed) }),
            ForecasterSpec::Lstm(_) | ForecasterSpec::Ensemble(_) => {
                return Err(ModelError::artifact(name, "a trained forecaster without its weights"));
            }
        })
    }
}

impl Forecaster for FittedForecaster {
    fn name(&self) -> &str {
        self.inner().name()
    }

    fn context(&self) -> usize {
        self.inner().context()
    }

    fn forecast(&self, history: &History<'_>, horizon: usize, levels: &[f64]) -> Array2<f64> {
        self.inner().forecast(history, horizon, levels)
    }

    fn forecast_many(&self, histories: &[History<'_>], horizon: usize, levels: &[f64]) -> Vec<Array2<f64>> {
        self.inner().forecast_many(histories, horizon, levels)
    }
}
