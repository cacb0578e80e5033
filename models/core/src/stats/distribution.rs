use std::f64::consts::SQRT_2;

/// Standard normal distribution function Φ(x) = erfc(-x/√2)/2: full relative precision in the lower tail.
pub fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x / SQRT_2)
}

/// Upper tail 1 - Φ(x) = erfc(x/√2)/2: full relative precision for large `x` (underflows past 38).
pub fn normal_sf(x: f64) -> f64 {
    0.5 * libm::erfc(x / SQRT_2)
}

fn ratio(num: [f64; 8], den: [f64; 8], r: f64) -> f64 {
    let horner = |c: [f64; 8]| c.iter().rev().fold(0.0, |s, &v| s * r + v);
    horner(num) / horner(den)
}

/// Standard normal quantile Φ⁻¹(p) to about 1e-16 relative (Wichura 1988, algorithm AS 241, doi:10.2307/2347330).
///
/// 0 and 1 give the infinities; outside 0..=1 the answer is `NaN`.
#[expect(clippy::excessive_precision, reason = "coefficients as published")]
pub fn normal_quantile(p: f64) -> f64 {
    if !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    if p == 0.0 {
        return f64::NEG_INFINITY;
    }
    if p == 1.0 {
        return f64::INFINITY;
    }
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let a = [
            3.3871328727963666080e0,
            1.3314166789178437745e2,
            1.9715909503065514427e3,
            1.3731693765509461125e4,
            4.5921953931549871457e4,
            6.7265770927008700853e4,
            3.3430575583588128105e4,
            2.5090809287301226727e3,
        ];
        let b = [
            1.0,
            4.2313330701600911252e1,
            6.8718700749205790830e2,
            5.3941960214247511077e3,
            2.1213794301586595867e4,
            3.9307895800092710610e4,
            2.8729085735721942674e4,
            5.2264952788528545610e3,
        ];
        return q * ratio(a, b, 0.180625 - q * q);
    }
    let tail = if q < 0.0 { p } else { 1.0 - p };
    let r = (-tail.ln()).sqrt();
    let size = if r <= 5.0 {
        let c = [
            1.42343711074968357734e0,
            4.63033784615654529590e0,
            5.76949722146069140550e0,
            3.64784832476320460504e0,
            1.27045825245236838258e0,
            2.41780725177450611770e-1,
            2.27238449892691845833e-2,
            7.74545014278341407640e-4,
        ];
        let d = [
            1.0,
            2.05319162663775882187e0,
            1.67638483018380384940e0,
            6.89767334985100004550e-1,
            1.48103976427480074590e-1,
            1.51986665636164571966e-2,
            5.47593808499534494600e-4,
            1.05075007164441684324e-9,
        ];
        ratio(c, d, r - 1.6)
    } else {
        let e = [
            6.65790464350110377720e0,
            5.46378491116411436990e0,
            1.78482653991729133580e0,
            2.96560571828504891230e-1,
            2.65321895265761230930e-2,
            1.24266094738807843860e-3,
            2.71155556874348757815e-5,
            2.01033439929228813265e-7,
        ];
        let f = [
            1.0,
            5.99832206555887937690e-1,
            1.36929880922735805310e-1,
            1.48753612908506148525e-2,
            7.86869131145613259100e-4,
            1.84631831751005468180e-5,
            1.42151175831644588870e-7,
            2.04426310338993978564e-15,
        ];
        ratio(e, f, r - 5.0)
    };
    if q < 0.0 { -size } else { size }
}

/// Regularised incomplete beta function `I_x(a, b)` by Lentz's continued fraction (Press et al., Numerical Recipes,
/// section 6.4); about 1e-14. `NaN` outside `a, b > 0`, `0 <= x <= 1`.
pub fn beta_inc(a: f64, b: f64, x: f64) -> f64 {
    if !(a > 0.0 && b > 0.0 && (0.0..=1.0).contains(&x)) {
        return f64::NAN;
    }
    if x == 0.0 || x == 1.0 {
        return x;
    }
    let front = (libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b) + a * x.ln() + b * (-x).ln_1p()).exp();
    if x < (a + 1.0) / (a + b + 2.0) {
        front * beta_fraction(a, b, x) / a
    } else {
        1.0 - front * beta_fraction(b, a, 1.0 - x) / b
    }
}

fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let guard = |v: f64| if v.abs() < TINY { TINY } else { v };
    let mut c = 1.0;
    let mut d = 1.0 / guard(1.0 - (a + b) * x / (a + 1.0));
    let mut h = d;
    for m in 1..10_000 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / guard(1.0 + even * d);
        c = guard(1.0 + even / c);
        h *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / guard(1.0 + odd * d);
        c = guard(1.0 + odd / c);
        let step = d * c;
        h *= step;
        if (step - 1.0).abs() < 1e-15 {
            break;
        }
    }
    h
}

/// Distribution function of Student's t with `df > 0` degrees of freedom (need not be whole).
pub fn student_t_cdf(t: f64, df: f64) -> f64 {
    if t.is_nan() || df.is_nan() || df <= 0.0 {
        return f64::NAN;
    }
    // Small t through the beta's own complement, so that the middle keeps its precision.
    let tail = 0.5
        * if t * t < df {
            1.0 - beta_inc(0.5, df / 2.0, t * t / (df + t * t))
        } else {
            beta_inc(df / 2.0, 0.5, df / (df + t * t))
        };
    if t > 0.0 { 1.0 - tail } else { tail }
}

/// Quantile of Student's t: the root of [`student_t_cdf`], bracketed and bisected to the last bits.
///
/// 0 and 1 give the infinities; `p` outside 0..=1 or `df <= 0` gives `NaN`. Infinite `df` is the normal quantile.
pub fn student_t_quantile(p: f64, df: f64) -> f64 {
    if !(0.0..=1.0).contains(&p) || df.is_nan() || df <= 0.0 {
        return f64::NAN;
    }
    if df.is_infinite() {
        return normal_quantile(p);
    }
    if p > 0.5 {
        // By symmetry in the lower tail, where the function has full relative precision.
        return -student_t_quantile(1.0 - p, df);
    }
    if p == 0.0 {
        return f64::NEG_INFINITY;
    }
    if p == 0.5 {
        return 0.0;
    }
    let (mut low, mut high) = (-1.0, 0.0);
    while student_t_cdf(low, df) > p {
        high = low;
        low *= 2.0;
        if low < -1e300 {
            return low;
        }
    }
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            break;
        }
        if student_t_cdf(middle, df) > p {
            high = middle;
        } else {
            low = middle;
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn normal_against_tables() {
        // Φ(1.96) and Φ⁻¹ from SciPy 1.17 (scipy.special.ndtr, ndtri).
        assert!((normal_cdf(1.96) - 0.975_002_104_851_779_5).abs() < 1e-15);
        assert!((normal_sf(10.0) / 7.619_853_024_160_527e-24 - 1.0).abs() < 1e-12);
        for (p, want) in
            [(0.975, 1.959_963_984_540_054), (1e-10, -6.361_340_902_404_056), (0.25, -0.674_489_750_196_081_7)]
        {
            assert!((normal_quantile(p) - want).abs() < 1e-13, "{p}");
        }
        assert_eq!(normal_quantile(0.0), f64::NEG_INFINITY);
        assert!(normal_quantile(1.1).is_nan());
    }

    #[test]
    fn student_against_tables() {
        // Two-sided 95 % points from the usual printed table, with more digits from SciPy 1.17 (scipy.stats.t.ppf).
        for (p, df, want) in [
            (0.975, 1.0, 12.706_204_736_174_698),
            (0.975, 5.0, 2.570_581_835_636_314),
            (0.95, 30.0, 1.697_260_886_593_957),
            (0.9, 3.0, 1.637_744_353_696_21),
        ] {
            let got = student_t_quantile(p, df);
            assert!((got - want).abs() < 1e-9, "{p} {df}: {got}");
        }
        assert!((student_t_quantile(0.975, 1e7) - normal_quantile(0.975)).abs() < 1e-6);
        // df = 1 is Cauchy: F(t) = 1/2 + atan(t)/π.
        assert!((student_t_cdf(0.7, 1.0) - (0.5 + 0.7f64.atan() / std::f64::consts::PI)).abs() < 1e-13);
    }

    proptest! {
        #[test]
        fn quantile_inverts(p in 1e-6f64..0.999_999, df in 0.6f64..200.0) {
            prop_assert!((normal_cdf(normal_quantile(p)) - p).abs() < 1e-13);
            prop_assert!((student_t_cdf(student_t_quantile(p, df), df) - p).abs() < 1e-9);
        }

        #[test]
        fn beta_is_symmetric(a in 0.2f64..30.0, b in 0.2f64..30.0, x in 0.0f64..1.0) {
            prop_assert!((beta_inc(a, b, x) + beta_inc(b, a, 1.0 - x) - 1.0).abs() < 1e-10);
        }
    }
}
