use super::calibrate::bucket;
use super::judgement::Trial;
use super::quantiles::MEDIAN;
use super::weights::{Weights, trim};

/// Steps of descent.
const STEPS: usize = 40;
/// The length of the first; later ones fall with the square root of their number.
const RATE: f64 = 0.4;
/// Origins at which half of that length is taken: few say little, and the start is right more often.
const HALF: f64 = 3.0;
/// No weight changes by more than e to this in a step.
const MOST: f64 = 2.0;
/// Steps of one origin that enter a bucket.
const EACH: usize = 24;

/// What every member said of one value: medians, NaN where it had nothing to say.
struct Said {
    medians: Vec<f64>,
    actual: f64,
    /// How much its origin counts.
    share: f64,
}

/// Moves weights to where their mean would have erred least at `trials`, each with what it counts as.
///
/// Weights that fall with each member's own error do not see that members err together, or to opposite sides. From there
/// exponentiated gradients (Kivinen and Warmuth 1997, doi:10.1006/inco.1996.2612) go down on the absolute error of the
/// weighted mean, bucket by bucket of steps ahead with half of its neighbours; the mean of the second half of the way is
/// taken. Few steps from a good start are what keeps it from fitting noise. A member without weight stays without.
pub(super) fn refine(weights: &mut Weights, trials: &[(&Trial, f64)]) {
    let buckets = weights.0.len();
    let mut said: Vec<Vec<Said>> = (0..buckets).map(|_| Vec::new()).collect();
    for (t, share) in trials {
        let mut from = 0;
        while from < t.actual.len() {
            let b = bucket(from);
            let to = (from..t.actual.len()).find(|k| bucket(*k) != b).unwrap_or(t.actual.len());
            for k in (from..to).step_by((to - from).div_ceil(EACH)).filter(|k| t.actual[*k].is_finite()) {
                let locals = t.attempt.locals.iter().map(|l| l.as_ref().map_or(f64::NAN, |(m, _)| m[k]));
                let net = t.attempt.net.as_ref().map_or(f64::NAN, |rows| rows[k][MEDIAN]);
                let medians = locals.chain([net]).collect();
                said[b.min(buckets - 1)].push(Said { medians, actual: t.actual[k], share: *share });
            }
            from = to;
        }
    }
    let origins: f64 = trials.iter().map(|t| t.1).sum();
    let rate = RATE * origins / (origins + HALF);
    for (b, w) in weights.0.iter_mut().enumerate() {
        let near: Vec<(&Said, f64)> = [(b.wrapping_sub(1), 1.0), (b, 2.0), (b + 1, 1.0)]
            .into_iter()
            .filter_map(|(at, part)| said.get(at).map(|all| (all, part)))
            .flat_map(|(all, part)| {
                let total: f64 = all.iter().map(|s| s.share).sum();
                all.iter().map(move |s| (s, part * s.share / total))
            })
            .collect();
        descend(w, &near, rate);
    }
}

/// The weighted mean of the medians among those that `w` counts and the weight behind it.
fn together(said: &Said, w: &[f64]) -> (f64, f64) {
    let there = w.iter().zip(&said.medians).filter(|(w, m)| **w > 0.0 && m.is_finite());
    let (sum, weight) = there.fold((0.0, 0.0), |(s, t), (w, m)| (s + w * m, t + w));
    (sum / weight, weight)
}

fn descend(w: &mut [f64], near: &[(&Said, f64)], rate: f64) {
    if w.iter().filter(|v| **v > 0.0).count() < 2 {
        return;
    }
    // The unit: the mean error of the start times the shares.
    let unit: f64 = near.iter().map(|(s, q)| q * (together(s, w).0 - s.actual).abs()).filter(|e| e.is_finite()).sum();
    if unit <= 0.0 {
        return;
    }
    let start = w.to_vec();
    let mut mean = vec![0.0; w.len()];
    let mut gradient = vec![0.0; w.len()];
    for step in 0..STEPS {
        gradient.fill(0.0);
        for (s, q) in near {
            let (forecast, weight) = together(s, w);
            let over = forecast - s.actual;
            if over == 0.0 || !over.is_finite() {
                continue;
            }
            let push = q * over.signum() / weight;
            for (g, m) in gradient.iter_mut().zip(&s.medians).filter(|(_, m)| m.is_finite()) {
                *g += push * (m - forecast);
            }
        }
        let length = rate / (step as f64 + 1.0).sqrt() / unit;
        for (v, g) in w.iter_mut().zip(&gradient) {
            *v *= libm::exp((-length * g).clamp(-MOST, MOST));
        }
        let total: f64 = w.iter().sum();
        for v in w.iter_mut() {
            *v /= total;
        }
        if 2 * step >= STEPS {
            for (m, v) in mean.iter_mut().zip(w.iter()) {
                *m += v;
            }
        }
    }
    w.copy_from_slice(if mean.iter().all(|v| v.is_finite()) { &mean } else { &start });
    trim(w);
}

#[cfg(test)]
mod tests {
    use super::super::judgement::Attempt;
    use super::*;

    fn trial(medians: &[&[f64]], actual: &[f64]) -> Trial {
        let locals = medians.iter().map(|m| Some((m.to_vec(), vec![1.0; m.len()]))).collect();
        Trial { attempt: Attempt { locals, net: None }, actual: actual.to_vec() }
    }

    /// Two members that err to opposite sides by 1 and 3: a third of the second makes the mean right, though its own error
    /// is the larger one.
    #[test]
    fn errors_to_opposite_sides_cancel() {
        let truth = [5.0, 7.0, 6.0, 9.0];
        let low: Vec<f64> = truth.iter().map(|v| v - 1.0).collect();
        let high: Vec<f64> = truth.iter().map(|v| v + 3.0).collect();
        let trials: Vec<Trial> = (0..8).map(|_| trial(&[&low, &high, &truth], &truth)).collect();
        let mut weights = Weights(vec![vec![0.95, 0.05, 0.0]; 3]);
        refine(&mut weights, &trials.iter().map(|t| (t, 1.0)).collect::<Vec<_>>());
        for k in 0..4 {
            let w = weights.at(k);
            let error = (w[1] * 3.0 - w[0]).abs();
            assert!(error < 0.25 && w[2] == 0.0, "{w:?}");
            assert!((w.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn nothing_to_learn_changes_nothing() {
        let start = Weights(vec![vec![0.5, 0.5]]);
        let cases = [trial(&[&[2.0], &[2.0]], &[2.0]), trial(&[&[2.0], &[3.0]], &[f64::NAN]), trial(&[&[], &[]], &[])];
        for t in &cases {
            let mut w = start.clone();
            refine(&mut w, &[(t, 1.0)]);
            assert_eq!(w, start);
        }
        let mut w = start.clone();
        refine(&mut w, &[]);
        assert_eq!(w, start);
    }
}
