//! A group that comes at another step than the one that was found for it.

use super::clock::Clock;
use super::group::{Context, Group, Scorer};
use super::recent::SURE;
use crate::pipeline::{Pipeline, RowScore};
use foreglow_core::{Labels, Row, Step, Timestamp};
use serde::{Deserialize, Serialize};

/// Distances between samples are regular when the longest is at most so much longer than the shortest.
const REGULAR: f64 = 1.25;

/// The instants of one series since it came more than once in a step: whether its group is fed faster than its step says.
///
/// Two senders of one series look the same until their distances are compared; those are left to be refused.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Faster {
    lane: usize,
    /// At most [`SURE`] + 1; none while nothing comes too fast.
    times: Vec<Timestamp>,
}

impl Faster {
    /// A sample came at `t` for a step that was closed with its value of `before`.
    pub(super) fn begin(&mut self, lane: usize, before: Timestamp, t: Timestamp) {
        if self.times.is_empty() && before < t {
            *self = Self { lane, times: vec![before, t] };
        }
    }

    /// A sample that came, whatever becomes of it.
    pub(super) fn note(&mut self, lane: usize, t: Timestamp) {
        if lane != self.lane || self.times.last().is_none_or(|last| *last >= t) {
            return;
        }
        if self.times.len() > SURE {
            self.times.clear();
            return;
        }
        self.times.push(t);
    }

    /// The distance of its samples, milliseconds, when there are enough of them, they are regular, and the step is longer.
    pub(super) fn pace(&self, step: Step) -> Option<i64> {
        if self.times.len() <= SURE {
            return None;
        }
        let mut distances: Vec<i64> = self.times.windows(2).map(|w| w[1].ms() - w[0].ms()).collect();
        distances.sort_unstable();
        let (least, pace, most) = (distances[0], distances[SURE / 2], distances[SURE - 1]);
        (most as f64 <= REGULAR * least as f64 && 3 * pace <= 2 * step.ms()).then_some(pace)
    }
}

impl Group {
    /// Goes on at another step, from `t` on. The models begin anew, with what is kept of the past.
    pub(super) fn restep(&mut self, step: Step, t: Timestamp, ctx: &Context<'_>) {
        let Self { intake, judge, .. } = self;
        let (Some(old), Some(newest)) = (intake.clock, intake.newest) else { return };
        intake.restep(step, t);
        let (Some(clock), Some(last)) = (intake.clock, intake.newest) else { return };
        for p in &mut judge.presence {
            p.restep(old.step, step);
        }
        judge.watch.restep();
        judge.dirty = true;
        let Some(before) = judge.scorer.take() else { return };
        let place = |back: i64| clock.index(old.time(newest - back)).min(last);
        let mut now = Scorer::new(ctx.pipeline, &judge.labels, intake.keys.len(), step);
        now.grow(ctx.pipeline, &intake.keys);
        now.learn(ctx.pipeline, &judge.labels, clock, &before.history.rows(), place);
        judge.scorer = Some(now);
    }
}

impl Scorer {
    /// Takes rows of another grid, oldest first, without a word about them. `place` gives the step that a row belongs to by
    /// how many rows follow it; within a step the last value wins, as in [`Intake`](super::intake::Intake).
    fn learn(
        &mut self,
        pipeline: &Pipeline,
        group: &Labels,
        clock: Clock,
        rows: &[Vec<f64>],
        place: impl Fn(i64) -> i64,
    ) {
        let mut steps: Vec<(i64, Vec<f64>)> = Vec::new();
        for (row, back) in rows.iter().zip((0..rows.len() as i64).rev()) {
            if row.iter().all(|v| v.is_nan()) {
                continue;
            }
            let index = place(back);
            if steps.last().is_none_or(|s| s.0 != index) {
                steps.push((index, vec![f64::NAN; self.state.signals()]));
            }
            let values = steps.last_mut().into_iter().flat_map(|s| &mut s.1);
            values.zip(row).filter(|(_, v)| !v.is_nan()).for_each(|(to, v)| *to = *v);
        }
        let mut said = RowScore::default();
        let mut before = None;
        for (index, values) in &steps {
            let gap = before.map_or(0, |b| (index - b - 1) as usize);
            before = Some(*index);
            pipeline.score(group, &mut self.state, &Row { time: clock.time(*index), values, gap }, &mut said);
            self.history.push_missing(gap);
            self.history.push(values);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::monitor::tests::{batch, monitor, wave};
    use crate::monitor::{IncidentEvent, Monitor, StepStatus};
    use foreglow_core::Timestamp;

    const ID: &str = r#"{host="a"}"#;

    fn at(second: i64) -> Timestamp {
        Timestamp(1_767_225_600_000 + 1_000 * second)
    }

    /// Two signals every `step` seconds, up to `to`; with the saved state taken up again after each batch.
    fn feed(
        m: &mut Monitor,
        from: i64,
        to: i64,
        step: i64,
        value: impl Fn(i64, &str) -> f64,
    ) -> (usize, Vec<IncidentEvent>) {
        let (mut refused, mut incidents) = (0, Vec::new());
        for t in (from..to).step_by(step as usize) {
            let rows = [("cpu", "a", at(t), value(t, "cpu")), ("mem", "a", at(t), value(t, "mem"))];
            let o = m.observe(&batch(&rows), at(t));
            refused += o.refused.len();
            incidents.extend(o.incidents);
            let bytes = m.export_group(ID).unwrap();
            m.import_group(&bytes).unwrap();
        }
        (refused, incidents)
    }

    fn step(m: &Monitor) -> i64 {
        m.group(ID).unwrap().step.unwrap().ms() / 1_000
    }

    /// Scrapes were set from 15 seconds to a minute: what is wrong afterwards is found, and nothing that was learnt is lost.
    #[test]
    fn a_slower_group_is_watched_on() {
        for shift in [0, 7, 8] {
            let mut m = monitor();
            feed(&mut m, 0, 6_000, 15, wave);
            assert_eq!(step(&m), 15);
            let from = 6_000 + shift;
            assert_eq!(feed(&mut m, from, from + 60 * 18, 60, wave), (0, Vec::new()));
            let info = m.group(ID).unwrap();
            assert_eq!((step(&m), info.status), (60, StepStatus::Scored), "{shift}");
            let past = m.history(ID, &info.signals[0]).unwrap();
            let there = past.values.iter().filter(|v| !v.is_nan()).count();
            assert!(past.step.ms() == 60_000 && (117..=119).contains(&there), "{there} of {}", past.values.len());
            let from = from + 60 * 18;
            let (_, incidents) = feed(&mut m, from, from + 300, 60, |t, s| 9.0 + wave(t, s));
            assert!(matches!(incidents[0], IncidentEvent::Opened(_)), "{incidents:?}");
        }
    }

    /// The other way: nothing is refused any more.
    #[test]
    fn a_faster_group_is_taken_whole() {
        for shift in [0, 20, 31] {
            let mut m = monitor();
            feed(&mut m, 0, 12_000, 60, wave);
            let from = 12_000 + shift;
            feed(&mut m, from, from + 600, 15, wave);
            assert_eq!((step(&m), m.group(ID).unwrap().status), (15, StepStatus::Scored), "{shift}");
            let from = from + 600;
            assert_eq!(feed(&mut m, from, from + 600, 15, wave), (0, Vec::new()));
            let (_, incidents) = feed(&mut m, from + 600, from + 700, 15, |t, s| 9.0 + wave(t, s));
            assert!(matches!(incidents[0], IncidentEvent::Opened(_)), "{incidents:?}");
        }
    }

    /// Two senders of one series, or rows that are missing at random, are no other step.
    #[test]
    fn what_is_irregular_keeps_its_step() {
        let mut m = monitor();
        feed(&mut m, 0, 6_000, 60, wave);
        for t in (6_000..12_000).step_by(60) {
            let late = ("cpu", "a", at(t + 20), 3.0 + wave(t, "x"));
            let rows = [("cpu", "a", at(t), wave(t, "cpu")), ("mem", "a", at(t), wave(t, "mem")), late];
            assert_eq!(m.observe(&batch(&rows), at(t)).refused.len(), 1);
        }
        assert_eq!(step(&m), 60);
        let mut m = monitor();
        feed(&mut m, 0, 6_000, 60, wave);
        let mut rows = Vec::new();
        for i in (100..2_000).filter(|i| (i * i / 7) % 5 < 2) {
            rows.push(("cpu", "a", at(60 * i), wave(i, "cpu")));
        }
        m.observe(&batch(&rows), at(0));
        assert_eq!(step(&m), 60);
    }
}
