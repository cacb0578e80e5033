use super::known::{Acquaintance, Known};
use super::quantiles::at_levels;
use super::season;
use super::series::TrainSeries;
use crate::ModelError;
use crate::artifact::TensorMap;
use crate::nn::{LstmFit, LstmNet, LstmParams, OptimizerState, Progress, TrainReport};
use foreglow_core::{Forecaster, History, Seed};
use ndarray::Array2;

/// The global LSTM as a forecaster; see [`crate::nn::lstm`].
#[derive(Debug, Clone, PartialEq)]
pub struct LstmForecaster {
    /// The trained net.
    pub net: LstmNet,
    known: Known,
}

/// What training left beside the forecaster: report, optimiser and what to know.
pub(super) struct Training {
    pub(super) report: TrainReport,
    pub(super) optimizer: OptimizerState,
    pub(super) notes: Vec<String>,
}

impl LstmForecaster {
    /// Trains a net over all series; without a season of its own with the one that most of them have.
    pub(super) fn fit(
        params: &LstmParams,
        series: &[TrainSeries<'_>],
        season: Option<usize>,
        seed: Seed,
        progress: Progress<'_>,
    ) -> Result<(Self, Training), ModelError> {
        let season = season.unwrap_or_else(|| season::of_series(series));
        let fit = LstmNet::train(series, Some(season), params, seed, progress)?;
        Ok(Self::after(fit, series, Vec::new()))
    }

    /// Goes on training; the weights stay the old ones when no step brings the error on the newest windows down.
    pub(super) fn fit_on(
        &self,
        optimizer: Option<&OptimizerState>,
        params: &LstmParams,
        series: &[TrainSeries<'_>],
        seed: Seed,
        progress: Progress<'_>,
    ) -> Result<(Self, Training), ModelError> {
        let fresh: Vec<usize> = (series.iter())
            .map(|s| {
                let last = s.start.plus((s.values.len() as i64 - 1) * s.step.ms());
                self.known.new_from(&History { values: s.values, last, step: s.step })
            })
            .collect();
        let fit = self.net.continue_training(optimizer, series, &fresh, params, seed, progress)?;
        let mut notes = Vec::new();
        if fit.report.best_step == 0 {
            let later = fit.report.history.iter().map(|h| h.validation_loss).fold(f64::INFINITY, f64::min);
            notes.push(format!(
                "warm start: the old weights were kept, training on raised the loss on the newest windows from {:.4} to {later:.4}",
                fit.report.best_loss
            ));
        }
        Ok(Self::after(fit, series, notes))
    }

    fn after(fit: LstmFit, series: &[TrainSeries<'_>], notes: Vec<String>) -> (Self, Training) {
        let LstmFit { net, optimizer, report } = fit;
        (Self { net, known: Known::new(series) }, Training { report, optimizer, notes })
    }

    /// The index from which on no weight was fitted to the values of `history`: the part of a training series that was held
    /// out counts as unseen, since it chose nothing but when to stop.
    pub(super) fn unseen_from(&self, history: &History<'_>) -> usize {
        match self.known.recognise(history) {
            Acquaintance::Known { end, length } => end.saturating_sub(length - self.net.held_out_from(length)),
            Acquaintance::New => 0,
            Acquaintance::Unsure => history.values.len(),
        }
    }

    /// Saves the net and what it was trained on.
    pub(super) fn save(&self, map: &mut TensorMap, prefix: &str) -> Result<(), ModelError> {
        self.net.save(map, prefix);
        let name = format!("{prefix}known");
        let text = serde_json::to_vec(&self.known).map_err(|e| ModelError::artifact(&name, e.to_string()))?;
        map.put_u8(name, text);
        Ok(())
    }

    /// Loads what [`LstmForecaster::save`] wrote. An artifact of before it was kept does not say what its net knows; no
    /// ensemble is that old, and a warm start then takes everything as new.
    pub(super) fn load(map: &TensorMap, prefix: &str) -> Result<Self, ModelError> {
        let name = format!("{prefix}known");
        let known = if map.contains(&name) {
            serde_json::from_slice(map.u8s(&name)?).map_err(|e| ModelError::artifact(&name, e.to_string()))?
        } else {
            Known::default()
        };
        Ok(Self { net: LstmNet::load(map, prefix)?, known })
    }
}

impl Forecaster for LstmForecaster {
    fn name(&self) -> &'static str {
        "lstm"
    }

    fn context(&self) -> usize {
        self.net.shape().reach()
    }

    fn forecast(&self, history: &History<'_>, horizon: usize, levels: &[f64]) -> Array2<f64> {
        table(&self.net.quantiles(history, horizon), levels)
    }

    fn forecast_many(&self, histories: &[History<'_>], horizon: usize, levels: &[f64]) -> Vec<Array2<f64>> {
        self.net.quantiles_many(histories, horizon).iter().map(|rows| table(rows, levels)).collect()
    }
}

fn table<const N: usize>(rows: &[[f64; N]], levels: &[f64]) -> Array2<f64> {
    let mut out = Array2::zeros((rows.len(), levels.len()));
    for (k, row) in rows.iter().enumerate() {
        at_levels(row, levels, |l, v| out[[k, l]] = v);
    }
    out
}
