use super::calibrate::{Correction, Scores};
use super::company::{Setup, Weighed};
use super::judgement::Judgement;
use super::lstm::{LstmForecaster, Training};
use super::naive::Naive;
use super::season;
use super::series::TrainSeries;
use super::spec::EnsembleParams;
use super::weights::Prior;
use crate::ModelError;
use crate::artifact::TensorMap;
use crate::nn::{OptimizerState, Progress};
use foreglow_core::{Forecaster, History, Seed};
use ndarray::Array2;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Series that the pooled knowledge is drawn from, at most.
const POOL: usize = 512;

/// Local members and the global net together, weighted series by series.
///
/// Every member is tried over rolling origins of the series' own past, the net only where it was not trained on what
/// followed. Weights fall with the square of the absolute error, by steps ahead, and are then moved to where the members
/// together would have erred least; the forecast is the weighted interquartile mean, so that no single member carries it
/// away. Newer origins count more. What the origins of one series say is joined with what was seen over all series at
/// fitting: the mean relative error of each member, and the conformal correction of the quantiles by steps ahead (Romano
/// et al. 2019, arXiv 1905.03222). A series never seen is judged from its own history, with the same prior.
#[derive(Debug, Clone, PartialEq)]
pub struct Ensemble {
    /// Checked parameters.
    pub params: EnsembleParams,
    /// Steps of the season, where it is known.
    pub season: Option<usize>,
    /// The net; absent when it is switched off or nothing was long enough to train it.
    pub net: Option<LstmForecaster>,
    prior: Prior,
    correction: Correction,
}

/// The saved form, beside the net.
#[derive(Serialize, Deserialize)]
struct Saved {
    params: EnsembleParams,
    season: Option<usize>,
    net: bool,
    prior: Prior,
    correction: Correction,
}

impl Ensemble {
    /// Trains the net over all series, then learns prior and correction from rolling origins of each.
    ///
    /// Without a series long enough for the net it is fitted without one, and a note says so.
    ///
    /// # Errors
    /// [`ModelError::Parameter`] for a field out of range.
    pub(super) fn fit(
        params: &EnsembleParams,
        series: &[TrainSeries<'_>],
        season: Option<usize>,
        before: Option<(&Self, Option<&OptimizerState>)>,
        seed: Seed,
        progress: Progress<'_>,
    ) -> Result<(Self, Option<Training>, Vec<String>), ModelError> {
        let season = params.season.or(season);
        let mut notes = Vec::new();
        let trained = if params.network {
            let net = before.and_then(|(e, o)| e.net.as_ref().map(|n| (n, o)));
            let run = match net {
                Some((net, optimizer)) => net.fit_on(optimizer, &params.lstm, series, seed, progress),
                None => LstmForecaster::fit(&params.lstm, series, season, seed, progress),
            };
            match run {
                Ok(fit) => Some(fit),
                Err(ModelError::Data { what, problem }) => {
                    notes.push(format!("the ensemble has no net: cannot fit {what}: {problem}"));
                    None
                }
                Err(e) => return Err(e),
            }
        } else {
            None
        };
        let (net, training) = trained.unzip();
        let (prior, correction) = (Prior::default(), Correction::default());
        let mut made = Self { params: params.clone(), season, net, prior, correction };
        made.learn(series);
        Ok((made, training, notes))
    }

    /// Prior and correction from rolling origins of each series. The net's held-out part is its honest past here.
    fn learn(&mut self, series: &[TrainSeries<'_>]) {
        let every = series.len().div_ceil(POOL).max(1);
        let chosen: Vec<&TrainSeries<'_>> = series.iter().step_by(every).collect();
        let (none, nothing) = (Prior::default(), Correction::default());
        let judged: Vec<_> = chosen
            .par_iter()
            .map(|s| {
                let honest = self.net.as_ref().map_or(0, |net| net.net.held_out_from(s.values.len()));
                let from = s.values.len().saturating_sub(season::context(self.season));
                let (values, honest) = (&s.values[from..], honest.saturating_sub(from));
                let setup = self.setup(&none, &nothing, Some(honest));
                let last = s.start.plus((s.values.len() as i64 - 1) * s.step.ms());
                let history = History { values, last, step: s.step };
                let horizon = self.horizon(&history);
                setup.with(&history, |case| case.company.judge(&case.past, horizon)).flatten()
            })
            .collect();
        let relative: Vec<(usize, Vec<f64>)> = judged.iter().flatten().flat_map(Judgement::relative).collect();
        self.prior = Prior::pool(relative.iter().map(|(s, r)| (*s, r.as_slice())));
        let mut pool = Scores::default();
        let scores: Vec<Scores> = judged.par_iter().flatten().map(|j| j.scores(&self.prior)).collect();
        for s in &scores {
            pool.extend(s);
        }
        self.correction = pool.pooled();
    }

    /// The horizon that members are judged at when fitting: two seasons, at most a tenth of the series.
    fn horizon(&self, history: &History<'_>) -> usize {
        let m = self.season.unwrap_or_else(|| season::of_history(history));
        (2 * m).clamp(24, 1440).min(history.values.len() / 10).max(1)
    }

    fn setup<'a>(&'a self, prior: &'a Prior, correction: &'a Correction, honest: Option<usize>) -> Setup<'a> {
        Setup {
            season: self.season,
            origins: self.params.origins,
            lags: self.params.lags,
            net: self.net.as_ref().map(|n| &n.net).zip(honest),
            prior,
            correction,
        }
    }

    /// The newest values that are read, and the setup for them.
    fn on<'a, 'h>(&'a self, history: &History<'h>) -> (History<'h>, Setup<'a>) {
        let values = &history.values[history.values.len().saturating_sub(self.context())..];
        let history = History { values, ..*history };
        let honest = self.net.as_ref().map_or(0, |n| n.unseen_from(&history));
        (history, self.setup(&self.prior, &self.correction, Some(honest)))
    }

    /// See [`FittedForecaster::plan`](super::FittedForecaster::plan).
    pub(super) fn plan(&self, history: &History<'_>, horizon: usize) -> Option<Weighed> {
        let (history, setup) = self.on(history);
        setup.plan(&history, horizon)
    }

    /// See [`FittedForecaster::follow`](super::FittedForecaster::follow).
    pub(super) fn follow(&self, plan: &Weighed, history: &History<'_>, horizon: usize, levels: &[f64]) -> Array2<f64> {
        let (history, setup) = self.on(history);
        let made = setup.follow(plan, &history, horizon, levels);
        made.unwrap_or_else(|| Naive.forecast(&history, horizon, levels))
    }

    /// The name of the member that counts most for a history, for reports.
    pub fn leader(&self, history: &History<'_>, horizon: usize) -> &'static str {
        let (history, setup) = self.on(history);
        setup.leader(&history, horizon)
    }

    /// Saves everything under `prefix`.
    pub(super) fn save(&self, map: &mut TensorMap, prefix: &str) -> Result<(), ModelError> {
        let name = format!("{prefix}ensemble");
        let saved = Saved {
            params: self.params.clone(),
            season: self.season,
            net: self.net.is_some(),
            prior: self.prior.clone(),
            correction: self.correction.clone(),
        };
        let text = serde_json::to_vec(&saved).map_err(|e| ModelError::artifact(&name, e.to_string()))?;
        map.put_u8(name, text);
        if let Some(net) = &self.net {
            net.save(map, prefix)?;
        }
        Ok(())
    }

    /// Loads what [`Ensemble::save`] wrote.
    pub(super) fn load(map: &TensorMap, prefix: &str) -> Result<Self, ModelError> {
        let name = format!("{prefix}ensemble");
        let s: Saved =
            serde_json::from_slice(map.u8s(&name)?).map_err(|e| ModelError::artifact(&name, e.to_string()))?;
        s.params.check()?;
        if s.season == Some(0) {
            return Err(ModelError::artifact(name, "a season of 0 steps"));
        }
        let net = if s.net { Some(LstmForecaster::load(map, prefix)?) } else { None };
        Ok(Self { params: s.params, season: s.season, net, prior: s.prior, correction: s.correction })
    }
}

impl Forecaster for Ensemble {
    fn name(&self) -> &'static str {
        "ensemble"
    }

    fn context(&self) -> usize {
        let net = self.net.as_ref().map_or(0, Forecaster::context);
        season::context(self.season).max(net)
    }

    fn forecast(&self, history: &History<'_>, horizon: usize, levels: &[f64]) -> Array2<f64> {
        let (history, setup) = self.on(history);
        setup.forecast(&history, horizon, levels)
    }

    fn forecast_many(&self, histories: &[History<'_>], horizon: usize, levels: &[f64]) -> Vec<Array2<f64>> {
        histories.par_iter().map(|h| self.forecast(h, horizon, levels)).collect()
    }
}
