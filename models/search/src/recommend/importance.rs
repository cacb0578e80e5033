use crate::SearchSpace;
use crate::Surrogate;
use crate::designers::sobol::point;
use foreglow_core::Seed;

/// Base points of the estimate.
const POINTS: u32 = 128;

/// Total-effect Sobol index of each parameter on the posterior mean, by Jansen's estimator (1999,
/// doi:10.1016/S0010-4655(98)00154-4): half the mean squared difference when only that parameter is drawn anew, over
/// the variance. All 0 when the posterior mean is flat.
pub(crate) fn importances(model: &Surrogate, space: &SearchSpace, seed: Seed) -> Vec<f64> {
    let d = space.len();
    let level = |unit: &[f64]| model.level(&space.features(&space.from_unit(unit)));
    let mut base = Vec::with_capacity(POINTS as usize);
    let mut moved = vec![0.0; d];
    for n in 0..POINTS {
        // The two halves of one point in twice the dimensions are independent draws.
        let both = point(n, 2 * d, seed.child("importance"));
        let a = space.spread(&both[..d]);
        let b = space.spread(&both[d..]);
        let here = level(&a);
        base.push(here);
        for (i, (sum, anew)) in moved.iter_mut().zip(b).enumerate() {
            let mut other = a.clone();
            other[i] = anew;
            *sum += (level(&other) - here).powi(2);
        }
    }
    let variance = crate::stats::sd(&base).powi(2);
    moved.iter().map(|m| if variance > 1e-18 { m / (2.0 * f64::from(POINTS) * variance) } else { 0.0 }).collect()
}
