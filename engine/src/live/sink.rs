//! Where judged steps go: store, stream, counters.

use super::Scope;
use super::shard::Served;
use crate::EngineError;
use crate::events::Events;
use crate::store::{ResultRow, Store, ask};
use crate::telemetry::{Telemetry, add};
use crate::view::{Fields, StepView, is_new};
use foreglow_core::{Incident, Timestamp};
use foreglow_models::monitor::{IncidentEvent, Observation};
use serde::Serialize;
use std::sync::Arc;

/// What becomes of an observation that counts.
#[derive(Clone)]
pub(super) struct Sink {
    pub(super) store: Store,
    pub(super) events: Arc<Events>,
    pub(super) telemetry: Arc<Telemetry>,
}

/// An incident as `/v1/stream` tells it.
#[derive(Serialize)]
struct IncidentNews<'a> {
    event: &'static str,
    model: &'a str,
    incident: &'a Incident,
}

/// An incident that is over, as `/v1/stream` tells it.
pub(super) fn resolved(model: &str, incident: &Incident) -> Result<String, EngineError> {
    Ok(serde_json::to_string(&IncidentNews { event: "resolved", model, incident })?)
}

impl Sink {
    /// Writes an observation down. Waits only while the store is behind.
    pub(super) fn put(
        &self,
        scope: &Scope,
        served: &mut Served,
        o: &Observation,
        now: Timestamp,
    ) -> Result<(), EngineError> {
        let mut rows = Vec::new();
        let mut anomalies = Vec::new();
        let (members, loaded) = (served.members.clone(), served.loaded.clone());
        for r in o.results.iter().filter(|r| is_new(r)) {
            let labels = served.labels(&r.group);
            let fields = if r.is_anomaly { Fields::ALL } else { Fields::ALL.without("signals").without("members") };
            let view = StepView { result: r, group: &labels, model: &loaded.model, members: &members, fields };
            let body = serde_json::to_string(&view)?;
            if r.is_anomaly {
                anomalies.push((r.group.clone(), r.timestamp, r.score, body.clone()));
            }
            self.events.send(&scope.tenant, "score", body);
            rows.push(ResultRow {
                group: r.group.clone(),
                timestamp: r.timestamp,
                status: r.status.as_str(),
                score: r.score,
                p_value: r.p_value,
            });
        }
        add(&self.telemetry.steps, rows.len());
        add(&self.telemetry.anomalies, anomalies.len());
        let mut incidents = Vec::new();
        for e in &o.incidents {
            let event = match e {
                IncidentEvent::Opened(_) => "opened",
                IncidentEvent::Updated(_) => "updated",
                IncidentEvent::Resolved(_) => "resolved",
            };
            if event == "opened" {
                add(&self.telemetry.incidents, 1);
                tracing::info!(
                    tenant = &*scope.tenant,
                    id = e.incident().id,
                    group = e.incident().finding.group,
                    "incident"
                );
            }
            let news = IncidentNews { event, model: &loaded.model, incident: e.incident() };
            self.events.send(&scope.tenant, "incident", serde_json::to_string(&news)?);
            incidents.push(e.incident().clone());
        }
        if rows.is_empty() && incidents.is_empty() {
            return Ok(());
        }
        let (tenant, model, telemetry) = (scope.tenant.clone(), loaded.model.clone(), self.telemetry.clone());
        self.store.post(
            move |c| {
                ask::add_results(c, &tenant, &rows, now)?;
                ask::add_anomalies(c, &tenant, &anomalies, now)?;
                incidents.iter().try_for_each(|i| ask::put_incident(c, &tenant, &model, i))
            },
            move || add(&telemetry.store_errors, 1),
        )
    }
}
