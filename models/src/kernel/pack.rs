//! Weights in the order in which the kernels read them, and gradients back in the order of the flat vector.

use super::buffer::Buffer;
use super::shape::{LayerParts, LayerSize, RecurrentShape};
use super::simd::LANES;
use std::ops::Range;

/// Columns of a panel of the backward products: two vectors.
pub(super) const WIDE: usize = 2 * LANES;

/// The weights of a stack, packed for one forward and backward pass.
pub(super) struct Packed {
    pub(super) layers: Vec<PackedLayer>,
}

/// One layer's panels.
pub(super) struct PackedLayer {
    pub(super) size: LayerSize,
    /// For the sums: a panel of eight units after the other, shape (depth, 4 sums, 8 units) each.
    pub(super) forward: Buffer,
    /// Biases, shape (panels, 4, 8).
    pub(super) bias: Buffer,
    /// For the gradient of the state: panels of 16 units, shape (sums, 16) each, zero behind the last unit.
    pub(super) state: Buffer,
    /// For the gradient of the inputs, in the same form.
    pub(super) input: Buffer,
}

impl Packed {
    /// Room for the weights of a stack.
    pub(super) fn new(shape: &RecurrentShape) -> Self {
        let layers = (0..shape.layers)
            .map(|l| {
                let size = shape.layer(l);
                PackedLayer {
                    size,
                    forward: Buffer::zeros(size.depth() * size.sums()),
                    bias: Buffer::zeros(size.sums()),
                    state: Buffer::zeros(size.sums() * size.units.next_multiple_of(WIDE)),
                    input: Buffer::zeros(size.sums() * size.inputs.next_multiple_of(WIDE)),
                }
            })
            .collect();
        Self { layers }
    }

    /// Packs `weights`, laid out as [`RecurrentShape`] says.
    pub(super) fn pack(&mut self, shape: &RecurrentShape, weights: &[f32]) {
        let scales = shape.cell.scales();
        for (l, packed) in self.layers.iter_mut().enumerate() {
            let size = packed.size;
            let parts = shape.parts(l);
            each_run(shape, l, |part, from, row, sum, unit, n| {
                let source = &weights[part_range(&parts, part)][from..from + n];
                let scale = scales[sum];
                if part == Part::Bias {
                    let at = (unit / LANES * 4 + sum) * LANES;
                    for (o, w) in packed.bias[at..at + n].iter_mut().zip(source) {
                        *o = scale * w;
                    }
                    return;
                }
                let at = ((unit / LANES * size.depth() + row) * 4 + sum) * LANES;
                for (o, w) in packed.forward[at..at + n].iter_mut().zip(source) {
                    *o = scale * w;
                }
                let (panels, column) =
                    if row < size.units { (&mut packed.state, row) } else { (&mut packed.input, row - size.units) };
                let panel = column / WIDE * size.sums() * WIDE;
                let first = unit / LANES * 4 * LANES + sum * LANES;
                for (k, w) in source.iter().enumerate() {
                    panels[panel + (first + k) * WIDE + column % WIDE] = *w;
                }
            });
        }
    }
}

/// Gradients of a stack's weights as the kernels add them up: shape (depth, sums) and (sums) of each layer.
pub(super) struct Gradient {
    pub(super) layers: Vec<LayerGradient>,
}

/// One layer's part.
pub(super) struct LayerGradient {
    pub(super) weights: Buffer,
    pub(super) bias: Buffer,
    /// Whether nothing was added yet, so that the numbers there count as zero.
    pub(super) fresh: bool,
}

impl Gradient {
    pub(super) fn new(shape: &RecurrentShape) -> Self {
        let layers = (0..shape.layers)
            .map(|l| {
                let size = shape.layer(l);
                LayerGradient {
                    weights: Buffer::zeros(size.depth() * size.sums()),
                    bias: Buffer::zeros(size.sums()),
                    fresh: true,
                }
            })
            .collect();
        Self { layers }
    }

    pub(super) fn clear(&mut self) {
        for l in &mut self.layers {
            l.fresh = true;
        }
    }

    /// Adds what another shard found.
    pub(super) fn add(&mut self, other: &Self) {
        let sum = |to: &mut [f32], from: &[f32]| to.iter_mut().zip(from).for_each(|(t, f)| *t += f);
        for (to, from) in self.layers.iter_mut().zip(&other.layers) {
            sum(&mut to.weights, &from.weights);
            sum(&mut to.bias, &from.bias);
        }
    }

    /// Writes the gradient in the order of the flat vector.
    pub(super) fn unpack(&self, shape: &RecurrentShape, out: &mut [f32]) {
        for (l, layer) in self.layers.iter().enumerate() {
            let size = shape.layer(l);
            let parts = shape.parts(l);
            each_run(shape, l, |part, from, row, sum, unit, n| {
                let at = (unit / LANES * 4 + sum) * LANES;
                let source = if part == Part::Bias {
                    &layer.bias[at..at + n]
                } else {
                    &layer.weights[row * size.sums() + at..][..n]
                };
                out[part_range(&parts, part)][from..from + n].copy_from_slice(source);
            });
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Input,
    Recurrent,
    Bias,
}

fn part_range(parts: &LayerParts, part: Part) -> Range<usize> {
    match part {
        Part::Input => parts.input.clone(),
        Part::Recurrent => parts.recurrent.clone(),
        Part::Bias => parts.bias.clone(),
    }
}

/// Visits all weights of a layer in runs of at most eight units: part, place of the run in the part, row of
/// `[state | input]` (0 for the bias), sum, first unit, length.
fn each_run(shape: &RecurrentShape, layer: usize, mut visit: impl FnMut(Part, usize, usize, usize, usize, usize)) {
    let (h, units) = (shape.hidden, shape.layer(layer).units);
    let runs = |visit: &mut dyn FnMut(usize, usize)| {
        (0..h).step_by(LANES).for_each(|unit| visit(unit, LANES.min(h - unit)));
    };
    for (part, rows, first, sums) in [
        (Part::Input, shape.inputs_of(layer), units, shape.cell.input_sums()),
        (Part::Recurrent, h, 0, shape.cell.recurrent_sums()),
        (Part::Bias, usize::from(shape.bias), 0, &[0, 1, 2, 3][..]),
    ] {
        for row in 0..rows {
            for (gate, sum) in sums.iter().enumerate() {
                runs(&mut |unit, n| visit(part, (row * sums.len() + gate) * h + unit, first + row, *sum, unit, n));
            }
        }
    }
}
