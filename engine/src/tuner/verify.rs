//! Whether an applied recommendation kept its promise.

use foreglow_search::cut::MOST_BLOCKS;
use foreglow_search::experiment::{self, BlockMean, FEWEST_BLOCKS, GuardMean, Promise, verify_means};
use foreglow_search::recommend::{Recommendation, Status};
use foreglow_search::{Goal, GuardRail, Measurement};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a reason begins that a guard-rail gave.
const BROKEN: &str = "guard-rail broken";

/// The probability of a wrong verdict over all looks together.
pub(super) const ALPHA: f64 = 0.05;

/// What was measured of a promise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Verification {
    /// `measuring`, `kept`, `roll_back` or `inconclusive`.
    pub(crate) verdict: Verdict,
    /// Independent blocks before and after the change.
    pub(crate) blocks: [u32; 2],
    /// Blocks a side after which it ends, decided or not.
    pub(crate) needed: u32,
    /// The measured relative change of the objective.
    pub(crate) relative: Option<f64>,
    /// Its 95 % interval, for one look.
    pub(crate) i95: Option<[f64; 2]>,
    /// The interval that holds at all looks together.
    #[serde(default)]
    pub(crate) always: Option<[f64; 2]>,
    /// The share of the objective's variance that went with the load and was taken out (CUPED, Deng et al. 2013,
    /// doi:10.1145/2433396.2433413); 0 where the study names no `workload`.
    #[serde(default)]
    pub(crate) load_explained: f64,
    /// Whether what was measured agrees with the promised 80 % interval.
    #[serde(default)]
    pub(crate) promise_held: Option<bool>,
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
    /// All blocks are measured, and neither is shown: somebody has to decide.
    Inconclusive,
}

impl Verdict {
    pub(crate) fn status(self) -> Option<Status> {
        match self {
            Self::Measuring | Self::Inconclusive => None,
            Self::Kept => Some(Status::Kept),
            Self::RollBack => Some(Status::RollBack),
        }
    }
}

impl Verification {
    /// The same where something else was changed, too: who did it cannot be told. A guard-rail that breaks still ends it.
    pub(crate) fn disturbed(self) -> Self {
        if self.verdict == Verdict::Measuring || self.reason.contains(BROKEN) {
            return self;
        }
        self.open("something else was changed while it was measured, which may be what did it")
    }

    /// The same where nothing more will be measured, as once another configuration has started.
    pub(crate) fn over(self) -> Self {
        if self.verdict != Verdict::Measuring {
            return self;
        }
        self.open("nothing more will be measured of this change")
    }

    fn open(self, why: &str) -> Self {
        Self { verdict: Verdict::Inconclusive, promise_held: None, reason: format!("{why}; {}", self.reason), ..self }
    }
}

/// Compares the blocks after a change with those before, as `foreglow_search::experiment` does: the interval holds at all
/// looks together, so a verdict may come at any time, and a guard-rail that is clearly beyond its limit ends it at once.
/// `without_load` are the blocks with the load's movement taken out, and how much that explained.
pub(crate) fn judge(
    recommendation: &Recommendation,
    goal: Goal,
    guards: &[GuardRail],
    [before, after]: [Option<&Measurement>; 2],
    without_load: Option<([BlockMean; 2], f64)>,
) -> Verification {
    // A trial is cut to so many blocks: more will never be there.
    let needed = recommendation.verify.blocks.clamp(FEWEST_BLOCKS, MOST_BLOCKS);
    let count = |m: Option<&Measurement>| m.map_or(0, |m| m.replicates);
    let mut out = Verification {
        verdict: Verdict::Measuring,
        blocks: [count(before), count(after)],
        needed: needed as u32,
        relative: None,
        i95: None,
        always: None,
        load_explained: 0.0,
        promise_held: None,
        reason: String::new(),
    };
    let (Some(b), Some(a)) = (before, after) else {
        let side = if before.is_none() { "before" } else { "after" };
        out.reason = format!("nothing was measured {side} the change");
        return out;
    };
    let promise = Promise { goal, expect: recommendation.verify.expect, alpha: ALPHA, most_blocks: needed };
    let mean = |value: f64, se: Option<f64>, m: &Measurement| BlockMean {
        mean: value,
        se: se.unwrap_or(0.0),
        // One block says nothing about its error.
        blocks: if se.is_some() { m.replicates as usize } else { m.replicates.min(1) as usize },
    };
    let guards: Vec<GuardMean> = guards
        .iter()
        .filter_map(|g| {
            let now = a.metric(&g.metric, &recommendation.verify.metric)?;
            let then = b.metric(&g.metric, &recommendation.verify.metric).map(|m| m.value);
            let (bound, sign) = g.limit();
            let limit = bound.resolve(then)?;
            Some(GuardMean { metric: g.metric.clone(), after: mean(now.value, now.se, a), limit, sign })
        })
        .collect();
    let v = match without_load {
        Some((sides, explained)) => {
            out.load_explained = explained;
            out.blocks = sides.map(|s| s.blocks as u32);
            // Cut anew beside the load, what was a whole trial may be a block short of it.
            let whole = b.replicates.min(a.replicates) as usize >= needed;
            let fewest = sides[0].blocks.min(sides[1].blocks);
            let most_blocks = if whole { fewest.clamp(FEWEST_BLOCKS, needed) } else { needed };
            verify_means(&Promise { most_blocks, ..promise }, sides, &guards)
        }
        None => verify_means(&promise, [mean(b.value, b.se, b), mean(a.value, a.se, a)], &guards),
    };
    out.verdict = match v.verdict {
        experiment::Verdict::Kept => Verdict::Kept,
        experiment::Verdict::RollBack => Verdict::RollBack,
        experiment::Verdict::Continue => Verdict::Measuring,
        experiment::Verdict::Inconclusive => Verdict::Inconclusive,
    };
    out.relative = v.effect.map(|e| e.mean);
    out.i95 = v.effect.map(|e| e.i95);
    out.always = v.always;
    out.promise_held = v.promise_held;
    let [low, high] = promise.expect;
    out.reason = format!("{}; promised were {:+.1} to {:+.1} %", v.reasons.join("; "), 100.0 * low, 100.0 * high);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreglow_search::{
        Advice, AdviceOptions, Aggregate, Bound, MetricValue, Objective, ParameterSpec, SpaceSpec, StudySpec,
    };
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
        let judged = |after: &Measurement, guards: &[GuardRail]| {
            judge(&r, Goal::Min, guards, [Some(&before), Some(after)], None)
        };
        assert_eq!(judged(&measured(100.0, 1.0, 20), &[]).verdict, Verdict::Kept);
        let wrong = judged(&measured(170.0, 1.0, 20), &[]);
        assert_eq!(wrong.verdict, Verdict::RollBack);
        assert!(wrong.reason.contains("+3.7 %") && wrong.reason.contains("promised were -"), "{}", wrong.reason);
        assert_eq!(judged(&measured(100.0, 1.0, 1), &[]).verdict, Verdict::Measuring);
        assert_eq!(judge(&r, Goal::Min, &[], [None, Some(&before)], None).verdict, Verdict::Measuring);
        let guard = [GuardRail::at_most("errors", Bound::TimesBaseline(1.2))];
        let (b, a) = (before.clone().with_metric("errors", 1.0), measured(100.0, 1.0, 4));
        let a = Measurement { metrics: [("errors".to_owned(), MetricValue { value: 2.0, se: Some(0.1) })].into(), ..a };
        let v = judge(&r, Goal::Min, &guard, [Some(&b), Some(&a)], None);
        assert_eq!(v.verdict, Verdict::RollBack);
        assert!(v.reason.contains("guard-rail broken"));
    }
}
