//! The server searches the swarm's parameters: it suggests, the swarm runs with what it suggests, the measurement goes
//! back; in the end it recommends, and the recommendation is put to the test.

use crate::client::Client;
use crate::draw::{Pen, number, own_sparkline, percent, table};
use crate::measure::{day_mean, effect, level};
use crate::plan;
use crate::player::{Player, series};
use crate::summary::{EffectSummary, Level, TuningOutcome};
use anyhow::{Context, Result};
use foreglow_lab::{Parameters, Tick};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is made small.
const OBJECTIVE: &str = "latency_p95_ms";

#[derive(Deserialize)]
struct Study {
    id: String,
}

#[derive(Deserialize)]
struct Trial {
    id: u64,
    parameters: BTreeMap<String, Value>,
}

/// The parts of a recommendation that are shown.
#[derive(Deserialize)]
struct Recommendation {
    id: String,
    parameters: BTreeMap<String, Value>,
    change: Vec<Value>,
    effect: Vec<MetricEffect>,
    risk: Value,
    #[serde(default)]
    status: Option<String>,
}

#[derive(Deserialize)]
struct MetricEffect {
    metric: String,
    relative: Relative,
}

#[derive(Deserialize)]
struct Relative {
    mean: f64,
    i80: [f64; 2],
    i95: [f64; 2],
}

/// Searches, recommends, applies, measures.
pub(crate) async fn tune(player: &mut Player, pen: Pen, seed: u64) -> Result<TuningOutcome> {
    let client = player.client.clone();
    let start = player.swarm.parameters();
    declare_maintenance(player).await?;
    let study: Study = client
        .post(
            "/v1/studies",
            &json!({
                "name": "swarm", "entity": {"service": "swarm"}, "parameters": start.space(),
                "objective": {"metric": OBJECTIVE, "aggregate": "mean", "goal": "min"},
                "guard_rails": [
                    {"metric": "error_ratio", "aggregate": "mean", "at_most": 0.03},
                    {"metric": "throughput_per_s", "aggregate": "mean", "at_least": "0.95*baseline"}
                ],
                "budget": {"trials": plan::TRIALS}, "seed": seed
            }),
        )
        .await?;
    pen.item("study", &format!("{}: seven parameters, make {OBJECTIVE} small, errors at most 3 %", study.id));

    let mut rows = Rows::new(&start);
    for n in 0..plan::TRIALS {
        // The first suggestion is what runs already: everything else is compared with it.
        let path = format!("/v1/studies/{}/suggest", study.id);
        let trial: Trial = client.post(&path, &json!({"client_id": "demo"})).await?;
        let parameters = start.updated(&trial.parameters)?;
        let name = if parameters == start { "now".to_owned() } else { n.to_string() };
        player.swarm.configure(parameters.clone())?;
        let ticks = measure(player, 1).await?;
        complete(&client, &study, &trial, &ticks).await?;
        rows.add(&name, &parameters, level(&ticks));
    }
    rows.show(pen);

    let advised = recommendation(&client).await?;
    // Back to where it started, so that before and after lie side by side.
    run_with(player, &start).await?;
    let before = measure(player, plan::COMPARED_DAYS).await?;
    let mut outcome = TuningOutcome {
        trials: rows.count,
        before: level(&before),
        after: None,
        change: Vec::new(),
        none_because: None,
        parameters: start.to_map(),
        predicted: None,
        measured: None,
        status: None,
    };
    match advised {
        Err(reason) => {
            pen.item("recommendation", &format!("none: {reason}"));
            outcome.none_because = Some(reason);
        }
        Ok(r) => apply(player, pen, &start, &before, r, &mut outcome).await?,
    }
    Ok(outcome)
}

/// What changes from here on is wanted: scores go on, incidents do not open.
async fn declare_maintenance(player: &Player) -> Result<()> {
    let from = player.swarm.now();
    let day = plan::DAY + plan::SETTLE;
    let length = day * (plan::TRIALS as u32 + 2 * plan::COMPARED_DAYS + 2);
    let body = json!({"kind": "maintenance", "selector": "{service=\"swarm\"}", "start": from,
        "end": from.plus(length.as_millis() as i64), "reference": "demo-tuning"});
    player.client.post::<Value>("/v1/changes", &body).await?;
    Ok(())
}

/// Sets the swarm's parameters and tells the server what runs from now on.
async fn run_with(player: &Player, parameters: &Parameters) -> Result<()> {
    player.swarm.configure(parameters.clone())?;
    let body = json!({"entity": {"service": "swarm"}, "parameters": parameters.to_map(), "since": player.swarm.now()});
    player.client.post::<Value>("/v1/configurations", &body).await?;
    Ok(())
}

/// Lets a change settle, then returns the ticks of `days` whole days.
async fn measure(player: &mut Player, days: u32) -> Result<Vec<Arc<Tick>>> {
    player.play(plan::SETTLE, |_, _| {}).await?;
    let from = player.ticks.len();
    player.play(plan::DAY * days, |_, _| {}).await?;
    Ok(player.ticks[from..].to_vec())
}

/// Tells the server what a trial showed.
async fn complete(client: &Client, study: &Study, trial: &Trial, ticks: &[Arc<Tick>]) -> Result<()> {
    let day = plan::ticks(plan::DAY);
    let of = |name: &str| day_mean(&series(ticks, name), day);
    let objective = of(OBJECTIVE);
    let path = format!("/v1/studies/{}/trials/{}/complete", study.id, trial.id);
    let body = if objective.mean.is_finite() {
        json!({"value": objective.mean, "se": objective.variance.sqrt(), "replicates": objective.independent as u32,
            "metrics": {"error_ratio": of("error_ratio").mean, "throughput_per_s": of("throughput_per_s").mean}})
    } else {
        json!({"state": "failed", "reason": "no task succeeded"})
    };
    client.post::<Value>(&path, &body).await?;
    Ok(())
}

/// The newest recommendation, or why there is none.
async fn recommendation(client: &Client) -> Result<Result<Recommendation, String>> {
    let reply: Value = client.get("/v1/recommendations", &[]).await?;
    if let Some(reason) = reply.get("none_because").and_then(Value::as_str) {
        return Ok(Err(reason.to_owned()));
    }
    let first = reply.as_array().and_then(|a| a.first()).context("no recommendation, and no reason for that")?;
    Ok(Ok(serde_json::from_value(first.clone())?))
}

async fn apply(
    player: &mut Player,
    pen: Pen,
    start: &Parameters,
    before: &[Arc<Tick>],
    r: Recommendation,
    outcome: &mut TuningOutcome,
) -> Result<()> {
    let parameters = start.updated(&r.parameters)?;
    let words: Vec<String> = r
        .change
        .iter()
        .map(|c| format!("{} {} -> {}", c["name"].as_str().unwrap_or("?"), plain(&c["from"]), plain(&c["to"])))
        .collect();
    pen.item("recommendation", &words.join(", "));
    pen.item("risk", &format!("{}: {}", plain(&r.risk["level"]), reasons(&r.risk)));
    let predicted = r.effect.iter().find(|e| e.metric == OBJECTIVE).map(|e| EffectSummary {
        mean: e.relative.mean,
        i80: e.relative.i80,
        i95: e.relative.i95,
    });

    player.swarm.configure(parameters.clone())?;
    let client = player.client.clone();
    let path = format!("/v1/recommendations/{}/applied", r.id);
    let body = json!({"at": player.swarm.now(), "by": "demo", "parameters": parameters.to_map()});
    client.post::<Value>(&path, &body).await?;
    let after = measure(player, plan::COMPARED_DAYS).await?;
    let day = plan::ticks(plan::DAY);
    let measured = effect(&series(before, OBJECTIVE), &series(&after, OBJECTIVE), day);

    let (b, a) = (level(before), level(&after));
    let mut t = table(&["", "before", "after"], 1);
    t.add_row(["p95 of latency, ms".to_owned(), number(b.p95_ms), number(a.p95_ms)]);
    t.add_row(["throughput, tasks/s".to_owned(), number(b.throughput_per_s), number(a.throughput_per_s)]);
    t.add_row(["failed attempts".to_owned(), share(b.error_ratio), share(a.error_ratio)]);
    pen.table(&t);
    let mut t = table(&["effect on p95", "mean", "80 % interval", "95 % interval"], 1);
    for (name, e) in [("predicted", predicted), ("measured", Some(measured))] {
        if let Some(e) = e {
            t.add_row([name.to_owned(), percent(e.mean), interval(e.i80), interval(e.i95)]);
        }
    }
    pen.table(&t);
    let ticks: Vec<f64> = series(before, OBJECTIVE).into_iter().chain(series(&after, OBJECTIVE)).collect();
    pen.item("p95 before | after", &own_sparkline(&ticks, 64));
    if let Some(p) = predicted {
        let kept = p.i95[0] <= measured.i95[1] && measured.i95[0] <= p.i95[1];
        let verdict = if kept { "the two agree" } else { "the prediction did not hold" };
        pen.item("verdict", if measured.i95[1] < 0.0 { verdict } else { "no gain that could be told from none" });
    }
    outcome.after = Some(a);
    outcome.change = r.change;
    outcome.parameters = parameters.to_map();
    outcome.predicted = predicted;
    outcome.measured = Some(measured);
    outcome.status = status(&client, &r.id).await?.or(r.status);
    Ok(())
}

/// What the server says about a recommendation now.
async fn status(client: &Client, id: &str) -> Result<Option<String>> {
    let all: Value = client.get("/v1/recommendations", &[]).await?;
    let mine = all.as_array().into_iter().flatten().find(|r| r["id"] == id);
    Ok(mine.and_then(|r| r["status"].as_str()).map(str::to_owned))
}

fn plain(v: &Value) -> String {
    v.as_str().map_or_else(|| v.to_string(), str::to_owned)
}

fn reasons(risk: &Value) -> String {
    let all: Vec<&str> = risk["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if all.is_empty() { "nothing speaks against it".to_owned() } else { all.join("; ") }
}

fn share(x: f64) -> String {
    if x.is_finite() { format!("{:.1} %", 100.0 * x) } else { "-".to_owned() }
}

fn interval([low, high]: [f64; 2]) -> String {
    format!("{} to {}", percent(low), percent(high))
}

/// The table of configurations tried.
struct Rows {
    table: comfy_table::Table,
    count: usize,
}

impl Rows {
    fn new(start: &Parameters) -> Self {
        let names: Vec<String> = start.to_map().into_keys().collect();
        let mut titles = vec!["trial"];
        titles.extend(names.iter().map(|n| n.split('_').next().unwrap_or(n)));
        titles.extend(["p95 ms", "failed", "tasks/s"]);
        Self { table: table(&titles, 1), count: 0 }
    }

    fn add(&mut self, name: &str, parameters: &Parameters, l: Level) {
        let mut row = vec![name.to_owned()];
        row.extend(parameters.to_map().values().map(plain));
        row.extend([number(l.p95_ms), share(l.error_ratio), number(l.throughput_per_s)]);
        self.table.add_row(row);
        self.count += 1;
    }

    fn show(&self, pen: Pen) {
        pen.table(&self.table);
    }
}
