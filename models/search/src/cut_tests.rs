use super::*;
use crate::{Aggregate, Bound, Goal, ParameterSpec, SpaceSpec, StudySpec};
use foreglow_core::Seed;
use rand::Rng;

const STEP: i64 = 1000;

fn at(k: i64) -> Timestamp {
    Timestamp(1_767_225_600_000 + k * STEP)
}

fn workers(n: i64) -> Assignment {
    Assignment::from([("workers".to_owned(), Value::Int(n))])
}

struct World {
    t: Vec<Timestamp>,
    latency: Vec<f64>,
    errors: Vec<f64>,
    objective: Objective,
    guards: Vec<GuardRail>,
    configurations: Vec<Configuration>,
}

/// Latency 10 under 4 workers and 6 under 8, AR(1) noise of coefficient `a`, a slow transition of 4 steps.
fn world(a: f64) -> World {
    let mut rng = Seed(11).rng();
    let mut e = 0.0;
    let latency = (0..2000)
        .map(|k: i64| {
            e = a * e + rng.gen_range(-0.5..0.5);
            let settle = if (1000..1004).contains(&k) { 50.0 } else { 0.0 };
            e + settle + if k < 1000 { 10.0 } else { 6.0 }
        })
        .collect();
    World {
        t: (0..2000).map(at).collect(),
        latency,
        errors: (0..2000).map(|k| f64::from(i32::from(k % 4 == 0))).collect(),
        objective: Objective { metric: "latency".into(), aggregate: Aggregate::Mean, goal: Goal::Min },
        guards: vec![GuardRail { aggregate: Aggregate::Rate, ..GuardRail::at_most("errors", Bound::Absolute(1.0)) }],
        configurations: vec![
            Configuration { since: at(0), parameters: workers(4) },
            Configuration { since: at(1000), parameters: workers(8) },
        ],
    }
}

impl World {
    fn input(&self) -> CutInput<'_> {
        let series = |values| MetricSeries { timestamps: &self.t, values };
        CutInput {
            configurations: &self.configurations,
            metrics: BTreeMap::from([("latency", series(&self.latency)), ("errors", series(&self.errors))]),
            step: Step::from_ms(STEP).unwrap(),
            also: &[],
            objective: &self.objective,
            guard_rails: &self.guards,
            workload: Some("errors"),
            incidents: &[],
            other_changes: &[],
            until: at(2000),
            newest: false,
        }
    }
}

#[test]
fn values_errors_and_stretches() {
    let w = world(0.5);
    let trials = cut(&w.input()).unwrap();
    assert_eq!(trials.len(), 2);
    for (t, truth) in trials.iter().zip([10.0, 6.0]) {
        let m = t.measurement.as_ref().unwrap();
        let se = m.se.unwrap();
        assert!((m.value - truth).abs() < 4.0 * se && se < 0.1, "{m:?}");
        assert_eq!(m.replicates, 20);
        assert!(t.marks.is_empty() && t.finished);
        assert!((m.metrics["errors"].value - 0.25).abs() < 0.05, "events per second");
        assert!(t.context.contains_key("workload"));
        assert!((1.5..5.0).contains(&t.autocorrelation_time));
    }
    assert!(trials[1].range.0 >= at(1005), "the transition is trimmed");
}

#[test]
fn the_newest_blocks_of_a_long_stretch() {
    let w = world(0.5);
    let incidents = [TimeRange { start: at(100), end: at(120) }];
    let [first, last] =
        [false, true].map(|newest| cut(&CutInput { incidents: &incidents, newest, ..w.input() }).unwrap().remove(0));
    assert!(last.range.1 == at(1000) && last.range.0 > at(500) && first.range.0 < at(100), "{:?}", last.range);
    let blocks = |t: &CutTrial| t.measurement.as_ref().unwrap().replicates;
    assert_eq!((blocks(&first), blocks(&last), last.whole_steps() >= 105), (20, 20, true));
    assert_eq!((first.marks, last.marks), (vec![Mark::Incident], vec![]));
}

#[test]
fn slow_metrics_need_longer_stretches() {
    let w = world(0.98);
    let trials = cut(&w.input()).unwrap();
    let m = trials[0].measurement.as_ref();
    assert!(m.is_none_or(|m| m.replicates < 20));
    assert!(trials[0].autocorrelation_time > 20.0);
}

#[test]
fn trouble_is_marked_and_kept_out() {
    let w = world(0.3);
    let incidents = [TimeRange { start: at(1010), end: at(1020) }];
    let changes = [at(30)];
    let mut input = CutInput { incidents: &incidents, other_changes: &changes, ..w.input() };
    let trials = cut(&input).unwrap();
    assert_eq!(trials[0].marks, vec![Mark::TwoChanges]);
    assert_eq!(trials[1].marks, vec![Mark::Incident]);
    // What opened while the second configuration settled is its own doing.
    let own = [TimeRange { start: at(1002), end: at(1300) }];
    assert!(cut(&CutInput { incidents: &own, ..w.input() }).unwrap().iter().all(|t| t.marks.is_empty()));
    // What the first one did is no doing of the second.
    let other = [TimeRange { start: at(2), end: at(1020) }];
    let trials = cut(&CutInput { incidents: &other, ..w.input() }).unwrap();
    assert!(trials[0].marks.is_empty() && trials[1].marks == [Mark::Incident]);
    input.until = at(1012);
    let trials = cut(&input).unwrap();
    assert_eq!(trials[1].marks[0], Mark::TooShort);
    assert!(!trials[1].finished);

    let space = SpaceSpec(vec![ParameterSpec::int("workers", 1, 64)]);
    let mut s = StudySpec::new("s", space, w.objective.clone()).check().unwrap();
    assert_eq!(s.add_cut(&trials).unwrap(), 1);
    assert!(s.trials()[0].usable().is_none());
    assert!(s.add_cut(&cut(&w.input()).unwrap()).unwrap() == 2 && s.view().losses().len() == 2);
}

#[test]
fn bad_input_is_named() {
    let w = world(0.3);
    let mut input = w.input();
    input.metrics.remove("latency");
    assert!(cut(&input).unwrap_err().to_string().contains("`latency` has no series"));
    let (mut w, mut swapped) = (world(0.3), world(0.3));
    swapped.configurations.swap(0, 1);
    assert!(cut(&swapped.input()).unwrap_err().to_string().contains("configuration 1"));
    w.latency.pop();
    assert!(cut(&w.input()).unwrap_err().to_string().contains("2000 timestamps and 1999 values"));
}
