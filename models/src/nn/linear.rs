/// `out = bias + x W` for one row: `weights` of shape (inputs, outputs), row-major.
///
/// The inputs are added one after the other, so the sum of an output has one order whatever is computed beside it; the
/// inner loop runs over outputs, which the compiler turns into vector instructions.
#[inline]
pub(crate) fn affine(x: &[f32], weights: &[f32], bias: &[f32], out: &mut [f32]) {
    out.copy_from_slice(bias);
    accumulate(x, weights, out);
}

/// `out += x W`, as in [`affine`].
#[inline]
pub(crate) fn accumulate(x: &[f32], weights: &[f32], out: &mut [f32]) {
    let n = out.len();
    debug_assert_eq!(weights.len(), x.len() * n);
    for (v, row) in x.iter().zip(weights.chunks_exact(n)) {
        for (o, w) in out.iter_mut().zip(row) {
            *o += v * w;
        }
    }
}
