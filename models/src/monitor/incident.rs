//! When steps above the line become a finding and a finding an incident: hysteresis.

use super::kind::Shape;
use super::observation::{IncidentEvent, StepResult};
use crate::spec::IncidentRule;
use foreglow_core::{Contribution, Finding, FindingKind, Incident, IncidentState, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A run of steps of one group, from the first above the line until the window of the rule is empty again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Stretch {
    start: Timestamp,
    end: Timestamp,
    peak_score: f64,
    peak_at: Timestamp,
    contributors: Vec<Contribution>,
    shape: Shape,
}

/// An open incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Open {
    id: String,
    opened_at: Timestamp,
    /// Closed steps below the line since the last one above.
    quiet: usize,
}

/// What a group's alarm remembers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Watch {
    /// The last steps, newest in bit 0, 1 = above the line.
    window: u64,
    stretch: Option<Stretch>,
    open: Option<Open>,
    /// A signal is gone: what is open stays open, however quiet the others are.
    #[serde(default)]
    held: bool,
}

impl Watch {
    /// Says, before a step, whether a signal is gone.
    pub(super) fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// The steps of the group are others from now on: those that were remembered do not count with them.
    pub(super) fn restep(&mut self) {
        self.window = 0;
    }

    /// Nobody waits for the group any more: what is open ends.
    pub(super) fn give_up(&mut self, group: &str, time: Timestamp, events: &mut Vec<IncidentEvent>) {
        self.resolve(group, time, events);
    }

    /// Id of the open incident.
    pub(super) fn incident_id(&self) -> Option<&str> {
        self.open.as_ref().map(|o| o.id.as_str())
    }

    /// The open incident.
    pub(super) fn incident(&self, group: &str) -> Option<Incident> {
        Some(incident(group, self.open.as_ref()?, self.stretch.as_ref()?, None))
    }

    /// The stretch that goes on.
    pub(super) fn finding(&self, group: &str) -> Option<Finding> {
        self.stretch.as_ref().map(|s| s.finding(group))
    }

    /// A closed step, `gap` missing steps behind the one before. Says whether the stretch went on.
    pub(super) fn step(
        &mut self,
        rule: IncidentRule,
        result: &StepResult,
        gap: usize,
        events: &mut Vec<IncidentEvent>,
    ) -> bool {
        self.skip(rule, &result.group, result.timestamp, gap, events);
        self.window = (self.window << 1) & mask(rule.of);
        if !result.is_anomaly {
            if let (Some(_), Some(stretch), true) = (&self.open, &mut self.stretch, self.held) {
                stretch.end = result.timestamp;
            } else if let Some(open) = &mut self.open {
                open.quiet += 1;
                if open.quiet >= rule.quiet {
                    self.resolve(&result.group, result.timestamp, events);
                }
            } else if self.window == 0 {
                self.stretch = None;
            }
            return false;
        }
        self.window |= 1;
        match &mut self.stretch {
            Some(stretch) => stretch.extend(result),
            None => self.stretch = Some(Stretch::begin(result)),
        }
        self.raise(rule, &result.group, result.timestamp, self.window.count_ones() as usize >= rule.open, events);
        true
    }

    /// The group fell silent at `time`, seen by the caller's clock: an incident of its own kind, or the end of another.
    pub(super) fn silence(
        &mut self,
        rule: IncidentRule,
        group: &str,
        time: Timestamp,
        events: &mut Vec<IncidentEvent>,
    ) {
        self.absence(rule, group, time, Vec::new(), events);
    }

    /// Signals that come no more at `time`: an incident of its own kind, or more of the one that is open.
    pub(super) fn absence(
        &mut self,
        rule: IncidentRule,
        group: &str,
        time: Timestamp,
        missed: Vec<Contribution>,
        events: &mut Vec<IncidentEvent>,
    ) {
        match &mut self.stretch {
            Some(s) if self.open.is_some() => {
                s.end = time;
                s.shape.silent();
                s.contributors = super::kind::joined(missed, std::mem::take(&mut s.contributors));
            }
            _ => self.stretch = Some(Stretch::silent(time, missed)),
        }
        self.raise(rule, group, time, true, events);
    }

    fn raise(
        &mut self,
        rule: IncidentRule,
        group: &str,
        time: Timestamp,
        enough: bool,
        events: &mut Vec<IncidentEvent>,
    ) {
        debug_assert!(rule.of <= 64);
        let Some(stretch) = &self.stretch else { return };
        if let Some(open) = &mut self.open {
            open.quiet = 0;
            events.push(IncidentEvent::Updated(incident(group, open, stretch, None)));
        } else if enough {
            let open = Open { id: incident_id(group, time), opened_at: time, quiet: 0 };
            events.push(IncidentEvent::Opened(incident(group, &open, stretch, None)));
            self.open = Some(open);
        }
    }

    /// Missing steps: they empty the window, and as many of them as resolve an incident resolve it.
    fn skip(&mut self, rule: IncidentRule, group: &str, time: Timestamp, gap: usize, events: &mut Vec<IncidentEvent>) {
        if gap == 0 {
            return;
        }
        self.window = if gap >= rule.of { 0 } else { (self.window << gap) & mask(rule.of) };
        if self.open.is_some() {
            if gap >= rule.quiet && !self.held {
                self.resolve(group, time, events);
            }
        } else if self.window == 0 {
            self.stretch = None;
        }
    }

    fn resolve(&mut self, group: &str, time: Timestamp, events: &mut Vec<IncidentEvent>) {
        if let (Some(open), Some(stretch)) = (self.open.take(), self.stretch.take()) {
            events.push(IncidentEvent::Resolved(incident(group, &open, &stretch, Some(time))));
        }
        self.window = 0;
    }
}

impl Stretch {
    fn begin(result: &StepResult) -> Self {
        let mut stretch = Self {
            start: result.timestamp,
            end: result.timestamp,
            peak_score: f64::NEG_INFINITY,
            peak_at: result.timestamp,
            contributors: Vec::new(),
            shape: Shape::default(),
        };
        stretch.extend(result);
        stretch
    }

    fn silent(time: Timestamp, contributors: Vec<Contribution>) -> Self {
        let mut shape = Shape::default();
        shape.silent();
        // Silence has no tail probability: it stands at the line.
        Self { start: time, end: time, peak_score: 1.0, peak_at: time, contributors, shape }
    }

    fn extend(&mut self, result: &StepResult) {
        self.end = result.timestamp;
        let peak = result.score > self.peak_score;
        self.shape.add(&result.signals, peak);
        if peak {
            self.peak_score = result.score;
            self.peak_at = result.timestamp;
            self.contributors = super::kind::contributors(&result.signals);
        }
    }

    fn kind(&self) -> FindingKind {
        self.shape.kind()
    }

    fn finding(&self, group: &str) -> Finding {
        Finding {
            group: group.to_owned(),
            start: self.start,
            end: self.end,
            peak_score: self.peak_score,
            peak_at: self.peak_at,
            kind: self.kind(),
            contributors: self.contributors.clone(),
        }
    }
}

fn incident(group: &str, open: &Open, stretch: &Stretch, resolved_at: Option<Timestamp>) -> Incident {
    Incident {
        id: open.id.clone(),
        state: if resolved_at.is_some() { IncidentState::Resolved } else { IncidentState::Open },
        opened_at: open.opened_at,
        resolved_at,
        finding: stretch.finding(group),
    }
}

/// 64 bits of SHA-256 over group and opening time, in hexadecimal.
fn incident_id(group: &str, opened_at: Timestamp) -> String {
    let mut h = Sha256::new();
    h.update(group.as_bytes());
    h.update([0]);
    h.update(opened_at.ms().to_le_bytes());
    let mut id = format!("{:x}", h.finalize());
    id.truncate(16);
    id
}

fn mask(of: usize) -> u64 {
    if of >= 64 { u64::MAX } else { (1 << of) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::{SignalScore, StepStatus};
    use foreglow_core::{Labels, MetricKey};

    const RULE: IncidentRule = IncidentRule { open: 2, of: 3, quiet: 3 };

    fn result(minute: i64, score: f64) -> StepResult {
        let t = Timestamp(1_700_000_000_000 + minute * 60_000);
        let mut r = StepResult::silent("g", t, StepStatus::Scored, false);
        r.score = score;
        r.is_anomaly = score >= 1.0;
        r.signals = vec![SignalScore {
            key: MetricKey::new("cpu", Labels::default()),
            actual: 9.0,
            expected: 1.0,
            lower: 0.0,
            upper: 2.0,
            score,
            share: 1.0,
        }];
        r
    }

    /// One letter an event: o, u, r; a dot where none.
    fn run(scores: &[f64]) -> (String, Vec<Incident>, Watch) {
        let (mut w, mut text, mut all) = (Watch::default(), String::new(), Vec::new());
        for (i, s) in scores.iter().enumerate() {
            let mut events = Vec::new();
            w.step(RULE, &result(i as i64, *s), 0, &mut events);
            for e in &events {
                text.push(match e {
                    IncidentEvent::Opened(_) => 'o',
                    IncidentEvent::Updated(_) => 'u',
                    IncidentEvent::Resolved(_) => 'r',
                });
                all.push(e.incident().clone());
            }
            if events.is_empty() {
                text.push('.');
            }
        }
        (text, all, w)
    }

    #[test]
    fn opens_on_two_of_three_and_resolves_after_three() {
        let (text, all, _) = run(&[2.0, 0.1, 3.0, 0.1, 0.2, 1.5, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(text, "..o..u..r.");
        let last = all.last().unwrap();
        assert_eq!((last.finding.peak_score, last.state), (3.0, IncidentState::Resolved));
        assert_eq!(last.finding.start.ms(), 1_700_000_000_000);
        assert_eq!(last.opened_at.ms() - last.finding.start.ms(), 120_000);
        assert_eq!(last.finding.end.ms() - last.finding.start.ms(), 300_000);
        assert!(all.iter().all(|i| i.id == last.id && i.id.len() == 16));
        assert_eq!(run(&[2.0, 0.0, 0.0, 2.0, 0.0, 0.0]).0, "......", "one of three is no incident");
    }

    #[test]
    fn gaps_empty_the_window_and_resolve() {
        let mut w = Watch::default();
        let mut e = Vec::new();
        w.step(RULE, &result(0, 2.0), 0, &mut e);
        w.step(RULE, &result(3, 2.0), 2, &mut e);
        assert!(e.is_empty() && w.incident("g").is_none());
        w.step(RULE, &result(4, 2.0), 0, &mut e);
        assert!(matches!(e.pop(), Some(IncidentEvent::Opened(_))));
        w.step(RULE, &result(1_000_000, 0.0), 999_995, &mut e);
        assert!(matches!(e.as_slice(), [IncidentEvent::Resolved(_)]));
        assert_eq!(w, Watch::default());
    }

    #[test]
    fn silence_is_an_incident_of_its_own_kind() {
        let mut w = Watch::default();
        let mut e = Vec::new();
        w.silence(RULE, "g", Timestamp(5), &mut e);
        let i = w.incident("g").unwrap();
        assert_eq!((i.finding.kind, i.finding.peak_score), (FindingKind::Missing, 1.0));
        let again: Watch = serde_json::from_str(&serde_json::to_string(&w).unwrap()).unwrap();
        assert_eq!(again, w);
    }
}
