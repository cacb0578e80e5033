use crate::Timestamp;
use serde::{Deserialize, Serialize};

/// Turns a counter into a rate per second, sample by sample.
///
/// `rate = (v - v_last) / (t - t_last)`, in units of the counter a second. A counter that falls was reset: it began again at
/// zero, so its new value is the increase, as in the function `rate` of Prometheus. Feed the samples of one series in the order of
/// arrival; the same state serves live scoring and replays.
///
/// The answer is NaN, and the state stays, for a missing or infinite sample and for one that is not later than the last; NaN, and the
/// state moves, for the first sample and for a negative one, which no counter holds.
///
/// ```
/// use foreglow_core::{CounterRate, Timestamp};
/// let mut r = CounterRate::default();
/// assert!(r.observe(Timestamp(0), 100.0).is_nan());
/// assert_eq!(r.observe(Timestamp(10_000), 150.0), 5.0);
/// assert_eq!(r.observe(Timestamp(20_000), 30.0), 3.0); // reset
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct CounterRate {
    last: Option<(Timestamp, f64)>,
}

impl CounterRate {
    /// The rate a second between the last sample and this one; NaN where there is none.
    pub fn observe(&mut self, t: Timestamp, value: f64) -> f64 {
        if !value.is_finite() {
            return f64::NAN;
        }
        if value < 0.0 {
            self.last = None;
            return f64::NAN;
        }
        let Some((t_last, v_last)) = self.last else {
            self.last = Some((t, value));
            return f64::NAN;
        };
        if t <= t_last {
            return f64::NAN;
        }
        self.last = Some((t, value));
        let increase = if value < v_last { value } else { value - v_last };
        increase * 1000.0 / (t.ms() - t_last.ms()) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn gaps_repeats_and_nonsense() {
        let mut r = CounterRate::default();
        assert!(r.observe(Timestamp(0), f64::NAN).is_nan());
        assert!(r.observe(Timestamp(1000), 10.0).is_nan());
        assert!(r.observe(Timestamp(2000), f64::NAN).is_nan());
        assert!(r.observe(Timestamp(1000), 20.0).is_nan(), "a repeated instant");
        assert_eq!(r.observe(Timestamp(3000), 14.0), 2.0, "over the gap");
        assert!(r.observe(Timestamp(4000), -1.0).is_nan());
        assert!(r.observe(Timestamp(5000), 5.0).is_nan(), "begins again after nonsense");
    }

    proptest! {
        #[test]
        fn rates_are_never_negative_and_add_up(steps in proptest::collection::vec((1i64..100_000, 0.0f64..1e6), 1..50)) {
            let (mut r, mut t, mut v, mut sum) = (CounterRate::default(), 0, 0.0, 0.0);
            r.observe(Timestamp(0), 0.0);
            for (dt, dv) in steps {
                t += dt;
                v += dv;
                let rate = r.observe(Timestamp(t), v);
                prop_assert!(rate >= 0.0);
                sum += rate * dt as f64 / 1000.0;
            }
            prop_assert!((sum - v).abs() <= 1e-9 * v.max(1.0));
        }
    }
}
