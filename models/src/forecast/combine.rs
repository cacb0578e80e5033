use super::judge::Attempt;
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

/// The weighted mean of the members' quantiles, level by level (Vincent's average: the shape survives, Ratcliff 1979,
/// doi:10.1037/0033-2909.86.3.446). A member that has nothing to say leaves its weight to the others; `None` when none has.
pub(super) fn combine(attempt: &Attempt, weights: &Weights, horizon: usize) -> Option<Combined> {
    let z = normal_levels();
    let mut out = Combined { median: Vec::with_capacity(horizon), offsets: Vec::with_capacity(horizon) };
    for k in 0..horizon {
        let w = weights.at(k);
        let (mut total, mut median, mut offsets) = (0.0, 0.0, [0.0; LEVELS]);
        let mut add = |weight: f64, centre: f64, offset: &dyn Fn(usize) -> f64| {
            total += weight;
            median += weight * centre;
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
        out.median.push(median / total);
        out.offsets.push(offsets.map(|o| o / total));
    }
    Some(out)
}
