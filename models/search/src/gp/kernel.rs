//! Matern-5/2: `k(r) = (1 + sqrt5 r + 5/3 r^2) exp(-sqrt5 r)`.

const SQRT5: f64 = 2.236_067_977_499_79;

/// The correlation at squared scaled distance `r2`.
pub(crate) fn matern(r2: f64) -> f64 {
    let t = SQRT5 * r2.sqrt();
    (1.0 + t + t * t / 3.0) * (-t).exp()
}

/// The correlation and `-2 dk/d(r^2)`, which is `5/3 (1 + sqrt5 r) exp(-sqrt5 r)`.
pub(crate) fn matern_slope(r2: f64) -> (f64, f64) {
    let t = SQRT5 * r2.sqrt();
    let e = (-t).exp();
    ((1.0 + t + t * t / 3.0) * e, 5.0 / 3.0 * (1.0 + t) * e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slope_matches_differences() {
        for r2 in [1e-3, 0.1, 1.0, 7.0] {
            let h = 1e-6 * r2;
            let numeric = -2.0 * (matern(r2 + h) - matern(r2 - h)) / (2.0 * h);
            let (k, s) = matern_slope(r2);
            assert!((k - matern(r2)).abs() < 1e-15);
            assert!((numeric - s).abs() < 1e-5 * s.max(1e-3), "{numeric} {s}");
        }
        assert_eq!(matern(0.0), 1.0);
    }
}
