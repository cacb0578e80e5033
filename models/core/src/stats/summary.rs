/// A normal sample's standard deviation is its median absolute deviation times this: 1 / Φ⁻¹(3/4).
pub const MAD_TO_SD: f64 = 1.482_602_218_505_602;

fn present(values: &[f64]) -> Vec<f64> {
    values.iter().copied().filter(|v| !v.is_nan()).collect()
}

/// Arithmetic mean of the present values; `NaN` when there is none.
pub fn mean(values: &[f64]) -> f64 {
    let (mut sum, mut n) = (0.0, 0usize);
    for &v in values {
        if !v.is_nan() {
            sum += v;
            n += 1;
        }
    }
    if n == 0 { f64::NAN } else { sum / n as f64 }
}

/// Unbiased sample variance (denominator n - 1) in two passes; `NaN` below two present values.
pub fn variance(values: &[f64]) -> f64 {
    let m = mean(values);
    let (mut sum, mut n) = (0.0, 0usize);
    for &v in values {
        if !v.is_nan() {
            sum += (v - m) * (v - m);
            n += 1;
        }
    }
    if n < 2 { f64::NAN } else { sum / (n - 1) as f64 }
}

/// Square root of [`variance`].
pub fn std_dev(values: &[f64]) -> f64 {
    variance(values).sqrt()
}

/// Quantile of the present values by linear interpolation between order statistics at position `q (n - 1)`: type 7 of
/// Hyndman and Fan (1996, doi:10.1080/00031305.1996.10473566), the default of R and NumPy.
///
/// `q` is clamped to 0..=1. `NaN` when no value is present or `q` is `NaN`. O(n log n).
pub fn quantile(values: &[f64], q: f64) -> f64 {
    let mut kept = present(values);
    kept.sort_unstable_by(f64::total_cmp);
    quantile_sorted(&kept, q)
}

/// [`quantile`] of values that are already ascending and hold no `NaN`. O(1).
pub fn quantile_sorted(sorted: &[f64], q: f64) -> f64 {
    if sorted.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    let at = q.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let low = at.floor() as usize;
    let high = (low + 1).min(sorted.len() - 1);
    let share = at - low as f64;
    let (a, b) = (sorted[low], sorted[high]);
    // Exact ends: an infinite neighbour must not turn `a` into NaN.
    if share == 0.0 || a == b { a } else { a + (b - a) * share }
}

/// Middle of the present values: the mean of the two middle ones when their number is even. O(n) on average.
pub fn median(values: &[f64]) -> f64 {
    let mut kept = present(values);
    let n = kept.len();
    if n == 0 {
        return f64::NAN;
    }
    let (below, &mut upper, _) = kept.select_nth_unstable_by(n / 2, f64::total_cmp);
    if n % 2 == 1 {
        return upper;
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if lower == upper { upper } else { lower + (upper - lower) / 2.0 }
}

/// Median absolute deviation from the median, not rescaled; times [`MAD_TO_SD`] it estimates a normal deviation.
pub fn mad(values: &[f64]) -> f64 {
    let centre = median(values);
    let off: Vec<f64> = values.iter().map(|v| (v - centre).abs()).collect();
    median(&off)
}

/// Smallest value whose cumulated weight reaches `q` of the total weight (the inverted weighted distribution function,
/// as conformal prediction needs it; no interpolation).
///
/// Pairs with a `NaN` half or a weight that is not positive are skipped; `NaN` when none is left or `q` is `NaN`. The
/// shorter slice decides the number of pairs.
pub fn weighted_quantile(values: &[f64], weights: &[f64], q: f64) -> f64 {
    let mut pairs: Vec<(f64, f64)> =
        values.iter().copied().zip(weights.iter().copied()).filter(|&(v, w)| !v.is_nan() && w > 0.0).collect();
    if pairs.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total: f64 = pairs.iter().map(|p| p.1).sum();
    let goal = q.clamp(0.0, 1.0) * total;
    let mut sum = 0.0;
    for &(v, w) in &pairs {
        sum += w;
        if sum >= goal {
            return v;
        }
    }
    pairs[pairs.len() - 1].0
}

/// `ln Σ exp(vᵢ)` without overflow; negative infinity for an empty slice, `NaN` when a value is `NaN`.
pub fn log_sum_exp(values: &[f64]) -> f64 {
    if values.iter().any(|v| v.is_nan()) {
        return f64::NAN;
    }
    let top = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if top.is_infinite() {
        return top;
    }
    top + values.iter().map(|v| (v - top).exp()).sum::<f64>().ln()
}

/// Jain's fairness index `(Σx)² / (n Σx²)` of the present values: 1 when all shares are equal, 1/n when one has all
/// (Jain, Chiu and Hawe 1984, DEC TR-301). `NaN` when nothing is present or all are 0.
pub fn jain_index(shares: &[f64]) -> f64 {
    let kept = present(shares);
    // Scaled by the largest, so that squares neither overflow nor vanish.
    let top = kept.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    if top == 0.0 || top.is_infinite() {
        return f64::NAN;
    }
    let sum: f64 = kept.iter().map(|v| v / top).sum();
    let squares: f64 = kept.iter().map(|v| (v / top) * (v / top)).sum();
    sum * sum / (kept.len() as f64 * squares)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_values() {
        // NumPy 2: np.quantile([1,2,3,4,10], .3) = 2.2; np.var([1,2,3,4,10], ddof=1) = 12.5.
        let x = [10.0, 2.0, f64::NAN, 3.0, 4.0, 1.0];
        assert!((quantile(&x, 0.3) - 2.2).abs() < 1e-12);
        assert_eq!(variance(&x), 12.5);
        assert_eq!(mean(&x), 4.0);
        assert_eq!(median(&x), 3.0);
        assert_eq!(mad(&x), 1.0);
        assert_eq!(median(&[1.0, 2.0, 3.0, 4.0]), 2.5);
        assert_eq!(weighted_quantile(&[3.0, 1.0, 2.0], &[1.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(weighted_quantile(&[3.0, 1.0, 2.0], &[1.0, 1.0, 2.0], 0.76), 3.0);
        assert!((log_sum_exp(&[1000.0, 1000.0]) - (1000.0 + 2f64.ln())).abs() < 1e-12);
        assert_eq!(jain_index(&[5.0, 0.0, 0.0, 0.0]), 0.25);
        assert!((jain_index(&[1e200, 1e200]) - 1.0).abs() < 1e-15);
    }

    #[test]
    fn nothing_left_is_nan() {
        for f in [mean, variance, median, mad, jain_index] {
            assert!(f(&[]).is_nan());
            assert!(f(&[f64::NAN]).is_nan());
        }
        assert!(quantile(&[], 0.5).is_nan());
        assert!(variance(&[1.0]).is_nan());
        assert!(weighted_quantile(&[1.0], &[0.0], 0.5).is_nan());
        assert_eq!(log_sum_exp(&[]), f64::NEG_INFINITY);
    }

    proptest! {
        #[test]
        fn median_is_the_half_quantile(x in prop::collection::vec(-1e6f64..1e6, 1..60)) {
            prop_assert!((median(&x) - quantile(&x, 0.5)).abs() <= 1e-9);
        }

        #[test]
        fn quantiles_rise_and_stay_inside(x in prop::collection::vec(-1e6f64..1e6, 1..60), a in 0.0f64..1.0, b in 0.0f64..1.0) {
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(quantile(&x, low) <= quantile(&x, high));
            prop_assert_eq!(quantile(&x, 0.0), x.iter().copied().fold(f64::INFINITY, f64::min));
            prop_assert_eq!(quantile(&x, 1.0), x.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        }

        #[test]
        fn equal_weights_give_an_order_statistic(x in prop::collection::vec(-1e3f64..1e3, 1..40), q in 0.0f64..1.0) {
            let v = weighted_quantile(&x, &vec![2.0; x.len()], q);
            let below = x.iter().filter(|&&u| u <= v).count() as f64;
            prop_assert!(below >= q * x.len() as f64 - 1e-9);
        }

        #[test]
        fn variance_ignores_shift(x in prop::collection::vec(-1e3f64..1e3, 2..40), shift in -1e3f64..1e3) {
            let moved: Vec<f64> = x.iter().map(|v| v + shift).collect();
            prop_assert!((variance(&x) - variance(&moved)).abs() <= 1e-6 * (1.0 + variance(&x)));
        }
    }
}
