//! A system runs with one configuration after another; the server cuts trials from its metrics, suggests, recommends, and
//! says whether the promise was kept.

use foreglow_core::{Seed, Timestamp};
use foreglow_engine::Clock;
use foreglow_tests::testkit::{Client, START, Server};
use serde_json::{Value, json};

const STEP: i64 = 10_000;

/// A system whose latency has its best at 16 workers, with noise; time passes as its metrics are posted.
struct System {
    client: Client,
    clock: Clock,
    now: i64,
    noise: Seed,
}

impl System {
    fn latency(&mut self, workers: f64) -> f64 {
        let u = (self.noise.nth(self.now as u64).0 >> 11) as f64 / (1u64 << 53) as f64;
        40.0 + 12.0 * (workers / 16.0).ln().powi(2) + 4.0 * (u - 0.5)
    }

    /// Runs `steps` steps with so many workers.
    async fn run(&mut self, workers: f64, steps: usize) {
        let points: Vec<Value> = (0..steps)
            .map(|_| {
                self.now += STEP;
                let latency = self.latency(workers);
                json!({"timestamp": self.now, "labels": {"service": "shop"},
                    "values": {"latency_ms": latency, "error_ratio": 0.001}})
            })
            .collect();
        self.clock.set(Timestamp(self.now));
        let reply = self.client.post("/v1/score", &json!({"points": points})).await.ok();
        assert_eq!(reply["accepted"].as_u64(), Some(2 * steps as u64), "{reply}");
    }

    /// Says that it runs with so many workers from now on.
    async fn configure(&self, workers: f64) {
        let body = json!({"entity": {"service": "shop"}, "parameters": {"workers": workers}, "since": self.now});
        self.client.post("/v1/configurations", &body).await.ok();
    }
}

fn study() -> Value {
    json!({"name": "shop workers", "entity": {"service": "shop"},
        "parameters": [{"name": "workers", "type": "int", "low": 1, "high": 64, "log": true, "current": 2}],
        "objective": {"metric": "latency_ms", "aggregate": "mean", "goal": "min"},
        "guard_rails": [{"metric": "error_ratio", "aggregate": "mean", "at_most": 0.01}],
        "budget": {"trials": 8}, "seed": 3})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configurations_become_trials_become_a_recommendation_that_is_checked() {
    let clock = Clock::fixed(Timestamp(START));
    let server = Server::start_with(|_| {}, clock.clone()).await;
    let mut system = System { client: server.client(), clock, now: START, noise: Seed(5) };
    let client = server.client();
    let study = client.post("/v1/studies", &study()).await.ok();
    let id = study["id"].as_str().unwrap().to_owned();
    assert_eq!(client.post(&format!("/v1/studies/{id}/suggest"), &json!({})).await.problem(400), "invalid_field");

    for _ in 0..8 {
        let ask = json!({"client_id": "operator"});
        let trial = client.post(&format!("/v1/studies/{id}/suggest"), &ask).await.ok();
        let again = client.post(&format!("/v1/studies/{id}/suggest"), &ask).await.ok();
        assert_eq!(trial["id"], again["id"], "the same client gets its pending trial again");
        let workers = trial["parameters"]["workers"].as_f64().unwrap();
        system.configure(workers).await;
        system.run(workers, 60).await;
        // No value is sent: the server has the metrics.
        let path = format!("/v1/studies/{id}/trials/{}/complete", trial["id"]);
        let done = client.post(&path, &json!({})).await.ok();
        let measured = done["measurement"]["value"].as_f64().unwrap();
        let truth = 40.0 + 12.0 * (workers / 16.0).ln().powi(2);
        assert!((measured - truth).abs() < 2.0, "{workers} workers: {measured} measured, {truth} is true");
    }
    let spent = client.post(&format!("/v1/studies/{id}/suggest"), &json!({"client_id": "other"})).await;
    assert_eq!(spent.problem(409), "budget_spent");

    // Back to the configuration that it began with, so that before and after lie side by side.
    system.configure(2.0).await;
    system.run(2.0, 120).await;
    let all = client.get("/v1/recommendations").await.ok();
    let advice = &all.as_array().unwrap_or_else(|| panic!("no recommendation: {all}"))[0];
    let to = advice["change"][0]["to"].as_f64().unwrap();
    assert!((6.0..=40.0).contains(&to), "16 is the best: {advice}");
    let effect = &advice["effect"][0]["relative"];
    let truth = (40.0 + 12.0 * (to / 16.0).ln().powi(2)) / (40.0 + 12.0 * (2.0f64 / 16.0).ln().powi(2)) - 1.0;
    let (low, high) = (effect["i95"][0].as_f64().unwrap(), effect["i95"][1].as_f64().unwrap());
    assert!(low - 0.03 <= truth && truth <= high + 0.03, "{truth} is true, {effect} is promised");

    let path = format!("/v1/recommendations/{}", advice["id"].as_str().unwrap());
    client.post(&format!("{path}/applied"), &json!({"at": system.now, "by": "operator"})).await.ok();
    assert_eq!(client.post(&format!("{path}/reject"), &json!({})).await.problem(409), "wrong_state");
    system.run(to, 600).await;
    let all = client.get("/v1/recommendations").await.ok();
    let mine = all.as_array().unwrap().iter().find(|r| r["id"] == advice["id"]).unwrap();
    assert_eq!(mine["status"], "kept", "{}", mine["verification"]);
}
