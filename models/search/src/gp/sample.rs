use super::Hyper;
use super::fit::Likelihood;
use super::process::Data;
use foreglow_core::Seed;
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

/// Steps between two draws that are kept, and before the first.
const STEPS: usize = 8;
/// First width of a slice, in logarithms.
const WIDTH: f64 = 1.5;

/// `count` draws of hyper-parameters from their posterior density, from `start` on: slice sampling (Neal 2003,
/// doi:10.1214/aos/1056562461) along random directions, and every second step along noise or signal alone, which a
/// direction among many hardly touches.
///
/// A single best guess is too sure of itself where data are few: with 50 trials the learned noise alone may be half or
/// twice what it is. Cost: about 5 evaluations of the density a step, O(n^3) each.
pub(crate) fn sample_hyper(
    data: &Data,
    groups: &[usize],
    parameters: usize,
    start: &Hyper,
    count: usize,
    seed: Seed,
) -> Vec<Hyper> {
    let likelihood = Likelihood::new(data, groups, parameters);
    let mut rng = seed.rng();
    let mut theta = start.logarithms();
    let mut here = likelihood.log_density(&theta);
    let mut out = Vec::with_capacity(count);
    for step in 0..(count + 1) * STEPS {
        let along: Vec<f64> = match step % 4 {
            1 => unit(theta.len(), parameters + 1),
            3 => unit(theta.len(), parameters),
            _ => {
                let z: Vec<f64> = theta.iter().map(|_| StandardNormal.sample(&mut rng)).collect();
                let length = z.iter().map(|w| w * w).sum::<f64>().sqrt().max(1e-12);
                z.iter().map(|w| w / length).collect()
            }
        };
        let at = |s: f64| -> Vec<f64> { theta.iter().zip(&along).map(|(t, w)| t + s * w).collect() };
        let level = here + rng.gen_range(f64::MIN_POSITIVE..1.0).ln();
        let mut low = -WIDTH * rng.r#gen::<f64>();
        let mut high = low + WIDTH;
        for (end, way) in [(&mut low, -WIDTH), (&mut high, WIDTH)] {
            for _ in 0..3 {
                if likelihood.log_density(&at(*end)) < level {
                    break;
                }
                *end += way;
            }
        }
        for _ in 0..30 {
            let s = rng.gen_range(low..high);
            let next = at(s);
            let value = likelihood.log_density(&next);
            if value >= level {
                theta = next;
                here = value;
                break;
            }
            if s < 0.0 { low = s } else { high = s }
        }
        if step >= STEPS && step % STEPS == STEPS - 1 {
            out.push(Hyper::of_logarithms(&theta, parameters));
        }
    }
    out
}

fn unit(length: usize, place: usize) -> Vec<f64> {
    (0..length).map(|i| f64::from(u8::from(i == place))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fit_hyper;
    use super::*;

    #[test]
    fn draws_surround_the_truth() {
        let mut rng = Seed(4).rng();
        let x: Vec<Vec<f64>> = (0..40).map(|_| vec![rng.r#gen(), rng.r#gen()]).collect();
        let errors: Vec<f64> = (0..40).map(|_| StandardNormal.sample(&mut rng)).map(|z: f64| 0.3 * z).collect();
        let y = x.iter().zip(&errors).map(|(p, e)| (5.0 * p[0]).sin() + e).collect();
        let real = (errors.iter().map(|e| e * e).sum::<f64>() / 40.0).sqrt();
        let data = Data { known: vec![0.0; 40], x, y };
        let best = fit_hyper(&data, &[0, 1], 2);
        let draws = sample_hyper(&data, &[0, 1], 2, &best, 40, Seed(1));
        assert_eq!(draws, sample_hyper(&data, &[0, 1], 2, &best, 40, Seed(1)), "the same seed gives the same draws");
        let mut noise: Vec<f64> = draws.iter().map(|h| h.noise.sqrt()).collect();
        noise.sort_by(f64::total_cmp);
        assert!(noise[1] < real && noise[38] > real, "{real} {noise:?}");
        assert!(noise[35] / noise[4] < 3.0, "{noise:?}");
        assert!(draws.iter().filter(|h| h.lengths[1] > h.lengths[0]).count() > 25, "the idle parameter is long");
    }
}
