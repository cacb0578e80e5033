use super::{Ask, Designer, Proposal, sobol};
use crate::SearchError;
use crate::space::Domain;
use rand::Rng;

/// Differential evolution (Storn and Price 1997, doi:10.1023/A:1008202821328) in ask/tell form, with the
/// `current-to-pbest/1/bin` move (Zhang and Sanderson 2009, doi:10.1109/TEVC.2009.2014613).
///
/// Trial `n` competes for seat `n mod population`, which the better of the two keeps; seats are replayed from the
/// trials. A child is `x + F (p - x) + F (a - b)` for seat holder `x`, one of the best `p` and two others `a`, `b`, with
/// `F` drawn from [0.4, 0.9], crossed with `x`. Choices are copied from `p` or `a`. Failed and unsafe trials never take
/// a seat.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DifferentialEvolution {
    /// Seats. Default 12.
    pub population: usize,
    /// The probability that a coordinate comes from the mutant. Default 0.8.
    pub crossover: f64,
    /// The share of seats among which `p` is drawn. Default 0.25.
    pub best_share: f64,
}

impl Default for DifferentialEvolution {
    fn default() -> Self {
        Self { population: 12, crossover: 0.8, best_share: 0.25 }
    }
}

impl Designer for DifferentialEvolution {
    fn propose(&self, ask: &Ask<'_>) -> Result<Proposal, SearchError> {
        let n = ask.trials.len();
        let seats = self.seats(ask);
        let d = ask.space.len();
        let filled: Vec<(usize, f64)> = seats.iter().flatten().copied().collect();
        if n < self.population || filled.len() < 4 {
            let unit = sobol::point(n as u32, d, ask.seed.child("de"));
            let start = ask.space.from_unit(&ask.space.spread(&unit));
            return Ok(Proposal::plain(start, "one of the first population, from a Sobol sequence"));
        }
        let mut ranked = filled.clone();
        ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
        let mut rng = ask.rng("de");
        let unit = |trial: usize| ask.space.to_unit(&ask.trials[trial].parameters);
        let holder = seats[n % self.population].unwrap_or(ranked[rng.gen_range(0..ranked.len())]).0;
        let top = ((self.best_share * ranked.len() as f64).ceil() as usize).max(1);
        let best = ranked[rng.gen_range(0..top)].0;
        let mut other = |not: &[usize]| {
            let free: Vec<usize> = filled.iter().map(|f| f.0).filter(|t| !not.contains(t)).collect();
            free[rng.gen_range(0..free.len())]
        };
        let a = other(&[holder]);
        let b = other(&[holder, a]);
        let (x, p, a, b) = (unit(holder), unit(best), unit(a), unit(b));
        let force: f64 = rng.gen_range(0.4..0.9);
        let forced = rng.gen_range(0..d);
        let child: Vec<f64> = (0..d)
            .map(|i| {
                if i != forced && rng.r#gen::<f64>() >= self.crossover {
                    return x[i];
                }
                let (low, high) = ask.space.unit_range(i);
                if matches!(ask.space.parameters()[i].domain(), Domain::Choice { .. }) {
                    // A rare fresh draw keeps choices alive that no seat holds any more.
                    return match rng.gen_range(0..10) {
                        0 => rng.gen_range(low..=high),
                        1..=5 => p[i],
                        _ => a[i],
                    };
                }
                let v = x[i] + force * (p[i] - x[i]) + force * (a[i] - b[i]);
                // Half-way to the face that it crossed: a clamp would pile children up there.
                if v < low {
                    f64::midpoint(low, x[i].max(low))
                } else if v > high {
                    f64::midpoint(high, x[i].min(high))
                } else {
                    v
                }
            })
            .collect();
        let why =
            format!("a differential move of trial {} towards trial {}", ask.trials[holder].id, ask.trials[best].id);
        Ok(Proposal::plain(ask.space.from_unit(&child), why))
    }
}

impl DifferentialEvolution {
    /// Who holds each seat: the place of the trial and its loss.
    fn seats(&self, ask: &Ask<'_>) -> Vec<Option<(usize, f64)>> {
        let mut seats: Vec<Option<(usize, f64)>> = vec![None; self.population];
        for (i, loss) in ask.safe_losses() {
            let seat = &mut seats[i % self.population];
            if seat.is_none_or(|s| loss <= s.1) {
                *seat = Some((i, loss));
            }
        }
        seats
    }
}
