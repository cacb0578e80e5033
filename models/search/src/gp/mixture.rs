use super::{Data, Gp, Hyper, sample_hyper};
use foreglow_core::Seed;
use foreglow_core::stats::normal_quantile;

/// Draws of hyper-parameters in a mixture.
const DRAWS: usize = 12;
/// The level at which left-out values are asked to lie within their interval.
const LEVEL: f64 = 0.8;

/// Gaussian processes over the same data that differ in what they take for lengths, signal and noise.
#[derive(Debug, Clone)]
pub(crate) struct Mixture {
    members: Vec<Member>,
    /// Measured points: the rest is rough as well as unknown.
    measured: Vec<Vec<f64>>,
}

#[derive(Debug, Clone)]
struct Member {
    gp: Gp,
    /// What variances of the function are multiplied by.
    stretch: f64,
    /// Variance of the function at a point that was not measured, beyond what the process says.
    rough: f64,
}

impl Mixture {
    /// One process, as wide as its left-out residuals ask for: their root mean square, 1 to 3.
    pub(crate) fn one(gp: Gp) -> Self {
        let z = gp.leave_one_out();
        let spread = (z.iter().map(|v| v * v).sum::<f64>() / z.len() as f64).sqrt().clamp(1.0, 3.0);
        Self { members: vec![Member { gp, stretch: spread * spread, rough: 0.0 }], measured: Vec::new() }
    }

    /// Processes over draws of hyper-parameters from their posterior density, for what is promised to people. `fitted` are
    /// the data that the density sees.
    ///
    /// Two things that no draw knows are added. What is learned as noise may as well be roughness of the function (a
    /// table of real configurations is not smooth), and without repeats nothing tells them apart: a point that was not
    /// measured gets it in full, beyond the posterior's variance. And variances of the function are stretched until 80 %
    /// of the values lie within the 80 % interval that the rest predicts for them (conformal scale, 1 or more: Vovk,
    /// Gammerman and Shafer 2005, ISBN 978-0-387-00152-4).
    pub(crate) fn marginal(
        data: &Data,
        fitted: &Data,
        groups: &[usize],
        parameters: usize,
        best: &Hyper,
        seed: Seed,
    ) -> Option<Self> {
        let draws = sample_hyper(fitted, groups, parameters, best, DRAWS, seed);
        let members: Vec<Member> = draws
            .iter()
            .filter_map(|h| {
                let gp = Gp::new(h, groups, data)?;
                Some(Member { stretch: stretch(&gp, data, h.noise), rough: h.noise, gp })
            })
            .collect();
        (!members.is_empty()).then(|| Self { members, measured: data.x.clone() })
    }

    fn is_rough(&self, q: &[f64]) -> bool {
        !self.measured.is_empty() && self.measured.iter().all(|x| x != q)
    }

    /// Mean and standard deviation of the function.
    pub(crate) fn posterior(&self, q: &[f64]) -> (f64, f64) {
        let rough = f64::from(u8::from(self.is_rough(q)));
        let all: Vec<(f64, f64)> = self
            .members
            .iter()
            .map(|m| {
                let (mean, sd) = m.gp.posterior(q);
                (mean, m.stretch * sd * sd + rough * m.rough)
            })
            .collect();
        let n = all.len() as f64;
        let mean = all.iter().map(|a| a.0).sum::<f64>() / n;
        let variance = all.iter().map(|a| a.1 + (a.0 - mean).powi(2)).sum::<f64>() / n;
        (mean, variance.sqrt())
    }

    /// Means of the function at two points, its variances there and their covariance.
    pub(crate) fn joint(&self, a: &[f64], b: &[f64]) -> ([f64; 2], [f64; 3]) {
        let rough = [a, b].map(|q| f64::from(u8::from(self.is_rough(q))));
        // The same point is the same value, however rough.
        let both = if a == b { rough[0] } else { 0.0 };
        let all: Vec<([f64; 2], [f64; 3])> = self
            .members
            .iter()
            .map(|m| {
                let (means, v) = m.gp.joint(a, b);
                let at = |i: usize, rough: f64| m.stretch * v[i] + rough * m.rough;
                (means, [at(0, rough[0]), at(1, rough[1]), at(2, both)])
            })
            .collect();
        let n = all.len() as f64;
        let means: [f64; 2] = std::array::from_fn(|i| all.iter().map(|x| x.0[i]).sum::<f64>() / n);
        let moment = |i: usize, j: usize, k: usize| {
            all.iter().map(|x| x.1[i] + (x.0[j] - means[j]) * (x.0[k] - means[k])).sum::<f64>() / n
        };
        (means, [moment(0, 0, 0), moment(1, 1, 1), moment(2, 0, 1)])
    }
}

/// The smallest factor on the variance of the function, from 1 to 40 in steps of a tenth, at which [`LEVEL`] of the values
/// lie within the interval of that level that the others predict.
fn stretch(gp: &Gp, data: &Data, noise: f64) -> f64 {
    let z = normal_quantile(0.5 + LEVEL / 2.0);
    let left = gp.left_out();
    let within = |factor: f64| {
        let inside = left.iter().zip(&data.known).filter(|((e, v), known)| {
            let measured = noise + **known;
            e * e <= z * z * (factor * (v - measured).max(0.0) + measured)
        });
        inside.count() as f64 >= LEVEL * left.len() as f64
    };
    (0..39).map(|i| 1.1f64.powi(i)).find(|f| within(*f)).unwrap_or(1.1f64.powi(39))
}

#[cfg(test)]
mod tests {
    use super::super::fit_hyper;
    use super::*;
    use rand::Rng;

    fn wavy(rough: f64) -> Data {
        let mut rng = Seed(3).rng();
        let x: Vec<Vec<f64>> = (0..30).map(|_| vec![rng.r#gen::<f64>()]).collect();
        let y = x.iter().map(|p| (6.0 * p[0]).sin() + rough * (rng.r#gen::<f64>() - 0.5)).collect();
        Data { known: vec![0.0; 30], x, y }
    }

    #[test]
    fn what_was_not_measured_is_rough() {
        let data = wavy(1.0);
        let best = fit_hyper(&data, &[0], 1);
        let m = Mixture::marginal(&data, &data, &[0], 1, &best, Seed(1)).unwrap();
        let here = data.x[3].clone();
        let beside = vec![here[0] + 1e-6];
        let (a, b) = (m.posterior(&here), m.posterior(&beside));
        assert!((a.0 - b.0).abs() < 1e-3 && b.1 > 1.3 * a.1, "{a:?} {b:?}");
        let (means, v) = m.joint(&beside, &beside);
        assert!((means[0] - b.0).abs() < 1e-9 && (v[0] - b.1 * b.1).abs() < 1e-9 && (v[2] - v[0]).abs() < 1e-9);
    }

    #[test]
    fn too_sure_a_process_is_stretched() {
        let data = wavy(0.0);
        let best = fit_hyper(&data, &[0], 1);
        let sure = Hyper { signal: 1e-3 * best.signal, noise: 1e-6, ..best.clone() };
        let gp = |h: &Hyper| Gp::new(h, &[0], &data).unwrap();
        assert!(stretch(&gp(&sure), &data, sure.noise) > 5.0);
        assert!(stretch(&gp(&best), &data, best.noise) < 3.0);
    }
}
