//! The elementwise part of a cell, forward and backward, for eight units of one sequence.

use super::gates::{logistic, tanh, tanh2, tanh4};
use super::shape::CellKind;
use super::simd::Simd;

/// One kind of cell. Both have four sums a unit, so that both run on the same tiles: an LSTM's input, forget, cell and
/// output gate; a GRU's reset and update gate and the two halves of its candidate, from the input and from the state.
pub(super) trait Cell {
    const KIND: CellKind;

    /// From the four sums (logistic ones halved, as packed), and the old state: what backward needs of the gates, the new
    /// cell state, the new hidden state. The old state is the cell state of an LSTM, the hidden state of a GRU.
    fn forward<S: Simd>(s: S, z: [S::V; 4], old: S::V) -> ([S::V; 4], S::V, S::V);

    /// From what `forward` kept, old and new state, the gradient `dh` of the new hidden state and what the next step
    /// `carry`s: the gradients of the four sums and the carry of this step, which is the gradient of the old cell state
    /// (LSTM) or the direct part of that of the old hidden state (GRU).
    fn backward<S: Simd>(s: S, kept: [S::V; 4], old: S::V, new: S::V, dh: S::V, carry: S::V) -> ([S::V; 4], S::V);
}

/// Hochreiter and Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735, with a forget gate.
pub(super) struct Lstm;

impl Cell for Lstm {
    const KIND: CellKind = CellKind::Lstm;

    #[inline(always)]
    fn forward<S: Simd>(s: S, z: [S::V; 4], old: S::V) -> ([S::V; 4], S::V, S::V) {
        let [i, f, g, o] = tanh4(s, z);
        let (i, f, o) = (logistic(s, i), logistic(s, f), logistic(s, o));
        let c = s.fma(f, old, s.mul(i, g));
        let h = s.mul(o, tanh(s, c));
        ([i, f, g, o], c, h)
    }

    #[inline(always)]
    fn backward<S: Simd>(s: S, kept: [S::V; 4], old: S::V, new: S::V, dh: S::V, carry: S::V) -> ([S::V; 4], S::V) {
        let [i, f, g, o] = kept;
        let one = s.splat(1.0);
        let tc = tanh(s, new);
        let doc = s.mul(dh, o);
        // dh o (1 - tanh(c)^2) + carry
        let dc = s.add(carry, s.fnma(s.mul(tc, tc), doc, doc));
        let di = s.mul(s.mul(dc, g), s.mul(i, s.sub(one, i)));
        let df = s.mul(s.mul(dc, old), s.mul(f, s.sub(one, f)));
        let dci = s.mul(dc, i);
        let dg = s.fnma(s.mul(g, g), dci, dci);
        let d_o = s.mul(s.mul(doc, tc), s.sub(one, o));
        ([di, df, dg, d_o], s.mul(dc, f))
    }
}

/// Cho et al. 2014, arXiv 1406.1078, in the form with the reset gate behind the product (as cuDNN and PyTorch have it).
pub(super) struct Gru;

impl Cell for Gru {
    const KIND: CellKind = CellKind::Gru;

    #[inline(always)]
    fn forward<S: Simd>(s: S, z: [S::V; 4], old: S::V) -> ([S::V; 4], S::V, S::V) {
        let [r, u] = tanh2(s, [z[0], z[1]]);
        let (r, u) = (logistic(s, r), logistic(s, u));
        let n = tanh(s, s.fma(r, z[3], z[2]));
        let h = s.fma(u, s.sub(old, n), n);
        ([r, u, n, z[3]], h, h)
    }

    #[inline(always)]
    fn backward<S: Simd>(s: S, kept: [S::V; 4], old: S::V, _: S::V, dh: S::V, carry: S::V) -> ([S::V; 4], S::V) {
        let [r, u, n, a] = kept;
        let one = s.splat(1.0);
        let dh = s.add(dh, carry);
        let du = s.mul(s.mul(dh, s.sub(old, n)), s.mul(u, s.sub(one, u)));
        let dn = s.fnma(dh, u, dh);
        let dn = s.fnma(s.mul(n, n), dn, dn);
        let dr = s.mul(s.mul(dn, a), s.mul(r, s.sub(one, r)));
        ([dr, du, dn, s.mul(dn, r)], s.mul(dh, u))
    }
}
