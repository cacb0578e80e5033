//! Replays a designer against a table of measured configurations, or against a function.
//!
//! Regret is `(best found - best in table) / (median of table - best in table)`: 0 is the optimum, 1 a median
//! configuration. The clock is a function that the caller passes in, so that the replay itself stays pure.

use crate::trial::Measurement;
use crate::{
    Assignment, Context, DesignerKind, Goal, Objective, SearchError, SearchSpace, Study, StudySpec, TrialBudget, Value,
};
use foreglow_core::Seed;
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub mod bbob;
mod table;

pub use table::Table;

/// What to replay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BacktestSpec {
    /// Who proposes.
    pub designer: DesignerKind,
    /// How many trials.
    pub budget: usize,
    /// The seed of designer and noise.
    pub seed: Seed,
    /// Standard deviation of multiplicative measurement noise: 0.1 is 10 %. Default 0.
    pub noise: f64,
}

/// One trial of a replay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BacktestTrial {
    /// Its number, from 1.
    pub n: usize,
    /// The configuration that was evaluated.
    pub parameters: Assignment,
    /// Its true value, in the table's unit.
    pub value: f64,
    /// The best true value so far; under noise the true value of the configuration with the best posterior or, lacking a
    /// model, the best measured one.
    pub best: f64,
    /// Regret of `best`.
    pub regret: f64,
    /// Milliseconds of the caller's clock that the suggestion took.
    pub suggest_ms: f64,
}

/// Replays a designer against a table: each proposal is measured at the nearest row not yet evaluated.
///
/// `clock` gives milliseconds; pass `|| 0.0` where times do not matter.
pub fn replay_table(
    table: &Table,
    spec: &BacktestSpec,
    clock: &mut dyn FnMut() -> f64,
) -> Result<Vec<BacktestTrial>, SearchError> {
    let study = study(&table.space, table.goal, spec)?;
    replay(study, &Context::new(), spec, clock, (table.len(), measured(table)), |v| table.regret(v))
}

/// Replays a designer against a table whose space other tables share, after `per_source` random rows of each of those:
/// what was learned in other environments (named by the context `environment`) may help here, and must not hurt.
///
/// # Errors
/// A source's space is not the target's, or as [`replay_table`].
pub fn replay_transfer(
    table: &Table,
    sources: &[(&str, &Table)],
    per_source: usize,
    spec: &BacktestSpec,
    clock: &mut dyn FnMut() -> f64,
) -> Result<Vec<BacktestTrial>, SearchError> {
    let mut study = study(&table.space, table.goal, spec)?;
    let context = |name: &str| Context::from([("environment".to_owned(), Value::from(name))]);
    for (name, source) in sources {
        let mut rng = spec.seed.child("source").child(name).rng();
        for _ in 0..per_source {
            let row = rng.gen_range(0..source.len());
            let measurement = Measurement::of(source.values[row]);
            study.add(&source.rows[row], Some(measurement), context(name), Vec::new())?;
        }
    }
    replay(study, &context("here"), spec, clock, (table.len(), measured(table)), |v| table.regret(v))
}

/// The nearest row not yet used, and its value.
fn measured(table: &Table) -> impl FnMut(&Assignment) -> Option<(Assignment, f64)> + '_ {
    let mut used = vec![false; table.len()];
    move |a: &Assignment| {
        let row = table.nearest(a, &used)?;
        used[row] = true;
        Some((table.rows[row].clone(), table.values[row]))
    }
}

/// Replays a designer against a function to be made small; `reference` is its smallest value and the median of random
/// configurations, which scale the regret.
pub fn replay_function(
    space: &SearchSpace,
    f: &dyn Fn(&Assignment) -> f64,
    reference: (f64, f64),
    spec: &BacktestSpec,
    clock: &mut dyn FnMut() -> f64,
) -> Result<Vec<BacktestTrial>, SearchError> {
    let regret = |v: f64| (v - reference.0) / (reference.1 - reference.0);
    let study = study(space, Goal::Min, spec)?;
    replay(study, &Context::new(), spec, clock, (usize::MAX, |a: &Assignment| Some((a.clone(), f(a)))), regret)
}

fn study(space: &SearchSpace, goal: Goal, spec: &BacktestSpec) -> Result<Study, SearchError> {
    if !(spec.noise.is_finite() && spec.noise >= 0.0) {
        return Err(SearchError::Study { field: "noise", problem: format!("is {}: give 0 or above", spec.noise) });
    }
    let objective = Objective { metric: "value".to_owned(), aggregate: crate::Aggregate::Mean, goal };
    StudySpec {
        designer: spec.designer,
        budget: Some(TrialBudget { trials: spec.budget }),
        seed: spec.seed,
        ..StudySpec::new("backtest", space.clone().into(), objective)
    }
    .check()
}

fn replay(
    mut study: Study,
    context: &Context,
    spec: &BacktestSpec,
    clock: &mut dyn FnMut() -> f64,
    (rows, mut measure): (usize, impl FnMut(&Assignment) -> Option<(Assignment, f64)>),
    regret: impl Fn(f64) -> f64,
) -> Result<Vec<BacktestTrial>, SearchError> {
    let goal = study.spec().objective.goal;
    let mut truth: BTreeMap<u64, f64> = BTreeMap::new();
    let mut out = Vec::with_capacity(spec.budget);
    let mut seen = 0;
    for n in 1..=spec.budget {
        if seen == rows {
            break;
        }
        let before = clock();
        let trial = if context.is_empty() { study.ask()? } else { study.ask_in(context.clone())? };
        let suggest_ms = clock() - before;
        let (id, asked) = (trial.id, trial.parameters.clone());
        let again = trial.replicate_of.and_then(|origin| truth.get(&origin)).map(|v| (asked.clone(), *v));
        seen += usize::from(again.is_none());
        let Some((applied, value)) = again.or_else(|| measure(&asked)) else { break };
        let mut rng = spec.seed.child("noise").nth(n as u64).rng();
        let z: f64 = StandardNormal.sample(&mut rng);
        study.tell_applied(id, &applied, Measurement::of(value * (1.0 + spec.noise * z)))?;
        truth.insert(id, value);
        let best = if spec.noise > 0.0 {
            study.best_by_posterior().and_then(|(id, _)| truth.get(&id).copied()).unwrap_or(value)
        } else {
            truth.values().map(|v| goal.sign() * v).fold(f64::INFINITY, f64::min) * goal.sign()
        };
        out.push(BacktestTrial { n, parameters: applied, value, best, regret: regret(best), suggest_ms });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ParameterSpec, SpaceSpec};

    type Named<'a> = (&'a str, &'a dyn Fn(&Assignment) -> f64);

    fn column(text: &str, name: &str) -> Vec<f64> {
        let mut lines = text.lines();
        let at = lines.next().unwrap().split(',').position(|c| c == name).unwrap();
        lines.map(|l| l.split(',').nth(at).unwrap().parse().unwrap()).collect()
    }

    fn table(file: &str, goal: Goal, objective: &str, skip: &[&str]) -> Option<Table> {
        let path = format!("{}/../../../shared/data/tuning/{file}", env!("CARGO_MANIFEST_DIR"));
        let Ok(text) = std::fs::read_to_string(&path) else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{path} is missing");
            eprintln!("skipped: {path} is not here");
            return None;
        };
        let names: Vec<String> = text
            .lines()
            .next()
            .unwrap()
            .split(',')
            .filter(|c| *c != objective && !skip.contains(c))
            .map(str::to_owned)
            .collect();
        let columns: Vec<Vec<f64>> = names.iter().map(|n| column(&text, n)).collect();
        Some(Table::new(&names, &columns, column(&text, objective), goal).unwrap())
    }

    fn small() -> Table {
        let mut x = Vec::new();
        let mut y = Vec::new();
        let mut v = Vec::new();
        for i in 0..12 {
            for j in 0..2 {
                x.push(f64::from(i));
                y.push(f64::from(j));
                v.push(f64::from((i - 7) * (i - 7)) + 3.0 * f64::from(j));
            }
        }
        Table::new(&["x".into(), "y".into(), "c".into()], &[x, y, vec![4.0; 24]], v, Goal::Min).unwrap()
    }

    #[test]
    fn each_row_is_evaluated_once_and_regret_falls() {
        let t = small();
        assert_eq!(t.space().len(), 2);
        let spec = BacktestSpec { designer: DesignerKind::Bayes, budget: 30, seed: Seed(1), noise: 0.0 };
        let mut ticks = 0.0;
        let mut clock = || {
            ticks += 1.0;
            ticks
        };
        let run = replay_table(&t, &spec, &mut clock).unwrap();
        assert!(run.windows(2).all(|w| w[1].regret <= w[0].regret));
        assert_eq!((run[23].regret, run[23].best, run[0].suggest_ms), (0.0, 0.0, 1.0));
        let rows = |run: &[BacktestTrial]| {
            run.iter().map(|r| crate::assignment_key(&r.parameters)).collect::<std::collections::BTreeSet<_>>().len()
        };
        assert_eq!((rows(&run[..20]), rows(&run)), (20, 24), "only the end of the budget repeats, where it says so");
        let spec = BacktestSpec { designer: DesignerKind::Random, ..spec };
        let run = replay_table(&t, &spec, &mut clock).unwrap();
        assert_eq!((run.len(), rows(&run)), (24, 24), "a table ends when its rows are used");
    }

    #[test]
    fn sentinels_are_named() {
        assert!(small().suspicious().is_empty());
        let x: Vec<f64> = (0..40).map(f64::from).collect();
        let v: Vec<f64> = (0..40).map(|i| if i < 6 { 1e9 } else { f64::from(i) }).collect();
        let said = Table::new(&["x".into()], &[x], v, Goal::Min).unwrap().suspicious();
        assert!(said.len() == 1 && said[0].contains("stands in 6 of 40 rows"), "{said:?}");
    }

    #[test]
    fn other_environments_help_when_related_and_never_stand_in_the_way() {
        let values = |f: &dyn Fn(f64, f64) -> f64| {
            let (mut x, mut y, mut v) = (Vec::new(), Vec::new(), Vec::new());
            for i in 0..30 {
                for j in 0..30 {
                    x.push(f64::from(i));
                    y.push(f64::from(j));
                    v.push(f(f64::from(i), f64::from(j)));
                }
            }
            Table::new(&["x".into(), "y".into()], &[x, y], v, Goal::Min).unwrap()
        };
        let here = values(&|x, y| (x - 22.0).powi(2) + 3.0 * (y - 7.0).powi(2));
        let alike = values(&|x, y| 50.0 + 2.0 * (x - 21.0).powi(2) + 5.0 * (y - 8.0).powi(2));
        let opposite = values(&|x, y| -(x - 22.0).powi(2) - 3.0 * (y - 7.0).powi(2));
        let run = |sources: &[(&str, &Table)]| {
            let regrets: Vec<f64> = (0..3)
                .map(|seed| {
                    let spec = BacktestSpec { designer: DesignerKind::Auto, budget: 8, seed: Seed(seed), noise: 0.0 };
                    replay_transfer(&here, sources, 40, &spec, &mut || 0.0).unwrap().last().unwrap().regret
                })
                .collect();
            crate::stats::quantile(&regrets, 0.5)
        };
        let (none, related, unrelated) = (run(&[]), run(&[("a", &alike)]), run(&[("b", &opposite)]));
        assert!(related <= none && related < 0.02, "{related} with a related environment, {none} without");
        assert!(unrelated <= none + 0.1, "{unrelated} with the opposite, {none} without");
    }

    #[test]
    fn bad_tables_are_refused_by_place() {
        let e = Table::new(&["x".into()], &[vec![1.0, f64::NAN]], vec![1.0, 2.0], Goal::Min).unwrap_err();
        assert!(e.to_string().contains("row 1 of column `x`"), "{e}");
        assert!(Table::new(&["x".into()], &[vec![1.0, 1.0]], vec![1.0, 2.0], Goal::Min).is_err());
        assert!(Table::new(&["x".into()], &[vec![1.0]], vec![1.0, 2.0], Goal::Min).is_err());
    }

    #[test]
    fn bayes_beats_random_on_a_measured_table() {
        let Some(t) = table("llvm.csv", Goal::Min, "PERF-", &[]) else { return };
        let run = |designer| {
            let spec = BacktestSpec { designer, budget: 40, seed: Seed(2), noise: 0.0 };
            replay_table(&t, &spec, &mut || 0.0).unwrap().last().unwrap().regret
        };
        let (b, r) = (run(DesignerKind::Bayes), run(DesignerKind::Random));
        assert!(b < r && b < 0.05, "bayes {b}, random {r}");
    }

    /// Figures for reports: `cargo test -p foreglow-search --lib -- --ignored --nocapture figures`.
    #[test]
    #[ignore = "prints figures; minutes"]
    fn figures() {
        let start = std::time::Instant::now();
        let mut clock = || start.elapsed().as_secs_f64() * 1e3;
        let storm = table("storm_wc.csv", Goal::Max, "Throughput+", &["Latency-"]);
        let llvm = table("llvm.csv", Goal::Min, "PERF-", &[]);
        for (name, t, noise) in [("storm_wc", &storm, 0.0), ("llvm", &llvm, 0.0), ("storm_wc 10 %", &storm, 0.1)] {
            let Some(t) = t else { continue };
            let kinds = if noise > 0.0 { vec![DesignerKind::Bayes] } else { DesignerKind::ALL.to_vec() };
            for kind in kinds {
                let mut at50: Vec<f64> = Vec::new();
                let mut ms: Vec<f64> = Vec::new();
                for seed in 1..=5 {
                    let spec = BacktestSpec { designer: kind, budget: 50, seed: Seed(seed), noise };
                    let run = replay_table(t, &spec, &mut clock).unwrap();
                    at50.push(run[49].regret);
                    ms.extend(run[40..].iter().map(|r| r.suggest_ms));
                }
                let (m, t) = (crate::stats::quantile(&at50, 0.5), crate::stats::quantile(&ms, 0.5));
                println!("{name:14} {kind:10} regret at 50: median {m:.4} {at50:.4?}; suggest {t:.2} ms");
            }
        }
        let space = SpaceSpec((0..5).map(|i| ParameterSpec::float(&format!("x{i}"), -5.0, 5.0)).collect());
        let space = space.check().unwrap();
        let num = |a: &Assignment| a.values().filter_map(Value::as_number).map(|v| v - 1.3).collect::<Vec<f64>>();
        let sphere = move |a: &Assignment| num(a).iter().map(|v| v * v).sum::<f64>();
        let ellipsoid = move |a: &Assignment| {
            num(a).iter().enumerate().map(|(i, v)| 10f64.powf(6.0 * i as f64 / 4.0) * v * v).sum::<f64>()
        };
        let rosen = move |a: &Assignment| {
            let z: Vec<f64> = num(a).iter().map(|v| v + 1.0).collect();
            z.windows(2).map(|w| 100.0 * (w[1] - w[0] * w[0]).powi(2) + (1.0 - w[0]).powi(2)).sum::<f64>()
        };
        let rastrigin = move |a: &Assignment| {
            num(a).iter().map(|v| v * v - 10.0 * (std::f64::consts::TAU * v).cos() + 10.0).sum::<f64>()
        };
        let all: [Named<'_>; 4] =
            [("sphere", &sphere), ("ellipsoid", &ellipsoid), ("rosenbrock", &rosen), ("rastrigin", &rastrigin)];
        for (name, f) in all {
            let random: Vec<f64> =
                (0..999).map(|i| f(&space.from_unit(&crate::designers::sobol::point(i, 5, Seed(9))))).collect();
            let reference = (0.0, crate::stats::quantile(&random, 0.5));
            for (kind, budget) in [
                (DesignerKind::Random, 50),
                (DesignerKind::Bayes, 50),
                (DesignerKind::Random, 200),
                (DesignerKind::Genetic, 200),
                (DesignerKind::Annealing, 200),
                (DesignerKind::Bayes, 200),
            ] {
                let seeds = if kind == DesignerKind::Bayes && budget == 200 { 1 } else { 5 };
                let mut regrets = Vec::new();
                let mut ms = Vec::new();
                for seed in 1..=seeds {
                    let spec = BacktestSpec { designer: kind, budget, seed: Seed(seed), noise: 0.0 };
                    let run = replay_function(&space, f, reference, &spec, &mut clock).unwrap();
                    regrets.push(run.last().unwrap().regret);
                    ms.extend(run[budget - 10..].iter().map(|r| r.suggest_ms));
                }
                let (m, t) = (crate::stats::quantile(&regrets, 0.5), crate::stats::quantile(&ms, 0.5));
                println!("{name:14} {kind:10} regret at {budget}: median {m:.6}; suggest {t:.2} ms");
            }
        }
    }
}
