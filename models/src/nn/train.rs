use super::optimizer::{AdamW, OptimizerState};
use crate::ModelError;
use rayon::prelude::*;
use std::f64::consts::PI;

/// How a training run stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainProgress {
    /// Steps done.
    pub step: usize,
    /// Steps planned; an early stop may come before.
    pub steps: usize,
    /// Mean training loss since the last report.
    pub train_loss: f64,
    /// Validation loss of the averaged weights.
    pub validation_loss: f64,
}

/// Hears of a training run after every evaluation.
pub type Progress<'a> = &'a (dyn Fn(TrainProgress) + Sync);

/// A [`Progress`] that says nothing.
pub fn quiet(_: TrainProgress) {}

/// Why a training run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// All planned steps were done.
    Steps,
    /// Validation no longer improved.
    NoImprovement,
}

/// What a training run leaves behind beside its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainReport {
    /// Every evaluation, in order.
    pub history: Vec<TrainProgress>,
    /// The step whose weights were kept.
    pub best_step: usize,
    /// Their validation loss.
    pub best_loss: f64,
    /// Why it ended.
    pub stopped: StopReason,
}

/// What the loop minimises. Who computes the gradient is no matter of the loop.
pub(crate) trait Objective {
    /// Loss of the `step`-th batch; its gradient is written to `gradient`.
    fn gradient(&self, weights: &[f32], step: usize, gradient: &mut [f32]) -> Result<f64, ModelError>;

    /// Loss on rows that training does not see.
    fn validation(&self, weights: &[f32]) -> Result<f64, ModelError>;
}

/// Plan of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    pub(crate) steps: usize,
    pub(crate) rate: f64,
    /// Share of the steps in which the rate rises from 0.
    pub(crate) warmup: f64,
    pub(crate) weight_decay: f64,
    pub(crate) clip: f64,
    /// Decay of the running average of weights.
    pub(crate) average: f64,
    pub(crate) evaluate_every: usize,
    /// Evaluations without improvement before it ends.
    pub(crate) patience: usize,
}

impl Schedule {
    /// Linear warm-up, then half a cosine down to 2 % of the peak (Loshchilov and Hutter 2017, arXiv 1608.03983).
    fn rate_at(&self, step: usize) -> f64 {
        let at = (step as f64 + 1.0) / self.steps as f64;
        if at < self.warmup {
            self.rate * at / self.warmup
        } else {
            let share = (at - self.warmup) / (1.0 - self.warmup);
            self.rate * (0.02 + 0.98 * 0.5 * (1.0 + libm::cos(PI * share)))
        }
    }
}

/// Runs the schedule from `weights`, which end as the best averaged weights by validation loss.
///
/// Averaging: exponential moving average of the weights (Polyak and Juditsky 1992, doi:10.1137/0330046). The start itself
/// is evaluated too, so that a warm start never ends worse on validation than it began.
pub(crate) fn train(
    objective: &dyn Objective,
    schedule: &Schedule,
    weights: &mut [f32],
    state: &mut OptimizerState,
    progress: Progress<'_>,
) -> Result<TrainReport, ModelError> {
    let adam = AdamW { weight_decay: schedule.weight_decay as f32, clip: schedule.clip };
    let mut current = weights.to_vec();
    let mut average = weights.to_vec();
    let mut gradient = vec![0.0f32; weights.len()];
    let mut best_loss = objective.validation(weights)?;
    if !best_loss.is_finite() {
        best_loss = f64::INFINITY;
    }
    let mut report = TrainReport { history: Vec::new(), best_step: 0, best_loss, stopped: StopReason::Steps };
    let (mut sum, mut count, mut idle) = (0.0, 0usize, 0usize);
    for step in 0..schedule.steps {
        sum += objective.gradient(&current, step, &mut gradient)?;
        count += 1;
        adam.step(state, &mut current, &gradient, schedule.rate_at(step));
        let keep = schedule.average.min((1.0 + step as f64) / (10.0 + step as f64)) as f32;
        for (a, w) in average.iter_mut().zip(&current) {
            *a = keep * *a + (1.0 - keep) * w;
        }
        let done = step + 1;
        if !done.is_multiple_of(schedule.evaluate_every) && done != schedule.steps {
            continue;
        }
        let validation = objective.validation(&average)?;
        let now = TrainProgress {
            step: done,
            steps: schedule.steps,
            train_loss: sum / count as f64,
            validation_loss: validation,
        };
        report.history.push(now);
        progress(now);
        (sum, count) = (0.0, 0);
        if validation < report.best_loss {
            (report.best_loss, report.best_step) = (validation, done);
            weights.copy_from_slice(&average);
            idle = 0;
        } else {
            idle += 1;
            if idle >= schedule.patience {
                report.stopped = StopReason::NoImprovement;
                break;
            }
        }
    }
    Ok(report)
}

/// Runs `shards` parts of a batch in parallel, each with its own gradient, and adds losses and gradients in the order of
/// the parts: the same bytes on any number of threads.
pub(crate) fn sum_shards(
    shards: usize,
    gradient: &mut [f32],
    part: impl Fn(usize, &mut [f32]) -> Result<f64, ModelError> + Sync,
) -> Result<f64, ModelError> {
    let parts: Vec<(f64, Vec<f32>)> = (0..shards)
        .into_par_iter()
        .map(|s| {
            let mut g = vec![0.0f32; gradient.len()];
            part(s, &mut g).map(|l| (l, g))
        })
        .collect::<Result<_, ModelError>>()?;
    gradient.fill(0.0);
    let mut loss = 0.0;
    for (l, g) in parts {
        loss += l;
        for (o, v) in gradient.iter_mut().zip(g) {
            *o += v;
        }
    }
    Ok(loss)
}
