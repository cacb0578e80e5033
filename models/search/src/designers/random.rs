use super::{Ask, Designer, Proposal};
use crate::SearchError;
use rand::Rng;

/// Uniform draws over what is within reach; on log scales uniform in the logarithm.
#[derive(Debug, Clone, Copy, Default)]
pub struct Random;

impl Designer for Random {
    fn propose(&self, ask: &Ask<'_>) -> Result<Proposal, SearchError> {
        let mut rng = ask.rng("random");
        let unit: Vec<f64> = (0..ask.space.len()).map(|_| rng.r#gen()).collect();
        Ok(Proposal::plain(ask.space.from_unit(&ask.space.spread(&unit)), "a uniform draw"))
    }
}
