use super::simd::LANES;
use std::ops::Range;

/// Kind of recurrent cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellKind {
    /// Long short-term memory; gates in the order input, forget, cell, output.
    Lstm,
    /// Gated recurrent unit; gates in the order reset, update, candidate, with two biases for the candidate.
    Gru,
}

impl CellKind {
    /// Gates that have weights.
    pub const fn gates(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
        }
    }

    /// Which of the four sums each gate's input weights feed.
    pub(super) const fn input_sums(self) -> &'static [usize] {
        match self {
            Self::Lstm => &[0, 1, 2, 3],
            Self::Gru => &[0, 1, 2],
        }
    }

    /// Which of the four sums each gate's recurrent weights feed.
    pub(super) const fn recurrent_sums(self) -> &'static [usize] {
        match self {
            Self::Lstm => &[0, 1, 2, 3],
            Self::Gru => &[0, 1, 3],
        }
    }

    /// Factor of each sum in the forward pass: sums of logistic gates are halved, because `σ(z) = (1 + tanh(z/2))/2`.
    pub(super) const fn scales(self) -> [f32; 4] {
        match self {
            Self::Lstm => [0.5, 0.5, 1.0, 0.5],
            Self::Gru => [0.5, 0.5, 1.0, 1.0],
        }
    }
}

/// Sizes of a stack of recurrent layers, and where its weights lie in one flat vector.
///
/// A layer after the other; in a layer: input weights (inputs, gates hidden), recurrent weights (hidden, gates hidden),
/// row-major, then, if there is one, the bias: 4 hidden numbers (a GRU's: reset, update, candidate from the input, candidate from the state).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecurrentShape {
    /// Kind of cell.
    pub cell: CellKind,
    /// Numbers of one time step.
    pub inputs: usize,
    /// Width of the state.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Whether layers have biases. Without, their sums start at zero.
    pub bias: bool,
}

/// Places of one layer's weights in the flat vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerParts {
    /// Input weights, shape (inputs, gates hidden).
    pub input: Range<usize>,
    /// Recurrent weights, shape (hidden, gates hidden).
    pub recurrent: Range<usize>,
    /// Biases, shape (4 hidden); empty without biases.
    pub bias: Range<usize>,
}

impl RecurrentShape {
    /// How many weights there are.
    pub fn weights(&self) -> usize {
        self.parts(self.layers - 1).bias.end
    }

    /// Inputs of a layer: those of the stack, or the state below.
    pub fn inputs_of(&self, layer: usize) -> usize {
        if layer == 0 { self.inputs } else { self.hidden }
    }

    /// Where the weights of `layer` lie.
    pub fn parts(&self, layer: usize) -> LayerParts {
        let width = self.cell.gates() * self.hidden;
        let biases = if self.bias { 4 * self.hidden } else { 0 };
        let of = |l: usize| (self.inputs_of(l) + self.hidden) * width + biases;
        let from: usize = (0..layer).map(of).sum();
        let (i, r) = (self.inputs_of(layer) * width, self.hidden * width);
        LayerParts {
            input: from..from + i,
            recurrent: from + i..from + i + r,
            bias: from + i + r..from + i + r + biases,
        }
    }

    /// Multiplications and additions of one training step, counted twice each: sums forward, the gradient of the states,
    /// of the weights and, above the first layer, of the inputs.
    pub fn flops(&self, batch: usize, steps: usize) -> f64 {
        let width = (self.cell.gates() * self.hidden) as f64;
        let each: f64 = (0..self.layers)
            .map(|l| {
                let rows = (self.inputs_of(l) + self.hidden) as f64;
                let below = if l == 0 { 0.0 } else { self.inputs_of(l) as f64 };
                2.0 * width * (2.0 * rows + self.hidden as f64 + below)
            })
            .sum();
        each * (batch * steps) as f64
    }

    /// Refuses sizes of zero.
    ///
    /// # Panics
    /// When one is zero.
    pub(super) fn check(&self) {
        assert!(self.inputs > 0 && self.hidden > 0 && self.layers > 0, "a recurrent stack without {self:?}");
    }

    /// The sizes of one layer as the kernels see it.
    pub(super) fn layer(&self, layer: usize) -> LayerSize {
        let units = self.hidden.next_multiple_of(LANES);
        let inputs = if layer == 0 { self.inputs } else { units };
        LayerSize { units, inputs }
    }
}

/// Sizes of a layer inside the kernels. The state is padded to whole vectors by units whose weights are zero: their state
/// and their gradients stay zero.
///
/// A row of what a layer reads is `[state before the step | input of the step]`; a row of its four sums is a panel of
/// eight units after the other, `[sum 0 of 8 units | sum 1 | sum 2 | sum 3]` each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LayerSize {
    /// Units of the state, a multiple of [`LANES`].
    pub(super) units: usize,
    /// Inputs; those of upper layers are padded like the state below.
    pub(super) inputs: usize,
}

impl LayerSize {
    /// Numbers that a row of sums is made from.
    pub(super) fn depth(self) -> usize {
        self.units + self.inputs
    }

    /// From row to row of what is read.
    pub(super) fn stride(self) -> usize {
        self.depth().next_multiple_of(LANES)
    }

    /// Numbers in a row of sums.
    pub(super) fn sums(self) -> usize {
        4 * self.units
    }

    /// Panels of eight units.
    pub(super) fn panels(self) -> usize {
        self.units / LANES
    }
}
