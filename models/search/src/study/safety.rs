use super::{Mode, Study};
use crate::trial::{Source, TrialState};
use crate::{ChangeCost, SearchError, assignment_key, stats};
use foreglow_core::stats::student_t_cdf;
use foreglow_core::{TimeRange, Timestamp};
use serde::{Deserialize, Serialize};

/// Trials after which the current configuration is measured again, when nothing else is said.
pub(super) const REMEASURE_EVERY: usize = 10;

/// What holds changes back in the modes `canary` and `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SafetySpec {
    /// The probability with which every guard-rail must hold under a suggestion. Default 0.95.
    pub confidence: f64,
    /// Unsafe trials after which nothing more is suggested. Default 3.
    pub stop_after: usize,
    /// The least time between two changes, in milliseconds. Default 10 minutes.
    pub cooldown_ms: i64,
    /// The most restarts within 24 hours. Default 4.
    pub restarts_per_day: usize,
}

impl Default for SafetySpec {
    fn default() -> Self {
        Self { confidence: 0.95, stop_after: 3, cooldown_ms: 600_000, restarts_per_day: 4 }
    }
}

impl SafetySpec {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn check(&self) -> Result<(), SearchError> {
        let bad = |problem: String| Err(SearchError::Study { field: "safety", problem });
        if !(self.confidence >= 0.5 && self.confidence < 1.0) {
            return bad(format!("`confidence` is {}: give a probability from 0.5 to below 1", self.confidence));
        }
        if self.stop_after == 0 {
            return bad("`stop_after` is 0: nothing would ever be suggested".to_owned());
        }
        if self.cooldown_ms < 0 {
            return bad(format!("`cooldown_ms` is {}: give 0 or more", self.cooldown_ms));
        }
        Ok(())
    }
}

/// A change that was made to the running system.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AppliedChange {
    /// When.
    pub at: Timestamp,
    /// What it took.
    pub cost: ChangeCost,
}

/// How the current configuration's repeated measurements move over time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// How often it was measured.
    pub measured: usize,
    /// Mean of the later half relative to the mean of the earlier half: 0.1 is 10 % more.
    pub relative: f64,
    /// The probability of as large a difference by chance (Student's test of the two halves, pooled spread).
    pub p: f64,
}

impl Drift {
    /// Whether it is more than chance: under 1 %, and at least 2 % of the level.
    pub fn is_real(&self) -> bool {
        self.p < 0.01 && self.relative.abs() > 0.02
    }
}

impl Study {
    /// Why nothing may be suggested now, whatever the clock says: the study stopped after too many unsafe trials, or a
    /// change is in flight. Always `None` in the modes `observe` and `recommend`.
    pub fn held_back(&self) -> Option<String> {
        if !self.spec().mode.is_careful() {
            return None;
        }
        let most = self.spec().safety.stop_after;
        let suggested = self.trials().iter().filter(|t| t.source == Source::Suggested);
        let broken = suggested.clone().filter(|t| matches!(t.state, TrialState::Unsafe { .. })).count();
        if broken >= most {
            return Some(format!("stopped: {broken} trials broke a guard-rail; look at them, then start a new study"));
        }
        let pending = suggested.clone().find(|t| t.state == TrialState::Pending)?;
        Some(format!("trial {} is being measured: one change at a time", pending.id))
    }

    /// Whether a change may be made at `now`: not held back, outside every freeze, after the cooldown, and within the
    /// restarts allowed in 24 hours for a change of that cost.
    ///
    /// # Errors
    /// The reason, in words.
    pub fn may_change(
        &self,
        now: Timestamp,
        cost: ChangeCost,
        made: &[AppliedChange],
        freezes: &[TimeRange],
    ) -> Result<(), String> {
        if self.spec().mode == Mode::Observe {
            return Err("the study only observes".to_owned());
        }
        if let Some(because) = self.held_back() {
            return Err(because);
        }
        if freezes.iter().any(|f| f.start <= now && now < f.end) {
            return Err("a freeze is on".to_owned());
        }
        let safety = &self.spec().safety;
        if let Some(last) = made.iter().map(|c| c.at).max()
            && now.ms() - last.ms() < safety.cooldown_ms
        {
            let left = (safety.cooldown_ms - (now.ms() - last.ms())) / 1000;
            return Err(format!("the last change was made less than the cooldown ago: {left} s are left"));
        }
        let today = |c: &&AppliedChange| c.cost == ChangeCost::Restart && now.ms() - c.at.ms() < 86_400_000;
        if cost == ChangeCost::Restart && made.iter().filter(today).count() >= safety.restarts_per_day {
            return Err(format!(
                "{} restarts were made in the last 24 hours: no more are allowed",
                safety.restarts_per_day
            ));
        }
        Ok(())
    }

    /// How the current configuration moved over its repeated measurements; `None` below 4 of them.
    pub fn drift(&self) -> Option<Drift> {
        let key = assignment_key(&self.space().current()?);
        let values: Vec<f64> = self
            .trials()
            .iter()
            .filter(|t| assignment_key(&t.parameters) == key)
            .filter_map(|t| Some(t.usable()?.value))
            .collect();
        if values.len() < 4 {
            return None;
        }
        let (early, late) = values.split_at(values.len() / 2);
        let (a, b) = (stats::mean(early), stats::mean(late));
        let (n, m) = (early.len() as f64, late.len() as f64);
        let df = n + m - 2.0;
        let pooled = ((n - 1.0) * stats::sd(early).powi(2) + (m - 1.0) * stats::sd(late).powi(2)) / df;
        // Few repeats say little of their own spread: a thousandth of the level is the least error believed.
        let se = (pooled * (1.0 / n + 1.0 / m)).sqrt().max(1e-3 * a.abs()).max(1e-300);
        let relative = if a == 0.0 { 0.0 } else { (b - a) / a.abs() };
        Some(Drift { measured: values.len(), relative, p: 2.0 * student_t_cdf(-((b - a) / se).abs(), df) })
    }
}
