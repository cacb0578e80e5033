use super::{Ask, Designer, Proposal, sobol};
use crate::space::Domain;
use crate::{SearchError, stats};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

/// How many trials a run without a budget is planned for.
const DEFAULT_HORIZON: usize = 100;

/// Simulated annealing (Kirkpatrick, Gelatt and Vecchi 1983, doi:10.1126/science.220.4598.671) in ask/tell form.
///
/// The walk is replayed from the trials: each one is accepted with probability `exp(-(loss - current) / T)`; the next
/// proposal moves a few parameters of the current one. Temperature and step width fall geometrically over the budget;
/// the temperature's unit is the interquartile range of the first losses. The second half of the run starts from the
/// best trial found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Annealing {
    /// Trials of the Sobol start. Default 8.
    pub start: usize,
    /// Temperature at the start and the end, in interquartile ranges. Default 0.5 and 0.001.
    pub temperature: (f64, f64),
    /// Step width at the start and the end, in unit ranges. Default 0.25 and 0.01.
    pub width: (f64, f64),
}

impl Default for Annealing {
    fn default() -> Self {
        Self { start: 8, temperature: (0.5, 0.001), width: (0.25, 0.01) }
    }
}

impl Designer for Annealing {
    fn propose(&self, ask: &Ask<'_>) -> Result<Proposal, SearchError> {
        let losses = ask.safe_losses();
        let n = ask.trials.len();
        if n < self.start || losses.is_empty() {
            let unit = sobol::point(n as u32, ask.space.len(), ask.seed.child("annealing"));
            let start = ask.space.from_unit(&ask.space.spread(&unit));
            return Ok(Proposal::plain(start, "one of the first trials, from a Sobol sequence"));
        }
        let horizon = ask.budget.unwrap_or(DEFAULT_HORIZON).max(self.start + 1);
        let state = self.replay(ask, &losses, horizon);
        let progress = progress(n, self.start, horizon);
        let width = geometric(self.width, progress);
        let mut rng = ask.rng("annealing");
        let d = ask.space.len();
        let mut unit = ask.space.to_unit(&ask.trials[state].parameters);
        let moved = rng.gen_range(0..d);
        let rate = (1.0 - progress).max(0.2) / (d as f64).sqrt();
        for (i, u) in unit.iter_mut().enumerate() {
            if i != moved && rng.r#gen::<f64>() >= rate {
                continue;
            }
            let (low, high) = ask.space.unit_range(i);
            let p = &ask.space.parameters()[i];
            *u = if matches!(p.domain(), Domain::Choice { .. }) {
                rng.gen_range(low..=high)
            } else {
                let z: f64 = StandardNormal.sample(&mut rng);
                // At least a level of a coarse parameter, or nothing would move at the end.
                let least = p.count().map_or(0.0, |c| 0.7 / c as f64);
                (*u + z * (width * (high - low)).max(least)).clamp(low, high)
            };
        }
        let why = format!("a step of width {width:.3} from trial {}", ask.trials[state].id);
        Ok(Proposal::plain(ask.space.from_unit(&unit), why))
    }
}

impl Annealing {
    /// The place of the trial at which the walk stands.
    fn replay(&self, ask: &Ask<'_>, losses: &[(usize, f64)], horizon: usize) -> usize {
        let first: Vec<f64> = losses.iter().take(self.start.max(2)).map(|l| l.1).collect();
        let spread = (stats::quantile(&first, 0.75) - stats::quantile(&first, 0.25)).max(1e-300);
        let best = losses.iter().min_by(|a, b| a.1.total_cmp(&b.1)).map_or(losses[0], |l| *l);
        let mut now = losses[0];
        for &(i, loss) in &losses[1..] {
            let t = geometric(self.temperature, progress(i, self.start, horizon)) * spread;
            let coin: f64 = ask.seed.child("annealing-accept").nth(i as u64).rng().r#gen();
            if i < self.start {
                if loss < now.1 {
                    now = (i, loss);
                }
            } else if loss <= now.1 || coin < (-(loss - now.1) / t).exp() {
                now = (i, loss);
            }
        }
        if progress(ask.trials.len(), self.start, horizon) > 0.5 { best.0 } else { now.0 }
    }
}

fn progress(n: usize, start: usize, horizon: usize) -> f64 {
    (n.saturating_sub(start) as f64 / (horizon - start).max(1) as f64).clamp(0.0, 1.0)
}

fn geometric((from, to): (f64, f64), progress: f64) -> f64 {
    from * (to / from).powf(progress)
}
