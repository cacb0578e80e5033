//! How much of the work that a slow agent loses comes back by reweighting the agents as recommended.
//!
//! `cargo run -p foreglow-training --example reweight -- [SEEDS] [TRIALS] [RATE]`, default 3 24 420. A real swarm of six agents
//! runs on this machine: about four minutes a seed, and nothing else should run beside it.
//!
//! Measured is the share of the arriving tasks that is done. The swarm is measured healthy; then one agent is slow and nothing
//! else changes. A study of six load weights (each 0 to 2, kind `allocation`) searches for the most work done, its
//! recommendation takes turns with equal weights, and is told beside what was lost:
//! `recovered = (recommended - equal) / (healthy - equal)`.

#![expect(clippy::print_stdout, reason = "an example prints")]

use anyhow::{Context, Result};
use foreglow_core::{Seed, Step, Timestamp, stats};
use foreglow_lab::{Fault, FaultKind, LabConfig, Parameters, Placement, Swarm, Ticks};
use foreglow_search::recommend::{Confirmation, Round, Runs, recommended_first};
use foreglow_search::{
    Advice, AdviceOptions, Aggregate, Assignment, Goal, Kind, Measurement, Objective, Study, StudySpec, TrialBudget,
};
use std::time::Duration;

const AGENTS: usize = 6;
const SLOW: usize = 2;
const STEP_MS: i64 = 250;
/// Ticks that are thrown away after a change, and ticks that count.
const SETTLE: usize = 6;
const COUNT: usize = 20;
const ROUNDS: usize = 4;

struct Bench {
    swarm: Swarm,
    ticks: Ticks,
}

impl Bench {
    /// The share of work done under `weights`: mean and standard error over seconds.
    fn measure(&mut self, weights: &Assignment) -> Result<Measurement> {
        let map = weights.iter().map(|(k, v)| Ok((k.clone(), serde_json::to_value(v)?))).collect::<Result<_>>()?;
        self.swarm.configure(self.swarm.parameters().updated(&map)?)?;
        let mut next = || self.ticks.next_blocking().context("the swarm stopped");
        for _ in 0..SETTLE {
            next()?;
        }
        let shares = (0..COUNT)
            .map(|_| next().map(|t| (t.swarm.throughput_per_s, t.swarm.arrival_per_s)))
            .collect::<Result<Vec<_>>>()?
            .chunks(4)
            .map(|s| s.iter().map(|x| x.0).sum::<f64>() / s.iter().map(|x| x.1).sum::<f64>())
            .collect::<Vec<_>>();
        let se = stats::std_dev(&shares) / (shares.len() as f64).sqrt();
        Ok(Measurement { replicates: shares.len() as u32, ..Measurement::of(stats::mean(&shares)).with_se(se) })
    }
}

fn start(seed: u64, rate: f64) -> Result<Bench> {
    let parameters = Parameters {
        placement: Placement::Weighted,
        weights: vec![1.0; AGENTS],
        // A second try on another agent would hide what is lost.
        retry_limit: 0,
        ..Parameters::default()
    };
    let config = LabConfig {
        seed: Seed(seed),
        agents: AGENTS,
        step: Step::from_ms(STEP_MS).context("250 is positive")?,
        day: Duration::from_hours(24),
        rate,
        // Noon, so that the load neither moves nor depends on the hour of the run: 1.35 times the mean.
        start: Some(Timestamp(1_767_225_600_000 + 43_200_000)),
        parameters,
    };
    let swarm = Swarm::start(config)?;
    let ticks = swarm.ticks();
    Ok(Bench { swarm, ticks })
}

fn search(bench: &mut Bench, seed: u64, trials: usize) -> Result<Study> {
    let space = serde_json::from_value(bench.swarm.parameters().weight_space(AGENTS))?;
    let objective = Objective { metric: "served".into(), aggregate: Aggregate::Mean, goal: Goal::Max };
    let mut study = StudySpec {
        kind: Kind::Allocation,
        budget: Some(TrialBudget { trials }),
        seed: Seed(seed),
        ..StudySpec::new("weights", space, objective)
    }
    .check()?;
    for _ in 0..trials {
        let (id, parameters) = {
            let t = study.ask()?;
            (t.id, t.parameters.clone())
        };
        // No agent gets anything: nothing is to be measured.
        if parameters.values().all(|v| v.as_number() == Some(0.0)) {
            study.fail(id, "all weights are 0")?;
            continue;
        }
        study.tell(id, bench.measure(&parameters)?)?;
    }
    Ok(study)
}

/// The share that came back; `None` where nothing was recommended.
fn one(seed: u64, trials: usize, rate: f64) -> Result<Option<f64>> {
    let mut bench = start(seed, rate)?;
    let equal: Assignment = (0..AGENTS).map(|i| (format!("weight_a{i}"), 1.0.into())).collect();
    bench.measure(&equal)?;
    let healthy = stats::mean(&[bench.measure(&equal)?.value, bench.measure(&equal)?.value]);
    let fault = Fault { kind: FaultKind::SlowAgent, agent: Some(SLOW), duration: Duration::from_hours(1) };
    bench.swarm.inject(fault)?;
    let study = search(&mut bench, seed, trials)?;
    let r = match study.recommend(&AdviceOptions { trigger: "objective_degraded".into(), ..AdviceOptions::default() }) {
        Advice::Change(r) => r,
        Advice::None { none_because } => {
            println!("seed {seed}: nothing recommended: {none_because}");
            return Ok(None);
        }
    };
    let mut rounds = Vec::new();
    for n in 0..ROUNDS {
        let first = recommended_first(Seed(seed), n);
        let mut round = Round { recommended_first: first, ..Round::default() };
        for recommended in [first, !first] {
            let m = bench.measure(if recommended { &r.parameters } else { &equal })?;
            *round.side_mut(recommended) = Runs::from([("served".to_owned(), vec![m.value])]);
        }
        rounds.push(round);
    }
    let side = |f: fn(&Round) -> &Runs| stats::mean(&rounds.iter().map(|r| f(r)["served"][0]).collect::<Vec<_>>());
    let (slow, better) = (side(|r| &r.current), side(|r| &r.recommended));
    let recovered = (better - slow) / (healthy - slow);
    let words: Vec<String> =
        r.change.iter().filter_map(|c| Some(format!("{} {:.2}", c.name, c.to.as_ref()?.as_number()?))).collect();
    println!(
        "seed {seed}: done of what arrived: healthy {healthy:.4}, one agent slow {slow:.4}, reweighted {better:.4}"
    );
    println!("  {}", words.join(", "));
    println!("  {}", Confirmation::of(&study, &r, &rounds, ROUNDS).map_or_else(String::new, |c| c.why));
    println!("  recovered {:.0} % of what was lost", 100.0 * recovered);
    Ok(Some(recovered))
}

fn main() -> Result<()> {
    let args: Vec<f64> = std::env::args().skip(1).map(|a| a.parse()).collect::<Result<_, _>>()?;
    let at = |i: usize, default: f64| args.get(i).copied().unwrap_or(default);
    let (seeds, trials, rate) = (at(0, 3.0) as u64, at(1, 24.0) as usize, at(2, 420.0));
    let found = (1..=seeds).map(|s| Ok(one(s, trials, rate)?.unwrap_or(0.0))).collect::<Result<Vec<_>>>()?;
    println!("median over {seeds} seeds: {:.0} %", 100.0 * stats::median(&found));
    Ok(())
}
