use crate::cluster::OperatingStates;
use foreglow_core::{Detector, RawScore, Row, Scope};

/// How unlike all operating states of train a row is; the signals' part is their squared distance from the nearest state.
/// Its state is no memory but the place where a row is scaled, so that scoring allocates nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterDetector {
    pub(crate) states: OperatingStates,
}

impl Detector for ClusterDetector {
    fn name(&self) -> &'static str {
        "cluster"
    }

    fn scope(&self) -> Scope {
        Scope::Group
    }

    fn state_len(&self) -> usize {
        self.states.width()
    }

    fn reset(&self, state: &mut [f64]) {
        state.fill(0.0);
    }

    fn step(&self, scaled: &mut [f64], row: &Row<'_>, out: &mut RawScore) {
        let Some((state, strangeness)) = self.states.judge(row.values, scaled) else {
            return;
        };
        out.group = strangeness;
        self.states.deviations(row.values, state, &mut out.signals);
        for o in &mut out.signals {
            *o *= *o;
        }
        scaled.fill(0.0);
    }
}
