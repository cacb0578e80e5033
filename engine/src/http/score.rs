use super::auth::Caller;
use super::decode::{Decoded, RefusedSample, decode};
use super::extract::{Params, ok, read_body};
use super::problem::{Problem, ProblemBody};
use super::wire::BatchBody;
use crate::EngineError;
use crate::app::App;
use crate::config::is_tenant;
use crate::live::{Answer, Scope};
use crate::telemetry::Telemetry;
use crate::view::{Fields, Step, StepView};
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::{Serialize, Serializer};
use std::sync::Arc;
use tokio::sync::oneshot;
use utoipa::ToSchema;

/// Refused samples that are listed one by one; all are counted.
const LISTED: usize = 10_000;

/// What was said of a batch.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes in OpenAPI what Reply writes without copying")]
pub(crate) struct ScoreReply {
    /// Groups in the order of their first sample, steps of a group in the order of time.
    results: Vec<Step>,
    /// Samples taken.
    accepted: usize,
    /// Samples not taken, at most 10,000 of them.
    refused: Vec<RefusedSample>,
    /// How many were not taken.
    refused_count: usize,
}

struct Results<'a>(&'a Answer, Fields);

impl Serialize for Results<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.0.results().map(|(part, result, group)| StepView {
            result,
            group,
            model: &part.loaded.model,
            members: &part.members,
            fields: self.1,
        }))
    }
}

#[derive(Serialize)]
struct Reply<'a> {
    results: Results<'a>,
    accepted: usize,
    refused: &'a [RefusedSample],
    refused_count: usize,
}

/// What became of a batch that is not waited for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IngestReply {
    /// Samples handed on; what a monitor refuses later (late, conflicting) is counted in `/metrics`.
    accepted: usize,
    /// Samples not taken, at most 10,000 of them.
    refused: Vec<RefusedSample>,
    /// How many were not taken.
    refused_count: usize,
}

fn scope_of(caller: &Caller, params: &Params) -> Result<Scope, Problem> {
    let session = params.text("session").map(|s| {
        if is_tenant(s) {
            Ok(Arc::from(s))
        } else {
            let detail = format!("session={s:?}: expected 1 to 64 letters, digits, _, - or .");
            Err(Problem::bad("invalid_parameter", detail).at("session"))
        }
    });
    Ok(Scope { tenant: caller.tenant.clone(), session: session.transpose()? })
}

fn fields_of(params: &Params) -> Result<Fields, Problem> {
    let Some(text) = params.text("fields") else { return Ok(Fields::ALL) };
    Fields::parse(text).map_err(|name| {
        let detail = format!("{name:?} is no field of a result: there is {}", crate::view::FIELDS.join(", "));
        Problem::bad("invalid_parameter", detail).at("fields")
    })
}

fn count(telemetry: &Telemetry, refused: &[RefusedSample]) {
    for r in refused {
        telemetry.refuse(r.code, 1);
    }
}

/// Scores a batch now, in order, and learns from it.
#[utoipa::path(post, path = "/v1/score", tag = "scoring", request_body = BatchBody<'static>,
    params(
        ("dry_run" = Option<bool>, Query, description = "Score without learning"),
        ("session" = Option<String>, Query, description = "Private state from the model's start state; no incidents"),
        ("fields" = Option<String>, Query, description = "Fields of a result, comma-separated; default all"),
    ),
    responses((status = 200, body = ScoreReply), (status = "4XX", body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(crate) async fn score(
    State(app): State<Arc<App>>,
    caller: Caller,
    params: Params,
    request: Request,
) -> Result<Response, Problem> {
    let params = params.only(&["dry_run", "session", "fields"])?;
    let dry = params.value::<bool>("dry_run")?.unwrap_or(false);
    let (scope, fields) = (scope_of(&caller, &params)?, fields_of(&params)?);
    let permit = app.live.permit()?;
    let body = read_body(&app, request, app.config.limits.max_body).await?;
    let (send, receive) = oneshot::channel();
    let a = app.clone();
    let submitted = app.compute.run(move || {
        let app = a;
        let Decoded { batch, refused } = decode(&body, app.config.limits.max_labels)?;
        let now = app.clock.now();
        app.quota.take(&scope.tenant, batch.len() + refused.len(), now)?;
        count(&app.telemetry, &refused);
        app.live.submit(&scope, &batch, now, dry, move |answer| {
            let rendered = render(&answer, refused, fields);
            // First the place, then the answer: whoever has it may send again.
            drop(permit);
            let _ = send.send(rendered);
        })
    });
    submitted.await??;
    let bytes = receive.await.map_err(|_| EngineError::Stopped("scoring"))??;
    Ok(([(header::CONTENT_TYPE, "application/json")], bytes).into_response())
}

fn render(answer: &Answer, mut refused: Vec<RefusedSample>, fields: Fields) -> Result<Vec<u8>, EngineError> {
    let later = answer.refused.iter();
    refused.extend(later.map(|r| RefusedSample { index: r.index, code: r.code, detail: r.detail.clone() }));
    refused.sort_by_key(|r| r.index);
    let reply = Reply {
        results: Results(answer, fields),
        accepted: answer.accepted,
        refused: &refused[..refused.len().min(LISTED)],
        refused_count: refused.len(),
    };
    let mut bytes = Vec::with_capacity(1024 + 160 * answer.order.len());
    serde_json::to_writer(&mut bytes, &reply)?;
    Ok(bytes)
}

/// Takes a batch as `/v1/score` does, without waiting for what is said of it.
#[utoipa::path(post, path = "/v1/ingest", tag = "scoring", request_body = BatchBody<'static>,
    params(("session" = Option<String>, Query, description = "Private state; no incidents")),
    responses((status = 200, body = IngestReply), (status = 422, description = "All samples were refused", body = ProblemBody),
        (status = "4XX", body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(crate) async fn ingest(
    State(app): State<Arc<App>>,
    caller: Caller,
    params: Params,
    request: Request,
) -> Result<Response, Problem> {
    let params = params.only(&["session"])?;
    let scope = scope_of(&caller, &params)?;
    let permit = app.live.permit()?;
    let body = read_body(&app, request, app.config.limits.max_body).await?;
    let a = app.clone();
    let taken = app.compute.run(move || {
        let app = a;
        let Decoded { batch, mut refused } = decode(&body, app.config.limits.max_labels)?;
        let now = app.clock.now();
        app.quota.take(&scope.tenant, batch.len() + refused.len(), now)?;
        count(&app.telemetry, &refused);
        if let (true, Some(first)) = (batch.is_empty(), refused.first()) {
            let detail = format!("all {} samples were refused, the first one: {}", refused.len(), first.detail);
            return Err(Problem::meaningless("all_refused", detail));
        }
        app.live.submit(&scope, &batch, now, false, move |_| drop(permit))?;
        let refused_count = refused.len();
        refused.truncate(LISTED);
        Ok(IngestReply { accepted: batch.len(), refused, refused_count })
    });
    Ok(ok(&taken.await??))
}
