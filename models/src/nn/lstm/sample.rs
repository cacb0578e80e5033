use super::shape::LstmShape;
use super::window::{Verdict, Window};
use crate::ModelError;
use crate::forecast::TrainSeries;
use foreglow_core::Seed;
use rand::Rng;

/// No more validation windows than about this.
const VALIDATION_WINDOWS: usize = 384;
/// More spacings than any net has; a common multiple of their numbers, so that each is as likely as the others.
const SPACINGS: usize = 60;
/// Draws before a window is given up.
const TRIES: usize = 8;
/// One in this many values at the end of a series is held out for validation, at least a block.
const HELD_OUT: usize = 10;

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
    /// The first cutoff.
    low: usize,
    /// Targets lie before this.
    end: usize,
    /// Where what an earlier training has not seen begins; 0 when there was none.
    fresh: usize,
}

/// How many values at the end of a series of `length` training does not see.
pub(super) fn held_out(length: usize, block: usize) -> usize {
    (length / HELD_OUT).max(block).min(length.saturating_sub(block + 1))
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
        let shortest = 2 * block + shape.patch().max(4);
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
            let held = held_out(n, block);
            let high = n - held - block;
            parts.push(Part {
                series: *s,
                low: shape.context().min(high / 2).max(1),
                end: n - held,
                fresh: fresh.get(*s).copied().unwrap_or(0),
            });
            if i % every == 0 {
                let room = held - block.min(held);
                let stride = room.div_ceil(each).max(1);
                cutoffs.extend((0..=room).step_by(stride).map(|back| (*s, n - block - back)));
            }
        }
        let mut sampler = Self { series, parts, shape, validation: Vec::new() };
        sampler.validation = (cutoffs.into_iter().enumerate())
            .filter_map(|(i, (s, c))| sampler.example(s, c, series[s].values.len(), sampler.spacing(i)))
            .collect();
        if sampler.validation.is_empty() {
            let problem = format!(
                "no series has {shortest} values that vary; give longer series, or set lstm.horizon_block or lstm.context lower"
            );
            return Err(ModelError::data("an LSTM forecaster", problem));
        }
        Ok(sampler)
    }

    /// The `index`-th window of the batch with this seed; `None` when the draws met only constant or empty stretches.
    ///
    /// Three of four windows look ahead step by step, the others at a wider spacing; half stand upside down, since nothing
    /// about the ups of one metric is not true of the downs of another. After an earlier training half end in what is new.
    pub(super) fn draw(&self, batch: Seed, index: usize) -> Option<Example> {
        let mut rng = batch.nth(index as u64).rng();
        let spacing = self.spacing(rng.gen_range(0..4 * SPACINGS));
        let upside_down = rng.gen_bool(0.5);
        let anew = rng.gen_bool(0.5);
        (0..TRIES).find_map(|_| {
            let part = &self.parts[rng.gen_range(0..self.parts.len())];
            let high = part.end.saturating_sub(self.shape.block * spacing).max(part.low);
            let low = if anew { part.low.max(part.fresh).min(high) } else { part.low };
            let mut example = self.example(part.series, rng.gen_range(low..=high), part.end, spacing)?;
            if upside_down {
                example.window.negate(&self.shape);
                example.target.iter_mut().for_each(|v| *v = -*v);
            }
            Some(example)
        })
    }

    /// The spacing for a draw: three of four are 1, the fourth goes through the wider ones.
    fn spacing(&self, draw: usize) -> usize {
        let widest = self.shape.spacing.ilog2() as usize;
        if draw % 4 < 3 || widest == 0 { 1 } else { 1 << (1 + (draw / 4) % widest) }
    }

    /// The window that ends before `cutoff`, with what is known before `end` of the steps ahead.
    fn example(&self, series: usize, cutoff: usize, end: usize, spacing: usize) -> Option<Example> {
        let s = &self.series[series];
        let mut window = Window::new(&self.shape);
        let last = s.start.plus((cutoff as i64 - 1) * s.step.ms());
        if window.fill(&self.shape, &s.values[..cutoff], last, s.step, spacing) != Verdict::Usable {
            return None;
        }
        let mut target = vec![0.0; self.shape.block];
        let mut mask = vec![0.0; self.shape.block];
        for (k, (t, m)) in target.iter_mut().zip(&mut mask).enumerate() {
            let at = cutoff + spacing * (k + 1) - 1;
            if at < end && s.values[at].is_finite() {
                *t = window.encode(window.anchors[k], s.values[at]);
                *m = 1.0;
            }
        }
        mask.iter().any(|m| *m > 0.0).then_some(Example { window, target, mask })
    }
}
