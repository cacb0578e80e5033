use super::spec::ResidualParams;
use crate::ModelError;
use crate::artifact::TensorMap;
use crate::forecast::FittedForecaster;
use foreglow_core::{Detector, Forecaster, History, RawScore, Row, Scope, Step};

/// The quantiles that a residual is measured by.
const LEVELS: [f64; 3] = [0.1, 0.5, 0.9];
/// `(q0.9 - q0.1)` of a normal variable in standard deviations.
const SPAN: f64 = 2.563_103_131_089_201;
/// A forecast is no surer than this (scaled units).
const LEAST_SPREAD: f64 = 0.05;
/// Steps of history before a forecast says anything.
const LEAST_HISTORY: usize = 32;

/// Error of a forecaster, signal by signal, in units of the spread that it forecast itself.
///
/// A forecast of `every` steps is made from the scaled values before the row and used until it is used up, so it is at
/// most that old. State: two numbers, and for each signal twice the context (so that the past is one slice without being
/// moved each step) and three quantiles a step. Scoring allocates nothing but in the steps that forecast anew.
#[derive(Debug, Clone, PartialEq)]
pub struct ResidualDetector {
    pub(crate) forecaster: FittedForecaster,
    signals: usize,
    step: Step,
    every: usize,
    context: usize,
}

impl ResidualDetector {
    /// Wraps a forecaster of scaled values.
    pub fn new(forecaster: FittedForecaster, signals: usize, step: Step, params: &ResidualParams) -> Self {
        let context = params.context.min(forecaster.context()).max(LEAST_HISTORY);
        Self { forecaster, signals, step, every: params.every, context }
    }

    fn block(&self) -> usize {
        2 * self.context + LEVELS.len() * self.every
    }

    /// Appends a row of values (or missing ones) to the past.
    fn push(&self, state: &mut [f64], value: impl Fn(usize) -> f64) {
        let (head, blocks) = state.split_at_mut(2);
        let c = self.context;
        if head[0] >= (2 * c) as f64 {
            for b in blocks.chunks_exact_mut(self.block()) {
                b.copy_within(c..2 * c, 0);
            }
            head[0] = c as f64;
        }
        let at = head[0] as usize;
        for (i, b) in blocks.chunks_exact_mut(self.block()).enumerate() {
            b[at] = value(i);
        }
        head[0] += 1.0;
    }

    /// Saves it under `prefix`.
    ///
    /// # Errors
    /// As [`FittedForecaster::save`].
    pub fn save(&self, map: &mut TensorMap, prefix: &str) -> Result<(), ModelError> {
        let head = [self.signals as f64, self.step.ms() as f64, self.every as f64, self.context as f64];
        map.put_f64(format!("{prefix}residual"), &[4], head.to_vec());
        self.forecaster.save(map, prefix)
    }

    /// Loads what [`ResidualDetector::save`] wrote.
    ///
    /// # Errors
    /// [`ModelError::Artifact`] when a tensor is missing or damaged.
    pub fn load(map: &TensorMap, prefix: &str) -> Result<Self, ModelError> {
        let name = format!("{prefix}residual");
        let h = map.f64s_of(&name, 4)?;
        let limits = [1e6, 9e15, 256.0, 8192.0];
        if h.iter().zip(limits).any(|(v, most)| !(*v >= 1.0 && *v <= most && v.fract() == 0.0)) {
            return Err(ModelError::artifact(name, format!("{h:?} is no shape of a residual detector")));
        }
        Ok(Self {
            forecaster: FittedForecaster::load(map, prefix)?,
            signals: h[0] as usize,
            step: Step::from_ms(h[1] as i64)?,
            every: h[2] as usize,
            context: h[3] as usize,
        })
    }
}

impl Detector for ResidualDetector {
    fn name(&self) -> &'static str {
        "residual"
    }

    fn scope(&self) -> Scope {
        Scope::Signal
    }

    fn state_len(&self) -> usize {
        2 + self.signals * self.block()
    }

    fn reset(&self, state: &mut [f64]) {
        state.fill(0.0);
        state[1] = self.every as f64;
    }

    fn step(&self, state: &mut [f64], row: &Row<'_>, out: &mut RawScore) {
        for _ in 0..row.gap.min(2 * self.context) {
            self.push(state, |_| f64::NAN);
        }
        state[1] += row.gap.min(self.every) as f64;
        let c = self.context;
        let len = state[0] as usize;
        if state[1] >= self.every as f64 && len >= LEAST_HISTORY {
            let block = self.block();
            let last = row.time.plus(-self.step.ms());
            let from = len.saturating_sub(c);
            let table = {
                let histories: Vec<History<'_>> = state[2..]
                    .chunks_exact(block)
                    .map(|b| History { values: &b[from..len], last, step: self.step })
                    .collect();
                self.forecaster.forecast_many(&histories, self.every, &LEVELS)
            };
            for (b, quantiles) in state[2..].chunks_exact_mut(block).zip(&table) {
                for (o, q) in b[2 * c..].iter_mut().zip(quantiles) {
                    *o = *q;
                }
            }
            state[1] = 0.0;
        }
        if len >= LEAST_HISTORY {
            let at = 2 * c + LEVELS.len() * state[1] as usize;
            for (i, b) in state[2..].chunks_exact(self.block()).enumerate() {
                let [low, middle, high] = [b[at], b[at + 1], b[at + 2]];
                out.expected[i] = middle;
                out.signals[i] = (row.values[i] - middle).abs() / ((high - low) / SPAN).max(LEAST_SPREAD);
            }
        }
        self.push(state, |i| row.values[i]);
        state[1] += 1.0;
    }
}
