use super::auto_local::Best;
use super::company::Weighed;

/// What a forecaster that judges its members learned from a history: who serves, with which parameters and which bands. It
/// costs tens of member fits to make and may serve until the series has changed, say for a season.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan(pub(super) Kind);

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Best(Box<Best>),
    Weighed(Box<Weighed>),
}

impl Plan {
    /// Steps of the season it was made with, 1 = none.
    pub fn season(&self) -> usize {
        match &self.0 {
            Kind::Best(p) => p.season(),
            Kind::Weighed(p) => p.season(),
        }
    }

    /// The name of the member that serves, or of the one with the largest weight.
    pub fn leader(&self) -> &'static str {
        match &self.0 {
            Kind::Best(p) => p.leader(),
            Kind::Weighed(p) => p.leader(),
        }
    }
}
