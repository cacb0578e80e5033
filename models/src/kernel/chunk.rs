//! What one chunk of sequences needs: buffers, and the way through all layers and back.

use super::backward::{Backward, Upper};
use super::buffer::Buffer;
use super::forward::Forward;
use super::pack::{Gradient, Packed, WIDE};
use super::shape::{CellKind, RecurrentShape};
use super::simd::{KernelPath, LANES};

/// Sequences that run together.
pub const CHUNK: usize = 32;

/// Buffers of one chunk. They grow to the largest chunk seen and are used again.
#[derive(Default)]
pub(super) struct Chunk {
    layers: Vec<LayerBuffers>,
    carry: Buffer,
    last: Buffer,
    below: Buffer,
    sequences: usize,
    steps: usize,
    /// Room for the last states and their gradient, for who stands on the stack.
    pub(super) head: (Vec<f32>, Vec<f32>),
}

#[derive(Default)]
struct LayerBuffers {
    read: Buffer,
    kept: Buffer,
    cells: Buffer,
}

impl Chunk {
    fn fit(&mut self, shape: &RecurrentShape, sequences: usize, steps: usize) {
        (self.sequences, self.steps) = (sequences, steps);
        self.layers.resize_with(shape.layers, LayerBuffers::default);
        for (l, layer) in self.layers.iter_mut().enumerate() {
            let size = shape.layer(l);
            layer.read.fit((steps + 1) * sequences * size.stride());
            layer.kept.fit(steps * sequences * size.sums());
            if shape.cell == CellKind::Lstm {
                layer.cells.fit((steps + 1) * sequences * size.units);
            }
        }
    }

    /// Runs all layers over `x`, shape (sequences, steps, inputs).
    pub(super) fn forward(
        &mut self,
        path: KernelPath,
        shape: &RecurrentShape,
        packed: &Packed,
        x: &[f32],
        (sequences, steps): (usize, usize),
    ) {
        self.fit(shape, sequences, steps);
        let size = shape.layer(0);
        let (n, inputs, stride) = (sequences, shape.inputs, size.stride());
        let read = &mut *self.layers[0].read;
        for (r, sequence) in x.chunks_exact(steps * inputs).enumerate() {
            for (t, row) in sequence.chunks_exact(inputs).enumerate() {
                read[(t * n + r) * stride + size.units..][..inputs].copy_from_slice(row);
            }
        }
        for l in 0..shape.layers {
            let (this, above) = self.layers.split_at_mut(l + 1);
            let LayerBuffers { read, kept, cells } = &mut this[l];
            let above = above.first_mut().map(|a| (&mut *a.read, shape.layer(l + 1).stride()));
            let weights = &packed.layers[l];
            path.run(Forward { cell: shape.cell, weights, sequences, steps, read, kept, cells, above });
        }
    }

    /// The states of the top layer after step `t` (0 = before the first), a row a sequence.
    pub(super) fn states<'a>(&'a self, shape: &RecurrentShape, t: usize) -> impl Iterator<Item = &'a [f32]> {
        let stride = shape.layer(shape.layers - 1).stride();
        let (n, h) = (self.sequences, shape.hidden);
        let read = &self.layers[shape.layers - 1].read[t * n * stride..(t + 1) * n * stride];
        read.chunks_exact(stride).map(move |row| &row[..h])
    }

    /// Goes back from the gradient of the states of the top layer, shape (sequences, hidden) of the last one or
    /// (sequences, steps, hidden) of `each`; adds to `gradient`; writes the gradient of the inputs, shape
    /// (sequences, steps, inputs), where there is room for it.
    #[expect(
        clippy::too_many_arguments,
        reason = "one call site; each is a different thing that the pass reads or writes"
    )]
    pub(super) fn backward(
        &mut self,
        path: KernelPath,
        shape: &RecurrentShape,
        packed: &Packed,
        upper: &[f32],
        each: bool,
        gradient: &mut Gradient,
        inputs: Option<&mut [f32]>,
    ) {
        let (n, steps, h) = (self.sequences, self.steps, shape.hidden);
        let units = shape.layer(0).units;
        let wanted = if inputs.is_some() { shape.inputs } else { 0 };
        let width = units.max(wanted).next_multiple_of(WIDE);
        self.carry.fit(n * units);
        self.last.fit(if each { 0 } else { n * units });
        self.below.fit(if each || shape.layers > 1 || inputs.is_some() { steps * n * width } else { 0 });
        if each {
            for (r, sequence) in upper.chunks_exact(steps * h).enumerate() {
                for (t, d) in sequence.chunks_exact(h).enumerate() {
                    pad(&mut self.below[(t * n + r) * width..][..units], d);
                }
            }
        } else {
            for (row, d) in self.last.chunks_exact_mut(units).zip(upper.chunks_exact(h)) {
                pad(row, d);
            }
        }
        debug_assert!(units.is_multiple_of(LANES));
        for l in (0..shape.layers).rev() {
            let LayerBuffers { read, kept, cells } = &mut self.layers[l];
            path.run(Backward {
                cell: shape.cell,
                weights: &packed.layers[l],
                sequences: n,
                steps,
                read,
                kept,
                cells,
                carry: &mut self.carry,
                upper: if each || l + 1 < shape.layers { Upper::Each } else { Upper::Last(&self.last) },
                below: &mut self.below,
                width,
                inputs: l > 0 || inputs.is_some(),
                gradient: &mut gradient.layers[l],
            });
        }
        if let Some(out) = inputs {
            for (r, sequence) in out.chunks_exact_mut(steps * shape.inputs).enumerate() {
                for (t, row) in sequence.chunks_exact_mut(shape.inputs).enumerate() {
                    row.copy_from_slice(&self.below[(t * n + r) * width..][..shape.inputs]);
                }
            }
        }
    }
}

/// `from`, then zeros.
fn pad(to: &mut [f32], from: &[f32]) {
    to[..from.len()].copy_from_slice(from);
    to[from.len()..].fill(0.0);
}
