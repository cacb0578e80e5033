//! Comparisons that hold what they say on dependent metrics: verification of a change, and A/B experiments.
//!
//! Samples of a running system follow one another, so they are judged in blocks of 5 autocorrelation times. Looking
//! often is allowed where the boundary says so ([`Boundary`]); where there are too few
//! independent blocks, the answer is that there are too few.

mod ab;
mod blocks;
mod switchback;
#[cfg(test)]
mod tests;
mod verify;

pub use ab::{
    Analysis, Arm, Comparison, Decision, Experiment, ExperimentMetric, ExperimentReport, ExperimentSpec, Plan,
};
pub use blocks::{BLOCK_TIMES, FEWEST_BLOCKS, Samples};
pub use foreglow_core::stats::Boundary;
pub use switchback::{Period, SwitchbackDifference, SwitchbackPlan, compare_periods};
pub use verify::{
    BlockMean, GuardMean, GuardWatch, Promise, PromiseRecord, Verdict, Verification, VerifyInput, block_means,
    guard_broken, verify, verify_means,
};
