use super::{Ask, Designer, DesignerKind, Proposal};
use crate::SearchError;

/// Past this many parameters a Gaussian process with one length a parameter learns too slowly.
const MANY_PARAMETERS: usize = 40;
/// Past this many trials a population is as good and far cheaper.
const LONG_RUN: usize = 1000;

/// Picks a designer by space and budget; every suggestion says which and why.
#[derive(Debug, Clone, Copy, Default)]
pub struct Auto;

impl Designer for Auto {
    fn propose(&self, ask: &Ask<'_>) -> Result<Proposal, SearchError> {
        let (kind, because) = choose(ask);
        let mut p = kind.make().propose(ask)?;
        p.why = format!("{kind}, because {because}: {}", p.why);
        Ok(p)
    }
}

/// The designer that `auto` stands for, and the reason.
pub fn choose(ask: &Ask<'_>) -> (DesignerKind, String) {
    let d = ask.space.len();
    if let (Some(all), Some(budget)) = (ask.space.cardinality(), ask.budget)
        && all <= budget as u64
    {
        return (DesignerKind::Grid, format!("all {all} configurations fit the budget of {budget}"));
    }
    if d > MANY_PARAMETERS {
        return (DesignerKind::Genetic, format!("{d} parameters are many for a Gaussian process"));
    }
    if ask.trials.len() > LONG_RUN {
        return (
            DesignerKind::Genetic,
            format!("after {} trials a population is as good and cheaper", ask.trials.len()),
        );
    }
    let budget = ask.budget.map_or("no budget".to_owned(), |b| format!("a budget of {b}"));
    (DesignerKind::Bayes, format!("{d} parameters and {budget} suit a Gaussian process"))
}
