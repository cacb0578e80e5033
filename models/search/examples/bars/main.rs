//! Measures designers as the project's bars ask: BBOB in 5 dimensions and three tables of real systems.
//!
//! ```text
//! cargo run -p foreglow-search --example bars -- bbob,storm_wc,llvm auto,bayes 50,200 10 [noise] [threads]
//! cargo run -p foreglow-search --example bars -- x264                      # transfer between environments
//! cargo run -p foreglow-search --example bars -- promises 0.1 20          # promised against real effect: noise, seeds
//! cargo run -p foreglow-search --example bars -- canary 100 0.95          # unsafe trials: runs, confidence
//! cargo run -p foreglow-search --example bars -- long                     # a suggestion after 20,000 trials in 20-D
//! ```
//!
//! Prints, for each suite, designer and budget: regret (BBOB: geometric mean over functions of the median over seeds,
//! floor 1e-6; tables: median over seeds), its parts, and CPU milliseconds a suggestion (mean over the run and median of
//! the last ten). Tables lie in `../shared/data/tuning` beside the repository, or in `$FOREGLOW_DATA/tuning`.

#![expect(clippy::print_stdout, reason = "a program that prints its table")]

use foreglow_core::Seed;
use foreglow_core::stats::{median, quantile};
use foreglow_search::backtest::{BacktestSpec, BacktestTrial, Table, bbob, replay_function, replay_table};
use foreglow_search::{Assignment, DesignerKind, Goal, ParameterSpec, SearchSpace, SpaceSpec, Value};
use rand::Rng;
use std::error::Error;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

mod promises;
mod tables;

use tables::read_table;

const DIMS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |i: usize, default: &str| args.get(i).cloned().unwrap_or_else(|| default.to_owned());
    match arg(0, "").as_str() {
        "x264" => return promises::transfer(arg(1, "10").parse()?),
        "promises" => return promises::promises(arg(1, "0.1").parse()?, arg(2, "20").parse()?),
        "canary" => return promises::canary(arg(1, "100").parse()?, arg(2, "0.95").parse()?),
        "long" => return promises::long(),
        _ => {}
    }
    let designers: Vec<DesignerKind> = arg(1, "auto").split(',').map(str::parse).collect::<Result<_, _>>()?;
    let budgets: Vec<usize> = arg(2, "50").split(',').map(str::parse).collect::<Result<_, _>>()?;
    let seeds: u64 = arg(3, "10").parse()?;
    let noise: f64 = arg(4, "0").parse()?;
    let threads: usize = arg(5, "1").parse()?;
    for suite in arg(0, "bbob,storm_wc,llvm").split(',') {
        for designer in &designers {
            for budget in &budgets {
                let subjects = subjects(suite)?;
                run(suite, &subjects, *designer, *budget, seeds, noise, threads)?;
            }
        }
    }
    Ok(())
}

/// What is searched: a function (by number) or a table.
enum Subject {
    Function(u32),
    Table(Box<Table>),
}

fn subjects(suite: &str) -> Result<Vec<Subject>, Box<dyn Error>> {
    let table = |file: &str, goal, objective: &str| -> Result<Vec<Subject>, Box<dyn Error>> {
        Ok(vec![Subject::Table(Box::new(read_table(file, goal, objective)?))])
    };
    match suite {
        "bbob" => Ok(bbob::FUNCTIONS.into_iter().map(Subject::Function).collect()),
        "storm_wc" => table("storm_wc.csv", Goal::Max, "Throughput+"),
        "storm_wc_latency" => table("storm_wc.csv", Goal::Min, "Latency-"),
        "llvm" => table("llvm.csv", Goal::Min, "PERF-"),
        _ => match suite.strip_prefix("bbob-f").map(str::parse) {
            Some(Ok(function)) => Ok(vec![Subject::Function(function)]),
            _ => table(&format!("{suite}.csv"), Goal::Min, ""),
        },
    }
}

fn run(
    suite: &str,
    subjects: &[Subject],
    designer: DesignerKind,
    budget: usize,
    seeds: u64,
    noise: f64,
    threads: usize,
) -> Result<(), Box<dyn Error>> {
    let jobs: Vec<(usize, u64)> = (0..subjects.len()).flat_map(|s| (0..seeds).map(move |seed| (s, seed))).collect();
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, f64, f64, f64)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((subject, seed)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)).copied() {
                    let spec = BacktestSpec { designer, budget, seed: Seed(seed), noise };
                    let Ok(trials) = replay(&subjects[subject], seed, &spec) else { continue };
                    let ms: Vec<f64> = trials.iter().map(|t| t.suggest_ms).collect();
                    let mean = ms.iter().sum::<f64>() / ms.len().max(1) as f64;
                    let last = median(&ms[ms.len().saturating_sub(10)..]);
                    let regret = trials.last().map_or(f64::NAN, |t| t.regret);
                    if let Ok(mut all) = done.lock() {
                        all.push((subject, regret, mean, last));
                    }
                }
            });
        }
    });
    let done = done.into_inner()?;
    let mut parts = Vec::new();
    for s in 0..subjects.len() {
        let regrets: Vec<f64> = done.iter().filter(|d| d.0 == s).map(|d| d.1).collect();
        parts.push(quantile(&regrets, 0.5).max(if suite.starts_with("bbob") { 1e-6 } else { 0.0 }));
    }
    let overall =
        if parts.len() > 1 { (parts.iter().map(|p| p.ln()).sum::<f64>() / parts.len() as f64).exp() } else { parts[0] };
    let mean = done.iter().map(|d| d.2).sum::<f64>() / done.len() as f64;
    let last = median(&done.iter().map(|d| d.3).collect::<Vec<_>>());
    println!(
        "{suite} {designer} budget {budget} noise {noise} seeds {seeds}: regret {overall:.6}, {mean:.2} ms a suggestion, {last:.2} ms at the end"
    );
    if parts.len() > 1 {
        let named: Vec<String> = bbob::FUNCTIONS.iter().zip(&parts).map(|(f, p)| format!("f{f} {p:.2e}")).collect();
        println!("    {}", named.join(", "));
    } else {
        let mut all: Vec<f64> = done.iter().map(|d| d.1).collect();
        all.sort_by(f64::total_cmp);
        println!("    seeds: {}", all.iter().map(|r| format!("{r:.4}")).collect::<Vec<_>>().join(" "));
    }
    Ok(())
}

fn replay(subject: &Subject, seed: u64, spec: &BacktestSpec) -> Result<Vec<BacktestTrial>, Box<dyn Error>> {
    let mut clock = cpu_ms;
    match subject {
        Subject::Table(t) => Ok(replay_table(t, spec, &mut clock)?),
        Subject::Function(f) => {
            let problem = bbob::Problem::new(*f, seed as u32 + 1, DIMS).ok_or("no such function")?;
            let space: SearchSpace =
                SpaceSpec((0..DIMS).map(|i| ParameterSpec::float(&format!("x{i}"), -5.0, 5.0)).collect()).check()?;
            let best = problem.optimum().1;
            let mut rng = Seed(seed).child("reference").rng();
            let random: Vec<f64> = (0..2000)
                .map(|_| problem.value(&(0..DIMS).map(|_| rng.gen_range(-5.0..5.0)).collect::<Vec<_>>()) - best)
                .collect();
            let value =
                |a: &Assignment| problem.value(&a.values().filter_map(Value::as_number).collect::<Vec<_>>()) - best;
            Ok(replay_function(&space, &value, (0.0, median(&random)), spec, &mut clock)?)
        }
    }
}

/// CPU milliseconds of this thread; 0 where the system does not say.
pub(crate) fn cpu_ms() -> f64 {
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|t| t.split_whitespace().next()?.parse::<f64>().ok())
        .map_or(0.0, |ns| ns / 1e6)
}
