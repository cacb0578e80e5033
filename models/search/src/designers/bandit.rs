use super::{Ask, Designer, Proposal};
use crate::ascent::neighbours;
use crate::context::ContextScale;
use crate::space::Domain;
use crate::trial::TrialState;
use crate::{Assignment, SearchError, assignment_key, stats};
use faer::linalg::solvers::{DenseSolveCore, Llt};
use faer::{Mat, Side};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};
use std::collections::BTreeMap;

/// Contextual bandit: linear Thompson sampling (Agrawal and Goyal 2013, arXiv 1209.3352) over a few arms, with a no-op
/// arm and logged propensities.
///
/// Arms: the current configuration (the no-op), the best trial so far, and everything one move away from either; a space
/// of at most [`Bandit::arms`] configurations gives all of them. The reward is linear in the configuration's features,
/// the observed context, and their products; the posterior over its weights is drawn [`Bandit::draws`] times, each draw
/// votes for its best arm, and the arm is drawn from the votes, mixed with a share for the no-op. The probability with
/// which the arm was drawn is logged in [`crate::Trial::propensity`], so that other policies can be judged on the same
/// trials later. Arms never tried come first while there are few arms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bandit {
    /// The most arms. Default 64.
    pub arms: usize,
    /// Posterior draws that vote. Default 200.
    pub draws: usize,
    /// The least probability of the no-op, when it is known. Default 0.05.
    pub no_op: f64,
}

impl Default for Bandit {
    fn default() -> Self {
        Self { arms: 64, draws: 200, no_op: 0.05 }
    }
}

/// Up to so many arms, each is tried once before any is repeated.
const FEW_ARMS: usize = 16;
/// The newest trials that the linear model sees.
const MOST: usize = 1000;

impl Designer for Bandit {
    fn propose(&self, ask: &Ask<'_>) -> Result<Proposal, SearchError> {
        let arms = self.arms(ask);
        let mut rng = ask.rng("bandit");
        let tried = ask.seen();
        let fresh: Vec<usize> = (0..arms.len()).filter(|a| !tried.contains(&assignment_key(&arms[*a]))).collect();
        if !fresh.is_empty() && (arms.len() <= FEW_ARMS || ask.losses().len() < 4) {
            let pick = fresh[rng.gen_range(0..fresh.len())];
            let mut p = Proposal::plain(arms[pick].clone(), format!("one of {} arms not tried yet", fresh.len()));
            p.propensity = Some(1.0 / fresh.len() as f64);
            return Ok(p);
        }
        let votes = self.votes(ask, &arms, &mut rng);
        let u: f64 = rng.r#gen();
        let mut sum = 0.0;
        let pick = votes
            .iter()
            .position(|v| {
                sum += v;
                u < sum
            })
            .unwrap_or(0);
        let parameters = arms[pick].clone();
        let key = assignment_key(&parameters);
        let earlier = ask.trials.iter().find(|t| t.marks.is_empty() && assignment_key(&t.parameters) == key);
        let share = votes[pick];
        let no_op = ask.space.current().is_some_and(|c| assignment_key(&c) == key);
        let what = if no_op { "no change" } else { "an arm" };
        let chosen = format!("{what} drawn with probability {share:.2} of {} arms", arms.len());
        let why = match earlier {
            Some(t) => {
                format!("replicate of {}, because a bandit repeats what pays: {chosen}", t.replicate_of.unwrap_or(t.id))
            }
            None => chosen,
        };
        let replicate_of = earlier.map(|t| t.replicate_of.unwrap_or(t.id));
        Ok(Proposal { parameters, why, predicted: None, replicate_of, propensity: Some(share) })
    }
}

impl Bandit {
    /// The arms, the no-op first when the current configuration is known. What is being measured is not started twice.
    fn arms(&self, ask: &Ask<'_>) -> Vec<Assignment> {
        let space = ask.space;
        let pending: Vec<String> = ask
            .trials
            .iter()
            .filter(|t| t.state == TrialState::Pending)
            .map(|t| assignment_key(&t.parameters))
            .collect();
        let mut arms: Vec<Assignment> = Vec::new();
        let mut keys: Vec<String> = Vec::new();
        let mut push = |a: Assignment, arms: &mut Vec<Assignment>| {
            let key = assignment_key(&a);
            if !keys.contains(&key) && !pending.contains(&key) && arms.len() < self.arms {
                keys.push(key);
                arms.push(a);
            }
        };
        let current = space.current();
        if let Some(c) = current.clone() {
            push(c, &mut arms);
        }
        if let Some(all) = space.enumerate(self.arms) {
            for a in all {
                push(a, &mut arms);
            }
        } else {
            let best = ask.safe_losses().into_iter().min_by(|a, b| a.1.total_cmp(&b.1));
            let best = best.map(|b| ask.trials[b.0].parameters.clone());
            let middle = || space.from_unit(&space.spread(&vec![0.5; space.len()]));
            let centres: Vec<Assignment> = best.into_iter().chain(current).collect();
            for c in if centres.is_empty() { vec![middle()] } else { centres } {
                push(c.clone(), &mut arms);
                for a in moves(ask, &c) {
                    push(a, &mut arms);
                }
            }
        }
        let mut rng = ask.rng("bandit-arms");
        while arms.is_empty() {
            let unit: Vec<f64> = (0..space.len()).map(|_| rng.r#gen()).collect();
            arms.push(space.from_unit(&space.spread(&unit)));
        }
        arms
    }

    /// The probability of each arm.
    fn votes(&self, ask: &Ask<'_>, arms: &[Assignment], rng: &mut rand_xoshiro::Xoshiro256PlusPlus) -> Vec<f64> {
        let scale = ContextScale::of(ask.trials);
        let row = |a: &Assignment, context: &BTreeMap<String, crate::Value>| {
            let x = ask.space.features(a);
            let c = scale.features(context);
            let mut out = vec![1.0];
            out.extend(x.iter().map(|v| v - 0.5));
            out.extend(c.iter().map(|v| v - 0.5));
            for v in &x {
                out.extend(c.iter().map(|w| (v - 0.5) * (w - 0.5)));
            }
            out
        };
        let losses = ask.losses();
        let losses = &losses[losses.len().saturating_sub(MOST)..];
        let values: Vec<f64> = losses.iter().map(|l| l.1).collect();
        let (centre, spread) = (stats::mean(&values), crate::surrogate::positive(stats::sd(&values)));
        let x: Vec<Vec<f64>> =
            losses.iter().map(|l| row(&ask.trials[l.0].parameters, &ask.trials[l.0].context)).collect();
        let y: Vec<f64> = values.iter().map(|v| (centre - v) / spread).collect();
        let options: Vec<Vec<f64>> = arms.iter().map(|a| row(a, ask.context)).collect();
        let mut counts = vec![0.0; arms.len()];
        match Posterior::fit(&x, &y) {
            Some(p) => {
                for _ in 0..self.draws {
                    let w = p.draw(rng);
                    let value = |o: &[f64]| o.iter().zip(&w).map(|(a, b)| a * b).sum::<f64>();
                    let best = (0..options.len()).max_by(|a, b| value(&options[*a]).total_cmp(&value(&options[*b])));
                    counts[best.unwrap_or(0)] += 1.0 / self.draws as f64;
                }
            }
            None => counts.iter_mut().for_each(|c| *c = 1.0 / arms.len() as f64),
        }
        let no_op = ask.space.current().map(|c| assignment_key(&c));
        if let Some(k) = no_op.and_then(|key| arms.iter().position(|a| assignment_key(a) == key))
            && counts[k] < self.no_op
        {
            let others = 1.0 - counts[k];
            let keep = (1.0 - self.no_op) / others;
            counts.iter_mut().enumerate().for_each(|(i, c)| *c = if i == k { self.no_op } else { *c * keep });
        }
        counts
    }
}

/// Everything one move away: neighbours, and for real numbers a tenth and a third of the range either way.
fn moves(ask: &Ask<'_>, from: &Assignment) -> Vec<Assignment> {
    let space = ask.space;
    let mut out = neighbours(space, from);
    let unit = space.to_unit(from);
    for (i, p) in space.parameters().iter().enumerate() {
        if matches!(p.domain(), Domain::Real { .. }) && from.contains_key(p.name()) {
            let (low, high) = space.unit_range(i);
            for step in [-0.33, -0.1, 0.1, 0.33] {
                let mut moved = unit.clone();
                moved[i] = (moved[i] + step * (high - low)).clamp(low, high);
                out.push(space.from_unit(&moved));
            }
        }
    }
    out
}

/// Normal posterior over the weights of a ridge regression of prior variance 1, noise from the residuals.
struct Posterior {
    mean: Vec<f64>,
    /// A factor of the covariance, row-major lower triangle.
    factor: Vec<f64>,
}

impl Posterior {
    fn fit(x: &[Vec<f64>], y: &[f64]) -> Option<Self> {
        let k = x.first()?.len();
        let solve = |noise: f64| {
            let precision = Mat::<f64>::from_fn(k, k, |i, j| {
                x.iter().map(|r| r[i] * r[j]).sum::<f64>() / noise + if i == j { 1.0 } else { 0.0 }
            });
            let covariance = Llt::new(precision.as_ref(), Side::Lower).ok()?.inverse();
            let right: Vec<f64> = (0..k).map(|i| x.iter().zip(y).map(|(r, v)| r[i] * v).sum::<f64>() / noise).collect();
            let mean: Vec<f64> = (0..k).map(|i| (0..k).map(|j| covariance[(i, j)] * right[j]).sum()).collect();
            Some((mean, covariance))
        };
        let (mean, _) = solve(0.3)?;
        let residual: f64 =
            x.iter().zip(y).map(|(r, v)| (v - r.iter().zip(&mean).map(|(a, b)| a * b).sum::<f64>()).powi(2)).sum();
        let noise = (residual / (y.len() as f64 - 1.0).max(1.0)).clamp(0.02, 1.0);
        let (mean, covariance) = solve(noise)?;
        let llt = Llt::new(covariance.as_ref(), Side::Lower).ok()?;
        let factor =
            (0..k).flat_map(|i| (0..k).map(move |j| (i, j))).map(|(i, j)| if j <= i { llt.L()[(i, j)] } else { 0.0 });
        Some(Self { factor: factor.collect(), mean })
    }

    fn draw(&self, rng: &mut rand_xoshiro::Xoshiro256PlusPlus) -> Vec<f64> {
        let k = self.mean.len();
        let z: Vec<f64> = (0..k).map(|_| StandardNormal.sample(rng)).collect();
        (0..k).map(|i| self.mean[i] + (0..=i).map(|j| self.factor[i * k + j] * z[j]).sum::<f64>()).collect()
    }
}
