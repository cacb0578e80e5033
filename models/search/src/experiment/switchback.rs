use super::blocks::relative;
use crate::{Relative, stats};
use foreglow_core::Seed;
use rand::Rng;
use serde::{Deserialize, Serialize};

/// One system cannot run both arms at once: it switches between them (Bojinov, Simchi-Levi and Zhao 2023,
/// doi:10.1287/mnsc.2022.4583).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchbackPlan {
    /// Samples a period.
    pub period: usize,
    /// Samples at the start of a period that are left out, because the other arm still shows.
    pub washout: usize,
    /// The seed of the order.
    #[serde(default)]
    pub seed: Seed,
}

/// One stretch under one arm.
#[derive(Debug, Clone, PartialEq)]
pub struct Period<'a> {
    /// Whether the change was active.
    pub treated: bool,
    /// The metric's samples, washout included.
    pub values: &'a [f64],
}

impl SwitchbackPlan {
    /// Whether the change is active in period `k`: periods go in pairs, and a coin decides which of a pair has it, so that
    /// slow drift cancels and daily rhythm cannot align with one arm.
    pub fn treated(&self, k: u64) -> bool {
        let first: bool = self.seed.child("switchback").nth(k / 2).rng().r#gen();
        first == k.is_multiple_of(2)
    }
}

/// The change against none from whole pairs of periods: one difference a pair, washout left out. `None` below 2 pairs.
pub fn compare_periods(periods: &[Period<'_>], washout: usize) -> Option<SwitchbackDifference> {
    let value = |p: &Period<'_>| {
        let kept: Vec<f64> = p.values.iter().skip(washout).copied().filter(|v| v.is_finite()).collect();
        stats::mean(&kept)
    };
    let mut differences = Vec::new();
    let mut bases = Vec::new();
    for pair in periods.chunks_exact(2) {
        let (a, b) = (value(&pair[0]), value(&pair[1]));
        if pair[0].treated != pair[1].treated && a.is_finite() && b.is_finite() {
            let (control, treated) = if pair[0].treated { (b, a) } else { (a, b) };
            differences.push(treated - control);
            bases.push(control);
        }
    }
    if differences.len() < 2 {
        return None;
    }
    let n = differences.len() as f64;
    Some(SwitchbackDifference {
        value: stats::mean(&differences),
        se: stats::sd(&differences) / n.sqrt(),
        pairs: differences.len(),
        base: stats::mean(&bases),
    })
}

/// The effect over pairs of periods.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SwitchbackDifference {
    /// With the change minus without.
    pub value: f64,
    /// Standard error over pairs.
    pub se: f64,
    /// Pairs.
    pub pairs: usize,
    /// Mean without the change.
    pub base: f64,
}

impl SwitchbackDifference {
    /// The effect relative to the mean without the change, with intervals over pairs; `None` when that mean is 0.
    pub fn relative(&self) -> Option<Relative> {
        relative(self.value, self.se, self.pairs as f64, self.base)
    }
}
