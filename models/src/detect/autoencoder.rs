use super::drift::Drift;
use super::spec::Judge;
use crate::ModelError;
use crate::artifact::TensorMap;
use crate::nn::{Autoencoder, Scratch};
use foreglow_core::{Detector, RawScore, Row, Scope};
use ndarray::ArrayView2;
use std::cell::RefCell;

/// Values that the net sees are held inside ± this many train deviations when they are judged.
const CLIP: f32 = 50.0;

/// Buffers of one thread: input, output and the net's own.
#[derive(Default)]
struct Buffers {
    x: Vec<f32>,
    y: Vec<f32>,
    scratch: Option<Scratch>,
    widest: usize,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// What an autoencoder does not restore of a scaled row, signal by signal or squared and added.
///
/// A missing value is read as the train mean and gets no score. State: a slow centre of each signal's
/// residual; no allocation after a thread's first row.
#[derive(Debug, Clone, PartialEq)]
pub struct AutoencoderDetector {
    pub(crate) net: Autoencoder,
    judge: Judge,
    drift: Drift,
}

impl AutoencoderDetector {
    /// Wraps a trained net; `adapt` as in its parameters.
    pub fn new(net: Autoencoder, judge: Judge, adapt: usize) -> Self {
        Self { net, judge, drift: Drift::new(adapt) }
    }

    /// Calls `each(signal, value, restored)` for the present values of a scaled row.
    fn compare(&self, z: &[f64], mut each: impl FnMut(usize, f64, f64)) {
        BUFFERS.with_borrow_mut(|b| {
            let width = self.net.width();
            let widest = self.net.sizes().iter().copied().max().unwrap_or(width);
            b.x.resize(width, 0.0);
            b.y.resize(width, 0.0);
            if b.widest < widest {
                b.scratch = None;
                b.widest = widest;
            }
            let scratch = b.scratch.get_or_insert_with(|| self.net.scratch());
            for (x, v) in b.x.iter_mut().zip(z) {
                *x = (*v as f32).clamp(-CLIP, CLIP);
            }
            self.net.reconstruct(&b.x, &mut b.y, scratch);
            for (i, (x, y)) in b.x.iter().zip(&b.y).enumerate() {
                if !x.is_nan() {
                    each(i, f64::from(*x), f64::from(*y));
                }
            }
        });
    }

    /// Mean absolute error over scaled rows; NaN when nothing is there.
    pub(crate) fn loss(&self, rows: ArrayView2<'_, f64>) -> f64 {
        let (mut sum, mut n) = (0.0, 0usize);
        for row in rows.rows() {
            let row = row.to_vec();
            self.compare(&row, |_, x, y| {
                sum += (x - y).abs();
                n += 1;
            });
        }
        if n == 0 { f64::NAN } else { sum / n as f64 }
    }

    /// Saves the net under `prefix`.
    pub fn save(&self, map: &mut TensorMap, prefix: &str) {
        self.net.save(map, prefix);
        map.put_f64(
            format!("{prefix}judge"),
            &[2],
            vec![f64::from(u8::from(self.judge == Judge::Row)), self.drift.memory],
        );
    }

    /// Loads what [`AutoencoderDetector::save`] wrote.
    ///
    /// # Errors
    /// [`ModelError::Artifact`] when a tensor is missing or damaged.
    pub fn load(map: &TensorMap, prefix: &str) -> Result<Self, ModelError> {
        let head = map.f64s_of(&format!("{prefix}judge"), 2)?;
        if !(head[1] >= 0.0) {
            return Err(ModelError::artifact(format!("{prefix}judge"), format!("a memory of {} steps", head[1])));
        }
        let judge = if head[0] == 0.0 { Judge::Signals } else { Judge::Row };
        Ok(Self { net: Autoencoder::load(map, prefix)?, judge, drift: Drift { memory: head[1] } })
    }
}

impl Detector for AutoencoderDetector {
    fn name(&self) -> &'static str {
        "autoencoder"
    }

    fn scope(&self) -> Scope {
        if self.judge == Judge::Row { Scope::Group } else { Scope::Signal }
    }

    fn state_len(&self) -> usize {
        self.drift.state_len(self.net.width())
    }

    fn reset(&self, state: &mut [f64]) {
        state.fill(0.0);
    }

    fn step(&self, state: &mut [f64], row: &Row<'_>, out: &mut RawScore) {
        if row.values.iter().all(|v| v.is_nan()) {
            return;
        }
        let by_row = self.judge == Judge::Row;
        let mut sum = 0.0;
        let signals = &mut out.signals;
        signals.fill(if by_row { 0.0 } else { f64::NAN });
        self.compare(row.values, |i, x, y| {
            let off = self.drift.off(state, i, x - y);
            sum += off * off;
            signals[i] = if by_row { off * off } else { off.abs() };
        });
        if by_row {
            out.group = sum;
        }
    }
}
