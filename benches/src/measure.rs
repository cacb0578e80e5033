//! The measurements. Each checks what it was answered.

use crate::server::{Server, client};
use anyhow::{Result, ensure};
use foreglow_bench::data::Fleet;
use foreglow_core::Seed;
use foreglow_core::stats::quantile;
use foreglow_models::artifact::Store;
use foreglow_search::{
    Advice, AdviceOptions, Aggregate, Goal, Measurement, Objective, ParameterSpec, SpaceSpec, StudySpec,
    Value as Setting,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

#[derive(Deserialize)]
struct Reply {
    results: Vec<Step>,
    accepted: usize,
}

#[derive(Deserialize)]
struct Step {
    status: String,
    model: String,
    score: Option<f64>,
}

fn quantiles(times: &[f64]) -> Value {
    let q = |p| (1e3 * quantile(times, p)).round() / 1e3;
    json!({"p50_ms": q(0.5), "p90_ms": q(0.9), "p99_ms": q(0.99), "max_ms": q(1.0)})
}

/// Start to ready, empty and with an artifact: median of five each.
pub(crate) async fn start(program: &Path) -> Result<Value> {
    let folder = tempfile::tempdir()?;
    Store::create(folder.path())?.put(&Fleet { hosts: 26, metrics: 38 }.artifact(720)?)?;
    let mut out = Vec::new();
    for registry in [None, Some(folder.path())] {
        let mut times = Vec::new();
        for _ in 0..5 {
            times.push(Server::start(program, registry).await?.ready_after.as_secs_f64() * 1e3);
        }
        out.push(quantile(&times, 0.5).round());
    }
    Ok(json!({"empty_ms": out[0], "with_artifact_ms": out[1]}))
}

/// Resident memory that grows with series: 10,000 series on 1,000 hosts, 300 steps (past the warm-up), less an idle server.
pub(crate) async fn memory(program: &Path) -> Result<Value> {
    let fleet = Fleet { hosts: 1_000, metrics: 10 };
    let steps = 300;
    let server = Server::start(program, None).await?;
    let client = client()?;
    let url = format!("{}/v1/ingest", server.base);
    let idle = server.resident()?;
    for step in 0..steps {
        let response =
            client.post(&url).header("content-type", "application/json").body(fleet.columns(step)).send().await?;
        ensure!(response.status().is_success(), "step {step}: {}", response.text().await?);
    }
    let full = server.resident()?;
    let a_series = full.saturating_sub(idle) as f64 / fleet.values() as f64;
    Ok(json!({"series": fleet.values(), "steps": steps, "idle_bytes": idle, "full_bytes": full,
        "bytes_a_series": a_series.round()}))
}

/// Batches of 988 values (26 hosts of 38 metrics, one step) against a fitted artifact, first one client, then four.
pub(crate) async fn score(program: &Path, seconds: u64) -> Result<Value> {
    let fleet = Fleet { hosts: 26, metrics: 38 };
    let rows = 720;
    let folder = tempfile::tempdir()?;
    let begin = Instant::now();
    Store::create(folder.path())?.put(&fleet.artifact(rows)?)?;
    let fit_s = begin.elapsed().as_secs_f64();
    let server = Server::start(program, Some(folder.path())).await?;
    let url = format!("{}/v1/score", server.base);
    let client = client()?;
    let mut out =
        json!({"values_a_batch": fleet.values(), "metrics": fleet.metrics, "fit_s": (fit_s * 10.0).round() / 10.0});
    let mut step = rows;
    for (name, fields) in [("full_reply", ""), ("scores_only", "?fields=group,timestamp,status,score,model")] {
        let mut times = Vec::new();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(seconds) {
            let body = fleet.columns(step);
            step += 1;
            let sent = Instant::now();
            let response = client
                .post(format!("{url}{fields}"))
                .header("content-type", "application/json")
                .body(body)
                .send()
                .await?;
            let text = response.bytes().await?;
            times.push(sent.elapsed().as_secs_f64() * 1e3);
            let reply: Reply = serde_json::from_slice(&text)?;
            ensure!(reply.accepted == fleet.values() && reply.results.len() == fleet.hosts, "a whole step is scored");
            let fine = |s: &Step| s.status == "scored" && s.model.starts_with("fleet/") && s.score.is_some();
            ensure!(reply.results.iter().all(fine), "by the artifact");
        }
        let busy: f64 = times.iter().sum::<f64>() / 1e3;
        let mut q = quantiles(&times);
        q["batches"] = json!(times.len());
        q["values_per_s"] = json!((times.len() * fleet.values()) as f64 / busy).as_f64().map(f64::round).into();
        out[name] = q;
    }
    Ok(out)
}

/// Advice from 60 measured trials over four parameters: model fit, search and judgement, nothing remembered.
pub(crate) fn recommend() -> Result<Value> {
    let space = SpaceSpec(vec![
        ParameterSpec::int("workers", 1, 64).log().current(8),
        ParameterSpec::int("batch", 1, 256).log().current(16),
        ParameterSpec::float("share", 0.0, 1.0).current(0.5),
        ParameterSpec::categorical("policy", &["fifo", "lifo", "fair"]).current("fifo"),
    ]);
    let objective = Objective { metric: "latency_ms".to_owned(), aggregate: Aggregate::Mean, goal: Goal::Min };
    let mut study = StudySpec::new("bench", space, objective).check()?;
    for _ in 0..60 {
        let trial = study.suggest("bench")?.clone();
        let number = |name: &str| match &trial.parameters[name] {
            Setting::Int(v) => *v as f64,
            Setting::Float(v) => *v,
            _ => 0.0,
        };
        let noise = (Seed(3).nth(trial.id).0 >> 11) as f64 / (1u64 << 53) as f64 - 0.5;
        let loss = 30.0
            + 6.0 * (number("workers") / 24.0).ln().powi(2)
            + 3.0 * (number("batch") / 60.0).ln().powi(2)
            + 20.0 * (number("share") - 0.7).powi(2)
            + noise;
        study.tell(trial.id, Measurement::of(loss).with_se(0.3))?;
    }
    let mut times = Vec::new();
    for _ in 0..10 {
        let begin = Instant::now();
        let advice = study.recommend(&AdviceOptions::default());
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        ensure!(matches!(advice, Advice::Change(_)), "60 trials show that something is better");
    }
    Ok(quantiles(&times))
}
