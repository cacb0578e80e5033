use super::shape::LstmShape;
use super::window::{Verdict, Window};
use crate::ModelError;
use crate::forecast::TrainSeries;
use foreglow_core::Seed;
use rand::Rng;

/// No more validation windows than about this.
const VALIDATION_WINDOWS: usize = 384;
/// Draws before a window is given up.
const TRIES: usize = 8;
/// Below this many series the last tenth of each is held out for validation, else its last block.
const MANY_SERIES: usize = 32;

/// A window with what came after it.
#[derive(Debug, Clone)]
pub(super) struct Example {
    pub(super) window: Window,
    /// The block behind the window in the net's units, 0 where missing.
    pub(super) target: Vec<f32>,
    /// 1 where a target is there.
    pub(super) mask: Vec<f32>,
}

/// One series' share.
struct Part {
    series: usize,
    /// Cutoffs of training lie in `low..=high`.
    low: usize,
    high: usize,
    /// Where what an earlier training has not seen begins; 0 when there was none.
    fresh: usize,
}

/// How many values at the end of a series of `length` no training window reaches, at least.
pub(super) fn held_out(length: usize, block: usize) -> usize {
    block.min(length.saturating_sub(block + 1))
}

/// Draws training windows: first a series, each as likely as any other, then a cutoff.
pub(super) struct Sampler<'a> {
    series: &'a [TrainSeries<'a>],
    parts: Vec<Part>,
    shape: LstmShape,
    /// Windows whose targets no training window reaches.
    pub(super) validation: Vec<Example>,
}

impl<'a> Sampler<'a> {
    /// `fresh` gives for each series where the values begin that an earlier training has not seen; empty for a first one.
    pub(super) fn new(series: &'a [TrainSeries<'a>], shape: LstmShape, fresh: &[usize]) -> Result<Self, ModelError> {
        let block = shape.block;
        let shortest = 2 * block + shape.patch.max(4);
        let long: Vec<usize> = (0..series.len())
            .filter(|s| {
                let v = series[*s].values;
                v.len() >= shortest && v.iter().filter(|x| x.is_finite()).count() * 4 >= shortest
            })
            .collect();
        let mut parts = Vec::with_capacity(long.len());
        let mut cutoffs = Vec::new();
        let each = VALIDATION_WINDOWS.div_ceil(long.len().max(1));
        let every = long.len().div_ceil(VALIDATION_WINDOWS).max(1);
        for (i, s) in long.iter().enumerate() {
            let n = series[*s].values.len();
            let held = if long.len() < MANY_SERIES { (n / 10).min(n - block - 1) } else { 0 };
            let held = held.max(held_out(n, block));
            let high = n - held - block;
            let fresh = fresh.get(*s).copied().unwrap_or(0);
            parts.push(Part { series: *s, low: shape.context().min(high / 2).max(1), high, fresh });
            if i % every == 0 {
                let room = held - block.min(held);
                let stride = room.div_ceil(each).max(1);
                cutoffs.extend((0..=room).step_by(stride).map(|back| (*s, n - block - back)));
            }
        }
        let mut sampler = Self { series, parts, shape, validation: Vec::new() };
        sampler.validation = cutoffs.into_iter().filter_map(|(s, c)| sampler.example(s, c)).collect();
        if sampler.validation.is_empty() {
            let problem = format!(
                "no series has {shortest} values that vary; give longer series, or set lstm.horizon_block or lstm.context lower"
            );
            return Err(ModelError::data("an LSTM forecaster", problem));
        }
        Ok(sampler)
    }

    /// The `index`-th window of the batch with this seed; `None` when the draws met only constant or empty stretches.
    /// After an earlier training half of the windows end in what is new, half anywhere, so that the old is not forgotten.
    pub(super) fn draw(&self, batch: Seed, index: usize) -> Option<Example> {
        let mut rng = batch.nth(index as u64).rng();
        (0..TRIES).find_map(|_| {
            let part = &self.parts[rng.gen_range(0..self.parts.len())];
            let high = part.high.max(part.low);
            let anew = part.fresh > 0 && rng.gen_bool(0.5);
            let low = if anew { part.fresh.clamp(part.low, high) } else { part.low };
            self.example(part.series, rng.gen_range(low..=high))
        })
    }

    /// The window that ends before `cutoff`.
    fn example(&self, series: usize, cutoff: usize) -> Option<Example> {
        let s = &self.series[series];
        let mut window = Window::new(&self.shape);
        let last = s.start.plus((cutoff as i64 - 1) * s.step.ms());
        if window.fill(&self.shape, &s.values[..cutoff], last, s.step) != Verdict::Usable {
            return None;
        }
        let after = &s.values[cutoff..(cutoff + self.shape.block).min(s.values.len())];
        let mut target = vec![0.0; self.shape.block];
        let mut mask = vec![0.0; self.shape.block];
        for (k, v) in after.iter().enumerate().filter(|(_, v)| v.is_finite()) {
            target[k] = window.encode(k, *v);
            mask[k] = 1.0;
        }
        mask.iter().any(|m| *m > 0.0).then_some(Example { window, target, mask })
    }
}
