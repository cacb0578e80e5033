use super::judgement::Attempt;
use super::quantiles::{LEVELS, MEDIAN};
use super::weights::Weights;
use foreglow_core::QUANTILE_LEVELS;
use foreglow_core::stats::normal_quantile;

/// A combined forecast in scaled units, one entry a step.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Combined {
    pub(super) median: Vec<f64>,
    /// Distance of each quantile from the median, ascending in a row.
    pub(super) offsets: Vec<[f64; LEVELS]>,
}

/// Standard normal quantiles at the levels.
pub(super) fn normal_levels() -> [f64; LEVELS] {
    std::array::from_fn(|l| if l == MEDIAN { 0.0 } else { normal_quantile(QUANTILE_LEVELS[l]) })
}

/// What the outer voices on either side weigh that do not enter the centre.
const TRIM: f64 = 0.25;

/// The members' forecasts together; a member that has nothing to say leaves its weight to the others, `None` when none has.
///
/// The centre is the weighted interquartile mean of their medians: one member that goes far astray, as a level carried on
/// from the height of a burst does, cannot carry the rest along, and yet several that are near share the say (trimmed means
/// of forecasts: Jose and Winkler 2008, doi:10.1016/j.ijforecast.2007.06.001). The distances of the quantiles from the
/// centre are weighted means, level by level (Vincent's average: the shape survives, Ratcliff 1979,
/// doi:10.1037/0033-2909.86.3.446).
pub(super) fn combine(attempt: &Attempt, weights: &Weights, horizon: usize) -> Option<Combined> {
    let z = normal_levels();
    let mut out = Combined { median: Vec::with_capacity(horizon), offsets: Vec::with_capacity(horizon) };
    let mut voices: Vec<(f64, f64)> = Vec::with_capacity(attempt.locals.len() + 1);
    for k in 0..horizon {
        let w = weights.at(k);
        let (mut total, mut offsets) = (0.0, [0.0; LEVELS]);
        voices.clear();
        let mut add = |weight: f64, centre: f64, offset: &dyn Fn(usize) -> f64| {
            total += weight;
            voices.push((centre, weight));
            for (l, o) in offsets.iter_mut().enumerate() {
                *o += weight * offset(l);
            }
        };
        for (i, member) in attempt.locals.iter().enumerate() {
            if let Some((points, sds)) = member.as_ref().filter(|_| w[i] > 0.0) {
                add(w[i], points[k], &|l| sds[k] * z[l]);
            }
        }
        if let Some(row) = attempt.net.as_ref().map(|n| &n[k])
            && let Some(weight) = w.last().filter(|v| **v > 0.0)
        {
            add(*weight, row[MEDIAN], &|l| row[l] - row[MEDIAN]);
        }
        if total <= 0.0 {
            return None;
        }
        out.median.push(interquartile_mean(&mut voices, total));
        out.offsets.push(offsets.map(|o| o / total));
    }
    Some(out)
}

/// The mean of what lies between the outer [`TRIM`] of the weight on either side. Continuous in values and weights.
fn interquartile_mean(voices: &mut [(f64, f64)], total: f64) -> f64 {
    voices.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (low, high) = (TRIM * total, (1.0 - TRIM) * total);
    let (mut below, mut sum) = (0.0f64, 0.0);
    for (value, weight) in voices {
        let inside = (below + *weight).min(high) - below.max(low);
        sum += inside.max(0.0) * *value;
        below += *weight;
    }
    sum / (high - low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outer_quarters_of_the_weight_do_not_count() {
        let mean = |v: &[(f64, f64)]| interquartile_mean(&mut v.to_vec(), v.iter().map(|v| v.1).sum());
        assert_eq!(mean(&[(3.0, 0.2)]), 3.0);
        assert!((mean(&[(4.0, 1.0), (2.0, 1.0)]) - 3.0).abs() < 1e-12);
        // What a quarter of the weight says may go anywhere.
        for far in [9.0, 1e9] {
            assert!((mean(&[(far, 1.0), (1.0, 1.0), (2.0, 1.0), (3.0, 1.0)]) - 2.5).abs() < 1e-12);
        }
        // Twice the weight is two voices.
        assert!(
            (mean(&[(1.0, 2.0), (5.0, 1.0), (7.0, 1.0)]) - mean(&[(1.0, 1.0), (1.0, 1.0), (5.0, 1.0), (7.0, 1.0)]))
                .abs()
                < 1e-12
        );
    }
}
