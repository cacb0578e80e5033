//! Plays the swarm to the server: every tick is one POST, and everything that comes of it is kept.

use crate::client::{Client, Incident, ScoreReply};
use crate::plan;
use anyhow::{Context, Result};
use foreglow_core::Timestamp;
use foreglow_lab::{AGENT_METRICS, SWARM_METRICS, Swarm, Tick, Ticks};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The swarm, the server, and what has been seen.
pub(crate) struct Player {
    /// The server.
    pub(crate) client: Client,
    /// The swarm.
    pub(crate) swarm: Swarm,
    /// Every tick so far.
    pub(crate) ticks: Vec<Arc<Tick>>,
    /// Every score so far, by group.
    pub(crate) scores: BTreeMap<String, Vec<(Timestamp, f64)>>,
    /// Every incident so far, by id; the newest state of each.
    pub(crate) incidents: BTreeMap<String, Incident>,
    /// The model that scored the newest step, by group.
    pub(crate) models: BTreeMap<String, String>,
    /// How long the server took to answer each tick.
    pub(crate) answered_in: Vec<Duration>,
    /// Points that the server refused.
    pub(crate) refused: usize,
    listener: Ticks,
}

#[derive(Deserialize)]
struct Page {
    items: Vec<Incident>,
}

impl Player {
    /// Listens to `swarm` from now on.
    pub(crate) fn new(client: Client, swarm: Swarm) -> Self {
        let listener = swarm.ticks();
        Self {
            client,
            swarm,
            ticks: Vec::new(),
            scores: BTreeMap::new(),
            incidents: BTreeMap::new(),
            models: BTreeMap::new(),
            answered_in: Vec::new(),
            refused: 0,
            listener,
        }
    }

    /// Waits for the next tick, posts it, keeps the scores, and returns the incidents that are new since the last call.
    pub(crate) async fn step(&mut self) -> Result<Vec<Incident>> {
        let tick = self.listener.next().await.context("the swarm has stopped")?;
        let begin = Instant::now();
        let reply: ScoreReply = self.client.post("/v1/score", &body(&tick)).await?;
        self.answered_in.push(begin.elapsed());
        self.ticks.push(tick);
        self.refused += reply.refused.len();
        for step in reply.results {
            if let Some(score) = step.score {
                self.scores.entry(step.group.clone()).or_default().push((step.timestamp, score));
            }
            self.models.insert(step.group, step.model);
        }
        // Incidents are few, and a page of the newest holds all that one tick can open.
        let page: Page = self.client.get("/v1/incidents", &[("limit", "100")]).await?;
        let known: BTreeSet<String> = self.incidents.keys().cloned().collect();
        let new = page.items.iter().filter(|i| !known.contains(&i.id)).cloned().collect();
        self.incidents.extend(page.items.into_iter().map(|i| (i.id.clone(), i)));
        Ok(new)
    }

    /// Steps for `stretch`, and shows each tick and the new incidents to `look`.
    pub(crate) async fn play(&mut self, stretch: Duration, mut look: impl FnMut(&Self, &[Incident])) -> Result<()> {
        for _ in 0..plan::ticks(stretch) {
            let new = self.step().await?;
            look(self, &new);
        }
        Ok(())
    }

    /// The swarm's own metric `name` over the last `count` ticks.
    pub(crate) fn last(&self, name: &str, count: usize) -> Vec<f64> {
        series(&self.ticks[self.ticks.len().saturating_sub(count)..], name)
    }
}

/// The swarm's metric `name` of `ticks`.
pub(crate) fn series(ticks: &[Arc<Tick>], name: &str) -> Vec<f64> {
    let column = SWARM_METRICS.iter().position(|n| *n == name);
    ticks.iter().map(|t| column.map_or(f64::NAN, |c| t.swarm.values()[c])).collect()
}

/// The body of `POST /v1/score` for one tick: a row an agent, and one for the swarm. What was not measured is null.
pub(crate) fn body(tick: &Tick) -> Value {
    let row = |labels: Value, names: &[&str], values: &[f64]| {
        let values: Map<String, Value> = names.iter().zip(values).map(|(n, v)| ((*n).to_owned(), json!(v))).collect();
        json!({"timestamp": tick.timestamp, "labels": labels, "values": values})
    };
    let mut points: Vec<Value> = tick
        .agents
        .iter()
        .map(|a| {
            let labels = json!({"service": "swarm", "agent": format!("a{}", a.agent)});
            row(labels, &AGENT_METRICS, &a.values())
        })
        .collect();
    points.push(row(json!({"service": "swarm"}), &SWARM_METRICS, &tick.swarm.values()));
    json!({"points": points})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_seven_rows_with_null_for_what_was_not_measured() {
        let swarm = Swarm::start(plan::lab(1)).unwrap();
        let tick = swarm.ticks().next_blocking().unwrap();
        swarm.stop();
        let mut tick = (*tick).clone();
        tick.agents[1].completion_ms = f64::NAN;
        let body = body(&tick);
        let points = body["points"].as_array().unwrap();
        assert_eq!(points.len(), 7);
        assert_eq!(points[1]["labels"], json!({"service": "swarm", "agent": "a1"}));
        assert!(points[1]["values"]["completion_ms"].is_null() && points[1]["values"]["cpu_ratio"].is_number());
        assert_eq!(points[6]["values"].as_object().unwrap().len(), SWARM_METRICS.len());
    }
}
