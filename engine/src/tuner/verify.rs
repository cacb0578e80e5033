//! Whether an applied recommendation kept its promise.

use foreglow_core::stats::student_t_quantile;
use foreglow_search::cut::MOST_BLOCKS;
use foreglow_search::recommend::{Recommendation, Status};
use foreglow_search::{Bound, Goal, GuardRail, Measurement};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What was measured of a promise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Verification {
    /// `measuring`, `kept` or `roll_back`.
    pub(crate) verdict: Verdict,
    /// Independent blocks before and after the change.
    pub(crate) blocks: [u32; 2],
    /// Blocks needed after the change.
    pub(crate) needed: u32,
    /// The measured relative change of the objective.
    pub(crate) relative: Option<f64>,
    /// Its 95 % interval.
    pub(crate) i95: Option<[f64; 2]>,
    /// Why, in words.
    pub(crate) reason: String,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Not enough measured yet.
    Measuring,
    /// The promise was kept.
    Kept,
    /// Undo it.
    RollBack,
}

impl Verdict {
    pub(crate) fn status(self) -> Option<Status> {
        match self {
            Self::Measuring => None,
            Self::Kept => Some(Status::Kept),
            Self::RollBack => Some(Status::RollBack),
        }
    }
}

/// Compares the blocks after a change with those before.
///
/// A guard-rail whose mean after the change is beyond its limit by more than its standard error says roll back at once.
/// Else, once as many blocks were measured as the plan asks for (at most 20, the longest trial), the relative change and
/// its 95 % interval (Welch's t over block means, which are nearly independent) decide: kept when the mean goes in the
/// promised direction and the interval reaches into the promised 80 % interval, roll back otherwise.
pub(crate) fn judge(
    recommendation: &Recommendation,
    goal: Goal,
    guards: &[GuardRail],
    before: Option<&Measurement>,
    after: Option<&Measurement>,
) -> Verification {
    let needed = recommendation.verify.blocks.min(MOST_BLOCKS) as u32;
    let count = |m: Option<&Measurement>| m.map_or(0, |m| m.replicates);
    let mut out = Verification {
        verdict: Verdict::Measuring,
        blocks: [count(before), count(after)],
        needed,
        relative: None,
        i95: None,
        reason: String::new(),
    };
    let (Some(b), Some(a)) = (before, after) else {
        let side = if before.is_none() { "before" } else { "after" };
        out.reason = format!("nothing was measured {side} the change");
        return out;
    };
    if let Some(reason) = guards.iter().find_map(|g| broken(g, recommendation, b, a)) {
        out.verdict = Verdict::RollBack;
        out.reason = reason;
    }
    let (Some(sb), Some(sa)) = (b.se, a.se) else {
        if out.verdict == Verdict::Measuring {
            "one block says nothing about its error".clone_into(&mut out.reason);
        }
        return out;
    };
    let scale = b.value.abs();
    let change = (a.value - b.value) / scale;
    let se = sa.hypot(sb) / scale;
    // Welch and Satterthwaite.
    let part = |s: f64, n: u32| s.powi(4) / f64::from(n.saturating_sub(1).max(1));
    let df = (sa * sa + sb * sb).powi(2) / (part(sa, a.replicates) + part(sb, b.replicates));
    let t = if df.is_finite() && df > 0.0 { student_t_quantile(0.975, df) } else { 1.96 };
    let i95 = [change - t * se, change + t * se];
    out.relative = Some(change);
    out.i95 = Some(i95);
    if out.verdict == Verdict::RollBack {
        return out;
    }
    if a.replicates < needed {
        out.reason = format!("{} of {needed} blocks were measured after the change", a.replicates);
        return out;
    }
    let [low, high] = recommendation.verify.expect;
    let better = goal.sign() * change < 0.0;
    let reaches = i95[0] <= high.max(low) && i95[1] >= low.min(high);
    let beyond = better && change.abs() > low.abs().max(high.abs());
    let kept = better && (reaches || beyond);
    out.verdict = if kept { Verdict::Kept } else { Verdict::RollBack };
    out.reason = format!(
        "measured {:+.1} % (95 % interval {:+.1} to {:+.1} %), promised {:+.1} to {:+.1} %",
        100.0 * change,
        100.0 * i95[0],
        100.0 * i95[1],
        100.0 * low,
        100.0 * high
    );
    out
}

fn broken(g: &GuardRail, r: &Recommendation, before: &Measurement, after: &Measurement) -> Option<String> {
    let now = after.metric(&g.metric, &r.verify.metric)?;
    let then = before.metric(&g.metric, &r.verify.metric).map(|m| m.value);
    let (bound, sign) = g.limit();
    let limit = match bound {
        Bound::Absolute(v) => v,
        bound @ Bound::TimesBaseline(_) => bound.resolve(then)?,
    };
    let over = sign * (now.value - limit) - now.se.unwrap_or(0.0);
    (over > 0.0).then(|| format!("guard-rail broken: {} is {}, the limit is {limit}", g.describe(), now.value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreglow_search::{Advice, AdviceOptions, Aggregate, Objective, ParameterSpec, SpaceSpec, StudySpec};
    use std::collections::BTreeMap;

    fn promise() -> Recommendation {
        let space = SpaceSpec(vec![ParameterSpec::int("workers", 1, 32).current(4)]);
        let objective = Objective { metric: "latency".into(), aggregate: Aggregate::Mean, goal: Goal::Min };
        let mut study = StudySpec::new("s", space, objective).check().unwrap();
        for w in [4, 8, 12, 16, 20, 24, 28, 32, 4, 2] {
            let a = [("workers".to_owned(), (w as i64).into())].into();
            let value = 100.0 + (w as f64 - 20.0).powi(2) / 4.0;
            let m = Measurement { replicates: 10, ..Measurement::of(value).with_se(0.5) };
            study.add(&a, Some(m), BTreeMap::new(), Vec::new()).unwrap();
        }
        match study.recommend(&AdviceOptions::default()) {
            Advice::Change(r) => *r,
            Advice::None { none_because } => panic!("{none_because}"),
        }
    }

    fn measured(value: f64, se: f64, blocks: u32) -> Measurement {
        Measurement { replicates: blocks, ..Measurement::of(value).with_se(se) }
    }

    #[test]
    fn verdicts() {
        let r = promise();
        let before = measured(164.0, 1.0, 20);
        let judged =
            |after: &Measurement, guards: &[GuardRail]| judge(&r, Goal::Min, guards, Some(&before), Some(after));
        assert_eq!(judged(&measured(100.0, 1.0, 20), &[]).verdict, Verdict::Kept);
        let wrong = judged(&measured(170.0, 1.0, 20), &[]);
        assert_eq!(wrong.verdict, Verdict::RollBack);
        assert!(wrong.reason.contains("measured +3.7 %"), "{}", wrong.reason);
        assert_eq!(judged(&measured(100.0, 1.0, 1), &[]).verdict, Verdict::Measuring);
        assert_eq!(judge(&r, Goal::Min, &[], None, Some(&before)).verdict, Verdict::Measuring);
        let guard = [GuardRail::at_most("errors", Bound::TimesBaseline(1.2))];
        let (b, a) = (before.clone().with_metric("errors", 1.0), measured(100.0, 1.0, 2).with_metric("errors", 2.0));
        let v = judge(&r, Goal::Min, &guard, Some(&b), Some(&a));
        assert_eq!(v.verdict, Verdict::RollBack);
        assert!(v.reason.contains("guard-rail broken"));
    }
}
