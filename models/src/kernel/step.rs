//! One time step of many series whose states are kept.

use super::buffer::Buffer;
use super::cell::{Cell, Gru, Lstm};
use super::pack::{Packed, PackedLayer};
use super::product::{begin, sums};
use super::shape::{CellKind, RecurrentShape};
use super::simd::{Kernel, KernelPath, LANES, Simd};

/// Series that run together, so that a layer's weights are read once for all of them.
const TILE: usize = 3;

/// A stack of recurrent layers that goes on step by step from states that are kept, for serving.
///
/// A series' result is the same bits in any batch, alone too, and the same as [`Recurrent`](super::Recurrent) gives for
/// the whole sequence: every sum has one order. No allocation. Work: `2 gates hidden (inputs + hidden)` operations a step.
pub struct RecurrentStep {
    shape: RecurrentShape,
    path: KernelPath,
    packed: Packed,
}

/// The states of many series, a struct of arrays.
pub struct StepState {
    rows: usize,
    units: usize,
    hidden: usize,
    layers: Vec<Arrays>,
    /// New hidden states of a tile.
    fresh: Buffer,
}

/// States of one layer, shape (rows, units) each; a GRU has no cells.
#[derive(Default)]
struct Arrays {
    hidden: Buffer,
    cells: Buffer,
}

impl RecurrentStep {
    /// Packs `weights`, laid out as [`RecurrentShape`] says, for the fastest path of this processor.
    ///
    /// # Panics
    /// When a size is zero or there are not as many weights as the shape has.
    pub fn new(shape: RecurrentShape, weights: &[f32]) -> Self {
        Self::with_path(shape, weights, KernelPath::detect())
    }

    /// As [`RecurrentStep::new`], by a given path.
    ///
    /// # Panics
    /// As [`RecurrentStep::new`].
    pub fn with_path(shape: RecurrentShape, weights: &[f32], path: KernelPath) -> Self {
        shape.check();
        assert_eq!(weights.len(), shape.weights(), "weights of {shape:?}");
        let mut packed = Packed::new(&shape);
        packed.pack(&shape, weights);
        Self { shape, path, packed }
    }

    /// The sizes.
    pub fn shape(&self) -> &RecurrentShape {
        &self.shape
    }

    /// States of zeros for `rows` series.
    pub fn state(&self, rows: usize) -> StepState {
        let units = self.shape.layer(0).units;
        let cells = if self.shape.cell == CellKind::Lstm { rows * units } else { 0 };
        let layers = (0..self.shape.layers)
            .map(|_| Arrays { hidden: Buffer::zeros(rows * units), cells: Buffer::zeros(cells) })
            .collect();
        StepState { rows, units, hidden: self.shape.hidden, layers, fresh: Buffer::zeros(TILE * units) }
    }

    /// Takes one step of every series: `x` has shape (rows, inputs).
    ///
    /// # Panics
    /// When `x` has another length or `state` belongs to another shape.
    pub fn step(&self, x: &[f32], state: &mut StepState) {
        let shape = &self.shape;
        let fits = state.units == shape.layer(0).units && state.layers.len() == shape.layers;
        let cells = if shape.cell == CellKind::Lstm { state.rows * state.units } else { 0 };
        assert!(fits && state.layers.iter().all(|l| l.cells.len() == cells), "states of another stack than {shape:?}");
        assert_eq!(x.len(), state.rows * shape.inputs, "inputs of {} series of {shape:?}", state.rows);
        self.path.run(Step { cell: shape.cell, layers: &self.packed.layers, x, state });
    }
}

impl StepState {
    /// How many series there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The state of series `row` in the top layer.
    pub fn top(&self, row: usize) -> &[f32] {
        let top = &self.layers[self.layers.len() - 1];
        &top.hidden[row * self.units..][..self.hidden]
    }

    /// Sets series `row` back to zero.
    pub fn reset(&mut self, row: usize) {
        let part = row * self.units..(row + 1) * self.units;
        for l in &mut self.layers {
            l.hidden[part.clone()].fill(0.0);
            if !l.cells.is_empty() {
                l.cells[part.clone()].fill(0.0);
            }
        }
    }
}

struct Step<'a> {
    cell: CellKind,
    layers: &'a [PackedLayer],
    x: &'a [f32],
    state: &'a mut StepState,
}

impl Kernel for Step<'_> {
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        match self.cell {
            CellKind::Lstm => self.all::<S, Lstm>(s),
            CellKind::Gru => self.all::<S, Gru>(s),
        }
    }
}

impl Step<'_> {
    #[inline(always)]
    fn all<S: Simd, C: Cell>(&mut self, s: S) {
        let mut row = 0;
        while row < self.state.rows {
            row += match self.state.rows - row {
                1 => self.tile::<S, C, 1>(s, row),
                2 | 4 => self.tile::<S, C, 2>(s, row),
                _ => self.tile::<S, C, TILE>(s, row),
            };
        }
    }

    /// `ROWS` series through all layers; returns `ROWS`.
    #[inline(always)]
    fn tile<S: Simd, C: Cell, const ROWS: usize>(&mut self, s: S, row: usize) -> usize {
        let StepState { units, layers: arrays, fresh, .. } = &mut *self.state;
        let units = *units;
        for (l, weights) in self.layers.iter().enumerate() {
            let size = weights.size;
            let (below, this) = arrays.split_at_mut(l);
            let x = match below.last() {
                Some(b) => &b.hidden[row * units..],
                None => &self.x[row * size.inputs..],
            };
            let Arrays { hidden, cells } = &mut this[0];
            let old = &mut hidden[row * units..(row + ROWS) * units];
            let cells = if C::KIND == CellKind::Lstm { &mut cells[row * units..(row + ROWS) * units] } else { &mut [] };
            assert!(fresh.len() >= ROWS * units && units == size.units);
            for panel in 0..size.panels() {
                let unit = panel * LANES;
                let from = panel * size.depth() * 4 * LANES;
                let (first, second) =
                    weights.forward[from..from + size.depth() * 4 * LANES].split_at(units * 4 * LANES);
                let acc = begin::<S, ROWS>(s, &weights.bias[unit * 4..][..4 * LANES]);
                let acc = sums::<S, ROWS>(s, acc, old, units, units, first);
                let acc = sums::<S, ROWS>(s, acc, x, size.inputs, size.inputs, second);
                for r in 0..ROWS {
                    let at = r * units + unit;
                    // SAFETY: `at + LANES <= ROWS * units`, the length of `old` and `cells`, no more than that of `fresh`.
                    unsafe {
                        let before = match C::KIND {
                            CellKind::Lstm => s.load(cells, at),
                            CellKind::Gru => s.load(old, at),
                        };
                        let (_, cell, state) = C::forward(s, acc[r], before);
                        if C::KIND == CellKind::Lstm {
                            s.store(cells, at, cell);
                        }
                        s.store(fresh, at, state);
                    }
                }
            }
            old.copy_from_slice(&fresh[..ROWS * units]);
        }
        ROWS
    }
}
