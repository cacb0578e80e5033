use super::{Ask, Designer, Proposal, sobol};
use crate::SearchError;
use crate::space::Domain;
use crate::trial::Source;
use rand::Rng;
use rand_xoshiro::Xoshiro256PlusPlus;

/// A steady-state genetic algorithm: every finished trial joins the population, which keeps the best; the next child
/// comes from two tournament winners by simulated binary crossover and polynomial mutation (Deb and Agrawal 1995,
/// Complex Systems 9; Deb and Goyal 1996). The best are never lost (elitism). Choices cross uniformly and mutate by a
/// fresh draw. The first `population` trials are a Sobol sequence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Genetic {
    /// How many of the best trials breed. Default 15: larger ones spend a usual budget on random search.
    pub population: usize,
    /// Distribution index of the crossover; larger stays closer to the parents. Default 10.
    pub eta_crossover: f64,
    /// Distribution index of the mutation; larger moves less. Default 20.
    pub eta_mutation: f64,
}

impl Default for Genetic {
    fn default() -> Self {
        Self { population: 15, eta_crossover: 10.0, eta_mutation: 20.0 }
    }
}

impl Designer for Genetic {
    fn propose(&self, ask: &Ask<'_>) -> Result<Proposal, SearchError> {
        let started = ask.trials.iter().filter(|t| t.source == Source::Suggested).count();
        let mut ranked = ask.safe_losses();
        if started < self.population || ranked.len() < 2 {
            let unit = sobol::point(ask.trials.len() as u32, ask.space.len(), ask.seed.child("genetic"));
            let start = ask.space.from_unit(&ask.space.spread(&unit));
            return Ok(Proposal::plain(start, "one of the first population, from a Sobol sequence"));
        }
        ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
        ranked.truncate(self.population);
        let mut rng = ask.rng("genetic");
        // Ranks, not values, decide a tournament: the smaller place is the better trial.
        let mut pick = || rng.gen_range(0..ranked.len()).min(rng.gen_range(0..ranked.len()));
        let mother = pick();
        let mut father = pick();
        if father == mother {
            father = (mother + 1) % ranked.len();
        }
        let (a, b) = (&ask.trials[ranked[mother].0], &ask.trials[ranked[father].0]);
        let child = self.child(ask, &ask.space.to_unit(&a.parameters), &ask.space.to_unit(&b.parameters), &mut rng);
        Ok(Proposal::plain(ask.space.from_unit(&child), format!("a child of trials {} and {}", a.id, b.id)))
    }
}

impl Genetic {
    pub(super) fn child(&self, ask: &Ask<'_>, a: &[f64], b: &[f64], rng: &mut Xoshiro256PlusPlus) -> Vec<f64> {
        let d = a.len();
        let forced = rng.gen_range(0..d);
        (0..d)
            .map(|i| {
                let (low, high) = ask.space.unit_range(i);
                let choice = matches!(ask.space.parameters()[i].domain(), Domain::Choice { .. });
                let mut x = if choice || rng.r#gen::<f64>() < 0.5 {
                    if rng.r#gen::<bool>() { a[i] } else { b[i] }
                } else {
                    self.cross(a[i], b[i], rng)
                };
                if i == forced || rng.r#gen::<f64>() < 1.0 / d as f64 {
                    x = if choice { rng.gen_range(low..=high) } else { x + self.mutation(rng) * (high - low) };
                }
                x.clamp(low, high)
            })
            .collect()
    }

    fn cross(&self, a: f64, b: f64, rng: &mut Xoshiro256PlusPlus) -> f64 {
        let u: f64 = rng.r#gen();
        let e = 1.0 / (self.eta_crossover + 1.0);
        let beta = if u <= 0.5 { (2.0 * u).powf(e) } else { (0.5 / (1.0 - u)).powf(e) };
        let sign = if rng.r#gen::<bool>() { 1.0 } else { -1.0 };
        0.5 * ((a + b) + sign * beta * (b - a))
    }

    fn mutation(&self, rng: &mut Xoshiro256PlusPlus) -> f64 {
        let u: f64 = rng.r#gen();
        let e = 1.0 / (self.eta_mutation + 1.0);
        if u < 0.5 { (2.0 * u).powf(e) - 1.0 } else { 1.0 - (2.0 * (1.0 - u)).powf(e) }
    }
}
