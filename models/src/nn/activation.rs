//! Smooth functions for training and scoring alike, so that both see the same net.

const LIMIT: f32 = 7.905_311;

/// Hyperbolic tangent by a rational approximation (degree 13 over 6, clamped at ±7.9; the minimax fit of the Eigen
/// library), absolute error under 1e-6. Only products, sums and one division: the same bits on every platform, and
/// loops over it become vector instructions.
#[inline]
pub(crate) fn tanh(x: f32) -> f32 {
    let x = x.clamp(-LIMIT, LIMIT);
    let s = x * x;
    let p = -2.760_768_5e-16;
    let p = p * s + 2.000_188e-13;
    let p = p * s + -8.604_672e-11;
    let p = p * s + 5.122_297e-8;
    let p = p * s + 1.485_722_4e-5;
    let p = p * s + 6.372_619e-4;
    let p = p * s + 4.893_524_6e-3;
    let q = 1.198_258_4e-6;
    let q = q * s + 1.185_347_1e-4;
    let q = q * s + 2.268_434_6e-3;
    let q = q * s + 4.893_525e-3;
    x * p / q
}

/// `ln(1 + e^x)` without overflow.
#[inline]
pub(crate) fn softplus(x: f32) -> f32 {
    x.max(0.0) + (1.0 + (-x.abs()).exp()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_to_the_real_functions() {
        for i in -4000..=4000 {
            let x = i as f32 * 0.005;
            assert!((f64::from(tanh(x)) - f64::from(x).tanh()).abs() < 1e-6, "{x}");
            assert!((f64::from(softplus(x)) - f64::from(x).exp().ln_1p()).abs() < 1e-5, "{x}");
            assert!(tanh(x) == -tanh(-x));
        }
        assert!((tanh(1e30) - 1.0).abs() < 1e-6 && tanh(f32::NAN).is_nan() && softplus(100.0) == 100.0);
    }
}
