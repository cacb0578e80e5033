use crate::server::{Server, point, points, usual, usual_rows};
use serde_json::Value;

/// One event as it comes over the wire.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    id: String,
    kind: String,
    pub(crate) data: Value,
}

pub(crate) struct Reader {
    response: reqwest::Response,
    text: String,
}

impl Reader {
    pub(crate) async fn open(s: &Server, path: &str, last: Option<&str>) -> Self {
        let mut request = s.request("GET", path);
        if let Some(id) = last {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next event; `None` when the server ended the stream.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let line = block.lines().find_map(|l| l.strip_prefix(name));
                    line.map(|l| l.trim_start_matches(':').trim().to_owned()).unwrap_or_default()
                };
                let data = serde_json::from_str(&field("data")).unwrap_or(Value::Null);
                let event = Event { id: field("id"), kind: field("event"), data };
                let rest = rest.to_owned();
                self.text = rest;
                if !event.kind.is_empty() {
                    return Some(event);
                }
                continue;
            }
            let chunk = self.response.chunk().await.unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

#[tokio::test]
async fn events_come_as_they_happen_and_can_be_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let s = Server::start(dir.path(), |_| ()).await;
    s.posted("/v1/score", &points(&usual_rows("a", 0..600))).await;
    let mut scores = Reader::open(&s, "/v1/stream?kinds=score", None).await;
    let mut incidents = Reader::open(&s, "/v1/stream?kinds=incident", None).await;
    let rows: Vec<Value> = (600..606).map(|i| point("a", i, 500.0, usual("a", i).1)).collect();
    s.posted("/v1/score", &points(&rows)).await;
    let first = scores.next().await.unwrap();
    assert_eq!((first.kind.as_str(), first.data["group"].as_str()), ("score", Some("{host=\"a\"}")));
    let second = scores.next().await.unwrap();
    assert!(second.data["timestamp"].as_i64() > first.data["timestamp"].as_i64());
    let opened = incidents.next().await.unwrap();
    assert_eq!(opened.data["event"], "opened");
    assert_eq!(opened.data["incident"]["finding"]["group"], "{host=\"a\"}");

    let mut again = Reader::open(&s, "/v1/stream?kinds=score", Some(&first.id)).await;
    assert_eq!(again.next().await.unwrap(), second);
    let mut old = Reader::open(&s, "/v1/stream", Some("1")).await;
    assert_eq!(old.next().await.unwrap().kind, "gap", "what is no longer kept is said to be missed");
    s.stop().await;
    assert_eq!(incidents.next().await.map_or(String::new(), |e| e.kind), "incident");
    while scores.next().await.is_some() {}
}
