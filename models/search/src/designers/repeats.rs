//! When a configuration that was measured is worth measuring again.

use crate::acquisition::ln_h;
use crate::noise::NoiseSplit;
use crate::trial::TrialState;
use crate::{Assignment, Trial, assignment_key};
use std::collections::BTreeMap;

/// The share of a budget, at its end, in which trials may be repeats and nothing is doubted: before, what is learned of the
/// space also helps every later trial, which the gain of one step leaves out.
const LAST: f64 = 1.0 / 3.0;

/// What is believed of the configurations measured so far.
pub(super) struct Tried {
    all: Vec<Level>,
    split: NoiseSplit,
}

/// One of them, on the process's own scale.
struct Level {
    /// The trial that measured it first.
    origin: u64,
    parameters: Assignment,
    mean: f64,
    variance: f64,
    /// Mean variance that its measurements declare.
    known: f64,
    /// Whether it may be measured again: no repeat is under way.
    open: bool,
}

impl Tried {
    /// Levels from those of `trials` that completed and broke nothing, their losses `y` and declared variances `known`;
    /// `smooth` is the posterior at a trial, `noise` the variance that the process learned.
    pub(super) fn of(
        trials: &[&Trial],
        (y, known): (&[f64], &[f64]),
        noise: f64,
        smooth: impl Fn(usize) -> (f64, f64),
        pending: &[Assignment],
    ) -> Self {
        let mut places: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (i, t) in trials.iter().enumerate().filter(|(_, t)| t.state == TrialState::Completed) {
            places.entry(assignment_key(&t.parameters)).or_default().push(i);
        }
        let waiting: Vec<String> = pending.iter().map(assignment_key).collect();
        let values: Vec<Vec<f64>> = places.values().map(|p| p.iter().map(|i| y[*i]).collect()).collect();
        let split = NoiseSplit::of(noise, values.iter().map(Vec::as_slice));
        let level = |((key, at), values): ((&String, &Vec<usize>), &Vec<f64>)| {
            let n = at.len() as f64;
            let declared = at.iter().map(|i| known[*i]).sum::<f64>() / n;
            let (mean, variance) = split.level(smooth(at[0]), values.iter().sum::<f64>() / n, n, declared);
            let first = trials[at[0]];
            Level {
                origin: first.replicate_of.unwrap_or(first.id),
                parameters: first.parameters.clone(),
                mean,
                variance,
                known: declared,
                open: !waiting.contains(key),
            }
        };
        Self { all: places.iter().zip(&values).map(level).collect(), split }
    }

    /// Whether the trial after `done` of `budget` belongs to its end.
    pub(super) fn is_late(done: usize, budget: usize) -> bool {
        budget.saturating_sub(done) as f64 <= LAST * budget as f64
    }

    /// The configuration to measure again instead of a new one with posterior `new`, of which it works with probability
    /// `works`: the one whose next measurement is expected to lower the level of the best by more (knowledge gradient:
    /// Frazier, Powell and Dayanik 2008, doi:10.1137/070693424). `None` when the new one is expected to.
    pub(super) fn again(&self, new: (f64, f64), works: f64) -> Option<(u64, &Assignment)> {
        let best_but = |k: usize| {
            self.all.iter().enumerate().filter(|(i, _)| *i != k).map(|(_, l)| l.mean).fold(f64::INFINITY, f64::min)
        };
        let gains = self.all.iter().enumerate().filter(|(_, l)| l.open).map(|(k, l)| {
            let moves = step(l.variance, self.split.chance + l.known);
            (ln_gain((l.mean - best_but(k)).abs(), moves), l)
        });
        let (gain, level) = gains.max_by(|a, b| a.0.total_cmp(&b.0))?;
        let known = self.all.iter().map(|l| l.known).sum::<f64>() / self.all.len() as f64;
        let moves = step(new.1 * new.1 + self.split.rough, self.split.chance + known);
        let of_new = ln_gain(new.0 - best_but(self.all.len()), moves) + works.ln();
        (gain > of_new).then_some((level.origin, &level.parameters))
    }
}

/// Standard deviation of the change in a level of variance `v` by a measurement with error variance `error`.
fn step(v: f64, error: f64) -> f64 {
    if v > 0.0 { v / (v + error).sqrt() } else { 0.0 }
}

/// Logarithm of the expected gain when something that is `behind` the best, or is the best and that far ahead, moves by
/// `step`.
fn ln_gain(behind: f64, step: f64) -> f64 {
    if step > 0.0 && behind.is_finite() { step.ln() + ln_h(-behind / step).0 } else { f64::NEG_INFINITY }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Goal, Measurement, Objective, ParameterSpec, SpaceSpec, StudySpec};

    /// Levels of configurations 0, 1, 2 ... whose losses are `y`, where the process learned `noise`.
    fn tried(y: &[f64], noise: f64, pending: &[usize]) -> Tried {
        let space = SpaceSpec(vec![ParameterSpec::int("k", 0, 99)]);
        let objective = Objective { metric: "y".into(), aggregate: crate::Aggregate::Mean, goal: Goal::Min };
        let mut study = StudySpec::new("s", space, objective).check().unwrap();
        let of = |k: usize| Assignment::from([("k".to_owned(), (k as i64).into())]);
        for (k, v) in y.iter().enumerate() {
            study.add(&of(k), Some(Measurement::of(*v)), BTreeMap::new(), Vec::new()).unwrap();
        }
        let trials: Vec<&Trial> = study.trials().iter().collect();
        let pending: Vec<Assignment> = pending.iter().map(|k| of(*k)).collect();
        Tried::of(&trials, (y, &vec![0.0; y.len()]), noise, |i| (y[i], 0.05), &pending)
    }

    #[test]
    fn close_leaders_are_told_apart_before_hopeless_places_are_tried() {
        let close = tried(&[0.0, 0.05, 2.0], 0.5, &[]);
        let hopeless = (3.0, 0.1);
        assert!(close.again(hopeless, 1.0).is_some_and(|(id, _)| id < 2));
        assert_eq!(close.again((-0.5, 0.6), 1.0), None, "what promises more is tried first");
        assert!(close.again((-0.5, 0.6), 1e-9).is_some(), "unless it would not work");
        assert!(tried(&[0.0, 0.05, 2.0], 0.5, &[0, 1]).again(hopeless, 1.0).is_none_or(|(id, _)| id == 2));
        assert_eq!(tried(&[0.0, 0.05, 2.0], 0.0, &[]).again(hopeless, 1.0), None, "nothing varies: nothing to learn");
    }

    #[test]
    fn only_the_last_third_repeats() {
        assert!(!Tried::is_late(33, 50) && Tried::is_late(34, 50));
    }
}
