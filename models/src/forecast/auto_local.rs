use super::calibrate::Correction;
use super::company::{Plan, Setup};
use super::naive::Naive;
use super::season;
use super::spec::AutoLocalParams;
use super::weights::Prior;
use foreglow_core::{Forecaster, History};
use ndarray::Array2;

/// The default for a series without an artifact: finds the season, tries the local members over rolling origins of the
/// series' own history, and forecasts with a weighted mean of the good ones.
///
/// Season: given, else a day where the step divides one and the data bear it out, else by autocorrelation. Members:
/// naive, seasonal naive, seasonal median, theta, damped Holt(-Winters), ridge on lags, and where a day is the season and
/// two weeks are there those that can use a week once more with it. Weights fall with the sixth power of the absolute error
/// at up to `origins` origins that lie behind one another at the end of the history, step by step ahead; a member 15 %
/// worse than the best does not serve. Quantiles: the members' own, corrected by how the combination did at these origins.
/// Under 12 values: the last value.
#[derive(Debug, Clone, PartialEq)]
pub struct AutoLocal {
    /// Checked parameters.
    pub params: AutoLocalParams,
    /// Steps of the season, where it is known.
    pub season: Option<usize>,
}

impl AutoLocal {
    fn run<T>(&self, work: impl FnOnce(&Setup<'_>) -> T) -> T {
        let (prior, correction) = (Prior::default(), Correction::default());
        work(&Setup {
            season: self.season,
            origins: self.params.origins,
            lags: self.params.lags,
            net: None,
            prior: &prior,
            correction: &correction,
        })
    }

    /// The season of a history, 1 = none.
    pub fn season_of(&self, history: &History<'_>) -> usize {
        self.season.unwrap_or_else(|| season::of_history(history))
    }

    /// See [`FittedForecaster::plan`](super::FittedForecaster::plan).
    pub(super) fn plan(&self, history: &History<'_>, horizon: usize) -> Option<Plan> {
        self.run(|s| s.plan(history, horizon))
    }

    /// See [`FittedForecaster::follow`](super::FittedForecaster::follow).
    pub(super) fn follow(&self, plan: &Plan, history: &History<'_>, horizon: usize, levels: &[f64]) -> Array2<f64> {
        let made = self.run(|s| s.follow(plan, history, horizon, levels));
        made.unwrap_or_else(|| Naive.forecast(history, horizon, levels))
    }

    /// The name of the member that counts most for a history, for reports.
    pub fn chosen(&self, history: &History<'_>, horizon: usize) -> &'static str {
        self.run(|s| s.leader(history, horizon))
    }
}

impl Forecaster for AutoLocal {
    fn name(&self) -> &'static str {
        "auto_local"
    }

    fn context(&self) -> usize {
        season::context(self.season)
    }

    fn forecast(&self, history: &History<'_>, horizon: usize, levels: &[f64]) -> Array2<f64> {
        self.run(|s| s.forecast(history, horizon, levels))
    }
}
