use crate::cluster::OperatingStates;
use foreglow_core::{Detector, RawScore, Row, Scope};

/// How unlike all operating states of train a row is; the signals' part is their squared distance from the nearest state.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterDetector {
    pub(crate) states: OperatingStates,
}

impl Detector for ClusterDetector {
    fn name(&self) -> &str {
        "cluster"
    }

    fn scope(&self) -> Scope {
        Scope::Group
    }

    fn state_len(&self) -> usize {
        0
    }

    fn reset(&self, _state: &mut [f64]) {}

    fn step(&self, _state: &mut [f64], row: &Row<'_>, out: &mut RawScore) {
        let Some(state) = self.states.state_of(row.values) else {
            return;
        };
        out.group = self.states.strangeness(row.values);
        self.states.deviations(row.values, state, &mut out.signals);
        for o in &mut out.signals {
            *o *= *o;
        }
    }
}
