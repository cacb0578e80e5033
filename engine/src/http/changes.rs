use super::auth::Caller;
use super::extract::{Json, Page, Params, json, ok};
use super::problem::{Problem, ProblemBody};
use crate::app::{App, QUIET_KINDS, suppression};
use crate::config::labels_json;
use crate::store::{ConfigurationRow, NewChange, ask};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use foreglow_core::{Labels, Selector, Timestamp};
use foreglow_search::Assignment;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// An instant in a body: epoch milliseconds or RFC 3339.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Instant {
    /// Epoch milliseconds.
    Ms(i64),
    /// RFC 3339.
    Text(String),
}

impl Instant {
    /// The instant.
    ///
    /// # Errors
    /// 422 with the pointer given.
    pub(crate) fn check(&self, pointer: &str) -> Result<Timestamp, Problem> {
        let parsed = match self {
            Self::Ms(ms) => Timestamp::from_epoch_ms(*ms),
            Self::Text(t) => t.parse(),
        };
        parsed.map_err(|e| Problem::meaningless("invalid_timestamp", e.to_string()).at(pointer))
    }
}

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Another version runs.
    Deploy,
    /// Other parameters.
    Config,
    /// More or fewer instances.
    Scale,
    /// A switch.
    Flag,
    /// Somebody works on it: nothing is raised.
    Maintenance,
    /// Nothing may be changed: nothing is recommended or raised.
    Freeze,
    /// More load than usual is expected: nothing is raised.
    ExpectedLoad,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Config => "config",
            Self::Scale => "scale",
            Self::Flag => "flag",
            Self::Maintenance => "maintenance",
            Self::Freeze => "freeze",
            Self::ExpectedLoad => "expected_load",
        }
    }
}

/// A change to the system that is watched.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeBody {
    /// What changed.
    kind: Kind,
    /// What it touches, as `{service="a"}`; needed for maintenance, freeze and `expected_load`.
    #[serde(default)]
    selector: Option<String>,
    /// When it begins; default now.
    #[serde(default)]
    start: Option<Instant>,
    /// When it ends; default never. A maintenance, freeze or `expected_load` of the same selector and start posted again is told
    /// anew, and so can be ended.
    #[serde(default)]
    end: Option<Instant>,
    /// Where it is described: a ticket, a commit.
    #[serde(default)]
    reference: Option<String>,
    /// The parameters it sets; with kind `config` and an entity it is a configuration.
    #[serde(default)]
    #[schema(value_type = Object)]
    parameters: Assignment,
    /// The entity that runs with the parameters, as labels.
    #[serde(default)]
    entity: Option<BTreeMap<String, String>>,
}

/// A change as it is written down.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Change {
    kind: Kind,
    selector: Option<String>,
    /// Epoch milliseconds.
    start: i64,
    /// Epoch milliseconds; null: never.
    end: Option<i64>,
    reference: Option<String>,
    #[schema(value_type = Object)]
    parameters: Assignment,
    entity: Option<BTreeMap<String, String>>,
}

/// A change with its number.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Numbered {
    /// Its number.
    id: i64,
    /// What was posted.
    #[schema(value_type = Change)]
    change: Box<RawValue>,
}

/// "This entity runs with these parameters since then."
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfigurationBody {
    /// Labels of what is configured.
    entity: BTreeMap<String, String>,
    /// Its parameters; what is not named stays as it was.
    #[schema(value_type = Object)]
    parameters: Assignment,
    /// Since when; default now.
    #[serde(default)]
    since: Option<Instant>,
    /// Where it is described.
    #[serde(default, rename = "ref")]
    reference: Option<String>,
}

/// Writes down a change.
#[utoipa::path(post, path = "/v1/changes", tag = "changes", request_body = ChangeBody,
    responses((status = 201, body = Numbered), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn add(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(b): Json<ChangeBody>,
) -> Result<Response, Problem> {
    write(&app, &caller, b).await
}

/// Short for a change of kind `config`: the metrics of the entity are kept from now on, and trials are cut from them.
#[utoipa::path(post, path = "/v1/configurations", tag = "changes", request_body = ConfigurationBody,
    responses((status = 201, body = Numbered), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn configure(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(b): Json<ConfigurationBody>,
) -> Result<Response, Problem> {
    if b.parameters.is_empty() {
        let problem = Problem::meaningless("empty", "parameters is empty: name at least one with its value");
        return Err(problem.at("/parameters"));
    }
    let change = ChangeBody {
        kind: Kind::Config,
        selector: None,
        start: b.since,
        end: None,
        reference: b.reference,
        parameters: b.parameters,
        entity: Some(b.entity),
    };
    write(&app, &caller, change).await
}

async fn write(app: &Arc<App>, caller: &Caller, b: ChangeBody) -> Result<Response, Problem> {
    let start = b.start.as_ref().map(|t| t.check("/start")).transpose()?.unwrap_or_else(|| app.clock.now());
    let end = b.end.as_ref().map(|t| t.check("/end")).transpose()?;
    if end.is_some_and(|e| e <= start) {
        return Err(Problem::meaningless("invalid_range", "the change ends before it starts").at("/end"));
    }
    if let Some(s) = &b.selector {
        s.parse::<Selector>().map_err(|e| Problem::meaningless("invalid_selector", e.to_string()).at("/selector"))?;
    } else if QUIET_KINDS.contains(&b.kind.name()) {
        let detail = format!("{} needs a selector, such as {{service=\"a\"}}", b.kind.name());
        return Err(Problem::meaningless("no_selector", detail).at("/selector"));
    }
    if b.kind != Kind::Config && b.entity.is_some() {
        let detail = "entity belongs to kind config: say what it touches by selector";
        return Err(Problem::meaningless("entity", detail).at("/entity"));
    }
    let change = Change {
        kind: b.kind,
        selector: b.selector.clone(),
        start: start.ms(),
        end: end.map(Timestamp::ms),
        reference: b.reference.clone(),
        parameters: b.parameters.clone(),
        entity: b.entity.clone(),
    };
    let body = serde_json::to_string(&change).map_err(crate::EngineError::from)?;
    let new = NewChange { kind: b.kind.name().to_owned(), selector: b.selector, start, end, body: body.clone() };
    let quiet = suppression(&new);
    let tenant = caller.tenant.clone();
    if let (Kind::Config, Some(entity), false) = (b.kind, b.entity, b.parameters.is_empty()) {
        let entity = Labels::from(entity);
        let parameters = serde_json::to_string(&b.parameters).map_err(crate::EngineError::from)?;
        let row = ConfigurationRow { entity: labels_json(&entity), since: start, parameters, reference: b.reference };
        app.slow(move |app| Ok(app.tuner.configure(&tenant, &entity, row)?)).await?;
        app.events.send(&caller.tenant, "configuration", body.clone());
    } else {
        app.events.send(&caller.tenant, "change", body.clone());
    }
    let tenant = caller.tenant.clone();
    let again = QUIET_KINDS.contains(&b.kind.name());
    let id = app.store.call(move |c| ask::add_change(c, &tenant, &new, again)).await?;
    if let Some(s) = quiet {
        app.live.suppress(&caller.tenant, &s);
    }
    let change = RawValue::from_string(body).map_err(crate::EngineError::from)?;
    Ok(json(StatusCode::CREATED, &Numbered { id, change }))
}

/// Changes, newest first.
#[utoipa::path(get, path = "/v1/changes", tag = "changes",
    params(("limit" = Option<usize>, Query, description = "1 to 1000, default 100"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the page before")),
    responses((status = 200, body = Page<Numbered>), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn list(State(app): State<Arc<App>>, caller: Caller, params: Params) -> Result<Response, Problem> {
    let params = params.only(&["limit", "cursor"])?;
    let (limit, before) = (params.limit()?, params.value("cursor")?.unwrap_or(i64::MAX));
    let rows = app.store.call(move |c| ask::changes(c, &caller.tenant, before, limit + 1)).await?;
    let items = rows.into_iter().map(|(id, change)| Numbered { id, change }).collect();
    Ok(ok(&Page::cut(items, limit, |c: &Numbered| c.id.to_string())))
}
