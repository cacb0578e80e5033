//! What the acquisition needs beyond `foreglow_core::stats`; private.

pub(crate) use foreglow_core::stats::{
    integrated_autocorrelation_time, mean, normal_cdf, normal_quantile, quantile, student_t_cdf,
};
use std::f64::consts::{PI, SQRT_2};

/// ln(sqrt(2 pi)).
pub(crate) const LN_SQRT_2PI: f64 = 0.918_938_533_204_672_8;

/// Sample standard deviation (divisor n - 1); 0 for fewer than two values.
pub(crate) fn sd(x: &[f64]) -> f64 {
    if x.len() < 2 { 0.0 } else { foreglow_core::stats::std_dev(x) }
}

/// exp(x^2) erfc(x) for x >= 0 without overflow.
pub(crate) fn erfcx(x: f64) -> f64 {
    if x < 10.0 {
        return (x * x).exp() * libm::erfc(x);
    }
    // Asymptotic series; at x >= 10 the fifth term is below 1e-8 of the first.
    let r = 0.5 / (x * x);
    (1.0 - r * (1.0 - 3.0 * r * (1.0 - 5.0 * r * (1.0 - 7.0 * r)))) / (x * PI.sqrt())
}

/// ln of the standard normal distribution function, exact far in the left tail.
pub(crate) fn ln_normal_cdf(z: f64) -> f64 {
    if z > -1.0 { normal_cdf(z).ln() } else { (0.5 * erfcx(-z / SQRT_2)).ln() - z * z / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_exact_and_joined() {
        assert!((erfcx(9.999_999) / erfcx(10.000_001) - 1.0).abs() < 1e-6);
        // ln Phi(-20) = -203.917155...
        assert!((ln_normal_cdf(-20.0) + 203.917_155_37).abs() < 1e-6);
        assert!((ln_normal_cdf(-1.0 + 1e-9) - ln_normal_cdf(-1.0 - 1e-9)).abs() < 1e-8);
        assert_eq!(sd(&[3.0]), 0.0);
    }
}
