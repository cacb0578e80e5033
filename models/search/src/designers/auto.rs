use super::{Ask, Designer, DesignerKind, Proposal};
use crate::{SearchError, stats};

/// Past this many parameters a Gaussian process with one length a parameter learns too slowly.
const MANY_PARAMETERS: usize = 40;
/// Past this many trials a population is as good and far cheaper.
const LONG_RUN: usize = 1000;

/// Errors of measurement beyond this share of the spread of losses are worth a word.
const NOISY: f64 = 0.2;

/// Picks a designer by objectives, space, budget and noise; every suggestion says which and why.
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
    if !ask.also.is_empty() {
        return (DesignerKind::Nsga2, format!("{} objectives are weighed", 1 + ask.also.len()));
    }
    if let (Some(all), Some(budget)) = (ask.space.cardinality(), ask.budget)
        && all <= budget as u64
    {
        // With noise the trials that are left repeat the best few.
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
    let noise = match noise(ask) {
        Some(share) if share > NOISY => format!(", which also models the noise ({:.0} % of the spread)", 100.0 * share),
        _ => String::new(),
    };
    (DesignerKind::Bayes, format!("{d} parameters and {budget} suit a Gaussian process{noise}"))
}

/// The typical standard error of a measurement, as a share of the spread of losses; `None` when none is declared.
fn noise(ask: &Ask<'_>) -> Option<f64> {
    let losses: Vec<f64> = ask.losses().iter().map(|l| l.1).collect();
    let errors: Vec<f64> = ask.trials.iter().filter_map(|t| t.usable()?.se).collect();
    let spread = stats::sd(&losses);
    (!errors.is_empty() && spread > 0.0).then(|| stats::quantile(&errors, 0.5) / spread)
}
