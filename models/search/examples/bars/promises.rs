//! Whether the tuner holds what it promises.

use crate::cpu_ms;
use crate::tables::{read_columns, read_table};
use foreglow_core::Seed;
use foreglow_core::stats::{mean, median};
use foreglow_search::backtest::{BacktestSpec, Table, replay_transfer};
use foreglow_search::{
    Advice, AdviceOptions, Aggregate, Assignment, Bound, DesignerKind, Goal, GuardRail, Measurement, Mode, Objective,
    ParameterSpec, SafetySpec, SpaceSpec, StudySpec, Trial, TrialState, Value, assignment_key,
};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};
use std::collections::BTreeMap;
use std::error::Error;

/// Regret at 20 trials in each x264 environment, alone and with 100 random rows of the other three.
pub(crate) fn transfer(seeds: u64) -> Result<(), Box<dyn Error>> {
    let files = ["x264_env0", "x264_env3", "x264_env10", "x264_env18"];
    let tables: Vec<Table> =
        files.iter().map(|f| read_table(&format!("{f}.csv"), Goal::Min, "")).collect::<Result<_, _>>()?;
    for (i, here) in tables.iter().enumerate() {
        let others: Vec<(&str, &Table)> =
            (0..tables.len()).filter(|j| *j != i).map(|j| (files[j], &tables[j])).collect();
        let regret = |sources: &[(&str, &Table)]| -> Result<f64, Box<dyn Error>> {
            let mut all = Vec::new();
            for seed in 0..seeds {
                let spec = BacktestSpec { designer: DesignerKind::Auto, budget: 20, seed: Seed(seed), noise: 0.0 };
                let run = replay_transfer(here, sources, 100, &spec, &mut cpu_ms)?;
                all.push(run.last().map_or(f64::NAN, |t| t.regret));
            }
            Ok(median(&all))
        };
        println!(
            "{}: regret at 20 trials, median of {seeds}: alone {:.4}, with history of the other three {:.4}",
            files[i],
            regret(&[])?,
            regret(&others)?
        );
    }
    Ok(())
}

/// The parameter columns of a table by configuration, and the values of each objective.
struct Lookup {
    table: Table,
    rows: Vec<Assignment>,
    place: BTreeMap<String, usize>,
    objective: Vec<f64>,
}

fn lookup(file: &str, goal: Goal, objective: &str) -> Result<Lookup, Box<dyn Error>> {
    let table = read_table(file, goal, objective)?;
    let (names, columns, all, every) = read_columns(file, objective)?;
    let target = every.iter().position(|n| *n == objective).unwrap_or(every.len() - 1);
    let rows = (0..all[target].len())
        .map(|r| {
            let cells = names.iter().zip(&columns).filter(|(n, _)| table.space().get(n).is_some());
            let a: Assignment = cells
                .map(|(n, c)| {
                    let switch =
                        table.space().get(n).is_some_and(|p| p.spec().kind == foreglow_search::ParameterKind::Bool);
                    (n.clone(), if switch { Value::Bool(c[r] == 1.0) } else { Value::Float(c[r]) })
                })
                .collect();
            table.space().canonical(&a)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let place = rows.iter().enumerate().map(|(i, a)| (assignment_key(a), i)).collect();
    Ok(Lookup { table, rows, place, objective: all[target].clone() })
}

/// The space of a table with what runs now.
fn running(l: &Lookup, row: usize, max_step: Option<f64>) -> SpaceSpec {
    let mut spec: SpaceSpec = l.table.space().clone().into();
    for p in &mut spec.0 {
        p.current = l.rows[row].get(&p.name).cloned();
        p.max_step = max_step;
    }
    spec
}

/// Recommendations after 50 noisy trials from random starts: what was promised against what is true.
pub(crate) fn promises(noise: f64, seeds: u64) -> Result<(), Box<dyn Error>> {
    let tables = [
        ("storm_wc.csv", Goal::Max, "Throughput+"),
        ("storm_wc.csv", Goal::Min, "Latency-"),
        ("llvm.csv", Goal::Min, "PERF-"),
    ];
    let (mut all_bias, mut all_held, mut all_given) = (Vec::new(), 0, 0);
    for (file, goal, metric) in tables {
        let l = lookup(file, goal, metric)?;
        let (mut bias, mut held, mut none) = (Vec::new(), 0, 0);
        for seed in 0..seeds {
            let mut rng = Seed(seed).child("start").rng();
            let start = rng.gen_range(0..l.rows.len());
            let objective = Objective { metric: metric.to_owned(), aggregate: Aggregate::Mean, goal };
            let mut study =
                StudySpec { seed: Seed(seed), ..StudySpec::new("promise", running(&l, start, None), objective) }
                    .check()?;
            for _ in 0..50 {
                let trial = study.ask()?;
                let (id, row) = (trial.id, l.place[&assignment_key(&trial.parameters)]);
                let z: f64 = StandardNormal.sample(&mut rng);
                study.tell(id, Measurement::of(l.objective[row] * (1.0 + noise * z)))?;
            }
            match study.recommend(&AdviceOptions::default()) {
                Advice::Change(r) => {
                    let to = l.objective[l.place[&assignment_key(&r.parameters)]];
                    let real = to / l.objective[start] - 1.0;
                    let e = r.effect[0].relative;
                    bias.push((1.0 + e.mean) / (1.0 + real) - 1.0);
                    held += usize::from(e.i80[0] <= real && real <= e.i80[1]);
                }
                Advice::None { .. } => none += 1,
            }
        }
        println!(
            "{file} {metric}, noise {noise}: {} recommendations ({none} times none), promised / real: mean {:+.3}, median {:+.3}; \
             80 % intervals held {:.2}",
            bias.len(),
            mean(&bias),
            median(&bias),
            held as f64 / bias.len().max(1) as f64
        );
        all_given += bias.len();
        all_held += held;
        all_bias.extend(bias);
    }
    println!(
        "all, noise {noise}: mean {:+.3}, median {:+.3}; 80 % intervals held {:.2} of {all_given}",
        mean(&all_bias),
        median(&all_bias),
        f64::from(all_held as u32) / all_given as f64
    );
    Ok(())
}

/// Unsafe trials in canary mode on storm_wc: throughput up, latency at most 1.2 times the baseline, 20 trials a run.
pub(crate) fn canary(runs: u64, confidence: f64) -> Result<(), Box<dyn Error>> {
    let throughput = lookup("storm_wc.csv", Goal::Max, "Throughput+")?;
    let latency = lookup("storm_wc.csv", Goal::Min, "Latency-")?;
    let (mut broken, mut trials, mut gains, mut with_any) = (0, 0, Vec::new(), 0);
    for seed in 0..runs {
        let start = Seed(seed).child("start").rng().gen_range(0..throughput.rows.len());
        let objective = Objective { metric: "throughput".to_owned(), aggregate: Aggregate::Mean, goal: Goal::Max };
        let mut study = StudySpec {
            mode: Mode::Canary,
            guard_rails: vec![GuardRail::at_most("latency", Bound::TimesBaseline(1.2))],
            seed: Seed(seed),
            safety: SafetySpec { confidence, ..SafetySpec::default() },
            ..StudySpec::new("canary", running(&throughput, start, Some(10.0)), objective)
        }
        .check()?;
        for _ in 0..20 {
            let Ok(trial) = study.ask() else { break };
            let (id, row) = (trial.id, throughput.place[&assignment_key(&trial.parameters)]);
            let m = Measurement::of(throughput.objective[row]).with_metric("latency", latency.objective[row]);
            study.tell(id, m)?;
        }
        let unsafe_here = study.trials().iter().filter(|t| matches!(t.state, TrialState::Unsafe { .. })).count();
        broken += unsafe_here;
        with_any += usize::from(unsafe_here > 0);
        trials += study.trials().len();
        let best = study.best_measured().and_then(Trial::usable).map_or(0.0, |m| m.value);
        gains.push(best / throughput.objective[start] - 1.0);
    }
    println!(
        "canary at {confidence}, {runs} runs: {broken} of {trials} trials unsafe ({:.2} %), {with_any} runs with any; median gain {:+.1} %",
        100.0 * broken as f64 / trials as f64,
        100.0 * median(&gains)
    );
    Ok(())
}

/// A suggestion after 20,000 trials in 20 dimensions, per designer.
pub(crate) fn long() -> Result<(), Box<dyn Error>> {
    let space = SpaceSpec((0..20).map(|i| ParameterSpec::float(&format!("x{i}"), 0.0, 1.0)).collect());
    for designer in DesignerKind::ALL {
        let objective = Objective { metric: "y".to_owned(), aggregate: Aggregate::Mean, goal: Goal::Min };
        let mut study = StudySpec { designer, ..StudySpec::new("long", space.clone(), objective) }.check()?;
        let mut rng = Seed(1).rng();
        for _ in 0..20_000 {
            let a: Assignment = (0..20).map(|i| (format!("x{i}"), Value::Float(rng.r#gen()))).collect();
            let y: f64 = a.values().filter_map(Value::as_number).map(|v| (v - 0.3).powi(2)).sum();
            study.add(&a, Some(Measurement::of(y)), BTreeMap::new(), Vec::new())?;
        }
        let before = cpu_ms();
        let asked = study.ask().map(|t| t.why.clone());
        println!("{designer}: {:.0} ms ({})", cpu_ms() - before, asked.unwrap_or_else(|e| e.to_string()));
    }
    Ok(())
}
