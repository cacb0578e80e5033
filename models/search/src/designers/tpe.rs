use super::{Ask, Designer, Proposal, sobol};
use crate::space::Domain;
use crate::trial::TrialState;
use crate::{SearchError, SearchSpace, stats};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};
use rand_xoshiro::Xoshiro256PlusPlus;

/// The most trials on either side: suggestion time stays bounded.
const MOST: usize = 400;

/// Tree-structured Parzen estimator (Bergstra et al. 2011; the multivariate form of Falkner, Klein and Hutter 2018,
/// arXiv 1807.01774).
///
/// The best tenth of the trials (at most 25) and the rest each become a mixture of product kernels: truncated normals
/// over numbers, smoothed picks over choices, plus one wide component. Of some draws from the good mixture the one with
/// the largest density ratio good / rest is proposed. Failed and unsafe trials belong to the rest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tpe {
    /// Trials of the Sobol start. Default 10.
    pub start: usize,
    /// Draws among which the best ratio wins. Default 32.
    pub draws: usize,
}

impl Default for Tpe {
    fn default() -> Self {
        Self { start: 10, draws: 32 }
    }
}

impl Designer for Tpe {
    fn propose(&self, ask: &Ask<'_>) -> Result<Proposal, SearchError> {
        let d = ask.space.len();
        let n = ask.trials.len();
        let mut ranked = ask.safe_losses();
        if n < self.start || ranked.len() < 4 {
            let unit = sobol::point(n as u32, d, ask.seed.child("tpe"));
            let start = ask.space.from_unit(&ask.space.spread(&unit));
            return Ok(Proposal::plain(start, "one of the first trials, from a Sobol sequence"));
        }
        ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
        let few = ((ranked.len() as f64 * 0.1).ceil() as usize).clamp(2, 25);
        let unit = |i: usize| ask.space.to_unit(&ask.trials[i].parameters);
        let good: Vec<Vec<f64>> = ranked[..few].iter().map(|r| unit(r.0)).collect();
        // Pending trials count among the rest, so that parallel asks move apart.
        let mut rest: Vec<usize> = ranked[few..].iter().map(|r| r.0).collect();
        rest.extend((0..n).filter(|i| ask.trials[*i].went_wrong() || ask.trials[*i].state == TrialState::Pending));
        rest.sort_unstable();
        let newest = rest.len().saturating_sub(MOST);
        let rest: Vec<Vec<f64>> = rest[newest..].iter().map(|i| unit(*i)).collect();
        let good = Mixture::new(ask.space, good);
        let rest = Mixture::new(ask.space, rest);
        let mut rng = ask.rng("tpe");
        let mut best: Option<(f64, Vec<f64>)> = None;
        for _ in 0..self.draws {
            let x = good.draw(&mut rng);
            let ratio = good.ln_density(&x) - rest.ln_density(&x);
            if best.as_ref().is_none_or(|b| ratio > b.0) {
                best = Some((ratio, x));
            }
        }
        let x = best.map_or_else(|| vec![0.5; d], |b| b.1);
        let why = format!("the best of {} draws near the best {few} trials and away from the others", self.draws);
        Ok(Proposal::plain(ask.space.from_unit(&x), why))
    }
}

enum Axis {
    /// Smallest and largest position.
    Number(f64, f64),
    /// How many choices.
    Choice(usize),
}

/// Product kernels around points, and a wide one.
struct Mixture {
    axes: Vec<Axis>,
    points: Vec<Vec<f64>>,
    /// Width of the kernels along each number, in positions.
    widths: Vec<f64>,
}

impl Mixture {
    fn new(space: &SearchSpace, points: Vec<Vec<f64>>) -> Self {
        let d = space.len();
        let n = points.len().max(1) as f64;
        let mut widths = Vec::with_capacity(d);
        let mut axes = Vec::with_capacity(d);
        for (i, p) in space.parameters().iter().enumerate() {
            let (low, high) = space.unit_range(i);
            axes.push(match p.domain() {
                Domain::Choice { choices } => Axis::Choice(choices.len()),
                _ => Axis::Number(low, high),
            });
            let here: Vec<f64> = points.iter().map(|x| x[i]).collect();
            // Scott's rule, with floors: a level of a coarse parameter, and a share that falls with the points.
            let scott = stats::sd(&here) * n.powf(-1.0 / (d as f64 + 4.0));
            let level = p.count().map_or(0.0, |c| 0.5 / c as f64);
            widths
                .push(scott.max((high - low) / (1.0 + n).min(100.0) * 0.5).max(level).max(1e-6).min(high - low + 1e-6));
        }
        Self { axes, points, widths }
    }

    fn draw(&self, rng: &mut Xoshiro256PlusPlus) -> Vec<f64> {
        let pick = rng.gen_range(0..=self.points.len());
        self.axes
            .iter()
            .enumerate()
            .map(|(i, axis)| {
                let from = self.points.get(pick).map(|p| p[i]);
                match (axis, from) {
                    (Axis::Number(low, high), Some(x)) => {
                        for _ in 0..8 {
                            let z: f64 = StandardNormal.sample(rng);
                            let v = x + self.widths[i] * z;
                            if v >= *low && v <= *high {
                                return v;
                            }
                        }
                        x.clamp(*low, *high)
                    }
                    (Axis::Number(low, high), None) => low + rng.r#gen::<f64>() * (high - low),
                    (Axis::Choice(k), Some(x)) if rng.r#gen::<f64>() < self.stay(*k) => x,
                    (Axis::Choice(_), _) => rng.r#gen(),
                }
            })
            .collect()
    }

    /// The probability that a kernel keeps its own choice rather than drawing any.
    fn stay(&self, choices: usize) -> f64 {
        let n = self.points.len() as f64;
        n / (n + choices as f64)
    }

    fn ln_density(&self, x: &[f64]) -> f64 {
        let mut terms = Vec::with_capacity(self.points.len() + 1);
        let normalisers: Vec<f64> = self
            .axes
            .iter()
            .enumerate()
            .map(|(i, axis)| match axis {
                Axis::Number(..) => self.widths[i].ln() + stats::LN_SQRT_2PI,
                Axis::Choice(_) => 0.0,
            })
            .collect();
        for p in &self.points {
            let mut t = 0.0;
            for (i, axis) in self.axes.iter().enumerate() {
                t += match axis {
                    Axis::Number(low, high) => {
                        let w = self.widths[i];
                        let z = (x[i] - p[i]) / w;
                        let inside = stats::normal_cdf((high - p[i]) / w) - stats::normal_cdf((low - p[i]) / w);
                        -0.5 * z * z - normalisers[i] - inside.max(1e-12).ln()
                    }
                    Axis::Choice(k) => {
                        let bin = |u: f64| ((u * *k as f64) as usize).min(k - 1);
                        let own = if bin(x[i]) == bin(p[i]) { self.stay(*k) } else { 0.0 };
                        (own + (1.0 - self.stay(*k)) / *k as f64).ln()
                    }
                };
            }
            terms.push(t);
        }
        terms.push(
            self.axes
                .iter()
                .map(|axis| match axis {
                    Axis::Number(low, high) => -(high - low).max(1e-12).ln(),
                    Axis::Choice(k) => -(*k as f64).ln(),
                })
                .sum(),
        );
        foreglow_core::stats::log_sum_exp(&terms) - (terms.len() as f64).ln()
    }
}
