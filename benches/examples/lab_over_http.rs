//! Tunes a real swarm through the server, by HTTP alone, and measures what was recommended again.
//!
//! ```text
//! cargo run --release -p foreglow-bench --example lab_over_http -- --trials 40 --seeds 5                  # seven parameters
//! cargo run --release -p foreglow-bench --example lab_over_http -- --slow-agent --trials 24 --seeds 3     # load weights
//! cargo run --release -p foreglow-bench --example lab_over_http -- --trials 40 --seeds 5 --random 400     # against random
//! ```
//!
//! A trial takes 6.5 seconds, a seed its trials and 16 more; nothing else should run beside it. Each seed has a server and a
//! swarm of its own, under a load that does not move. The recommendation takes turns with what ran before, in an order that
//! a coin decides; its promise is printed beside what was measured. With `--random` as many random configurations are
//! measured too, the best by their own measurement again in turn, and the recommendation's share of their gain is told.
//!
//! `--slow-agent`: one of six agents is slow, the load weights are the parameters, and
//! `recovered = (recommended - equal) / (healthy - equal)` of the share of tasks done.

#![expect(clippy::print_stdout, reason = "an example prints")]

use anyhow::{Context, Result, bail};
use clap::Parser;
use foreglow_core::{Seed, Step, Timestamp, stats};
use foreglow_engine::Config;
use foreglow_lab::{Fault, FaultKind, LabConfig, Parameters, Placement, Swarm, Ticks};
use foreglow_search::recommend::recommended_first;
use foreglow_search::{SearchSpace, SpaceSpec};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::net::TcpListener;

const AGENTS: usize = 6;
const STEP_MS: i64 = 250;
/// Ticks that are thrown away after a change, and ticks that count.
const SETTLE: usize = 6;
const COUNT: usize = 20;

#[derive(Parser)]
struct Options {
    #[arg(long, default_value_t = 40)]
    trials: usize,
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    first_seed: u64,
    /// Rounds in which recommendation and former configuration take turns.
    #[arg(long, default_value_t = 8)]
    rounds: usize,
    /// Tasks a second on average.
    #[arg(long, default_value_t = 420.0)]
    rate: f64,
    /// What is tuned: `latency_p95_ms` is made small, `throughput_per_s` large.
    #[arg(long, default_value = "latency_p95_ms", value_parser = ["latency_p95_ms", "throughput_per_s"])]
    metric: String,
    /// Rounds in which the study itself measures what it recommends, in turn with what runs.
    #[arg(long, default_value_t = 0)]
    confirm: usize,
    #[arg(long)]
    slow_agent: bool,
    /// Prints every trial.
    #[arg(long)]
    verbose: bool,
    /// Random configurations to compare with.
    #[arg(long, default_value_t = 0)]
    random: usize,
}

type Named = BTreeMap<String, Value>;

/// A server of its own, and a client that knows nothing but HTTP.
struct Client {
    http: reqwest::Client,
    base: String,
    _folder: tempfile::TempDir,
}

impl Client {
    async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let registry = folder.path().join("registry");
        std::fs::create_dir_all(&registry)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = folder.path().join("state");
        let config = Config { listen: address, state, registry: Some(registry), ..Config::default() };
        tokio::spawn(foreglow_engine::run(listener, config, std::future::pending()));
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_mins(1)).build()?;
        let client = Self { http, base: format!("http://{address}"), _folder: folder };
        for _ in 0..600 {
            if client.http.get(format!("{}/readyz", client.base)).send().await.is_ok_and(|r| r.status().is_success()) {
                return Ok(client);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the server did not become ready");
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        Self::answer(path, self.http.post(format!("{}{path}", self.base)).json(body)).await
    }

    async fn get(&self, path: &str) -> Result<Value> {
        Self::answer(path, self.http.get(format!("{}{path}", self.base))).await
    }

    async fn answer(path: &str, request: reqwest::RequestBuilder) -> Result<Value> {
        let response = request.send().await?;
        let (status, text) = (response.status(), response.text().await?);
        if !status.is_success() {
            bail!("{path}: the server said {status}: {text}");
        }
        Ok(serde_json::from_str(&text)?)
    }
}

/// Means over the ticks that count, and the standard error of the objective over seconds.
struct Seen {
    objective: f64,
    se: f64,
    metrics: Map<String, Value>,
}

struct Lab {
    swarm: Swarm,
    ticks: Ticks,
    metric: String,
}

impl Lab {
    fn start(options: &Options, seed: u64) -> Result<Self> {
        let parameters = if options.slow_agent {
            // A second try on another agent would hide what is lost.
            let weights = vec![1.0; AGENTS];
            Parameters { placement: Placement::Weighted, weights, retry_limit: 0, ..Parameters::default() }
        } else {
            Parameters::default()
        };
        let swarm = Swarm::start(LabConfig {
            seed: Seed(seed),
            agents: AGENTS,
            step: Step::from_ms(STEP_MS).context("250 is positive")?,
            day: Duration::from_hours(24),
            rate: options.rate,
            // Noon, so that the load neither moves nor depends on the hour of the run: 1.35 times the mean.
            start: Some(Timestamp(1_767_225_600_000 + 43_200_000)),
            parameters,
        })?;
        let ticks = swarm.ticks();
        let metric = if options.slow_agent { "served".to_owned() } else { options.metric.clone() };
        Ok(Self { swarm, ticks, metric })
    }

    /// Runs with `parameters` and measures.
    async fn measure(&mut self, parameters: &Named) -> Result<Seen> {
        self.swarm.configure(self.swarm.parameters().updated(parameters)?)?;
        let mut rows = Vec::new();
        for n in 0..SETTLE + COUNT {
            let tick = self.ticks.next().await.context("the swarm stopped")?;
            if n >= SETTLE {
                rows.push(tick.swarm);
            }
        }
        let of = |f: &dyn Fn(&foreglow_lab::SwarmSample) -> f64| -> Vec<f64> {
            rows.chunks(4).map(|s| stats::mean(&s.iter().map(f).collect::<Vec<_>>())).collect()
        };
        let throughput = of(&|s| s.throughput_per_s);
        let seconds = match self.metric.as_str() {
            "latency_p95_ms" => of(&|s| s.latency_p95_ms),
            "throughput_per_s" => throughput.clone(),
            _ => throughput.iter().zip(of(&|s| s.arrival_per_s)).map(|(done, came)| done / came).collect(),
        };
        let objective = stats::mean(&seconds);
        let se = stats::std_dev(&seconds) / (seconds.len() as f64).sqrt();
        let errors = stats::mean(&of(&|s| s.error_ratio));
        let mut metrics = Map::from_iter([("error_ratio".to_owned(), json!(errors))]);
        if self.metric != "throughput_per_s" {
            metrics.insert("throughput_per_s".to_owned(), json!(stats::mean(&throughput)));
        }
        Ok(Seen { objective, se, metrics })
    }

    /// The means of two configurations that take turns.
    async fn in_turn(&mut self, seed: u64, rounds: usize, former: &Named, new: &Named) -> Result<(f64, f64)> {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for n in 0..rounds {
            let first = recommended_first(Seed(seed), n);
            for recommended in [first, !first] {
                let seen = self.measure(if recommended { new } else { former }).await?.objective;
                if recommended { b.push(seen) } else { a.push(seen) }
            }
        }
        Ok((stats::mean(&a), stats::mean(&b)))
    }
}

fn map(v: &Value) -> Result<Named> {
    Ok(serde_json::from_value(v.clone())?)
}

/// One study over HTTP: the recommendation, or why there is none.
async fn search(client: &Client, lab: &mut Lab, options: &Options, seed: u64, space: &Value) -> Result<Value> {
    let goal = if lab.metric == "latency_p95_ms" { "min" } else { "max" };
    let mut body = json!({"name": "swarm", "entity": {"service": "swarm"}, "parameters": space, "seed": seed,
        "objective": {"metric": lab.metric, "aggregate": "mean", "goal": goal}, "budget": {"trials": options.trials}});
    if options.slow_agent {
        body["kind"] = json!("allocation");
    } else {
        body["guard_rails"] = json!([{"metric": "error_ratio", "aggregate": "mean", "at_most": 0.03}]);
    }
    if options.confirm > 0 {
        body["confirm"] = json!(options.confirm);
    }
    let study = client.post("/v1/studies", &body).await?;
    let path = format!("/v1/studies/{}", study["id"].as_str().context("a study without an id")?);
    for n in 0.. {
        let trial = match client.post(&format!("{path}/suggest"), &json!({"client_id": "bench"})).await {
            Ok(trial) => trial,
            // The trials are spent, and the rounds are over.
            Err(_) if n >= options.trials => break,
            Err(e) => return Err(e),
        };
        let parameters = map(&trial["parameters"])?;
        // No agent gets anything: nothing is to be measured.
        let idle = options.slow_agent && parameters.values().all(|v| v.as_f64() == Some(0.0));
        let seen = if idle { None } else { Some(lab.measure(&parameters).await?) };
        if options.verbose {
            let (value, se) = seen.as_ref().map_or((f64::NAN, f64::NAN), |s| (s.objective, s.se));
            println!("  {} {value:.3} +- {se:.3} {} {}", trial["id"], trial["parameters"], trial["why"]);
        }
        let told = seen.filter(|s| s.objective.is_finite()).map_or_else(
            || json!({"state": "failed", "reason": "no task succeeded"}),
            |s| json!({"value": s.objective, "se": s.se, "replicates": COUNT / 4, "metrics": s.metrics}),
        );
        client.post(&format!("{path}/trials/{}/complete", trial["id"]), &told).await?;
    }
    let all = client.get("/v1/recommendations").await?;
    Ok(all.as_array().and_then(|a| a.first()).unwrap_or(&all).clone())
}

/// The best of random configurations by their own measurement.
async fn random(lab: &mut Lab, options: &Options, seed: u64, space: &Value) -> Result<Named> {
    let space: SearchSpace = serde_json::from_value::<SpaceSpec>(space.clone())?.check()?;
    let sign = if lab.metric == "latency_p95_ms" { 1.0 } else { -1.0 };
    let mut best: Option<(f64, Named)> = None;
    for n in 0..options.random {
        let draw = Seed(seed).child("random").nth(n as u64);
        let unit: Vec<f64> =
            (0..space.len()).map(|i| (draw.nth(i as u64).0 >> 11) as f64 / (1u64 << 53) as f64).collect();
        let parameters = map(&serde_json::to_value(space.from_unit(&unit))?)?;
        let seen = lab.measure(&parameters).await?;
        let broken = seen.metrics["error_ratio"].as_f64().is_none_or(|e| e > 0.03);
        let value = sign * seen.objective;
        if !broken && value.is_finite() && best.as_ref().is_none_or(|b| value < b.0) {
            best = Some((value, parameters));
        }
    }
    Ok(best.context("no random configuration kept the error ratio under 3 %")?.1)
}

async fn one(options: &Options, seed: u64) -> Result<(f64, f64)> {
    let client = Client::start().await?;
    let mut lab = Lab::start(options, seed)?;
    let start = lab.swarm.parameters();
    let space = if options.slow_agent { start.weight_space(AGENTS) } else { start.space() };
    let former: Named = space
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|p| Some((p["name"].as_str()?.to_owned(), p["current"].clone())))
        .collect();
    lab.measure(&former).await?;
    let mut healthy = f64::NAN;
    if options.slow_agent {
        healthy = stats::mean(&[lab.measure(&former).await?.objective, lab.measure(&former).await?.objective]);
        let duration = Duration::from_hours(1);
        lab.swarm.inject(Fault { kind: FaultKind::SlowAgent, agent: Some(2), duration })?;
    }
    let r = search(&client, &mut lab, options, seed, &space).await?;
    let Some(parameters) = r.get("parameters") else {
        println!("| {seed} | nothing recommended: {} | | | | |", r["none_because"]);
        return Ok((0.0, 0.0));
    };
    let (before, after) = lab.in_turn(seed, options.rounds, &former, &map(parameters)?).await?;
    let promised = &r["effect"][0]["relative"];
    let percent = |v: &Value| format!("{:+.1} %", 100.0 * v.as_f64().unwrap_or(f64::NAN));
    let words: Vec<String> = r["change"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|c| format!("{} {} -> {}", c["name"].as_str().unwrap_or("?"), c["from"], c["to"]))
        .collect();
    let mut share = f64::NAN;
    if options.slow_agent {
        share = (after - before) / (healthy - before);
    } else if options.random > 0 {
        let best = random(&mut lab, options, seed, &space).await?;
        let (before, luckiest) = lab.in_turn(seed + 1000, options.rounds, &former, &best).await?;
        share = (after - before) / (luckiest - before);
    }
    println!(
        "| {seed} | {before:.4} | {after:.4} | {:+.1} % | {} ({} to {}) | {share:.2} | {} |",
        100.0 * (after / before - 1.0),
        percent(&promised["mean"]),
        percent(&promised["i80"][0]),
        percent(&promised["i80"][1]),
        words.join(", ")
    );
    Ok((after / before - 1.0, share))
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let what = if options.slow_agent { "recovered" } else { "of the gain of the best random one" };
    println!("| seed | before | after | measured | promised (80 %) | {what} | change |\n|---|---|---|---|---|---|---|");
    let (mut gains, mut shares) = (Vec::new(), Vec::new());
    for seed in options.first_seed..options.first_seed + options.seeds {
        let (gain, share) = one(&options, seed).await?;
        gains.push(gain);
        shares.push(share);
    }
    println!(
        "\nmedian of {}: {:+.1} %, {what} {:.2}",
        options.seeds,
        100.0 * stats::median(&gains),
        stats::median(&shares)
    );
    Ok(())
}
