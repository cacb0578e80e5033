//! What `/v1/stream` sends: a bounded memory of events, so that a reader who comes back misses nothing recent.

use crate::compute::lock;
use foreglow_core::Timestamp;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::sync::broadcast;

/// Events kept for readers who come back.
const KEPT: usize = 8192;
/// Events a slow reader may be behind before it goes on from the memory.
const BEHIND: usize = 1024;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// Ascending, also over restarts.
    pub(crate) id: u64,
    /// Whose it is.
    pub(crate) tenant: Arc<str>,
    /// `score`, `incident`, `change`, `configuration`, `recommendation`, `trigger`.
    pub(crate) kind: &'static str,
    /// A JSON object.
    pub(crate) data: String,
}

#[derive(Debug)]
struct Memory {
    next: u64,
    kept: VecDeque<Arc<Event>>,
}

/// The memory and the way to those who listen.
#[derive(Debug)]
pub(crate) struct Events {
    memory: Mutex<Memory>,
    live: broadcast::Sender<Arc<Event>>,
}

/// What a reader gets first.
#[derive(Debug)]
pub(crate) struct Replay {
    /// Events after the last one seen, oldest first.
    pub(crate) events: Vec<Arc<Event>>,
    /// Whether events in between are no longer kept.
    pub(crate) gap: bool,
    /// What comes after them.
    pub(crate) live: broadcast::Receiver<Arc<Event>>,
    /// The newest event of anybody at this instant.
    pub(crate) newest: u64,
}

impl Events {
    /// An empty memory. Numbers start from the time, so that they ascend over restarts.
    pub(crate) fn new(started: Timestamp) -> Self {
        let next = (started.ms().max(1) as u64) << 16;
        Self { memory: Mutex::new(Memory { next, kept: VecDeque::new() }), live: broadcast::channel(BEHIND).0 }
    }

    /// Adds an event and hands it to those who listen.
    pub(crate) fn send(&self, tenant: &Arc<str>, kind: &'static str, data: String) {
        let mut m = lock(&self.memory);
        let event = Arc::new(Event { id: m.next, tenant: tenant.clone(), kind, data });
        m.next += 1;
        if m.kept.len() == KEPT {
            m.kept.pop_front();
        }
        m.kept.push_back(event.clone());
        // Under the lock, or a reader that starts in between would see it twice or not at all.
        let _ = self.live.send(event);
    }

    /// What `tenant` has not seen after `last` (nothing from before for a reader without `last`), and what comes.
    pub(crate) fn subscribe(&self, tenant: &str, last: Option<u64>) -> Replay {
        let m = lock(&self.memory);
        let (live, newest) = (self.live.subscribe(), m.next - 1);
        let Some(last) = last else { return Replay { events: Vec::new(), gap: false, live, newest } };
        let oldest = m.kept.front().map_or(m.next, |e| e.id);
        let events = m.kept.iter().filter(|e| e.id > last && *e.tenant == *tenant).cloned().collect();
        Replay { events, gap: last.saturating_add(1) < oldest, live, newest }
    }

    /// How many listen.
    pub(crate) fn readers(&self) -> usize {
        self.live.receiver_count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_resume_where_they_stopped() {
        let e = Events::new(Timestamp(1_767_225_600_000));
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut listening = e.subscribe("a", None).live;
        e.send(&a, "score", "1".into());
        e.send(&b, "score", "2".into());
        e.send(&a, "incident", "3".into());
        let first = listening.try_recv().unwrap();
        let again = e.subscribe("a", Some(first.id));
        assert!(!again.gap);
        assert_eq!(again.events.iter().map(|e| e.data.as_str()).collect::<Vec<_>>(), ["3"]);
        let newest = e.subscribe("a", None).newest;
        assert_eq!(e.subscribe("a", Some(newest)).events.len(), 0);
        for _ in 0..KEPT {
            e.send(&a, "score", "x".into());
        }
        assert!(e.subscribe("a", Some(first.id)).gap);
        drop(again);
        assert_eq!(e.readers(), 1);
    }
}
