use crate::{CoreError, DAY_MS, Step};
use serde::{Deserialize, Serialize};

/// The smallest tail probability that is told apart.
pub const P_FLOOR: f64 = 1e-300;

/// Where the alert line lies: turns a calibrated tail probability into a score that means the same everywhere.
///
/// `p_alert = clamp(budget_per_day * step / 1 day, 1e-8, 0.05)` and `score = ln p / ln p_alert`, so 1.0 is the line for
/// every detector and group, 0 an observation no more unusual than any other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AlertLine {
    p_alert: f64,
}

impl AlertLine {
    /// The line for a false-alarm budget of one group (alerts a day, default elsewhere 1.0) at a step.
    ///
    /// # Errors
    /// [`CoreError::Budget`] for a budget that is not in (0, 86400].
    pub fn new(budget_per_day: f64, step: Step) -> Result<Self, CoreError> {
        if !(budget_per_day > 0.0 && budget_per_day <= 86_400.0) {
            return Err(CoreError::Budget { per_day: budget_per_day });
        }
        let p = budget_per_day * step.ms() as f64 / DAY_MS as f64;
        Ok(Self { p_alert: p.clamp(1e-8, 0.05) })
    }

    /// The line at a known tail probability, as a manifest stores it; clamped to the allowed range.
    pub fn from_p(p_alert: f64) -> Self {
        Self { p_alert: p_alert.clamp(1e-8, 0.05) }
    }

    /// The tail probability at the line.
    pub fn p_alert(self) -> f64 {
        self.p_alert
    }

    /// The score of a tail probability given as `-ln p` (>= 0).
    pub fn score(self, neg_ln_p: f64) -> f64 {
        neg_ln_p / -self.p_alert.ln()
    }

    /// `-ln p` of a score.
    pub fn neg_ln_p(self, score: f64) -> f64 {
        score * -self.p_alert.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_a_day_at_a_minute() {
        let a = AlertLine::new(1.0, "1m".parse().unwrap()).unwrap();
        assert!((a.p_alert() - 1.0 / 1440.0).abs() < 1e-15);
        assert!((a.score(1440f64.ln()) - 1.0).abs() < 1e-12);
        assert!(AlertLine::new(0.0, "1m".parse().unwrap()).is_err());
        assert_eq!(AlertLine::new(1.0, "7d".parse().unwrap()).unwrap().p_alert(), 0.05);
    }

    proptest! {
        #[test]
        fn score_inverts(budget in 0.01f64..1000.0, s in 0.0f64..50.0) {
            let a = AlertLine::new(budget, "1m".parse().unwrap()).unwrap();
            prop_assert!((a.score(a.neg_ln_p(s)) - s).abs() < 1e-9);
        }
    }
}
