use crate::detect::BaselineShape;
use foreglow_core::Step;

/// Everything that changes from row to row for one group: flat numbers, so that saving is trivial. Made and restored by
/// the pipeline it belongs to.
#[derive(Clone, PartialEq, Debug)]
pub struct ScoreState {
    /// The state itself.
    pub numbers: Vec<f64>,
    pub(super) signals: usize,
    pub(super) step: Step,
    /// `-ln p` at the group's alert line.
    pub(super) line: f64,
    pub(super) baseline: BaselineShape,
}

impl ScoreState {
    /// How many signals a row has.
    pub fn signals(&self) -> usize {
        self.signals
    }

    /// The group's step.
    pub fn step(&self) -> Step {
        self.step
    }
}
