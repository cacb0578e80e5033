//! Dense layers on many rows, a few rows through all layers at a time.

use super::buffer::Buffer;
use super::gates::tanh2;
use super::pack::WIDE;
use super::product::wide;
use super::simd::{Kernel, KernelPath, LANES, Simd};

/// Rows that run together.
const TILE: usize = 6;

/// One dense layer `y = x W + b`, and tanh after it where `curved`.
#[derive(Debug, Clone, Copy)]
pub struct DenseLayer<'a> {
    /// Shape (inputs, outputs), row-major.
    pub weights: &'a [f32],
    /// One number an output.
    pub bias: &'a [f32],
    /// Whether tanh follows.
    pub curved: bool,
}

/// Dense layers for scoring many rows: six rows go through all layers while their numbers are in the first cache.
///
/// A row's result is the same bits in any batch, alone too. No allocation after the first call.
pub struct DenseStack {
    path: KernelPath,
    inputs: usize,
    layers: Vec<Panels>,
}

/// Buffers of [`DenseStack::run`], used again.
#[derive(Default)]
pub struct DenseBuffers {
    a: Buffer,
    b: Buffer,
}

/// One layer's weights as panels of 16 outputs, shape (inputs, 16) each, zero behind the last output.
struct Panels {
    inputs: usize,
    outputs: usize,
    weights: Buffer,
    bias: Buffer,
    curved: bool,
}

impl DenseStack {
    /// Packs `layers` on `inputs` numbers a row for the fastest path of this processor.
    ///
    /// # Panics
    /// When a layer's weights do not fit what goes in and its biases.
    pub fn new(inputs: usize, layers: &[DenseLayer<'_>]) -> Self {
        Self::with_path(inputs, layers, KernelPath::detect())
    }

    /// As [`DenseStack::new`], by a given path.
    ///
    /// # Panics
    /// As [`DenseStack::new`].
    pub fn with_path(inputs: usize, layers: &[DenseLayer<'_>], path: KernelPath) -> Self {
        let mut width = inputs;
        let layers = layers
            .iter()
            .map(|l| {
                let outputs = l.bias.len();
                assert!(width > 0 && outputs > 0 && l.weights.len() == width * outputs, "{width} by {outputs} weights");
                let panels = outputs.div_ceil(WIDE);
                let (mut weights, mut bias) = (Buffer::zeros(panels * width * WIDE), Buffer::zeros(panels * WIDE));
                bias[..outputs].copy_from_slice(l.bias);
                for (i, row) in l.weights.chunks_exact(outputs).enumerate() {
                    for (p, part) in row.chunks(WIDE).enumerate() {
                        weights[(p * width + i) * WIDE..][..part.len()].copy_from_slice(part);
                    }
                }
                let inputs = std::mem::replace(&mut width, outputs);
                Panels { inputs, outputs, weights, bias, curved: l.curved }
            })
            .collect();
        Self { path, inputs, layers }
    }

    /// Numbers that come out of a row.
    pub fn outputs(&self) -> usize {
        self.layers.last().map_or(self.inputs, |l| l.outputs)
    }

    /// Runs `x`, shape (rows, inputs), and hands the result over, a few rows at a time: first row, and the results, a row
    /// every `stride` numbers of which the first [`DenseStack::outputs`] count.
    ///
    /// # Panics
    /// When `x` is no whole number of rows.
    pub fn run(&self, x: &[f32], buffers: &mut DenseBuffers, mut each: impl FnMut(usize, &[f32], usize)) {
        assert!(x.len().is_multiple_of(self.inputs), "{} numbers are no rows of {}", x.len(), self.inputs);
        let width = self.layers.iter().map(|l| l.outputs.next_multiple_of(WIDE)).max().unwrap_or(0);
        buffers.a.fit(TILE * width);
        buffers.b.fit(TILE * width);
        self.path.run(Rows { stack: self, x, width, buffers, each: &mut each });
    }
}

struct Rows<'a, F> {
    stack: &'a DenseStack,
    x: &'a [f32],
    width: usize,
    buffers: &'a mut DenseBuffers,
    each: &'a mut F,
}

impl<F: FnMut(usize, &[f32], usize)> Kernel for Rows<'_, F> {
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let rows = self.x.len() / self.stack.inputs;
        let mut row = 0;
        while row < rows {
            row += match rows - row {
                1 => self.tile::<S, 1>(s, row),
                2 => self.tile::<S, 2>(s, row),
                3 => self.tile::<S, 3>(s, row),
                4 => self.tile::<S, 4>(s, row),
                5 => self.tile::<S, 5>(s, row),
                _ => self.tile::<S, TILE>(s, row),
            };
        }
    }
}

impl<F: FnMut(usize, &[f32], usize)> Rows<'_, F> {
    /// `ROWS` rows through all layers; returns `ROWS`.
    #[inline(always)]
    fn tile<S: Simd, const ROWS: usize>(&mut self, s: S, row: usize) -> usize {
        let stack = self.stack;
        let (mut now, mut next) = (&mut self.buffers.a, &mut self.buffers.b);
        for (l, layer) in stack.layers.iter().enumerate() {
            let (x, stride) =
                if l == 0 { (&self.x[row * stack.inputs..], stack.inputs) } else { (&now[..], self.width) };
            for panel in 0..layer.outputs.div_ceil(WIDE) {
                let weights = &layer.weights[panel * layer.inputs * WIDE..][..layer.inputs * WIDE];
                let bias = &layer.bias[panel * WIDE..][..WIDE];
                let acc = wide::<S, ROWS>(s, x, stride, layer.inputs, weights);
                assert!(next.len() >= (ROWS - 1) * self.width + (panel + 1) * WIDE);
                for (r, sums) in acc.into_iter().enumerate() {
                    // SAFETY: `bias` is 16 numbers; the last access to `next` was checked above.
                    unsafe {
                        let mut y = [s.add(sums[0], s.load(bias, 0)), s.add(sums[1], s.load(bias, LANES))];
                        if layer.curved {
                            y = tanh2(s, y);
                        }
                        let at = r * self.width + panel * WIDE;
                        s.store(next, at, y[0]);
                        s.store(next, at + LANES, y[1]);
                    }
                }
            }
            std::mem::swap(&mut now, &mut next);
        }
        (self.each)(row, now, self.width);
        ROWS
    }
}
