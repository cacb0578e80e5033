use crate::DatasetError;
use foreglow_core::{DAY_MS, Seed, Step, Timestamp};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// What can go wrong in a generated series. Amplitudes are in units of the metric's own short-term spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnomalyKind {
    /// The level moves by 5 to 9 spreads, up or down, and comes back. 12 to 60 steps.
    LevelShift,
    /// Noise of 4 to 7 spreads is added. 12 to 60 steps.
    VarianceBurst,
    /// 1 to 3 steps, 8 to 14 spreads, up or down.
    Spike,
    /// The value stands still, to the bit. 24 to 96 steps.
    StuckSensor,
    /// No values at all. 6 to 48 steps. An event, but label 0: there is nothing to score.
    Missing,
}

impl AnomalyKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::LevelShift, Self::VarianceBurst, Self::Spike, Self::StuckSensor, Self::Missing];

    /// The name in `events.parquet`.
    pub fn name(self) -> &'static str {
        match self {
            Self::LevelShift => "level_shift",
            Self::VarianceBurst => "variance_burst",
            Self::Spike => "spike",
            Self::StuckSensor => "stuck_sensor",
            Self::Missing => "missing",
        }
    }

    pub(super) fn steps(self) -> Range<usize> {
        match self {
            Self::LevelShift | Self::VarianceBurst => 12..61,
            Self::Spike => 1..4,
            Self::StuckSensor => 24..97,
            Self::Missing => 6..49,
        }
    }
}

/// What to generate. Each metric is
/// `base (1 + trend days + daily D(t) + weekly W(t)) + load L(t) + noise`, with `D` two harmonics of the day, `W` a weekend dip,
/// `L` a latent AR(1) process that the metrics of one group share, and noise an AR(1) process of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SyntheticSpec {
    /// Name of the set. Default `synthetic`.
    pub name: String,
    /// Series (entities), 1 to 10,000. Default 4.
    pub series: usize,
    /// Metrics of each, 1 to 1,000. Default 6.
    pub metrics: usize,
    /// Groups of correlated metrics, 1 to `metrics`. Default 2.
    pub groups: usize,
    /// Length in days, above 0, at most 3,660; at most 10 million rows a series. Default 14.
    pub days: f64,
    /// Distance of rows. Default 5 minutes.
    pub step: Step,
    /// First instant. Default Monday 2026-01-05 00:00 UTC.
    pub start: Timestamp,
    /// Share of train rows. Default 0.5.
    pub train: f64,
    /// Share of validation rows. Default 0.1.
    pub val: f64,
    /// Relative growth a day, -1 to 1. Default 0.005.
    pub trend: f64,
    /// Relative height of the daily season, 0 to 1. Default 0.3.
    pub daily: f64,
    /// Relative depth of the weekend, 0 to 1. Default 0.15.
    pub weekly: f64,
    /// Share of the short-term variance that a group's metrics have in common, 0 to 1. Default 0.6.
    pub correlation: f64,
    /// Short-term spread relative to the base, above 0, at most 1. Default 0.04.
    pub noise: f64,
    /// Events of each series, all in test rows. Default 10.
    pub events: usize,
    /// The kinds, taken in turn. Default: all.
    pub kinds: Vec<AnomalyKind>,
    /// The seed.
    pub seed: Seed,
}

impl Default for SyntheticSpec {
    fn default() -> Self {
        Self {
            name: "synthetic".into(),
            series: 4,
            metrics: 6,
            groups: 2,
            days: 14.0,
            step: Step::from_ms(300_000).expect("five minutes is a step"),
            start: Timestamp(1_767_571_200_000),
            train: 0.5,
            val: 0.1,
            trend: 0.005,
            daily: 0.3,
            weekly: 0.15,
            correlation: 0.6,
            noise: 0.04,
            events: 10,
            kinds: AnomalyKind::ALL.to_vec(),
            seed: Seed::default(),
        }
    }
}

/// A [`SyntheticSpec`] that was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedSynthetic(pub(super) SyntheticSpec);

/// Room of an event: the longest one and a distance on both sides.
const SLOT: usize = 120;

impl SyntheticSpec {
    pub(super) fn rows(&self) -> usize {
        (self.days * DAY_MS as f64 / self.step.ms() as f64).floor() as usize
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`DatasetError::Param`] naming field, value and allowed range.
    pub fn check(self) -> Result<CheckedSynthetic, DatasetError> {
        let bad = |field, value: String, allowed| Err(DatasetError::Param { field, value, allowed });
        if self.name.is_empty() {
            return bad("name", self.name, "some text");
        }
        if !(1..=10_000).contains(&self.series) {
            return bad("series", self.series.to_string(), "1 to 10000");
        }
        if !(1..=1000).contains(&self.metrics) {
            return bad("metrics", self.metrics.to_string(), "1 to 1000");
        }
        if !(1..=self.metrics).contains(&self.groups) {
            return bad("groups", self.groups.to_string(), "1 to the number of metrics");
        }
        if !(self.days > 0.0 && self.days <= 3660.0) {
            return bad("days", self.days.to_string(), "above 0, at most 3660");
        }
        if !(1..=10_000_000).contains(&self.rows()) {
            return bad("days / step", self.rows().to_string(), "1 to 10000000 rows");
        }
        for (field, v, low, allowed) in [
            ("train", self.train, 0.0, "0 to 1"),
            ("val", self.val, 0.0, "0 to 1"),
            ("train + val", self.train + self.val, 0.0, "0 to 1"),
            ("trend", self.trend, -1.0, "-1 to 1"),
            ("daily", self.daily, 0.0, "0 to 1"),
            ("weekly", self.weekly, 0.0, "0 to 1"),
            ("correlation", self.correlation, 0.0, "0 to 1"),
            ("noise", self.noise, f64::MIN_POSITIVE, "above 0, at most 1"),
        ] {
            if !(low..=1.0).contains(&v) {
                return bad(field, v.to_string(), allowed);
            }
        }
        if self.events > 0 && self.kinds.is_empty() {
            return bad("kinds", "none".into(), "at least one kind where there are events");
        }
        let test = self.rows() - self.cuts().1;
        if self.events * SLOT > test {
            return bad("events", self.events.to_string(), "at most one event for 120 test rows of a series");
        }
        Ok(CheckedSynthetic(self))
    }

    /// First validation row and first test row.
    pub(super) fn cuts(&self) -> (usize, usize) {
        let n = self.rows() as f64;
        ((self.train * n + 1e-9).floor() as usize, ((self.train + self.val) * n + 1e-9).floor().min(n) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_checked() {
        let d = SyntheticSpec::default;
        assert!(SyntheticSpec { events: 1000, ..d() }.check().is_err());
        assert!(SyntheticSpec { groups: 7, ..d() }.check().is_err());
        assert!(SyntheticSpec { noise: 0.0, ..d() }.check().is_err());
        assert!(SyntheticSpec { days: f64::NAN, ..d() }.check().is_err());
        assert!(SyntheticSpec { kinds: vec![], events: 1, ..d() }.check().is_err());
        assert!(SyntheticSpec { train: 1.0, val: 0.0, events: 0, ..d() }.check().is_ok());
    }
}
