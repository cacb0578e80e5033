//! Puts together what the shards say of one batch.

use crate::compute::lock;
use crate::registry::Loaded;
use foreglow_core::Labels;
use foreglow_models::monitor::{Refusal, StepResult};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Results of one shard and pipeline.
pub(crate) struct Judged {
    pub(crate) loaded: Arc<Loaded>,
    pub(crate) members: Arc<Vec<String>>,
    pub(crate) results: Vec<(StepResult, Labels)>,
}

/// What was said of a whole batch.
#[derive(Default)]
pub(crate) struct Answer {
    /// Which of `parts` and which result in it: groups in the order of their first sample, steps in the order of time.
    pub(crate) order: Vec<(usize, usize)>,
    pub(crate) parts: Vec<Judged>,
    pub(crate) accepted: usize,
    pub(crate) refused: Vec<Refusal>,
}

impl Answer {
    /// Results in the order of input.
    pub(crate) fn results(&self) -> impl Iterator<Item = (&Judged, &StepResult, &Labels)> {
        self.order.iter().map(|(p, i)| {
            let part = &self.parts[*p];
            let (result, labels) = &part.results[*i];
            (part, result, labels)
        })
    }
}

/// Takes what is said of a whole batch; not called when a shard failed.
pub(super) type Finish = Box<dyn FnOnce(Answer) + Send>;

struct State {
    waiting: usize,
    answer: Answer,
    /// First sample of each group.
    first: HashMap<String, u32>,
    finish: Option<Finish>,
}

/// Waits for the parts of one batch.
pub(super) struct Collector(Mutex<State>);

impl Collector {
    /// For `parts` parts. `refused` are the samples that reached no shard.
    pub(super) fn new(parts: usize, refused: Vec<Refusal>, finish: Finish) -> Arc<Self> {
        let answer = Answer { refused, ..Answer::default() };
        let state = State { waiting: parts, answer, first: HashMap::new(), finish: Some(finish) };
        let collector = Arc::new(Self(Mutex::new(state)));
        if parts == 0 {
            collector.end();
        }
        collector
    }

    /// Adds what one shard said; `first` gives the first sample of each of its groups.
    pub(super) fn add(&self, judged: Judged, accepted: usize, refused: Vec<Refusal>, first: Vec<(String, u32)>) {
        let last = {
            let mut s = lock(&self.0);
            s.answer.parts.push(judged);
            s.answer.accepted += accepted;
            s.answer.refused.extend(refused);
            s.first.extend(first);
            s.waiting -= 1;
            s.waiting == 0
        };
        if last {
            self.end();
        }
    }

    fn end(&self) {
        let mut s = lock(&self.0);
        let mut answer = std::mem::take(&mut s.answer);
        let first = std::mem::take(&mut s.first);
        let finish = s.finish.take();
        drop(s);
        let mut order: Vec<(u32, usize, usize)> = Vec::new();
        for (p, part) in answer.parts.iter().enumerate() {
            for (i, (r, _)) in part.results.iter().enumerate() {
                order.push((first.get(&r.group).copied().unwrap_or(u32::MAX), p, i));
            }
        }
        order.sort_unstable();
        answer.order = order.into_iter().map(|(_, p, i)| (p, i)).collect();
        answer.refused.sort_by_key(|r| r.index);
        if let Some(f) = finish {
            f(answer);
        }
    }
}
