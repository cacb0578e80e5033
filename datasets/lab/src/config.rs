use crate::{LabError, Parameters};
use foreglow_core::{Seed, Step, Timestamp};
use std::f64::consts::TAU;
use std::time::Duration;

/// What a swarm is started with.
#[derive(Debug, Clone, PartialEq)]
pub struct LabConfig {
    /// Fixes when tasks arrive, which records they want, what work they ask for and what the records hold. Default 1.
    pub seed: Seed,
    /// How many agents, 2 to 32. Default 6.
    pub agents: usize,
    /// The distance of ticks, 250 ms to 60 s. Default 1 s.
    pub step: Step,
    /// How long a day of the load's shape takes, at least 10 steps. Default 120 s. Day boundaries are multiples of it
    /// since the epoch, so that a restarted swarm is in the same phase.
    pub day: Duration,
    /// Tasks a second that arrive at the whole swarm, on average over a day, 1 to 5,000. Default 540.
    pub rate: f64,
    /// The parameters to begin with.
    pub parameters: Parameters,
    /// The timestamp of the start, for recordings; `None` (the default) takes the wall clock.
    pub start: Option<Timestamp>,
}

impl Default for LabConfig {
    fn default() -> Self {
        Self {
            seed: Seed::default(),
            agents: 6,
            step: Step::from_ms(1000).expect("1000 is positive"),
            day: Duration::from_mins(2),
            rate: 540.0,
            parameters: Parameters::default(),
            start: None,
        }
    }
}

impl LabConfig {
    /// Refuses values out of range.
    pub fn check(&self) -> Result<(), LabError> {
        if !(2..=32).contains(&self.agents) {
            return Err(LabError::range("agents", self.agents, "a whole number from 2 to 32"));
        }
        if !(250..=60_000).contains(&self.step.ms()) {
            return Err(LabError::range("step", self.step, "a duration from 250ms to 60s"));
        }
        let least = Duration::from_millis(10 * self.step.ms() as u64);
        if self.day < least || self.day > Duration::from_hours(24) {
            return Err(LabError::range(
                "day",
                format!("{:?}", self.day),
                format!("a duration from {least:?} to 24 hours"),
            ));
        }
        if !(1.0..=5000.0).contains(&self.rate) {
            return Err(LabError::range("rate", self.rate, "a number of tasks a second from 1 to 5000"));
        }
        if let Some(start) = self.start.filter(|t| t.ms() < 0) {
            return Err(LabError::range("start", start, "a time in 1970 or later"));
        }
        self.parameters.check(self.agents)
    }

    /// The mean arrival rate at `t`, in tasks a second: `rate * (1 + 0.35 sin(2 pi x - pi / 2) + 0.08 sin(4 pi x))`, x the
    /// part of the day that has passed. Nights are near 0.65 of the mean and lunch near 1.35.
    pub fn rate_at(&self, t: Timestamp) -> f64 {
        let day = self.day.as_millis().max(1) as i64;
        let x = t.ms().rem_euclid(day) as f64 / day as f64;
        self.rate * (1.0 + 0.35 * (TAU * x - TAU / 4.0).sin() + 0.08 * (2.0 * TAU * x).sin())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_allowed_and_nonsense_is_not() {
        LabConfig::default().check().unwrap();
        let e = LabConfig { agents: 1, ..LabConfig::default() }.check().unwrap_err().to_string();
        assert_eq!(e, "agents = 1: expected a whole number from 2 to 32");
        assert!(LabConfig { rate: f64::NAN, ..LabConfig::default() }.check().is_err());
        assert!(LabConfig { day: Duration::from_secs(1), ..LabConfig::default() }.check().is_err());
        assert!(LabConfig { step: Step::from_ms(100).unwrap(), ..LabConfig::default() }.check().is_err());
    }

    #[test]
    fn a_day_has_its_mean_rate_and_repeats() {
        let c = LabConfig::default();
        let mean = (0..120).map(|s| c.rate_at(Timestamp(s * 1000))).sum::<f64>() / 120.0;
        assert!((mean - c.rate).abs() < 1e-6 * c.rate, "{mean}");
        assert_eq!(c.rate_at(Timestamp(17_000)), c.rate_at(Timestamp(17_000 + 120_000)));
        assert!(c.rate_at(Timestamp(60_000)) > 1.8 * c.rate_at(Timestamp(0)));
    }
}
