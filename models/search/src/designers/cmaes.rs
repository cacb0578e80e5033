use super::{Ask, Designer, Proposal, sobol};
use crate::trial::TrialState;
use crate::{SearchError, SearchSpace};
use faer::{Mat, Side};
use foreglow_core::Seed;
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

/// Covariance matrix adaptation (Hansen 2016, arXiv 1604.00772) in ask/tell form over the unit cube.
///
/// The state is replayed from the ended trials, a generation of `4 + 3 ln d` at a time, so that a study can stop anywhere.
/// Trials that the distribution did not draw (a baseline, observed ones) are taken as injected solutions with bounded
/// step (Hansen 2011, arXiv 1110.4181). When the steps get tiny it starts again with twice the generation (IPOP, Auger
/// and Hansen 2005, doi:10.1109/CEC.2005.1554902). Coarse parameters keep a spread of half a level, choices are bins of
/// their axis. Failed and unsafe trials rank behind all others. The first generation is a Sobol sequence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CmaEs {
    /// Step size at the start, in unit ranges. Default 0.25.
    pub sigma: f64,
    /// Step size, relative to the start, below which it starts again. Default 1e-7.
    pub tiny: f64,
}

impl Default for CmaEs {
    fn default() -> Self {
        Self { sigma: 0.25, tiny: 1e-7 }
    }
}

impl Designer for CmaEs {
    fn propose(&self, ask: &Ask<'_>) -> Result<Proposal, SearchError> {
        let d = ask.space.len();
        let state = self.replay(ask);
        let n = ask.trials.len();
        if state.generation == 0 {
            let unit = sobol::point(n as u32, d, ask.seed.child("cmaes"));
            let start = ask.space.from_unit(&ask.space.spread(&unit));
            return Ok(Proposal::plain(start, "one of the first generation, from a Sobol sequence"));
        }
        let mut rng = ask.rng("cmaes");
        let z: Vec<f64> = (0..d).map(|_| StandardNormal.sample(&mut rng)).collect();
        let step = state.scaled(&z);
        let unit: Vec<f64> = (0..d)
            .map(|i| {
                let (low, high) = ask.space.unit_range(i);
                let mut v = state.mean[i] + state.sigma * step[i];
                if let Some(levels) = ask.space.parameters()[i].count() {
                    let extra: f64 = StandardNormal.sample(&mut rng);
                    v += extra * 0.5 * (high - low) / levels as f64;
                }
                // Reflected once, then clamped.
                let v = if v < low {
                    2.0 * low - v
                } else if v > high {
                    2.0 * high - v
                } else {
                    v
                };
                v.clamp(low, high)
            })
            .collect();
        let why = format!("a draw of generation {}, step size {:.3}", state.generation, state.sigma);
        Ok(Proposal::plain(ask.space.from_unit(&unit), why))
    }
}

struct State {
    dims: usize,
    mean: Vec<f64>,
    sigma: f64,
    covariance: Vec<f64>,
    /// Columns scaled by the square roots of the eigenvalues, and the plain ones with those roots.
    axes: Vec<f64>,
    roots: Vec<f64>,
    path_sigma: Vec<f64>,
    path_c: Vec<f64>,
    generation: usize,
    /// Generations since the last start.
    age: usize,
}

impl State {
    fn new(mean: Vec<f64>, sigma: f64) -> Self {
        let d = mean.len();
        let mut identity = vec![0.0; d * d];
        for i in 0..d {
            identity[i * d + i] = 1.0;
        }
        Self {
            dims: d,
            mean,
            sigma,
            axes: identity.clone(),
            covariance: identity,
            roots: vec![1.0; d],
            path_sigma: vec![0.0; d],
            path_c: vec![0.0; d],
            generation: 0,
            age: 0,
        }
    }

    /// B D z.
    fn scaled(&self, z: &[f64]) -> Vec<f64> {
        let d = self.dims;
        (0..d).map(|i| (0..d).map(|k| self.axes[i * d + k] * self.roots[k] * z[k]).sum()).collect()
    }

    /// C^(-1/2) y.
    fn whitened(&self, y: &[f64]) -> Vec<f64> {
        let d = self.dims;
        let inner: Vec<f64> =
            (0..d).map(|k| (0..d).map(|i| self.axes[i * d + k] * y[i]).sum::<f64>() / self.roots[k]).collect();
        (0..d).map(|i| (0..d).map(|k| self.axes[i * d + k] * inner[k]).sum()).collect()
    }

    fn decompose(&mut self) {
        let d = self.dims;
        let m = Mat::<f64>::from_fn(d, d, |i, j| f64::midpoint(self.covariance[i * d + j], self.covariance[j * d + i]));
        let Ok(e) = m.as_ref().self_adjoint_eigen(Side::Lower) else { return };
        let top = (0..d).map(|k| e.S()[k]).fold(0.0, f64::max);
        for k in 0..d {
            // Condition bounded by 1e14, as the reference implementation does.
            self.roots[k] = e.S()[k].max(1e-14 * top).max(1e-300).sqrt();
            for i in 0..d {
                self.axes[i * d + k] = e.U()[(i, k)];
            }
        }
    }
}

impl CmaEs {
    fn replay(&self, ask: &Ask<'_>) -> State {
        let d = ask.space.len();
        let ended: Vec<(Vec<f64>, f64)> = ask
            .trials
            .iter()
            .filter(|t| t.state != TrialState::Pending && t.marks.is_empty())
            .map(|t| {
                let sign = ask.objective.goal.sign();
                let loss = match (&t.state, t.usable()) {
                    (TrialState::Completed, Some(m)) => sign * m.value,
                    _ => f64::INFINITY,
                };
                (ask.space.to_unit(&t.parameters), loss)
            })
            .collect();
        let plain = 4 + (3.0 * (d as f64).ln()).floor() as usize;
        let mut size = plain;
        let mut state = State::new(middle(ask.space), self.sigma);
        let mut at = 0;
        while at + size <= ended.len() {
            let mut batch: Vec<&(Vec<f64>, f64)> = ended[at..at + size].iter().collect();
            at += size;
            batch.sort_by(|a, b| a.1.total_cmp(&b.1));
            batch.retain(|b| b.1.is_finite());
            if batch.len() >= 2 {
                update(&mut state, &batch, size);
            }
            state.generation += 1;
            state.age += 1;
            let widest = state.roots.iter().fold(0.0f64, |m, r| m.max(*r)) * state.sigma;
            let flat = batch.len() >= 2 && batch[0].1 == batch[batch.len() - 1].1;
            if widest < self.tiny * self.sigma || (flat && state.age > 10) || !widest.is_finite() {
                size = (2 * size).min(16 * plain);
                let (generation, seed) = (state.generation, ask.seed.child("cmaes-restart"));
                state = State::new(anywhere(ask.space, seed.nth(generation as u64)), self.sigma);
                state.generation = generation;
            }
        }
        state
    }
}

fn middle(space: &SearchSpace) -> Vec<f64> {
    (0..space.len())
        .map(|i| {
            let (a, b) = space.unit_range(i);
            f64::midpoint(a, b)
        })
        .collect()
}

fn anywhere(space: &SearchSpace, seed: Seed) -> Vec<f64> {
    let mut rng = seed.rng();
    (0..space.len())
        .map(|i| {
            let (a, b) = space.unit_range(i);
            a + rng.r#gen::<f64>() * (b - a)
        })
        .collect()
}

/// One generation's update with the tutorial's default constants; `batch` is sorted, best first.
fn update(s: &mut State, batch: &[&(Vec<f64>, f64)], size: usize) {
    let d = s.dims;
    let n = d as f64;
    let parents = (size / 2).clamp(1, batch.len());
    let raw: Vec<f64> = (0..parents).map(|i| (size as f64 / 2.0 + 0.5).ln() - (i as f64 + 1.0).ln()).collect();
    let total: f64 = raw.iter().sum();
    let weights: Vec<f64> = raw.iter().map(|w| w / total).collect();
    let mu = 1.0 / weights.iter().map(|w| w * w).sum::<f64>();
    let c_sigma = (mu + 2.0) / (n + mu + 5.0);
    let damping = 1.0 + 2.0 * (((mu - 1.0) / (n + 1.0)).sqrt() - 1.0).max(0.0) + c_sigma;
    let c_c = (4.0 + mu / n) / (n + 4.0 + 2.0 * mu / n);
    let c_1 = 2.0 / ((n + 1.3).powi(2) + mu);
    let c_mu = (1.0 - c_1).min(2.0 * (mu - 2.0 + 1.0 / mu) / ((n + 2.0).powi(2) + mu));
    let expected = n.sqrt() * (1.0 - 1.0 / (4.0 * n) + 1.0 / (21.0 * n * n));

    let longest = n.sqrt() + 2.0 * n / (n + 2.0);
    let steps: Vec<Vec<f64>> = batch[..parents]
        .iter()
        .map(|(x, _)| {
            let y: Vec<f64> = x.iter().zip(&s.mean).map(|(a, b)| (a - b) / s.sigma).collect();
            let length = s.whitened(&y).iter().map(|v| v * v).sum::<f64>().sqrt();
            let shrink = (longest / length.max(1e-300)).min(1.0);
            y.iter().map(|v| v * shrink).collect()
        })
        .collect();
    let step: Vec<f64> = (0..d).map(|i| steps.iter().zip(&weights).map(|(y, w)| w * y[i]).sum()).collect();
    for (m, v) in s.mean.iter_mut().zip(&step) {
        *m = (*m + s.sigma * v).clamp(0.0, 1.0);
    }
    let white = s.whitened(&step);
    let factor = (c_sigma * (2.0 - c_sigma) * mu).sqrt();
    for (p, v) in s.path_sigma.iter_mut().zip(&white) {
        *p = (1.0 - c_sigma) * *p + factor * v;
    }
    let length = s.path_sigma.iter().map(|v| v * v).sum::<f64>().sqrt();
    let decay = (1.0 - (1.0 - c_sigma).powi(2 * (s.age as i32 + 1))).sqrt();
    let h = f64::from(u8::from(length / decay < (1.4 + 2.0 / (n + 1.0)) * expected));
    let factor = h * (c_c * (2.0 - c_c) * mu).sqrt();
    for (p, v) in s.path_c.iter_mut().zip(&step) {
        *p = (1.0 - c_c) * *p + factor * v;
    }
    let keep = 1.0 - c_1 - c_mu + (1.0 - h) * c_1 * c_c * (2.0 - c_c);
    for i in 0..d {
        for j in 0..d {
            let rank_mu: f64 = steps.iter().zip(&weights).map(|(y, w)| w * y[i] * y[j]).sum();
            let c = &mut s.covariance[i * d + j];
            *c = keep * *c + c_1 * s.path_c[i] * s.path_c[j] + c_mu * rank_mu;
        }
    }
    s.sigma *= ((c_sigma / damping) * (length / expected - 1.0)).clamp(-1.0, 1.0).exp();
    s.sigma = s.sigma.min(1.0);
    s.decompose();
}
