use super::auth::Caller;
use super::extract::Params;
use super::problem::{Problem, ProblemBody};
use crate::app::App;
use crate::events::{Event, Replay};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// Kinds that can be asked for.
const KINDS: [&str; 7] = ["score", "incident", "change", "configuration", "recommendation", "trigger", "auto"];

fn write(e: &Event) -> sse::Event {
    sse::Event::default().id(e.id.to_string()).event(e.kind).data(&e.data)
}

/// Tells a reader that it missed events which are no longer kept; everything can still be read by the other routes.
fn gap() -> sse::Event {
    let data = r#"{"missed":true,"read":["/v1/anomalies","/v1/incidents","/v1/recommendations"]}"#;
    sse::Event::default().event("gap").data(data)
}

/// Server-sent events: closed steps, incidents, changes, recommendations. `Last-Event-ID` (or `last_event_id`) resumes;
/// when what was missed is no longer kept, an event `gap` says so.
#[utoipa::path(get, path = "/v1/stream", tag = "reads",
    params(("kinds" = Option<String>, Query, description = "score, incident, change, configuration, recommendation, trigger, auto; default all"),
        ("last_event_id" = Option<u64>, Query, description = "For clients that cannot send the header"),
        ("Last-Event-ID" = Option<u64>, Header, description = "The last event seen")),
    responses((status = 200, description = "text/event-stream", content_type = "text/event-stream", body = String),
        (status = "4XX", body = ProblemBody)))]
pub(crate) async fn stream(
    State(app): State<Arc<App>>,
    caller: Caller,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let params = params.only(&["kinds", "last_event_id"])?;
    let kinds: Vec<String> = params.text("kinds").map_or_else(
        || KINDS.iter().map(|k| (*k).to_owned()).collect(),
        |t| t.split(',').map(|k| k.trim().to_owned()).collect(),
    );
    if let Some(k) = kinds.iter().find(|k| !KINDS.contains(&k.as_str())) {
        return Err(Problem::bad("invalid_parameter", format!("{k:?}: there is {}", KINDS.join(", "))).at("kinds"));
    }
    let last =
        match headers.get("last-event-id") {
            Some(v) => Some(v.to_str().ok().and_then(|v| v.parse().ok()).ok_or_else(|| {
                Problem::bad("invalid_parameter", "expected the number of an event").at("Last-Event-ID")
            })?),
            None => params.value::<u64>("last_event_id")?,
        };
    let Replay { events, gap: missed, live, newest } = app.events.subscribe(&caller.tenant, last);
    let wanted = move |e: &Arc<Event>| kinds.iter().any(|k| k == e.kind);
    let first = stream::iter(missed.then(gap))
        .chain(stream::iter(events.into_iter().filter(wanted.clone()).map(|e| write(&e)).collect::<Vec<_>>()));
    let following =
        Following { app: app.clone(), tenant: caller.tenant, wanted, live, missed: VecDeque::new(), last: newest };
    let rest = stream::unfold(following, |mut f| async move { f.next().await.map(|e| (e, f)) });
    let mut stopping = app.stopping.clone();
    let stopped = async move {
        let _ = stopping.wait_for(|s| *s).await;
    };
    let all = first.chain(rest).take_until(Box::pin(stopped)).map(Ok::<_, Infallible>);
    Ok(Sse::new(all).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))).into_response())
}

/// A reader that follows.
struct Following<W> {
    app: Arc<App>,
    tenant: Arc<str>,
    wanted: W,
    live: Receiver<Arc<Event>>,
    /// What was missed and is still kept.
    missed: VecDeque<Arc<Event>>,
    /// The last event seen, wanted or not.
    last: u64,
}

impl<W: Fn(&Arc<Event>) -> bool> Following<W> {
    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            let event = match self.missed.pop_front() {
                Some(e) => e,
                None => match self.live.recv().await {
                    Ok(e) => e,
                    // Too slow, as with many groups and few kinds asked for: what is kept of it follows, in order.
                    Err(RecvError::Lagged(_)) => {
                        let again = self.app.events.subscribe(&self.tenant, Some(self.last));
                        (self.live, self.missed) = (again.live, again.events.into());
                        if again.gap {
                            return Some(gap());
                        }
                        continue;
                    }
                    Err(RecvError::Closed) => return None,
                },
            };
            if event.id <= self.last {
                continue;
            }
            self.last = event.id;
            if event.tenant == self.tenant && (self.wanted)(&event) {
                return Some(write(&event));
            }
        }
    }
}
