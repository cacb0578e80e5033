use super::{AppliedChange, Mode, SafetySpec, StudySpec, TrialBudget};
use crate::context::Context;
use crate::trial::{Measurement, TrialState};
use crate::{
    Advice, AdviceOptions, Aggregate, Assignment, Bound, ChangeCost, DesignerKind, Goal, GuardRail, Objective,
    ParameterSpec, SpaceSpec, Study,
};
use foreglow_core::{Seed, TimeRange, Timestamp};
use proptest::prelude::*;

fn spec() -> StudySpec {
    let space = SpaceSpec(vec![
        ParameterSpec::int("workers", 1, 64).log().current(8),
        ParameterSpec::float("share", 0.0, 1.0).current(0.5),
        ParameterSpec::discrete("batch", &[1.0, 8.0, 64.0]).current(8.0),
    ]);
    let objective = Objective { metric: "throughput".into(), aggregate: Aggregate::Mean, goal: Goal::Max };
    StudySpec {
        mode: Mode::Canary,
        guard_rails: vec![GuardRail::at_most("latency", Bound::TimesBaseline(1.2))],
        ..StudySpec::new("s", space, objective)
    }
}

/// Throughput and latency both rise with workers and batch.
fn run(a: &Assignment) -> Measurement {
    let n = |k: &str| a[k].as_number().unwrap();
    let throughput = 100.0 * n("workers").ln() + 10.0 * n("batch").ln() - 80.0 * (n("share") - 0.4).powi(2);
    let latency = 5.0 + 0.1 * n("workers") + 0.02 * n("batch") + n("share");
    Measurement::of(throughput).with_metric("latency", latency)
}

#[test]
fn canary_keeps_the_guard_rail_and_still_gains() {
    let (mut broken, mut trials, mut gained) = (0, 0, 0);
    for seed in 0..6 {
        let mut s = StudySpec { seed: Seed(seed), ..spec() }.check().unwrap();
        for _ in 0..25 {
            let Ok(t) = s.ask() else { break };
            let (id, m) = (t.id, run(&t.parameters));
            s.tell(id, m).unwrap();
            trials += 1;
        }
        broken += s.trials().iter().filter(|t| matches!(t.state, TrialState::Unsafe { .. })).count();
        let value = |t: &crate::Trial| t.usable().map_or(0.0, |m| m.value);
        gained += usize::from(value(s.best_measured().unwrap()) > 1.05 * value(&s.trials()[0]));
    }
    assert!(broken * 20 <= trials, "{broken} of {trials} trials broke the guard-rail");
    assert!(gained >= 4, "{gained} of 6 studies gained");
}

/// What a large host bears says nothing about a small one.
#[test]
fn canary_does_not_learn_safety_elsewhere() {
    let host = |name: &str| Context::from([("host".into(), name.into())]);
    let (mut broken, mut trials) = (0, 0);
    for seed in 0..6 {
        let mut s = StudySpec { seed: Seed(seed), ..spec() }.check().unwrap();
        for workers in 1..=32 {
            let a = [("workers", 2.0 * f64::from(workers)), ("share", 0.5), ("batch", 8.0)];
            let a: Assignment = a.map(|(k, v)| (k.to_owned(), v.into())).into();
            let m = Measurement::of(run(&a).value).with_metric("latency", 5.0);
            s.add(&a, Some(m), host("large"), vec![]).unwrap();
        }
        for _ in 0..12 {
            let Ok(t) = s.ask_in(host("small")) else { break };
            let (id, m) = (t.id, run(&t.parameters));
            s.tell(id, m).unwrap();
            trials += 1;
        }
        broken += s.trials().iter().filter(|t| matches!(t.state, TrialState::Unsafe { .. })).count();
    }
    assert!(broken * 20 <= trials && trials > 60, "{broken} of {trials} trials broke the guard-rail");
}

#[test]
fn careful_modes_stop_and_keep_one_change_in_flight() {
    let mut s = spec().check().unwrap();
    let id = s.ask().unwrap().id;
    assert!(s.ask().unwrap_err().to_string().contains("one change at a time"));
    s.tell(id, run(&s.space().current().unwrap())).unwrap();
    for _ in 0..3 {
        let id = s.ask().unwrap().id;
        s.mark_unsafe(id, "errors", None).unwrap();
    }
    assert!(s.ask().unwrap_err().to_string().contains("3 trials broke a guard-rail"));
    let no_guard = StudySpec { guard_rails: vec![], ..spec() };
    assert!(no_guard.check().unwrap_err().to_string().contains("guard_rails"));
    let bad = StudySpec { safety: SafetySpec { confidence: 1.5, ..SafetySpec::default() }, ..spec() };
    assert!(bad.check().unwrap_err().to_string().contains("confidence"));
}

#[test]
fn changes_wait_for_cooldown_freeze_and_restarts() {
    let s = spec().check().unwrap();
    let at = |minute: i64| Timestamp(1_767_225_600_000 + minute * 60_000);
    let change = |minute, cost| AppliedChange { at: at(minute), cost };
    assert!(s.may_change(at(0), ChangeCost::Restart, &[], &[]).is_ok());
    let early = s.may_change(at(5), ChangeCost::None, &[change(0, ChangeCost::None)], &[]).unwrap_err();
    assert!(early.contains("300 s are left"), "{early}");
    let freeze = [TimeRange { start: at(0), end: at(60) }];
    assert!(s.may_change(at(5), ChangeCost::None, &[], &freeze).unwrap_err().contains("freeze"));
    assert!(s.may_change(at(60), ChangeCost::None, &[], &freeze).is_ok());
    let made: Vec<AppliedChange> = (0..4).map(|k| change(20 * k, ChangeCost::Restart)).collect();
    assert!(s.may_change(at(200), ChangeCost::Restart, &made, &[]).unwrap_err().contains("restarts"));
    assert!(s.may_change(at(200), ChangeCost::Reload, &made, &[]).is_ok());
    assert!(s.may_change(at(1440 + 61), ChangeCost::Restart, &made, &[]).is_ok(), "a day later");
}

#[test]
fn the_current_configuration_is_measured_again_and_drift_is_seen() {
    let mut s = StudySpec { mode: Mode::Recommend, guard_rails: vec![], designer: DesignerKind::Random, ..spec() }
        .check()
        .unwrap();
    for k in 0..60 {
        let t = s.ask().unwrap();
        let id = t.id;
        let drift = if k >= 30 { 1.3 } else { 1.0 };
        let m = run(&t.parameters);
        s.tell(id, Measurement::of(drift * m.value)).unwrap();
    }
    let again: Vec<u64> = s.trials().iter().filter(|t| t.replicate_of == Some(0)).map(|t| t.id).collect();
    assert_eq!(again, [10, 20, 30, 40, 50].map(|k| k + again[0] - 10), "every 10 trials: {again:?}");
    assert!(s.trials()[again[0] as usize].why.contains("to see drift"));
    let d = s.drift().unwrap();
    assert!(d.is_real() && (d.relative - 0.3).abs() < 0.01, "{d:?}");
    let off = StudySpec { remeasure_every: Some(0), mode: Mode::Recommend, ..spec() };
    let mut off = off.check().unwrap();
    for _ in 0..15 {
        let t = off.ask().unwrap();
        let (id, m) = (t.id, run(&t.parameters));
        off.tell(id, m).unwrap();
    }
    assert!(off.trials().iter().all(|t| t.replicate_of.is_none()));
}

#[test]
fn a_killed_study_goes_on_as_if_nothing_had_happened() {
    // After every single trial the process is "killed": only what was saved survives, a pending trial included.
    for kind in DesignerKind::ALL {
        let base = StudySpec { mode: Mode::Recommend, designer: kind, budget: None, ..spec() };
        let mut steady = base.clone().check().unwrap();
        let mut saved = base.check().unwrap().to_json().unwrap();
        for k in 0..14 {
            let (id, a) = {
                let t = steady.suggest("bench").unwrap();
                (t.id, t.parameters.clone())
            };
            let mut restored = Study::from_json(&saved).unwrap();
            assert_eq!(restored.suggest("bench").unwrap().parameters, a, "{kind}: trial {k}");
            // Killed between the suggestion and its result: the same client gets the same trial again.
            let mut again = Study::from_json(&restored.to_json().unwrap()).unwrap();
            assert_eq!(again.suggest("bench").unwrap().id, id, "{kind}");
            steady.tell(id, run(&a)).unwrap();
            again.tell(id, run(&a)).unwrap();
            saved = again.to_json().unwrap();
        }
        assert_eq!(Study::from_json(&saved).unwrap(), steady, "{kind}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Trials kept as lines of text, and a study restored from the first few of them at any moment: the next suggestion,
    /// prediction and words included, is that of the study that never stopped.
    #[test]
    fn a_restored_study_goes_on_as_if_it_had_never_stopped(
        kind in 0..DesignerKind::ALL.len(),
        seed in 0..1000u64,
        cut in 0..16usize,
        failing in 2..9usize,
    ) {
        let kind = DesignerKind::ALL[kind];
        let budget = Some(TrialBudget { trials: 18 });
        let spec = StudySpec { mode: Mode::Recommend, designer: kind, seed: Seed(seed), budget, ..spec() };
        let mut whole = spec.clone().check().unwrap();
        let mut lines = Vec::new();
        let mut next = Vec::new();
        for n in 0..=cut {
            let t = whole.ask().unwrap().clone();
            next.push(t.clone());
            let told = if n > 0 && n % failing == 0 {
                whole.fail(t.id, "it crashed").unwrap()
            } else {
                let m = run(&t.parameters);
                let value = m.value + (seed as f64 + 3.7 * n as f64).sin();
                whole.tell(t.id, Measurement { value, ..m }.with_se(0.1 / 3.0)).unwrap()
            };
            lines.push(serde_json::to_string(told).unwrap());
        }
        let trials = lines[..cut].iter().map(|l| serde_json::from_str(l).unwrap()).collect();
        let mut restored = Study::restore(spec, trials).unwrap();
        prop_assert_eq!(restored.ask().unwrap(), &next[cut]);
    }
}

/// Somebody says that it was unsafe, and no guard-rail tells why: the place is kept away from, and never recommended.
#[test]
fn what_was_told_unsafe_is_kept_away_from() {
    let space = SpaceSpec(vec![
        ParameterSpec::float("x", 0.0, 1.0).current(0.3),
        ParameterSpec::float("z", 0.0, 1.0).current(0.5),
    ]);
    let objective = Objective { metric: "y".into(), aggregate: Aggregate::Mean, goal: Goal::Min };
    let mut study = StudySpec::new("s", space, objective);
    study.budget = Some(TrialBudget { trials: 40 });
    let mut study = study.check().unwrap();
    let mut broken: Vec<f64> = Vec::new();
    while let Ok(t) = study.ask() {
        let (id, x, z) = (t.id, t.parameters["x"].as_number().unwrap(), t.parameters["z"].as_number().unwrap());
        let m = Measurement::of(10.0 - 5.0 * x - z);
        broken.push(x);
        if x > 0.7 {
            study.mark_unsafe(id, "paged", Some(m)).unwrap()
        } else {
            study.tell(id, m).unwrap()
        };
    }
    // The best lies right at the edge, so that is where it looks, and hardly behind it.
    assert!(broken[20..].iter().filter(|x| **x > 0.8).count() <= 2, "{broken:?}");
    assert!(broken[20..].iter().filter(|x| **x > 0.7).count() <= 12, "{broken:?}");
    let Advice::Change(r) = study.recommend(&AdviceOptions::default()) else { panic!("something is better") };
    let x = r.parameters["x"].as_number().unwrap();
    assert!((0.5..0.75).contains(&x), "{r:?}");
}

/// A trial that was stopped says nothing of its configuration, and the configuration may come again.
#[test]
fn a_stopped_trial_teaches_nothing() {
    let space = SpaceSpec(vec![ParameterSpec::int("w", 1, 4).current(1)]);
    let objective = Objective { metric: "y".into(), aggregate: Aggregate::Mean, goal: Goal::Min };
    let mut study = StudySpec::new("s", space, objective).check().unwrap();
    let mut measured = std::collections::BTreeSet::new();
    for k in 0..12 {
        let t = study.ask().unwrap();
        let (id, w) = (t.id, t.parameters["w"].as_number().unwrap());
        if k % 2 == 1 {
            assert!(!study.stop_trial(id, "redeployed").unwrap().went_wrong());
        } else {
            measured.insert(w as i64);
            study.tell(id, Measurement::of(w)).unwrap();
        }
    }
    assert_eq!(measured.len(), 4, "{measured:?}");
}
