//! One layer of one chunk, forward through time.

use super::cell::{Cell, Gru, Lstm};
use super::pack::PackedLayer;
use super::product::{begin, sums};
use super::shape::CellKind;
use super::simd::{Kernel, LANES, Simd};

/// The work: all steps of one layer. Shapes, with `n` sequences and `t` steps, all time-major:
/// `read` (t + 1, n, stride) holds the inputs on entry and gets the states; `kept` (t, n, sums) gets the gates;
/// `cells` (t + 1, n, units) gets the cell states of an LSTM and is empty for a GRU.
pub(super) struct Forward<'a> {
    pub(super) cell: CellKind,
    pub(super) weights: &'a PackedLayer,
    pub(super) sequences: usize,
    pub(super) steps: usize,
    pub(super) read: &'a mut [f32],
    pub(super) kept: &'a mut [f32],
    pub(super) cells: &'a mut [f32],
    /// What the layer above reads, and from row to row of it: the states of each step are written there too.
    pub(super) above: Option<(&'a mut [f32], usize)>,
}

impl Kernel for Forward<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.cell {
            CellKind::Lstm => self.layer::<S, Lstm>(s),
            CellKind::Gru => self.layer::<S, Gru>(s),
        }
    }
}

/// One time step of a layer.
struct Step<'a> {
    weights: &'a PackedLayer,
    now: &'a [f32],
    next: &'a mut [f32],
    kept: &'a mut [f32],
    old: &'a [f32],
    new: &'a mut [f32],
    above: Option<(&'a mut [f32], usize)>,
}

impl Forward<'_> {
    #[inline(always)]
    fn layer<S: Simd, C: Cell>(mut self, s: S) {
        let size = self.weights.size;
        let (n, stride) = (self.sequences, size.stride());
        for row in self.read[..n * stride].chunks_exact_mut(stride) {
            row[..size.units].fill(0.0);
        }
        if C::KIND == CellKind::Lstm {
            self.cells[..n * size.units].fill(0.0);
        }
        for t in 0..self.steps {
            let (now, next) = self.read.split_at_mut((t + 1) * n * stride);
            let (old, new) = if C::KIND == CellKind::Lstm {
                let (old, new) = self.cells.split_at_mut((t + 1) * n * size.units);
                (&old[t * n * size.units..], &mut new[..n * size.units])
            } else {
                (&[][..], &mut [][..])
            };
            let mut step = Step {
                weights: self.weights,
                now: &now[t * n * stride..],
                next: &mut next[..n * stride],
                kept: &mut self.kept[t * n * size.sums()..(t + 1) * n * size.sums()],
                old,
                new,
                above: self.above.as_mut().map(|(a, w)| (&mut a[t * n * *w..(t + 1) * n * *w], *w)),
            };
            for panel in 0..size.panels() {
                let mut row = 0;
                while row < n {
                    row += match n - row {
                        1 => step.tile::<S, C, 1>(s, panel, row),
                        2 | 4 => step.tile::<S, C, 2>(s, panel, row),
                        _ => step.tile::<S, C, 3>(s, panel, row),
                    };
                }
            }
        }
    }
}

impl Step<'_> {
    /// Eight units of `ROWS` sequences; returns `ROWS`.
    #[inline(always)]
    fn tile<S: Simd, C: Cell, const ROWS: usize>(&mut self, s: S, panel: usize, row: usize) -> usize {
        let size = self.weights.size;
        let (units, stride, depth, unit) = (size.units, size.stride(), size.depth(), panel * LANES);
        let weights = &self.weights.forward[panel * depth * 4 * LANES..][..depth * 4 * LANES];
        let start = &self.weights.bias[unit * 4..][..4 * LANES];
        let acc = begin::<S, ROWS>(s, start);
        let acc = sums::<S, ROWS>(s, acc, &self.now[row * stride..], stride, depth, weights);
        let end = row + ROWS;
        assert!(unit + LANES <= units && self.next.len() >= end * stride && self.kept.len() >= end * size.sums());
        assert!(self.now.len() >= end * stride);
        if C::KIND == CellKind::Lstm {
            assert!(self.old.len() >= end * units && self.new.len() >= end * units);
        }
        for r in 0..ROWS {
            let row = row + r;
            // SAFETY: checked above for the last row: every access below is eight numbers from unit `unit` of a row.
            unsafe {
                let old = match C::KIND {
                    CellKind::Lstm => s.load(self.old, row * units + unit),
                    CellKind::Gru => s.load(self.now, row * stride + unit),
                };
                let (kept, new, state) = C::forward(s, acc[r], old);
                for (g, v) in kept.into_iter().enumerate() {
                    s.store(self.kept, row * 4 * units + (unit * 4 + g * LANES), v);
                }
                if C::KIND == CellKind::Lstm {
                    s.store(self.new, row * units + unit, new);
                }
                s.store(self.next, row * stride + unit, state);
                if let Some((above, width)) = &mut self.above {
                    // The layer above has as many units as this one and reads `[its state | this state]`.
                    let at = row * *width + units + unit;
                    assert!(at + LANES <= above.len());
                    s.store(above, at, state);
                }
            }
        }
        ROWS
    }
}
