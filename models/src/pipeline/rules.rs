use foreglow_core::signals::{Budget, MinChange, Signals, Worse};
use foreglow_core::{AlertLine, Labels, Step};

/// A signal that does not count is held at this share of the alert line.
const HELD: f64 = 0.99;

/// What `signals.toml` says of one column.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct SignalRule {
    range: Option<[f64; 2]>,
    limit: Option<f64>,
    pub(super) worse: Worse,
    min_change: MinChange,
}

/// How a value stands to its rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Verdict {
    /// Whether its deviation is large enough and in a direction that matters.
    pub(super) counts: bool,
    /// Whether it reached its hard limit.
    pub(super) at_limit: bool,
}

impl SignalRule {
    /// The rule of the signal called `name`; the plain one where none is declared.
    pub(super) fn of(rules: &Signals, name: &str) -> Self {
        rules.signals.iter().find(|s| s.name == name).map_or_else(Self::default, |s| Self {
            range: s.range,
            limit: s.limit,
            worse: s.worse,
            min_change: s.min_change,
        })
    }

    /// The value, NaN where it is not finite or outside the sensible range.
    pub(super) fn sensible(&self, x: f64) -> f64 {
        match self.range {
            Some([low, high]) if x < low || x > high => f64::NAN,
            _ if x.is_finite() => x,
            _ => f64::NAN,
        }
    }

    /// Judges a sensible value beside what was expected (NaN = not known).
    pub(super) fn judge(&self, x: f64, expected: f64) -> Verdict {
        if x.is_nan() {
            return Verdict { counts: false, at_limit: false };
        }
        let at_limit = self.limit.is_some_and(|l| if self.worse == Worse::Down { x <= l } else { x >= l });
        let harmful = match self.worse {
            Worse::Up => x > expected,
            Worse::Down => x < expected,
            Worse::Both => true,
        };
        let matters = expected.is_nan() || (harmful && self.min_change.exceeded(x, expected));
        Verdict { counts: matters || at_limit, at_limit }
    }

    /// A signal's `-ln p` after its verdict: at the line at least at the limit, below it where it does not count.
    pub(super) fn hold(verdict: Verdict, neg_ln_p: f64, line: f64) -> f64 {
        if verdict.at_limit {
            neg_ln_p.max(line)
        } else if verdict.counts || neg_ln_p.is_nan() {
            neg_ln_p
        } else {
            neg_ln_p.min(HELD * line)
        }
    }

    /// The group's `-ln p` after the verdicts on its signals.
    pub(super) fn hold_group(any_counts: bool, any_limit: bool, neg_ln_p: f64, line: f64) -> f64 {
        Self::hold(Verdict { counts: any_counts, at_limit: any_limit }, neg_ln_p, line)
    }
}

/// The alert line of a group: its rule's budget, else the recipe's.
pub(super) fn line_of(rules: &Signals, budget: Budget, group: &Labels, step: Step) -> AlertLine {
    let rule = rules.groups.iter().find(|g| g.by.iter().all(|l| group.get(l).is_some()));
    let per_day = rule.map_or(budget, |r| r.budget).per_day;
    // Budgets were checked with the file they stand in; the default is sound.
    AlertLine::new(per_day, step).unwrap_or_else(|_| AlertLine::from_p(1e-3))
}

/// Mean of the three largest, so that one strange signal among many is heard and one noisy signal does not decide alone.
/// Rearranges `values`; NaN for none.
pub(super) fn top_three(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    let n = values.len().min(3);
    for i in 0..n {
        let mut best = i;
        for j in i + 1..values.len() {
            if values[j] > values[best] {
                best = j;
            }
        }
        values.swap(i, best);
    }
    values[..n].iter().sum::<f64>() / n as f64
}

/// Turns evidence (>= 0, one a signal) into shares that sum to 1; equal shares among the signals present when there is
/// no evidence, none when nothing is present.
pub(super) fn to_shares(evidence: &mut [f64], present: impl Fn(usize) -> bool) {
    let total: f64 = evidence.iter().sum();
    if total > 0.0 && total.is_finite() {
        for e in evidence.iter_mut() {
            *e /= total;
        }
        return;
    }
    let n = (0..evidence.len()).filter(|i| present(*i)).count();
    for (i, e) in evidence.iter_mut().enumerate() {
        *e = if present(i) { 1.0 / n as f64 } else { 0.0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_judge() {
        let rules = Signals::parse(
            r#"
[[signal]]
name = "errors"
match = "errors"
worse = "up"
limit = 50.0
range = [0.0, 1000.0]
min_change = { abs = 2.0 }
[[group]]
by = ["host"]
budget = { per_day = 10.0 }
"#,
        )
        .unwrap();
        let r = SignalRule::of(&rules, "errors");
        assert!(r.sensible(-1.0).is_nan() && r.sensible(2000.0).is_nan() && r.sensible(f64::INFINITY).is_nan());
        assert_eq!(r.sensible(5.0), 5.0);
        assert!(!r.judge(11.0, 10.0).counts && r.judge(13.0, 10.0).counts && !r.judge(5.0, 10.0).counts);
        let at = r.judge(50.0, 50.0);
        assert!(at.at_limit && at.counts);
        assert_eq!(SignalRule::hold(at, 0.1, 7.0), 7.0);
        assert!(SignalRule::hold(r.judge(11.0, 10.0), 50.0, 7.0) < 7.0);
        assert!(SignalRule::hold(r.judge(f64::NAN, 10.0), f64::NAN, 7.0).is_nan());
        let step: Step = "1m".parse().unwrap();
        let line = |l: Labels| line_of(&rules, Budget::default(), &l, step).p_alert();
        assert!((line(Labels::new([("host", "a")])) - 10.0 / 1440.0).abs() < 1e-12);
        assert!((line(Labels::default()) - 1.0 / 1440.0).abs() < 1e-12);
    }

    #[test]
    fn tops_and_shares() {
        assert_eq!(top_three(&mut [1.0, 5.0, 3.0, 4.0]), 4.0);
        assert_eq!(top_three(&mut [2.0]), 2.0);
        assert!(top_three(&mut []).is_nan());
        let mut e = [0.0, 0.0, 0.0];
        to_shares(&mut e, |i| i < 2);
        assert_eq!(e, [0.5, 0.5, 0.0]);
        let mut e = [1.0, 3.0];
        to_shares(&mut e, |_| true);
        assert_eq!(e, [0.25, 0.75]);
    }
}
