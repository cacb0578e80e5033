use super::{Ask, Designer, Genetic, Proposal, sobol};
use crate::trial::Source;
use crate::{SearchError, pareto};
use rand::Rng;

/// NSGA-II (Deb et al. 2002, doi:10.1109/4235.996017) in steady state, for several objectives.
///
/// Every finished trial joins; the population is the best by front and, within a front, by crowding distance. Parents
/// win binary tournaments by the same order; children come as in [`Genetic`]. With one objective it is that designer.
/// [`crate::Study::pareto`] gives the set of best compromises.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nsga2 {
    /// Crossover, mutation and population. Default: a population of 20.
    pub genetic: Genetic,
}

impl Default for Nsga2 {
    fn default() -> Self {
        Self { genetic: Genetic { population: 20, ..Genetic::default() } }
    }
}

/// Sorting is quadratic: of longer histories the newest count.
const MOST: usize = 1000;

impl Designer for Nsga2 {
    fn propose(&self, ask: &Ask<'_>) -> Result<Proposal, SearchError> {
        let started = ask.trials.iter().filter(|t| t.source == Source::Suggested).count();
        let mut all = pareto::losses(ask);
        all.drain(..all.len().saturating_sub(MOST));
        if started < self.genetic.population || all.len() < 2 {
            let unit = sobol::point(ask.trials.len() as u32, ask.space.len(), ask.seed.child("nsga2"));
            let start = ask.space.from_unit(&ask.space.spread(&unit));
            return Ok(Proposal::plain(start, "one of the first population, from a Sobol sequence"));
        }
        let points: Vec<Vec<f64>> = all.iter().map(|l| l.1.clone()).collect();
        let front = pareto::fronts(&points);
        let crowd = pareto::crowding(&points, &front);
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by(|a, b| front[*a].cmp(&front[*b]).then(crowd[*b].total_cmp(&crowd[*a])).then(a.cmp(b)));
        order.truncate(self.genetic.population);
        let mut rng = ask.rng("nsga2");
        let mut pick = || rng.gen_range(0..order.len()).min(rng.gen_range(0..order.len()));
        let mother = pick();
        let mut father = pick();
        if father == mother {
            father = (mother + 1) % order.len();
        }
        let (a, b) = (&ask.trials[all[order[mother]].0], &ask.trials[all[order[father]].0]);
        let (x, y) = (ask.space.to_unit(&a.parameters), ask.space.to_unit(&b.parameters));
        let child = self.genetic.child(ask, &x, &y, &mut rng);
        let best = front.iter().filter(|f| **f == 0).count();
        let why = format!("a child of trials {} and {}; {best} trials are on the front", a.id, b.id);
        Ok(Proposal::plain(ask.space.from_unit(&child), why))
    }
}
