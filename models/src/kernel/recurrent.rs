use super::chunk::{CHUNK, Chunk};
use super::pack::{Gradient, Packed};
use super::shape::RecurrentShape;
use super::simd::KernelPath;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// No more gradients than this are added up side by side, so that the order of the sum depends on the batch alone.
const SHARDS: usize = 8;

/// Which states a pass gives, and takes the gradient of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// The last one: shape (batch, hidden).
    Last,
    /// Every one: shape (batch, steps, hidden).
    Each,
}

/// A stack of recurrent layers over batches of sequences of one length, from a state of zeros: forward, backward, and
/// whole steps. Holds buffers alone, no weights; they are used again, so nothing is allocated after the first step.
///
/// Batches are cut into chunks of [`CHUNK`] sequences, the gradient of a batch into at most eight shards of whole chunks.
/// Work: `6 gates hidden (inputs + hidden)` floating-point operations a sequence and step, about.
pub struct Recurrent {
    shape: RecurrentShape,
    path: KernelPath,
    packed: Mutex<Vec<Packed>>,
    chunks: Mutex<Vec<Chunk>>,
    shards: Mutex<Vec<Vec<Shard>>>,
}

/// One shard's gradient: of the stack, of what stands on it, and the loss.
struct Shard {
    stack: Gradient,
    head: Vec<f32>,
    loss: f64,
}

/// What a forward pass leaves for the backward pass.
pub struct Kept {
    packed: Packed,
    chunks: Vec<Chunk>,
    batch: usize,
    steps: usize,
}

/// A lock that outlives a panic elsewhere: what it guards is spare buffers.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sequences of chunk `c`.
fn sequences(batch: usize, c: usize) -> Range<usize> {
    c * CHUNK..((c + 1) * CHUNK).min(batch)
}

impl Recurrent {
    /// Kernels for a stack, by the fastest path of this processor.
    ///
    /// # Panics
    /// When a size is zero.
    pub fn new(shape: RecurrentShape) -> Self {
        Self::with_path(shape, KernelPath::detect())
    }

    /// Kernels for a stack by a given path.
    ///
    /// # Panics
    /// When a size is zero.
    pub fn with_path(shape: RecurrentShape, path: KernelPath) -> Self {
        shape.check();
        Self { shape, path, packed: Mutex::default(), chunks: Mutex::default(), shards: Mutex::default() }
    }

    /// The sizes.
    pub fn shape(&self) -> &RecurrentShape {
        &self.shape
    }

    /// Runs the stack with `weights`, laid out as [`RecurrentShape`] says, over `x`, shape (batch, steps, inputs), and
    /// writes the states to `out`. What it returns goes to [`Recurrent::backward`] or [`Recurrent::release`].
    ///
    /// # Panics
    /// When a slice has another length than its shape says.
    pub fn forward(&self, weights: &[f32], x: &[f32], steps: usize, output: Output, out: &mut [f32]) -> Kept {
        let (shape, width) = (&self.shape, steps * self.shape.inputs);
        let batch = x.len() / width;
        let row = self.row(output, steps);
        assert!(x.len() == batch * width && out.len() == batch * row, "{shape:?} over {} numbers", x.len());
        let packed = self.pack(weights);
        let mut chunks = {
            let mut spare = lock(&self.chunks);
            let from = spare.len().saturating_sub(batch.div_ceil(CHUNK));
            spare.split_off(from)
        };
        chunks.resize_with(batch.div_ceil(CHUNK), Chunk::default);
        let run = |((c, chunk), out): ((usize, &mut Chunk), &mut [f32])| {
            let range = sequences(batch, c);
            let n = range.len();
            chunk.forward(self.path, shape, &packed, &x[range.start * width..range.end * width], (n, steps));
            for t in if output == Output::Last { steps - 1..steps } else { 0..steps } {
                let at = if output == Output::Last { 0 } else { t * shape.hidden };
                for (r, state) in chunk.states(shape, t + 1).enumerate() {
                    out[r * row + at..][..shape.hidden].copy_from_slice(state);
                }
            }
        };
        if let [chunk] = &mut chunks[..] {
            // Alone it stays on its thread: who asks may be no thread of the pool, and would wait for one.
            run(((0, chunk), out));
        } else {
            chunks.par_iter_mut().enumerate().zip(out.par_chunks_mut(CHUNK * row)).for_each(run);
        }
        Kept { packed, chunks, batch, steps }
    }

    /// Takes the buffers of a forward pass back that no backward pass follows.
    pub fn release(&self, mut kept: Kept) {
        lock(&self.packed).push(kept.packed);
        lock(&self.chunks).append(&mut kept.chunks);
    }

    /// The gradient of the weights, written to `gradient` in the order of the flat vector, and of the inputs where there
    /// is room, from the gradient `upper` of what [`Recurrent::forward`] gave.
    ///
    /// # Panics
    /// When a slice has another length than its shape says.
    pub fn backward(
        &self,
        mut kept: Kept,
        output: Output,
        upper: &[f32],
        gradient: &mut [f32],
        inputs: Option<&mut [f32]>,
    ) {
        let (shape, steps, batch) = (&self.shape, kept.steps, kept.batch);
        let (row, width) = (self.row(output, steps), steps * shape.inputs);
        assert!(upper.len() == batch * row && inputs.as_ref().is_none_or(|i| i.len() == batch * width));
        let (packed, chunks) = (&kept.packed, &mut kept.chunks);
        let count = chunks.len();
        let mut shards = self.take_shards(count, 0);
        let each = count.div_ceil(SHARDS);
        let mut parts: Vec<Option<&mut [f32]>> = match inputs {
            Some(all) => all.chunks_mut(CHUNK * width).map(Some).collect(),
            None => (0..count).map(|_| None).collect(),
        };
        (shards.par_iter_mut().zip(chunks.par_chunks_mut(each)).zip(parts.par_chunks_mut(each)).enumerate()).for_each(
            |(s, ((shard, chunks), parts))| {
                for (k, (chunk, part)) in chunks.iter_mut().zip(parts).enumerate() {
                    let range = sequences(batch, s * each + k);
                    let upper = &upper[range.start * row..range.end * row];
                    let part = part.take();
                    chunk.backward(self.path, shape, packed, upper, output == Output::Each, &mut shard.stack, part);
                }
            },
        );
        self.finish(shards, gradient, &mut []);
        self.release(kept);
    }

    /// One whole step: forward, `head`, backward, chunk by chunk, so that a chunk's numbers are used while they are warm.
    ///
    /// `head` gets the range of sequences, their last states (a row a sequence), where to write the gradient of these, and
    /// where to add that of its own weights; it returns its part of the loss, which is summed. The result is that of
    /// [`Recurrent::forward`] and [`Recurrent::backward`], bit by bit.
    ///
    /// # Panics
    /// When a slice has another length than its shape says.
    pub fn step(
        &self,
        weights: &[f32],
        x: &[f32],
        steps: usize,
        gradient: &mut [f32],
        head_gradient: &mut [f32],
        head: impl Fn(Range<usize>, &[f32], &mut [f32], &mut [f32]) -> f64 + Sync,
    ) -> f64 {
        let (shape, width) = (&self.shape, steps * self.shape.inputs);
        let batch = x.len() / width;
        assert!(x.len() == batch * width, "{shape:?} over {} numbers", x.len());
        let packed = self.pack(weights);
        let count = batch.div_ceil(CHUNK);
        let mut shards = self.take_shards(count, head_gradient.len());
        let each = count.div_ceil(SHARDS);
        shards.par_iter_mut().enumerate().for_each(|(s, shard)| {
            let mut chunk = lock(&self.chunks).pop().unwrap_or_default();
            let (mut states, mut upper) = std::mem::take(&mut chunk.head);
            for c in s * each..((s + 1) * each).min(count) {
                let range = sequences(batch, c);
                let n = range.len();
                chunk.forward(self.path, shape, &packed, &x[range.start * width..range.end * width], (n, steps));
                states.clear();
                chunk.states(shape, steps).for_each(|row| states.extend_from_slice(row));
                upper.resize(n * shape.hidden, 0.0);
                shard.loss += head(range, &states, &mut upper, &mut shard.head);
                chunk.backward(self.path, shape, &packed, &upper, false, &mut shard.stack, None);
            }
            chunk.head = (states, upper);
            lock(&self.chunks).push(chunk);
        });
        lock(&self.packed).push(packed);
        self.finish(shards, gradient, head_gradient)
    }

    fn pack(&self, weights: &[f32]) -> Packed {
        assert_eq!(weights.len(), self.shape.weights(), "weights of {:?}", self.shape);
        let spare = lock(&self.packed).pop();
        let mut packed = spare.unwrap_or_else(|| Packed::new(&self.shape));
        packed.pack(&self.shape, weights);
        packed
    }

    fn row(&self, output: Output, steps: usize) -> usize {
        match output {
            Output::Last => self.shape.hidden,
            Output::Each => steps * self.shape.hidden,
        }
    }

    /// Empty shards for a batch of `chunks` chunks.
    fn take_shards(&self, chunks: usize, head: usize) -> Vec<Shard> {
        let mut shards = lock(&self.shards).pop().unwrap_or_default();
        let each = chunks.div_ceil(SHARDS);
        let new = || Shard { stack: Gradient::new(&self.shape), head: Vec::new(), loss: 0.0 };
        shards.resize_with(chunks.div_ceil(each.max(1)), new);
        for s in &mut shards {
            s.stack.clear();
            s.loss = 0.0;
            s.head.clear();
            s.head.resize(head, 0.0);
        }
        shards
    }

    /// Adds the shards in order.
    fn finish(&self, mut shards: Vec<Shard>, gradient: &mut [f32], head: &mut [f32]) -> f64 {
        head.fill(0.0);
        let mut loss = 0.0;
        for s in &shards {
            loss += s.loss;
            for (t, f) in head.iter_mut().zip(&s.head) {
                *t += f;
            }
        }
        if let Some((first, rest)) = shards.split_first_mut() {
            for s in rest.iter() {
                first.stack.add(&s.stack);
            }
            first.stack.unpack(&self.shape, gradient);
        } else {
            gradient.fill(0.0);
        }
        lock(&self.shards).push(shards);
        loss
    }
}
