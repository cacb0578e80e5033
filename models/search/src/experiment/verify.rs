//! Whether an applied recommendation keeps its promise.

use super::blocks::{Blocks, FEWEST_BLOCKS, Samples, blocks, relative};
use crate::{Goal, Relative, stats};
use foreglow_core::stats::Boundary;
use serde::{Deserialize, Serialize};

/// A guard-rail to be watched after the change.
#[derive(Debug, Clone, Copy)]
pub struct GuardWatch<'a> {
    /// The metric's name.
    pub metric: &'a str,
    /// Its samples after the change.
    pub values: &'a [f64],
    /// The limit as a number.
    pub limit: f64,
    /// 1: at most the limit; -1: at least.
    pub sign: f64,
}

/// What is compared.
#[derive(Debug, Clone)]
pub struct VerifyInput<'a> {
    /// Whether small or large values are good.
    pub goal: Goal,
    /// Before the change (or, under switchback, all of the time without it), warm-up left out.
    pub before: Samples<'a>,
    /// With the change, warm-up left out.
    pub after: Samples<'a>,
    /// The promised relative change: the 80 % interval of the recommendation.
    pub expect: [f64; 2],
    /// Guard-rails.
    pub guards: Vec<GuardWatch<'a>>,
    /// The probability of a wrong verdict over all looks together. Default 0.05.
    pub alpha: f64,
    /// Blocks a side after which the verification ends, decided or not. Default 40.
    pub most_blocks: usize,
}

impl<'a> VerifyInput<'a> {
    /// A comparison with defaults and without guard-rails.
    pub fn new(goal: Goal, before: Samples<'a>, after: Samples<'a>, expect: [f64; 2]) -> Self {
        Self { goal, before, after, expect, guards: Vec::new(), alpha: 0.05, most_blocks: 40 }
    }
}

/// What follows from a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It helped.
    Kept,
    /// It hurt, broke a guard-rail, or did clearly less than promised: undo it.
    RollBack,
    /// Keep measuring.
    Continue,
    /// The blocks are used up and neither is shown: somebody has to decide.
    Inconclusive,
}

/// The state of a verification at a look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// What follows.
    pub verdict: Verdict,
    /// Why, in words.
    pub reasons: Vec<String>,
    /// The measured relative change so far with 80 and 95 % intervals of this one look; `None` while there are too few
    /// blocks or the metric is 0 before the change.
    pub effect: Option<Relative>,
    /// The interval that holds at all looks together, at the confidence asked for.
    pub always: Option<[f64; 2]>,
    /// Whether the measured change lies in the promised interval, within its own 80 % uncertainty.
    pub promise_held: Option<bool>,
    /// Blocks before and after.
    pub blocks: [usize; 2],
    /// Autocorrelation time, in samples; NaN where only means of blocks were given.
    pub autocorrelation_time: f64,
}

/// The mean of independent blocks: what is left of samples that were cut and aggregated elsewhere.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockMean {
    /// The mean.
    pub mean: f64,
    /// Its standard error.
    pub se: f64,
    /// Blocks behind it.
    pub blocks: usize,
}

/// Means of the blocks before and after a change, with what the covariate explains taken out of both, and the share of
/// variance that went with it.
pub fn block_means(before: Samples<'_>, after: Samples<'_>) -> ([BlockMean; 2], f64) {
    let b = blocks(&[before, after]);
    (sides(&b), b.explained)
}

fn sides(b: &Blocks) -> [BlockMean; 2] {
    let mut sides = [BlockMean::of(&b.arms[0]), BlockMean::of(&b.arms[1])];
    // What is not known of the covariate's part makes the comparison less sure, whichever side it is counted on.
    sides[1].se = sides[1].se.hypot(b.doubt);
    sides
}

impl BlockMean {
    fn of(blocks: &[f64]) -> Self {
        let n = blocks.len();
        Self { mean: stats::mean(blocks), se: stats::sd(blocks) / (n as f64).sqrt(), blocks: n }
    }
}

/// A guard-rail's metric after the change, as a mean of blocks.
#[derive(Debug, Clone, PartialEq)]
pub struct GuardMean {
    /// The metric's name.
    pub metric: String,
    /// What it showed.
    pub after: BlockMean,
    /// The limit as a number.
    pub limit: f64,
    /// 1: at most the limit; -1: at least.
    pub sign: f64,
}

/// What was promised, and how sure a verdict has to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Promise {
    /// Whether small or large values are good.
    pub goal: Goal,
    /// The promised relative change: the 80 % interval.
    pub expect: [f64; 2],
    /// The probability of a wrong verdict over all looks together.
    pub alpha: f64,
    /// Blocks a side after which the verification ends, decided or not.
    pub most_blocks: usize,
}

/// Looks at the data of a change so far; may be called as often as one likes with the error stated: the interval is a
/// confidence sequence on blocks of 5 autocorrelation times (Waudby-Smith et al. 2021, arXiv 2103.06476).
pub fn verify(input: &VerifyInput<'_>) -> Verification {
    let b = blocks(&[input.before, input.after]);
    let guards: Vec<GuardMean> = input
        .guards
        .iter()
        .map(|g| {
            let after = BlockMean::of(&blocks(&[Samples::of(g.values)]).arms[0]);
            GuardMean { metric: g.metric.to_owned(), after, limit: g.limit, sign: g.sign }
        })
        .collect();
    let promise =
        Promise { goal: input.goal, expect: input.expect, alpha: input.alpha, most_blocks: input.most_blocks };
    let mut out = verify_means(&promise, sides(&b), &guards);
    out.autocorrelation_time = b.time;
    out
}

/// [`verify`] of means of blocks, before and after the change; `autocorrelation_time` is not known then.
pub fn verify_means(promise: &Promise, sides: [BlockMean; 2], guards: &[GuardMean]) -> Verification {
    let [before, after] = sides;
    let mut out = Verification {
        verdict: Verdict::Continue,
        reasons: Vec::new(),
        effect: None,
        always: None,
        promise_held: None,
        blocks: [before.blocks, after.blocks],
        autocorrelation_time: f64::NAN,
    };
    let broken = guards.iter().filter_map(|g| guard_broken(g, promise.alpha, promise.most_blocks));
    let broken: Vec<String> = broken.collect();
    if !broken.is_empty() {
        out.verdict = Verdict::RollBack;
        out.reasons = broken;
    }
    let fewest = before.blocks.min(after.blocks);
    if fewest < FEWEST_BLOCKS {
        out.reasons.push(format!(
            "{} and {} blocks of 5 autocorrelation times: {FEWEST_BLOCKS} on each side are needed",
            before.blocks, after.blocks
        ));
        return out;
    }
    let n = 2.0 * before.blocks as f64 * after.blocks as f64 / (before.blocks + after.blocks) as f64;
    let (value, absolute, base) = (after.mean - before.mean, before.se.hypot(after.se), before.mean);
    let Some(effect) = relative(value, absolute, n, base) else {
        out.reasons.push("the metric is 0 before the change: a relative effect means nothing".to_owned());
        return out;
    };
    let (mean, se) = (effect.mean, absolute / base.abs());
    let wide = se * Boundary::Always { best: promise.most_blocks as f64 }.critical(n, promise.alpha);
    let always = [mean - wide, mean + wide];
    out.effect = Some(effect);
    out.always = Some(always);
    out.promise_held = Some(effect.i80[0] <= promise.expect[1] && promise.expect[0] <= effect.i80[1]);
    if out.verdict == Verdict::RollBack {
        return out;
    }
    // In terms of gain: above 0 is good, whatever the direction.
    let gain = |v: f64| -promise.goal.sign() * v;
    let (low, high) = (gain(always[0]).min(gain(always[1])), gain(always[0]).max(gain(always[1])));
    let least = gain(promise.expect[0]).min(gain(promise.expect[1]));
    let percent = |v: f64| format!("{:+.1} %", 100.0 * v);
    if low > 0.0 {
        out.verdict = Verdict::Kept;
        out.reasons.push(format!("the change is {}, and an improvement at all looks together", percent(mean)));
    } else if high < 0.0 {
        out.verdict = Verdict::RollBack;
        out.reasons.push(format!("the change is {}: it made things worse", percent(mean)));
    } else if high < least {
        out.verdict = Verdict::RollBack;
        out.reasons.push(format!("the change is {}, less than the least that was promised", percent(mean)));
    } else if fewest >= promise.most_blocks {
        out.verdict = Verdict::Inconclusive;
        out.reasons.push(format!("after {fewest} blocks the change of {} may still be none", percent(mean)));
    } else {
        out.reasons.push(format!(
            "{} so far, between {} and {}",
            percent(mean),
            percent(always[0]),
            percent(always[1])
        ));
    }
    out
}

/// The rule that broke, when its metric is beyond the limit at all looks together, of up to `most_blocks`, with a probability
/// of error of `alpha`.
pub fn guard_broken(g: &GuardMean, alpha: f64, most_blocks: usize) -> Option<String> {
    let BlockMean { mean, se, blocks } = g.after;
    // A guard-rail ends things early: half the blocks that a gain needs, and one side only.
    if blocks < FEWEST_BLOCKS / 2 {
        return None;
    }
    let best = most_blocks as f64 / 2.0;
    let critical = Boundary::Always { best }.critical(blocks as f64, 2.0 * alpha);
    (g.sign * mean - critical * se > g.sign * g.limit)
        .then(|| format!("guard-rail broken: `{}` is {mean:.4} on average, the limit is {:.4}", g.metric, g.limit))
}

/// How often a service's promises held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PromiseRecord {
    /// Recommendations whose effect was measured.
    pub measured: u32,
    /// Of these, how often the 80 % interval held.
    pub held: u32,
}

impl PromiseRecord {
    /// Counts a promise whose effect was measured.
    pub fn count(&mut self, held: bool) {
        self.measured += 1;
        self.held += u32::from(held);
    }

    /// Counts a finished verification.
    pub fn add(&mut self, v: &Verification) {
        if let Some(held) = v.promise_held {
            self.count(held);
        }
    }

    /// The share that held; `None` before the first.
    pub fn share(&self) -> Option<f64> {
        (self.measured > 0).then(|| f64::from(self.held) / f64::from(self.measured))
    }
}
