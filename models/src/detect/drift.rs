/// A residual moves its centre by no more than one that is this many train deviations large.
const HUBER: f64 = 3.0;

/// The slow centre of residuals: systems change over days, and what has been so for longer than the memory is the new
/// normal. An exponential mean of residuals held inside ± 3 train deviations, so that an incident moves it little.
/// State: one number a signal, 0 at first; none where the memory is 0 (the centre stays that of train).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Drift {
    /// Steps, 0 = fixed.
    pub(super) memory: f64,
}

impl Drift {
    pub(super) fn new(steps: usize) -> Self {
        Self { memory: steps as f64 }
    }

    pub(super) fn state_len(self, signals: usize) -> usize {
        if self.memory > 0.0 { signals } else { 0 }
    }

    /// How far a residual is from its centre, which then learns from it.
    pub(super) fn off(self, state: &mut [f64], signal: usize, residual: f64) -> f64 {
        let Some(centre) = state.get_mut(signal) else {
            return residual;
        };
        let off = residual - *centre;
        *centre += (residual.clamp(-HUBER, HUBER) - *centre) / self.memory;
        off
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lasting_shift_becomes_normal_and_an_incident_does_not() {
        let mut state = [0.0];
        let d = Drift::new(1000);
        for _ in 0..100 {
            assert!(d.off(&mut state, 0, 40.0) > 39.0);
        }
        assert!(d.off(&mut state, 0, 0.0).abs() < 0.3);
        for _ in 0..5000 {
            d.off(&mut state, 0, 2.0);
        }
        assert!(d.off(&mut state, 0, 2.0).abs() < 0.05);
        assert_eq!((Drift::new(0).state_len(3), Drift::new(0).off(&mut [], 0, 2.0)), (0, 2.0));
    }
}
