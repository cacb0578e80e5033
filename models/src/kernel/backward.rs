//! One layer of one chunk, backward through time.

use super::cell::{Cell, Gru, Lstm};
use super::pack::{LayerGradient, PackedLayer, WIDE};
use super::product::{column_sums, outer, wide};
use super::shape::CellKind;
use super::simd::{Kernel, LANES, Simd};

/// Numbers of states and gates that a block of time steps may have before its weight gradient is added: what half a
/// second-level cache holds.
const BLOCK: usize = 96 * 1024;

/// Where the gradient of a layer's states comes from.
pub(super) enum Upper<'a> {
    /// From the last state alone: shape (n, units).
    Last(&'a [f32]),
    /// From every state, which lies in `below` on entry.
    Each,
}

/// The work: all steps of one layer. Shapes as in [`super::forward::Forward`]; `kept` turns into the gradients of the
/// sums.
pub(super) struct Backward<'a> {
    pub(super) cell: CellKind,
    pub(super) weights: &'a PackedLayer,
    pub(super) sequences: usize,
    pub(super) steps: usize,
    pub(super) read: &'a [f32],
    pub(super) kept: &'a mut [f32],
    pub(super) cells: &'a [f32],
    /// Room for what a step carries to the one before, shape (n, units).
    pub(super) carry: &'a mut [f32],
    pub(super) upper: Upper<'a>,
    /// Gradient of the states on entry where `upper` says so, shape (t, n, width); of the inputs on return where
    /// `inputs` says so. Width is the larger of both, whole panels.
    pub(super) below: &'a mut [f32],
    pub(super) width: usize,
    pub(super) inputs: bool,
    pub(super) gradient: &'a mut LayerGradient,
}

impl Kernel for Backward<'_> {
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
    /// Gradients of the sums of the step after, none behind the last step.
    after: &'a [f32],
    kept: &'a mut [f32],
    /// Old state: of the cell, or what was read.
    old: (&'a [f32], usize),
    new: &'a [f32],
    carry: &'a mut [f32],
    /// Gradient of the states from above, none when empty.
    upper: (&'a [f32], usize),
}

impl Backward<'_> {
    #[inline(always)]
    fn layer<S: Simd, C: Cell>(self, s: S) {
        let size = self.weights.size;
        let (n, units, sums, stride) = (self.sequences, size.units, size.sums(), size.stride());
        let block = (BLOCK / (n * (sums + stride))).max(1);
        let mut high = self.steps;
        self.carry[..n * units].fill(0.0);
        for t in (0..self.steps).rev() {
            let (now, after) = self.kept.split_at_mut((t + 1) * n * sums);
            let last = t + 1 == self.steps;
            let mut step = Step {
                weights: self.weights,
                after: if last { &[] } else { &after[..n * sums] },
                kept: &mut now[t * n * sums..],
                old: match C::KIND {
                    CellKind::Lstm => (&self.cells[t * n * units..(t + 1) * n * units], units),
                    CellKind::Gru => (&self.read[t * n * stride..(t + 1) * n * stride], stride),
                },
                new: match C::KIND {
                    CellKind::Lstm => &self.cells[(t + 1) * n * units..(t + 2) * n * units],
                    CellKind::Gru => &[],
                },
                carry: self.carry,
                upper: match self.upper {
                    Upper::Last(d) if last => (d, units),
                    Upper::Last(_) => (&[], 0),
                    Upper::Each => (&self.below[t * n * self.width..(t + 1) * n * self.width], self.width),
                },
            };
            for panel in 0..units.div_ceil(WIDE) {
                for (row, count) in parts(n) {
                    match count {
                        1 => step.tile::<S, C, 1>(s, panel, row),
                        2 => step.tile::<S, C, 2>(s, panel, row),
                        3 => step.tile::<S, C, 3>(s, panel, row),
                        4 => step.tile::<S, C, 4>(s, panel, row),
                        5 => step.tile::<S, C, 5>(s, panel, row),
                        _ => step.tile::<S, C, 6>(s, panel, row),
                    }
                }
            }
            if self.inputs {
                let dz = &self.kept[t * n * sums..(t + 1) * n * sums];
                let to = &mut self.below[t * n * self.width..(t + 1) * n * self.width];
                for panel in 0..size.inputs.div_ceil(WIDE) {
                    let weights = &self.weights.input[panel * sums * WIDE..][..sums * WIDE];
                    for (row, count) in parts(n) {
                        let (dz, to) = (&dz[row * sums..], &mut to[row * self.width + panel * WIDE..]);
                        match count {
                            1 => inputs::<S, 1>(s, dz, sums, weights, to, self.width),
                            2 => inputs::<S, 2>(s, dz, sums, weights, to, self.width),
                            3 => inputs::<S, 3>(s, dz, sums, weights, to, self.width),
                            4 => inputs::<S, 4>(s, dz, sums, weights, to, self.width),
                            5 => inputs::<S, 5>(s, dz, sums, weights, to, self.width),
                            _ => inputs::<S, 6>(s, dz, sums, weights, to, self.width),
                        }
                    }
                }
            }
            if t == 0 || high - t >= block {
                let (from, to) = (t * n, high * n);
                let dz = &self.kept[from * sums..to * sums];
                let fresh = std::mem::replace(&mut self.gradient.fresh, false);
                if fresh {
                    self.gradient.bias.fill(0.0);
                }
                column_sums(s, dz, &mut self.gradient.bias);
                let read = &self.read[from * stride..to * stride];
                outer(&mut self.gradient.weights, fresh, read, (to - from, stride, size.depth()), dz, sums);
                high = t;
            }
        }
    }
}

/// `n` rows in parts of at most six, as even as can be: first row and count.
fn parts(n: usize) -> impl Iterator<Item = (usize, usize)> {
    let parts = n.div_ceil(6);
    let (each, more) = (n / parts.max(1), n % parts.max(1));
    (0..parts).map(move |p| (p * each + p.min(more), each + usize::from(p < more)))
}

impl Step<'_> {
    /// Sixteen units of `ROWS` sequences.
    #[inline(always)]
    fn tile<S: Simd, C: Cell, const ROWS: usize>(&mut self, s: S, panel: usize, row: usize) {
        let size = self.weights.size;
        let (units, sums, first) = (size.units, size.sums(), panel * WIDE);
        let end = row + ROWS;
        assert!(self.kept.len() >= end * sums && self.carry.len() >= end * units);
        assert!(self.old.0.len() >= end * self.old.1 && self.old.1 >= units);
        if C::KIND == CellKind::Lstm {
            assert!(self.new.len() >= end * units);
        }
        // What the elementwise part will read comes while the product runs.
        for r in row..end {
            for line in 0..4 {
                s.prefetch(self.kept, r * sums + first * 4 + line * 16);
            }
            s.prefetch(self.old.0, r * self.old.1 + first);
        }
        let mut dh = if self.after.is_empty() {
            [[s.splat(0.0); 2]; ROWS]
        } else {
            let weights = &self.weights.state[panel * sums * WIDE..][..sums * WIDE];
            wide::<S, ROWS>(s, &self.after[row * sums..], sums, sums, weights)
        };
        let (upper, width) = self.upper;
        assert!(upper.is_empty() || (width >= units && upper.len() >= end * width));
        for v in 0..((units - first) / LANES).min(2) {
            let unit = first + v * LANES;
            for r in 0..ROWS {
                let row = row + r;
                // SAFETY: `unit + LANES <= units`, and the rows up to `end` were checked above.
                unsafe {
                    if !upper.is_empty() {
                        dh[r][v] = s.add(dh[r][v], s.load(upper, row * width + unit));
                    }
                    let at = row * sums + unit * 4;
                    let mut kept = [s.splat(0.0); 4];
                    for g in 0..4 {
                        kept[g] = s.load(self.kept, at + g * LANES);
                    }
                    let old = s.load(self.old.0, row * self.old.1 + unit);
                    let new = match C::KIND {
                        CellKind::Lstm => s.load(self.new, row * units + unit),
                        CellKind::Gru => old,
                    };
                    let carry = s.load(self.carry, row * units + unit);
                    let (dz, carry) = C::backward(s, kept, old, new, dh[r][v], carry);
                    for (g, d) in dz.into_iter().enumerate() {
                        s.store(self.kept, at + g * LANES, d);
                    }
                    s.store(self.carry, row * units + unit, carry);
                }
            }
        }
    }
}

/// Gradients of sixteen inputs of `ROWS` sequences.
#[inline(always)]
fn inputs<S: Simd, const ROWS: usize>(s: S, dz: &[f32], sums: usize, panel: &[f32], to: &mut [f32], width: usize) {
    let acc = wide::<S, ROWS>(s, dz, sums, sums, panel);
    assert!(to.len() >= (ROWS - 1) * width + WIDE);
    for (r, d) in acc.into_iter().enumerate() {
        // SAFETY: checked above for the last row.
        unsafe {
            s.store(to, r * width, d[0]);
            s.store(to, r * width + LANES, d[1]);
        }
    }
}
