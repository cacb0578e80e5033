use super::drift::Drift;
use super::spec::{AmplitudeParams, Judge, ShiftParams};
use crate::ModelError;
use crate::artifact::TensorMap;
use foreglow_core::stats::{MAD_TO_SD, mad, median};
use foreglow_core::{Detector, RawScore, Row, Scope};
use ndarray::ArrayView2;

/// A signal's robust spread is no smaller than this share of its train deviation: a signal that rests most of the time
/// has a median absolute deviation of 0.
const LEAST_SPREAD: f64 = 0.1;
/// The long mean is moved by no more than this many spreads a step.
const HUBER: f64 = 3.0;
/// Values are held inside ± this many deviations.
const CLIP: f64 = 50.0;

/// Median and robust spread of each scaled signal in train.
#[derive(Debug, Clone, PartialEq)]
pub struct RobustUnits {
    centre: Vec<f64>,
    spread: Vec<f64>,
}

impl RobustUnits {
    fn fit(rows: ArrayView2<'_, f64>) -> Self {
        let (mut centre, mut spread) = (Vec::new(), Vec::new());
        for column in rows.columns() {
            let column = column.to_vec();
            let (m, s) = (median(&column), MAD_TO_SD * mad(&column));
            centre.push(if m.is_finite() { m } else { 0.0 });
            spread.push(if s.is_finite() { s.max(LEAST_SPREAD) } else { 1.0 });
        }
        Self { centre, spread }
    }

    fn apply(&self, i: usize, z: f64) -> f64 {
        (z - self.centre[i]) / self.spread[i]
    }

    fn save(&self, map: &mut TensorMap, prefix: &str) {
        map.put_f64(format!("{prefix}centre"), &[self.centre.len()], self.centre.clone());
        map.put_f64(format!("{prefix}spread"), &[self.spread.len()], self.spread.clone());
    }

    fn load(map: &TensorMap, prefix: &str) -> Result<Self, ModelError> {
        let centre = map.f64s(&format!("{prefix}centre"))?.1.to_vec();
        let spread = map.f64s_of(&format!("{prefix}spread"), centre.len())?;
        if centre.iter().any(|v| !v.is_finite()) || spread.iter().any(|v| !(*v > 0.0)) {
            return Err(ModelError::artifact(format!("{prefix}spread"), "a centre or spread is damaged; fit again"));
        }
        Ok(Self { centre, spread })
    }
}

/// Amplitude: how far values are from the centre of train, by row (squared train deviations, added) or signal by signal
/// (`|x - median| / MAD`). Plain, and what embeddings and residuals lose (PaAno with amplitude: arXiv 2606.08935). State:
/// a slow centre of each signal.
#[derive(Debug, Clone, PartialEq)]
pub struct AmplitudeDetector {
    units: RobustUnits,
    judge: Judge,
    drift: Drift,
}

impl AmplitudeDetector {
    /// Learns medians and spreads of scaled rows.
    pub fn fit(rows: ArrayView2<'_, f64>, params: &AmplitudeParams) -> Self {
        Self { units: RobustUnits::fit(rows), judge: params.judge, drift: Drift::new(params.adapt) }
    }

    /// Saves it under `prefix`.
    pub fn save(&self, map: &mut TensorMap, prefix: &str) {
        self.units.save(map, prefix);
        let judge = f64::from(u8::from(self.judge == Judge::Row));
        map.put_f64(format!("{prefix}judge"), &[2], vec![judge, self.drift.memory]);
    }

    /// Loads what [`AmplitudeDetector::save`] wrote.
    ///
    /// # Errors
    /// [`ModelError::Artifact`] when a tensor is missing or damaged.
    pub fn load(map: &TensorMap, prefix: &str) -> Result<Self, ModelError> {
        let head = map.f64s_of(&format!("{prefix}judge"), 2)?;
        if !(head[1] >= 0.0) {
            return Err(ModelError::artifact(format!("{prefix}judge"), format!("a memory of {} steps", head[1])));
        }
        let judge = if head[0] == 0.0 { Judge::Signals } else { Judge::Row };
        Ok(Self { units: RobustUnits::load(map, prefix)?, judge, drift: Drift { memory: head[1] } })
    }
}

impl Detector for AmplitudeDetector {
    fn name(&self) -> &'static str {
        "amplitude"
    }

    fn scope(&self) -> Scope {
        if self.judge == Judge::Row { Scope::Group } else { Scope::Signal }
    }

    fn state_len(&self) -> usize {
        self.drift.state_len(self.units.centre.len())
    }

    fn reset(&self, state: &mut [f64]) {
        state.fill(0.0);
    }

    fn step(&self, state: &mut [f64], row: &Row<'_>, out: &mut RawScore) {
        let by_row = self.judge == Judge::Row;
        let (mut sum, mut any) = (0.0, false);
        for (i, (o, z)) in out.signals.iter_mut().zip(row.values).enumerate() {
            if z.is_nan() {
                *o = if by_row { 0.0 } else { f64::NAN };
                continue;
            }
            any = true;
            let r = if by_row { *z } else { self.units.apply(i, *z) };
            let off = self.drift.off(state, i, r.clamp(-CLIP, CLIP)).abs();
            sum += off * off;
            *o = if by_row { off * off } else { off };
        }
        if by_row && any {
            out.group = sum;
        }
    }
}

/// Mean shift: the mean of the last steps against that of a much longer past, in the robust units of train, signal by
/// signal. Both are exponential means; the long one is robust (steps of at most three spreads) and begins at the train
/// median. State: two numbers a signal.
#[derive(Debug, Clone, PartialEq)]
pub struct ShiftDetector {
    units: RobustUnits,
    short: f64,
    long: f64,
}

impl ShiftDetector {
    /// Learns medians and spreads of scaled rows.
    pub fn fit(rows: ArrayView2<'_, f64>, params: &ShiftParams) -> Self {
        Self { units: RobustUnits::fit(rows), short: params.short as f64, long: params.long as f64 }
    }

    /// Saves it under `prefix`.
    pub fn save(&self, map: &mut TensorMap, prefix: &str) {
        self.units.save(map, prefix);
        map.put_f64(format!("{prefix}windows"), &[2], vec![self.short, self.long]);
    }

    /// Loads what [`ShiftDetector::save`] wrote.
    ///
    /// # Errors
    /// [`ModelError::Artifact`] when a tensor is missing or damaged.
    pub fn load(map: &TensorMap, prefix: &str) -> Result<Self, ModelError> {
        let w = map.f64s_of(&format!("{prefix}windows"), 2)?;
        if !(w[0] >= 1.0 && w[1] > w[0]) {
            return Err(ModelError::artifact(format!("{prefix}windows"), format!("{w:?} are no windows")));
        }
        Ok(Self { units: RobustUnits::load(map, prefix)?, short: w[0], long: w[1] })
    }
}

impl Detector for ShiftDetector {
    fn name(&self) -> &'static str {
        "shift"
    }

    fn scope(&self) -> Scope {
        Scope::Signal
    }

    fn state_len(&self) -> usize {
        2 * self.units.centre.len()
    }

    fn reset(&self, state: &mut [f64]) {
        state.fill(0.0);
    }

    fn step(&self, state: &mut [f64], row: &Row<'_>, out: &mut RawScore) {
        for (i, (o, z)) in out.signals.iter_mut().zip(row.values).enumerate() {
            let r = self.units.apply(i, *z);
            if r.is_nan() {
                continue;
            }
            let [short, long] = &mut state[2 * i..2 * i + 2] else { continue };
            *short += (r.clamp(-CLIP, CLIP) - *short) / self.short;
            *o = (*short - *long).abs();
            *long += (r - *long).clamp(-HUBER, HUBER) / self.long;
        }
    }
}
