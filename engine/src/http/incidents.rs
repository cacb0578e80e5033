use super::auth::Caller;
use super::extract::{Json, Page, Params, json, ok};
use super::problem::{Problem, ProblemBody};
use crate::app::App;
use crate::store::{FeedbackRow, IncidentFilter, IncidentRow, ask};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use foreglow_core::signals::Signals;
use foreglow_core::{FindingKind, IncidentState, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// A stretch above the alert line that carries one alert.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Incident {
    /// Its id.
    id: String,
    /// `open` or `resolved`.
    state: &'static str,
    /// The group.
    group: String,
    /// The model that found it.
    model: String,
    /// Epoch milliseconds of the step at which it opened.
    opened_at: i64,
    /// Epoch milliseconds of the step at which it was over.
    resolved_at: Option<i64>,
    /// First step above the line.
    start: i64,
    /// Last step above the line so far.
    end: i64,
    /// The highest score.
    peak_score: f64,
    /// When that was.
    peak_at: i64,
    /// `spike`, `dip`, `level_shift`, `variance`, `missing`, `peer` or `shape`.
    #[schema(value_type = String)]
    kind: FindingKind,
    /// Signals by share, at the peak.
    contributors: Vec<Contributor>,
    /// What people said of it.
    feedback: Vec<Feedback>,
}

/// A signal and how much it has to do with an incident.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Contributor {
    /// The signal.
    signal: String,
    /// Its share, 0 to 1.
    share: f64,
    /// The value that was seen.
    actual: Option<f64>,
    /// The value that was expected.
    expected: Option<f64>,
    /// Their unit, where `signals.toml` tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
}

/// What somebody said of an incident.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Feedback {
    /// `true`, `false` or `expected`.
    verdict: String,
    /// Who said it.
    by: Option<String>,
    /// Anything else.
    note: Option<String>,
    /// Epoch milliseconds.
    at: i64,
}

/// A verdict on an incident.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FeedbackBody {
    /// The incident's id.
    incident: String,
    /// Whether it was one: `true`, `false`, or `expected` (it was one, and nobody has to be told).
    verdict: Verdict,
    /// Who says it.
    #[serde(default)]
    by: Option<String>,
    /// Anything else.
    #[serde(default)]
    note: Option<String>,
}

/// As JSON's own true and false, or as text.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Verdict {
    Said(bool),
    Named(NamedVerdict),
}

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NamedVerdict {
    True,
    False,
    Expected,
}

fn body(r: IncidentRow, signals: &Signals) -> (i64, Incident) {
    let i = r.incident;
    let unit = |name: &str| signals.named(name).and_then(|s| s.unit.clone());
    let incident = Incident {
        id: i.id,
        state: if i.state == IncidentState::Open { "open" } else { "resolved" },
        group: i.finding.group,
        model: r.model,
        opened_at: i.opened_at.ms(),
        resolved_at: i.resolved_at.map(Timestamp::ms),
        start: i.finding.start.ms(),
        end: i.finding.end.ms(),
        peak_score: i.finding.peak_score,
        peak_at: i.finding.peak_at.ms(),
        kind: i.finding.kind,
        contributors: i
            .finding
            .contributors
            .into_iter()
            .map(|c| Contributor {
                signal: c.key.to_string(),
                share: c.share,
                actual: c.actual,
                expected: c.expected,
                unit: unit(&c.key.name),
            })
            .collect(),
        feedback: r
            .feedback
            .into_iter()
            .map(|f| Feedback { verdict: f.verdict, by: f.by, note: f.note, at: f.at.ms() })
            .collect(),
    };
    (r.seq, incident)
}

/// Incidents, newest first.
#[utoipa::path(get, path = "/v1/incidents", tag = "reads",
    params(("group" = Option<String>, Query, description = "Only this group"),
        ("state" = Option<String>, Query, description = "open or resolved"),
        ("from" = Option<String>, Query, description = "Epoch milliseconds or RFC 3339"),
        ("to" = Option<String>, Query, description = "Epoch milliseconds or RFC 3339"),
        ("limit" = Option<usize>, Query, description = "1 to 1000, default 100"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the page before")),
    responses((status = 200, body = Page<Incident>), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn list(State(app): State<Arc<App>>, caller: Caller, params: Params) -> Result<Response, Problem> {
    let params = params.only(&["group", "state", "from", "to", "limit", "cursor"])?;
    let limit = params.limit()?;
    let (from, to) = params.range()?;
    let state = match params.text("state") {
        None => None,
        Some("open") => Some(IncidentState::Open),
        Some("resolved") => Some(IncidentState::Resolved),
        Some(s) => {
            return Err(Problem::bad("invalid_parameter", format!("state={s}: give open or resolved")).at("state"));
        }
    };
    let group = params.text("group").map(str::to_owned);
    let before = params.value("cursor")?.unwrap_or(i64::MAX);
    let filter = IncidentFilter { group, state, from, to, before };
    let rows = app.store.call(move |c| ask::incidents(c, &caller.tenant, &filter, limit + 1)).await?;
    let rows = rows.into_iter().map(|r| body(r, &app.tuner.signals)).collect();
    let page = Page::cut(rows, limit, |(seq, _): &(i64, Incident)| seq.to_string());
    Ok(ok(&Page { items: page.items.into_iter().map(|(_, i)| i).collect(), next_cursor: page.next_cursor }))
}

/// One incident.
#[utoipa::path(get, path = "/v1/incidents/{id}", tag = "reads", params(("id" = String, Path)),
    responses((status = 200, body = Incident), (status = 404, body = ProblemBody)))]
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let wanted = id.clone();
    let row = app.store.call(move |c| ask::incident(c, &caller.tenant, &wanted)).await?;
    let row = row.ok_or_else(|| Problem::not_found(format!("there is no incident {id:?}")))?;
    Ok(ok(&body(row, &app.tuner.signals).1))
}

/// Says whether an incident was one.
#[utoipa::path(post, path = "/v1/feedback", tag = "reads", request_body = FeedbackBody,
    responses((status = 201, body = Incident), (status = 404, body = ProblemBody)))]
pub(crate) async fn feedback(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(b): Json<FeedbackBody>,
) -> Result<Response, Problem> {
    let verdict = match b.verdict {
        Verdict::Said(true) | Verdict::Named(NamedVerdict::True) => "true",
        Verdict::Said(false) | Verdict::Named(NamedVerdict::False) => "false",
        Verdict::Named(NamedVerdict::Expected) => "expected",
    };
    let row = FeedbackRow { verdict: verdict.to_owned(), by: b.by, note: b.note, at: app.clock.now() };
    let id = b.incident.clone();
    let found = app
        .store
        .call(move |c| {
            ask::add_feedback(c, &caller.tenant, &id, &row)?;
            ask::incident(c, &caller.tenant, &id)
        })
        .await?;
    let found =
        found.ok_or_else(|| Problem::not_found(format!("there is no incident {:?}", b.incident)).at("/incident"))?;
    Ok(json(StatusCode::CREATED, &body(found, &app.tuner.signals).1))
}
