/// The newest finite value and its index.
pub fn last_observed(values: &[f64]) -> Option<(usize, f64)> {
    values.iter().rposition(|v| v.is_finite()).map(|i| (i, values[i]))
}

/// The value of the same phase for the step `ahead` (1 = the next) behind the end of `values`: `season` steps before it,
/// or as many whole seasons before as it takes to lie inside the history, then `more` seasons further. Where that one is
/// missing (not finite) the season before is asked, as long as there is history.
///
/// `None` when no value of that phase is there. `season` and `ahead` are at least 1. O(seasons looked back).
pub fn value_seasons_back(values: &[f64], season: usize, ahead: usize, more: usize) -> Option<f64> {
    let back = season * (ahead.div_ceil(season) + more) - (ahead - 1);
    let mut at = values.len().checked_sub(back)?;
    loop {
        if values[at].is_finite() {
            return Some(values[at]);
        }
        at = at.checked_sub(season)?;
    }
}

/// Mean of `|x_t - x_{t-season}|` over the pairs present with `t` in the last `width` values: the in-sample error of the
/// seasonal naive forecast. `None` without a pair.
pub fn seasonal_mean_change(values: &[f64], season: usize, width: usize) -> Option<f64> {
    let from = values.len().saturating_sub(width).max(season);
    let (mut sum, mut n) = (0.0, 0usize);
    for t in from..values.len() {
        let d = (values[t] - values[t - season]).abs();
        if d.is_finite() {
            sum += d;
            n += 1;
        }
    }
    (n > 0).then(|| sum / n as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_back_whole_seasons() {
        let x: Vec<f64> = (0..10).map(f64::from).collect();
        // Season 3: the next value (index 10) has its phase at index 7, the fourth (index 13) at 7 as well.
        assert_eq!(value_seasons_back(&x, 3, 1, 0), Some(7.0));
        assert_eq!(value_seasons_back(&x, 3, 3, 0), Some(9.0));
        assert_eq!(value_seasons_back(&x, 3, 4, 0), Some(7.0));
        assert_eq!(value_seasons_back(&x, 3, 1, 1), Some(4.0));
        assert_eq!(value_seasons_back(&x, 3, 1, 3), None);
        assert_eq!(value_seasons_back(&x, 11, 1, 0), None);
        assert_eq!(value_seasons_back(&x, 1, 5, 0), Some(9.0));
        let gap = [1.0, 2.0, 3.0, f64::NAN, 5.0, f64::INFINITY];
        assert_eq!(value_seasons_back(&gap, 3, 1, 0), Some(1.0));
        assert_eq!(value_seasons_back(&gap, 3, 3, 0), Some(3.0));
        assert_eq!(last_observed(&gap), Some((4, 5.0)));
        assert_eq!(seasonal_mean_change(&x, 3, 100), Some(3.0));
        assert_eq!(seasonal_mean_change(&gap, 3, 100), Some(3.0));
        assert_eq!(seasonal_mean_change(&x, 12, 100), None);
    }
}
