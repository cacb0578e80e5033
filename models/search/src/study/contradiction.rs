//! Measurements that the same configuration's others contradict.
//!
//! A run may show what came before it (a queue that is not empty yet, a cache that still is) or what happened beside it. One
//! such run of the current configuration spoils every promise, because all effects are relative to it.

use super::Study;
use crate::trial::TrialState;
use crate::{Mark, Measurement, Trial, assignment_key};
use std::collections::BTreeMap;

/// Positive values contradict when one is more than so many times the other,
const APART: f64 = 2.0;
/// and their difference is more than so many of its standard errors, where those are known.
const ERRORS: f64 = 5.0;

/// Whether two measurements of one configuration cannot both be right. Values of a metric that may be 0 never do.
fn contradict(a: &Measurement, b: &Measurement) -> bool {
    let (low, high) = (a.value.min(b.value), a.value.max(b.value));
    let error = a.se.unwrap_or(0.0).hypot(b.se.unwrap_or(0.0));
    low > 0.0 && high > APART * low && high - low > ERRORS * error
}

/// The usable trials of the configuration of `trial` in the same context, in order. Compared without keys: histories are
/// long.
fn alike<'a>(trials: &'a [Trial], trial: &Trial) -> Vec<(usize, &'a Measurement)> {
    let same = |t: &Trial| t.parameters == trial.parameters && t.context == trial.context;
    trials.iter().enumerate().filter(|(_, t)| same(t)).filter_map(|(i, t)| Some((i, t.usable()?))).collect()
}

/// Of measurements in order the one that the others contradict: between two that agree, or the first before two that do.
fn contradicted(all: &[(usize, &Measurement)]) -> Option<usize> {
    let odd = |x: usize, (a, b): (usize, usize)| {
        let agree = !contradict(all[a].1, all[b].1);
        (agree && contradict(all[x].1, all[a].1) && contradict(all[x].1, all[b].1)).then_some(all[x].0)
    };
    let n = all.len();
    if n < 3 {
        return None;
    }
    odd(n - 2, (n - 3, n - 1)).or_else(|| if n == 3 { odd(0, (1, 2)) } else { None })
}

/// The completed trial to repeat because its configuration gave something wholly different before: which of the two is
/// right, a third measurement says. Not a fourth: what never gives the same twice will not do so then.
pub(crate) fn to_settle(trials: &[Trial]) -> Option<&Trial> {
    let last = trials.last().filter(|t| t.state == TrialState::Completed && t.usable().is_some())?;
    let all = alike(trials, last);
    let [.., before, after] = &all[..] else { return None };
    let thrice = trials.len() >= 3 && all.iter().rev().take(3).map(|a| a.0).eq((trials.len() - 3..trials.len()).rev());
    (contradict(before.1, after.1) && !thrice).then_some(last)
}

impl Study {
    /// Marks what the measurement of trial `id` shows to be wrong.
    pub(super) fn contradict(&mut self, id: u64) {
        let Some(trial) = self.trials.get(id as usize) else { return };
        if let Some(i) = contradicted(&alike(&self.trials, trial)) {
            self.trials[i].marks.push(Mark::Contradicted);
        }
    }

    /// The same for all trials, each by those before it.
    pub(super) fn contradict_all(&mut self) {
        let mut places: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for i in 0..self.trials.len() {
            let this = &self.trials[i];
            let until = places.entry(assignment_key(&this.parameters)).or_default();
            until.push(i);
            let usable = |k: &usize| Some((*k, self.trials[*k].usable()?));
            let same = until.iter().filter(|k| self.trials[**k].context == this.context);
            let all: Vec<(usize, &Measurement)> = same.filter_map(usable).collect();
            if let Some(wrong) = contradicted(&all) {
                self.trials[wrong].marks.push(Mark::Contradicted);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Aggregate, Goal, Objective, ParameterSpec, SpaceSpec, StudySpec};

    fn study() -> Study {
        let space = SpaceSpec(vec![ParameterSpec::int("workers", 1, 64).current(8)]);
        let objective = Objective { metric: "p95".into(), aggregate: Aggregate::Mean, goal: Goal::Min };
        StudySpec { remeasure_every: Some(4), ..StudySpec::new("s", space, objective) }.check().unwrap()
    }

    /// Runs trials of the current configuration with these values and 40 for any other; says which were of the current one,
    /// and which are marked.
    fn run(values: &[f64], trials: usize) -> (Vec<u64>, Vec<u64>) {
        let mut s = study();
        let mut left = values.iter().copied();
        for _ in 0..trials {
            let t = s.ask().unwrap().clone();
            let is_current = t.parameters == s.space().current().unwrap();
            let value = if is_current { left.next().unwrap_or(36.0) } else { 40.0 };
            s.tell(t.id, Measurement::of(value)).unwrap();
        }
        let current = s.space().current().unwrap();
        let of_it = s.trials().iter().filter(|t| t.parameters == current).map(|t| t.id).collect();
        (of_it, s.trials().iter().filter(|t| t.marks == [Mark::Contradicted]).map(|t| t.id).collect())
    }

    #[test]
    fn a_spoiled_run_is_measured_again_and_left_out() {
        assert_eq!(run(&[36.0, 37.0, 36.0], 9), (vec![0, 4, 8], vec![]));
        assert_eq!(run(&[36.0, 200.0, 37.0], 8), (vec![0, 4, 5], vec![4]), "in between");
        assert_eq!(run(&[200.0, 36.0, 37.0], 8), (vec![0, 4, 5], vec![0]), "the first");
        assert_eq!(run(&[36.0, 90.0, 91.0], 8), (vec![0, 4, 5], vec![0]), "a new level is what counts now");
        assert_eq!(run(&[36.0, 35.0, 90.0, 91.0, 90.0], 14), (vec![0, 4, 8, 9, 13], vec![]), "drift is no mistake");
        assert_eq!(run(&[36.0, 90.0, 300.0, 12.0], 8).0, [0, 4, 5, 6], "what never agrees is let go");
    }

    #[test]
    fn what_broke_something_is_not_repeated_to_settle_it() {
        let mut s = study();
        let ask = |s: &mut Study, value: f64| {
            let t = s.ask().unwrap().clone();
            s.tell(t.id, Measurement::of(value)).unwrap();
            t
        };
        (0..4).for_each(|_| drop(ask(&mut s, 36.0)));
        let again = s.ask().unwrap().clone();
        assert!(again.replicate_of.is_some());
        s.mark_unsafe(again.id, "errors", Some(Measurement::of(200.0))).unwrap();
        assert!(to_settle(s.trials()).is_none());
    }

    #[test]
    fn saved_trial_by_trial_it_knows_the_same() {
        let mut s = study();
        let mut kept = Vec::new();
        for value in [36.0, 40.0, 41.0, 42.0, 200.0, 37.0] {
            let t = s.ask().unwrap().clone();
            kept.push(s.tell(t.id, Measurement::of(value)).unwrap().clone());
        }
        assert_eq!(s.trials()[4].marks, [Mark::Contradicted]);
        assert!(kept[4].marks.is_empty(), "told before it was contradicted");
        assert_eq!(Study::restore(s.spec().clone(), kept).unwrap(), s);
    }

    #[test]
    fn errors_and_zeros_are_minded() {
        let m = |v: f64| Measurement::of(v);
        assert!(contradict(&m(36.0), &m(80.0)) && !contradict(&m(36.0), &m(70.0)));
        assert!(!contradict(&m(36.0).with_se(10.0), &m(80.0)), "within its errors");
        assert!(!contradict(&m(0.0), &m(80.0)) && !contradict(&m(-1.0), &m(80.0)));
    }
}
