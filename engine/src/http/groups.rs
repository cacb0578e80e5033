use super::auth::Caller;
use super::extract::{Page, Params, ok};
use super::problem::{Problem, ProblemBody};
use crate::app::App;
use crate::live::{Scope, ServedGroup};
use crate::store::ask;
use crate::view::number;
use axum::extract::{Path, State};
use axum::response::Response;
use foreglow_core::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// One group.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Group {
    /// Its id: its labels as text.
    id: String,
    /// Its labels.
    labels: BTreeMap<String, String>,
    /// What serves it: `name/id` of an artifact, or `online`.
    model: String,
    /// What became of its newest closed step.
    status: &'static str,
    /// Score of that step; 1 is the alert line.
    score: Option<f64>,
    /// Epoch milliseconds of that step.
    newest: Option<i64>,
    /// Distance of steps; null while it is being found.
    step: Option<String>,
    /// Epoch milliseconds at which warm-up will be over, while it lasts.
    ready_at: Option<i64>,
    /// The group was unknown when the artifact was fitted.
    inherited: bool,
    /// Id of the open incident.
    incident: Option<String>,
    /// How many signals it has.
    signals: usize,
}

impl Group {
    fn of(g: &ServedGroup) -> Self {
        let i = &g.info;
        Self {
            id: i.id.clone(),
            labels: i.labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
            model: g.loaded.model.to_string(),
            status: i.status.as_str(),
            score: number(i.score),
            newest: i.newest.map(Timestamp::ms),
            step: i.step.map(|s| s.to_string()),
            ready_at: i.ready_at.map(Timestamp::ms),
            inherited: i.inherited,
            incident: i.incident.clone(),
            signals: i.signals.len(),
        }
    }
}

/// One group in full.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GroupDetail {
    #[serde(flatten)]
    group: Group,
    /// Its signals.
    signal_keys: Vec<String>,
    /// Why this model serves it.
    reason: String,
    /// What else could or could not, and why.
    runners_up: Vec<RunnerUp>,
    /// Its memory in bytes.
    bytes: usize,
    /// Its newest steps, newest first.
    recent: Vec<RecentStep>,
}

/// A model that does not serve the group.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunnerUp {
    /// The model.
    model: String,
    /// Why it stands where it stands.
    reason: String,
}

/// A step that was judged before.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecentStep {
    /// Epoch milliseconds.
    timestamp: i64,
    /// What became of it.
    status: String,
    /// Its score.
    score: Option<f64>,
}

/// The groups, by id.
#[utoipa::path(get, path = "/v1/groups", tag = "reads",
    params(("limit" = Option<usize>, Query, description = "1 to 1000, default 100"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the page before"),
        ("model" = Option<String>, Query, description = "Only groups of this model"),
        ("status" = Option<String>, Query, description = "Only groups with this status")),
    responses((status = 200, body = Page<Group>), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn list(State(app): State<Arc<App>>, caller: Caller, params: Params) -> Result<Response, Problem> {
    let params = params.only(&["limit", "cursor", "model", "status"])?;
    let limit = params.limit()?;
    let scope = Scope { tenant: caller.tenant, session: None };
    let (model, status) = (params.text("model"), params.text("status"));
    let items = app
        .live
        .groups(&scope)
        .await?
        .iter()
        .filter(|g| params.text("cursor").is_none_or(|c| g.info.id.as_str() > c))
        .filter(|g| model.is_none_or(|m| *g.loaded.model == *m))
        .filter(|g| status.is_none_or(|s| g.info.status.as_str() == s))
        .take(limit + 1)
        .map(Group::of)
        .collect();
    Ok(ok(&Page::cut(items, limit, |g: &Group| g.id.clone())))
}

/// One group: its model, why, and what came next.
#[utoipa::path(get, path = "/v1/groups/{id}", tag = "reads",
    params(("id" = String, Path, description = "The group's id, percent-encoded"),
        ("recent" = Option<usize>, Query, description = "How many of the newest steps, at most 1000; default 60")),
    responses((status = 200, body = GroupDetail), (status = 404, body = ProblemBody)))]
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response, Problem> {
    let params = params.only(&["recent"])?;
    let recent = params.value::<usize>("recent")?.unwrap_or(60).min(1000);
    let scope = Scope { tenant: caller.tenant.clone(), session: None };
    let (g, bytes, choice) = app
        .live
        .group(&scope, &id)
        .await?
        .ok_or_else(|| Problem::not_found(format!("there is no group {id:?}: see /v1/groups")))?;
    let rows = app.store.call(move |c| ask::recent_results(c, &caller.tenant, &id, recent)).await?;
    let (reason, others) = match choice {
        Some(c) => (c.reason, c.runners_up),
        None => ("from saved state; nothing was sent since the start".to_owned(), Vec::new()),
    };
    Ok(ok(&GroupDetail {
        group: Group::of(&g),
        signal_keys: g.info.signals.iter().map(ToString::to_string).collect(),
        reason,
        runners_up: others.into_iter().map(|(m, reason)| RunnerUp { model: m.to_string(), reason }).collect(),
        bytes,
        recent: rows.into_iter().map(|(t, status, score)| RecentStep { timestamp: t.ms(), status, score }).collect(),
    }))
}
