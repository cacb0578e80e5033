//! Activations in registers: the rational tangent of [`crate::nn`], with one division for four gates.

use super::simd::Simd;

const LIMIT: f32 = 7.905_311;

/// Numerator and denominator of tanh (degree 13 over 6, the minimax fit of the Eigen library, absolute error under 1e-6
/// once divided). The denominator lies between 0.004 and 1.
#[inline(always)]
fn fraction<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    let x = s.clamp(x, LIMIT);
    let x2 = s.mul(x, x);
    let p = s.splat(-2.760_768_5e-16);
    let p = s.fma(p, x2, s.splat(2.000_188e-13));
    let p = s.fma(p, x2, s.splat(-8.604_672e-11));
    let p = s.fma(p, x2, s.splat(5.122_297e-8));
    let p = s.fma(p, x2, s.splat(1.485_722_4e-5));
    let p = s.fma(p, x2, s.splat(6.372_619e-4));
    let p = s.fma(p, x2, s.splat(4.893_524_6e-3));
    let q = s.splat(1.198_258_4e-6);
    let q = s.fma(q, x2, s.splat(1.185_347_1e-4));
    let q = s.fma(q, x2, s.splat(2.268_434_6e-3));
    let q = s.fma(q, x2, s.splat(4.893_525e-3));
    (s.mul(x, p), q)
}

#[inline(always)]
pub(super) fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let (p, q) = fraction(s, x);
    s.div(p, q)
}

/// Two tangents for one division.
#[inline(always)]
pub(super) fn tanh2<S: Simd>(s: S, x: [S::V; 2]) -> [S::V; 2] {
    let ((pa, qa), (pb, qb)) = (fraction(s, x[0]), fraction(s, x[1]));
    let r = s.div(s.splat(1.0), s.mul(qa, qb));
    [s.mul(pa, s.mul(qb, r)), s.mul(pb, s.mul(qa, r))]
}

/// Four tangents for one division: a division takes as long as ten products.
#[inline(always)]
pub(super) fn tanh4<S: Simd>(s: S, x: [S::V; 4]) -> [S::V; 4] {
    let ((pa, qa), (pb, qb)) = (fraction(s, x[0]), fraction(s, x[1]));
    let ((pc, qc), (pd, qd)) = (fraction(s, x[2]), fraction(s, x[3]));
    let (qab, qcd) = (s.mul(qa, qb), s.mul(qc, qd));
    let r = s.div(s.splat(1.0), s.mul(qab, qcd));
    let (rab, rcd) = (s.mul(r, qcd), s.mul(r, qab));
    [s.mul(pa, s.mul(qb, rab)), s.mul(pb, s.mul(qa, rab)), s.mul(pc, s.mul(qd, rcd)), s.mul(pd, s.mul(qc, rcd))]
}

/// The logistic function from the tangent of half its argument.
#[inline(always)]
pub(super) fn logistic<S: Simd>(s: S, tanh_of_half: S::V) -> S::V {
    let half = s.splat(0.5);
    s.fma(tanh_of_half, half, half)
}
