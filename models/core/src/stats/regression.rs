use super::summary::{median, quantile_sorted};

/// Above this many points [`theil_sen`] takes evenly spaced ones: half a million pairs are enough.
const THEIL_SEN_POINTS: usize = 1_000;

/// A straight line `y = intercept + slope x` with what is known of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Change of y a unit of x.
    pub slope: f64,
    /// Value at x = 0.
    pub intercept: f64,
    /// Standard error of the slope under independent errors ([`least_squares`]), or half the width of the slopes'
    /// interquartile range ([`theil_sen`]).
    pub slope_error: f64,
    /// Pairs that were used.
    pub points: usize,
}

fn present(x: &[f64], y: &[f64]) -> Vec<(f64, f64)> {
    x.iter().copied().zip(y.iter().copied()).filter(|(a, b)| a.is_finite() && b.is_finite()).collect()
}

/// Ordinary least squares through the pairs that are finite; `None` below two distinct x.
///
/// The error of the slope is `sqrt(RSS / (n - 2) / Sxx)`, `NaN` with two points. Autocorrelated errors make it too small.
pub fn least_squares(x: &[f64], y: &[f64]) -> Option<Line> {
    let pairs = present(x, y);
    let n = pairs.len() as f64;
    let mx = pairs.iter().map(|p| p.0).sum::<f64>() / n;
    let my = pairs.iter().map(|p| p.1).sum::<f64>() / n;
    let sxx: f64 = pairs.iter().map(|p| (p.0 - mx).powi(2)).sum();
    if pairs.len() < 2 || sxx <= 0.0 {
        return None;
    }
    let sxy: f64 = pairs.iter().map(|p| (p.0 - mx) * (p.1 - my)).sum();
    let slope = sxy / sxx;
    let rss: f64 = pairs.iter().map(|p| (p.1 - my - slope * (p.0 - mx)).powi(2)).sum();
    let slope_error = if pairs.len() > 2 { (rss / (n - 2.0) / sxx).sqrt() } else { f64::NAN };
    Some(Line { slope, intercept: my - slope * mx, slope_error, points: pairs.len() })
}

/// Median of the slopes of all pairs of points: a line that up to 29 % of wild points do not move (Theil 1950; Sen 1968,
/// doi:10.1080/01621459.1968.10480934). The intercept is the median of `y - slope x`.
///
/// Above 1,000 points evenly spaced ones are used. `None` below two distinct x. O(min(n, 1000)²).
pub fn theil_sen(x: &[f64], y: &[f64]) -> Option<Line> {
    let mut pairs = present(x, y);
    if pairs.len() > THEIL_SEN_POINTS {
        let n = pairs.len();
        pairs = (0..THEIL_SEN_POINTS).map(|i| pairs[i * (n - 1) / (THEIL_SEN_POINTS - 1)]).collect();
    }
    let mut slopes = Vec::with_capacity(pairs.len() * pairs.len().saturating_sub(1) / 2);
    for (i, a) in pairs.iter().enumerate() {
        for b in &pairs[i + 1..] {
            if a.0 != b.0 {
                slopes.push((b.1 - a.1) / (b.0 - a.0));
            }
        }
    }
    if slopes.is_empty() {
        return None;
    }
    slopes.sort_unstable_by(f64::total_cmp);
    let slope = quantile_sorted(&slopes, 0.5);
    let rest: Vec<f64> = pairs.iter().map(|p| p.1 - slope * p.0).collect();
    Some(Line {
        slope,
        intercept: median(&rest),
        slope_error: (quantile_sorted(&slopes, 0.75) - quantile_sorted(&slopes, 0.25)) / 2.0,
        points: pairs.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_values() {
        // SciPy 1.17, linregress([1,2,3,4,5], [1,3,2,5,4]): slope 0.8, intercept 0.6, error 0.3464.
        let line = least_squares(&[1.0, 2.0, 3.0, 4.0, 5.0], &[1.0, 3.0, 2.0, 5.0, 4.0]).expect("five points");
        assert!((line.slope - 0.8).abs() < 1e-12 && (line.intercept - 0.6).abs() < 1e-12);
        assert!((line.slope_error - 0.346_410_161_5).abs() < 1e-9);
        assert!(least_squares(&[1.0, 1.0], &[1.0, 2.0]).is_none());
        assert!(theil_sen(&[1.0], &[1.0]).is_none());
        assert!(least_squares(&[], &[]).is_none());
    }

    #[test]
    fn wild_points_do_not_move_theil_sen() {
        let x: Vec<f64> = (0..3000).map(f64::from).collect();
        let y: Vec<f64> = x.iter().enumerate().map(|(i, v)| if i % 5 == 0 { 1e6 } else { 2.0 * v + 1.0 }).collect();
        let line = theil_sen(&x, &y).expect("points");
        assert!((line.slope - 2.0).abs() < 1e-9 && (line.intercept - 1.0).abs() < 1e-6, "{line:?}");
        assert_eq!(line.points, 1000);
    }

    proptest! {
        #[test]
        fn both_recover_a_line(slope in -10.0f64..10.0, at in -10.0f64..10.0, n in 2usize..50) {
            let x: Vec<f64> = (0..n).map(|i| i as f64 * 0.5).collect();
            let y: Vec<f64> = x.iter().map(|v| at + slope * v).collect();
            for line in [least_squares(&x, &y), theil_sen(&x, &y)] {
                let line = line.expect("two points or more");
                prop_assert!((line.slope - slope).abs() < 1e-8 && (line.intercept - at).abs() < 1e-7);
            }
        }
    }
}
