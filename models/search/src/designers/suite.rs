//! What every designer must do, run over all of [`DesignerKind::ALL`].

use super::DesignerKind;
use crate::trial::{Measurement, TrialState};
use crate::{
    Aggregate, Assignment, Bound, Goal, GuardRail, Objective, ParameterSpec, SpaceSpec, Study, StudySpec, TrialBudget,
    Value, assignment_key,
};
use foreglow_core::Seed;
use std::collections::{BTreeMap, BTreeSet};

fn objective() -> Objective {
    Objective { metric: "latency".into(), aggregate: Aggregate::P95, goal: Goal::Min }
}

fn mixed() -> SpaceSpec {
    SpaceSpec(vec![
        ParameterSpec::int("workers", 1, 64).log().current(8).max_step(4.0),
        ParameterSpec::float("share", 0.0, 1.0).current(0.5),
        ParameterSpec::categorical("policy", &["fifo", "lifo", "fair"]).current("fifo"),
        ParameterSpec::float("quantum", 0.1, 10.0).log().when("policy", vec!["fair".into()]),
        ParameterSpec::discrete("batch", &[1.0, 8.0, 64.0]).current(8.0),
        ParameterSpec::boolean("compress").current(false),
    ])
}

fn study(space: SpaceSpec, designer: DesignerKind, budget: usize, seed: u64) -> Study {
    StudySpec {
        designer,
        budget: Some(TrialBudget { trials: budget }),
        seed: Seed(seed),
        ..StudySpec::new("s", space, objective())
    }
    .check()
    .unwrap()
}

fn number(a: &Assignment, name: &str) -> f64 {
    a.get(name).and_then(Value::as_number).unwrap_or(1.0)
}

fn latency(a: &Assignment) -> f64 {
    let policy = match &a["policy"] {
        Value::Text(t) if t == "fair" => number(a, "quantum").ln().abs() - 1.0,
        Value::Text(t) if t == "lifo" => 1.0,
        _ => 0.0,
    };
    10.0 + (number(a, "workers") / 20.0).ln().powi(2) + 4.0 * (number(a, "share") - 0.3).powi(2) + policy
}

/// Runs `n` trials; every seventh fails.
fn run(study: &mut Study, n: usize) {
    for _ in 0..n {
        let t = study.ask().unwrap();
        let (id, a) = (t.id, t.parameters.clone());
        if id % 7 == 5 {
            study.fail(id, "did not start").unwrap();
        } else {
            study.tell(id, Measurement::of(latency(&a))).unwrap();
        }
    }
}

#[test]
fn proposals_stay_in_the_space_and_honour_conditions_and_reach() {
    for kind in DesignerKind::ALL {
        let mut s = study(mixed(), kind, 30, 3);
        run(&mut s, 30);
        for t in s.trials() {
            assert_eq!(s.space().canonical(&t.parameters).unwrap(), t.parameters, "{kind}");
            let w = number(&t.parameters, "workers");
            assert!((2.0..=32.0).contains(&w), "{kind}: {w} is beyond the largest step");
            let fair = t.parameters["policy"] == Value::from("fair");
            assert_eq!(t.parameters.contains_key("quantum"), fair, "{kind}");
            assert!(!t.why.is_empty(), "{kind}");
        }
        assert_eq!(Some(&s.trials()[0].parameters), s.space().current().as_ref(), "{kind}: baseline first");
        assert!(s.ask().is_err(), "{kind}: the budget is spent");
    }
}

#[test]
fn same_seed_same_trials_and_other_seed_other_trials() {
    for kind in DesignerKind::ALL {
        let make = |seed| {
            let mut s = study(mixed(), kind, 30, seed);
            run(&mut s, 16);
            s
        };
        assert_eq!(make(3), make(3), "{kind}");
        assert_ne!(make(3).trials(), make(4).trials(), "{kind}");
    }
}

#[test]
fn restoring_gives_the_same_next_suggestion() {
    for kind in DesignerKind::ALL {
        let mut s = study(mixed(), kind, 30, 3);
        for _ in 0..20 {
            run(&mut s, 1);
            let pending = s.suggest("client").unwrap().clone();
            assert_eq!(s.suggest("client").unwrap(), &pending, "{kind}: asking twice");
            let mut restored = Study::from_json(&s.to_json().unwrap()).unwrap();
            assert_eq!(restored, s, "{kind}");
            if s.suggested() < 30 {
                assert_eq!(restored.ask().unwrap(), s.clone().ask().unwrap(), "{kind}");
            }
            let value = Measurement::of(latency(&pending.parameters));
            s.tell(pending.id, value).unwrap();
            if s.suggested() >= 29 {
                break;
            }
        }
    }
}

#[test]
fn small_spaces_are_covered_before_anything_repeats() {
    let small = || {
        SpaceSpec(vec![
            ParameterSpec::int("a", 1, 3),
            ParameterSpec::categorical("b", &["x", "y"]),
            ParameterSpec::int("c", 1, 2).when("b", vec!["x".into()]),
        ])
    };
    for kind in DesignerKind::ALL {
        let mut s = study(small(), kind, 14, 5);
        for _ in 0..14 {
            let t = s.ask().unwrap();
            let (id, v) = (t.id, number(&t.parameters, "a") + number(&t.parameters, "c"));
            s.tell(id, Measurement::of(v)).unwrap();
        }
        let first: BTreeSet<String> = s.trials()[..9].iter().map(|t| assignment_key(&t.parameters)).collect();
        assert_eq!(first.len(), 9, "{kind}: 3 x (2 + 1) configurations");
        for t in &s.trials()[9..] {
            let of = t.replicate_of.unwrap_or_else(|| panic!("{kind}: silent duplicate"));
            assert!(t.why.contains(&format!("replicate of {of}, because")), "{kind}: {}", t.why);
            assert_eq!(s.trials()[of as usize].parameters, t.parameters, "{kind}");
        }
    }
}

#[test]
fn parallel_asks_differ() {
    for kind in DesignerKind::ALL {
        let mut s = study(mixed(), kind, 30, 3);
        run(&mut s, 10);
        let keys: BTreeSet<String> =
            (0..8).map(|i| assignment_key(&s.suggest(&format!("client-{i}")).unwrap().parameters)).collect();
        assert_eq!(keys.len(), 8, "{kind}");
    }
}

fn bowl(kind: DesignerKind, budget: usize, seed: u64) -> f64 {
    let space = SpaceSpec((0..4).map(|i| ParameterSpec::float(&format!("x{i}"), -5.0, 5.0)).collect());
    let mut s = study(space, kind, budget, seed);
    for _ in 0..budget {
        let t = s.ask().unwrap();
        let v = t.parameters.values().map(|v| (v.as_number().unwrap() - 1.7).powi(2)).sum();
        let id = t.id;
        s.tell(id, Measurement::of(v)).unwrap();
    }
    s.best_measured().unwrap().measurement.as_ref().unwrap().value
}

#[test]
fn learners_beat_random_on_a_smooth_function() {
    for (kind, budget, factor) in [
        (DesignerKind::Bayes, 30, 0.02),
        (DesignerKind::Auto, 30, 0.02),
        (DesignerKind::Genetic, 120, 0.3),
        (DesignerKind::Annealing, 120, 0.3),
        (DesignerKind::Nsga2, 120, 0.3),
        (DesignerKind::De, 120, 0.3),
        (DesignerKind::Cmaes, 120, 0.3),
        (DesignerKind::Tpe, 60, 0.3),
    ] {
        let (mut ours, mut random) = (0.0, 0.0);
        for seed in 1..=3 {
            ours += bowl(kind, budget, seed);
            random += bowl(DesignerKind::Random, budget, seed);
        }
        assert!(ours < factor * random, "{kind}: {ours} against random {random}");
    }
}

#[test]
fn bayes_avoids_what_fails() {
    let space = SpaceSpec(vec![ParameterSpec::float("x", 0.0, 1.0), ParameterSpec::float("y", 0.0, 1.0)]);
    let mut s = study(space, DesignerKind::Bayes, 40, 1);
    let mut failed = 0;
    for n in 0..40 {
        let t = s.ask().unwrap();
        let (id, x, y) = (t.id, number(&t.parameters, "x"), number(&t.parameters, "y"));
        // The optimum of what is measured lies at the edge of what fails.
        if x > 0.6 {
            s.fail(id, "out of memory").unwrap();
            failed += usize::from(n >= 15);
        } else {
            s.tell(id, Measurement::of((0.9 - x).powi(2) + (y - 0.2).powi(2))).unwrap();
        }
    }
    assert!(failed <= 12, "{failed} of the last 25 trials failed");
    let best = s.best_measured().unwrap().measurement.as_ref().unwrap().value;
    assert!(best < 0.12, "{best}");
}

#[test]
fn bayes_keeps_within_guard_rails() {
    let space = SpaceSpec(vec![ParameterSpec::float("x", 0.0, 1.0).current(0.1)]);
    let mut s = StudySpec {
        guard_rails: vec![GuardRail::at_most("errors", Bound::TimesBaseline(1.5))],
        designer: DesignerKind::Bayes,
        ..StudySpec::new("s", space, objective())
    }
    .check()
    .unwrap();
    for _ in 0..25 {
        let t = s.ask().unwrap();
        let (id, x) = (t.id, number(&t.parameters, "x"));
        s.tell(id, Measurement::of(1.0 - x).with_metric("errors", 1.0 + x)).unwrap();
    }
    let broken = |t: &&crate::Trial| matches!(t.state, TrialState::Unsafe { .. });
    let late = s.trials()[10..].iter().filter(broken).count();
    assert!(late <= 4, "{late} of the last 15 trials broke the guard-rail");
    let best = s.best_measured().unwrap();
    assert!((0.5..=0.66).contains(&number(&best.parameters, "x")), "{best:?}");
}

#[test]
fn states_and_names_are_guarded() {
    let mut s = study(mixed(), DesignerKind::Random, 5, 1);
    let id = s.ask().unwrap().id;
    let e = s.tell(id, Measurement::of(f64::NAN)).unwrap_err().to_string();
    assert!(e.contains("failed instead"), "{e}");
    s.tell(id, Measurement::of(1.0)).unwrap();
    assert!(s.tell(id, Measurement::of(1.0)).unwrap_err().to_string().contains("already completed"));
    assert!(s.fail(99, "x").unwrap_err().to_string().contains("does not exist"));
    let e = "cmaesx".parse::<DesignerKind>().unwrap_err().to_string();
    assert!(e.contains("auto, grid, random, sobol, genetic, nsga2, de, annealing"), "{e}");
    assert!(Study::from_json(r#"{"version":"9","spec":{},"trials":[]}"#).is_err());
    let mut extra = s.space().current().unwrap();
    extra.insert("wrokers".into(), Value::Int(3));
    assert!(s.add(&extra, None, BTreeMap::new(), vec![]).unwrap_err().to_string().contains("wrokers"));
}

#[test]
fn contract_json_makes_a_study() {
    let text = r#"{"name":"s","entity":{"service":"a"},"parameters":[{"name":"workers","type":"int","low":1,"high":64,
        "log":true,"current":8,"max_step":2.0,"cost":"restart"}],"objective":{"metric":"latency_ms","aggregate":"p95",
        "goal":"min"},"guard_rails":[{"metric":"errors","aggregate":"rate","at_most":"1.2*baseline"}],
        "workload":"requests","designer":"auto","budget":{"trials":40},"mode":"recommend","seed":1}"#;
    let spec: StudySpec = serde_json::from_str(text).unwrap();
    let again: StudySpec = serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
    assert_eq!(spec, again);
    assert_eq!(spec.check().unwrap().ask().unwrap().parameters["workers"], Value::Int(8));
    let late = text.replace("\"auto\"", "\"nsga9\"");
    assert!(serde_json::from_str::<StudySpec>(&late).unwrap_err().to_string().contains("choose one of"));
    let sometimes = text.replace("\"recommend\"", "\"sometimes\"");
    assert!(serde_json::from_str::<StudySpec>(&sometimes).is_err());
}

#[test]
fn bandit_learns_which_arm_suits_which_load_and_logs_propensities() {
    let space = SpaceSpec(vec![ParameterSpec::categorical("policy", &["a", "b", "c"]).current("c")]);
    let mut spec = study(space, DesignerKind::Bandit, 200, 4).spec().clone();
    spec.remeasure_every = Some(0);
    let mut s = spec.check().unwrap();
    let mut rng = Seed(8).rng();
    let mut right = 0;
    for n in 0..160 {
        let load: f64 = rand::Rng::r#gen(&mut rng);
        let t = s.ask_in(BTreeMap::from([("load".to_owned(), Value::Float(load))])).unwrap();
        let (id, policy) = (t.id, t.parameters["policy"].clone());
        if n > 0 {
            assert!(t.propensity.is_some_and(|p| p > 0.0 && p <= 1.0), "{t:?}");
        }
        // a suits low load, b high load, c is never best.
        let y = match &policy {
            Value::Text(p) if p == "a" => load,
            Value::Text(p) if p == "b" => 1.0 - load,
            _ => 0.8,
        };
        let best = if load < 0.5 { "a" } else { "b" };
        right += usize::from(n >= 80 && policy == Value::from(best));
        s.tell(id, Measurement::of(y)).unwrap();
    }
    assert!(right >= 60, "{right} of the last 80 suited the load");
}

#[test]
fn nsga2_spreads_over_the_front() {
    let space = SpaceSpec((0..3).map(|i| ParameterSpec::float(&format!("x{i}"), 0.0, 1.0)).collect());
    let mut s = study(space, DesignerKind::Nsga2, 150, 2).spec().clone();
    s.also = vec![Objective { metric: "cost".into(), aggregate: Aggregate::Mean, goal: Goal::Max }];
    let mut s = s.check().unwrap();
    for _ in 0..150 {
        let t = s.ask().unwrap();
        let id = t.id;
        let (x, rest) = (number(&t.parameters, "x0"), number(&t.parameters, "x1") + number(&t.parameters, "x2"));
        s.tell(id, Measurement::of(x * x + rest).with_metric("cost", -(1.0 - x).powi(2) - rest)).unwrap();
    }
    let front: Vec<f64> = s.pareto().iter().map(|id| number(&s.trials()[*id as usize].parameters, "x0")).collect();
    assert!(front.len() >= 15, "{} on the front", front.len());
    assert!(front.iter().any(|x| *x < 0.25) && front.iter().any(|x| *x > 0.75), "both ends: {front:?}");
    assert!(front.windows(2).all(|w| w[0] <= w[1]), "best in the first objective first");
}
