//! A recorded series through the very code that runs live: one batch a row, one answer a row.

use crate::ModelError;
use crate::monitor::{Detail, IncidentEvent, Monitor, Observation, SignalScore, StepStatus, group_id};
use foreglow_core::signals::Signals;
use foreglow_core::{Incident, Labels, MetricBatch, MetricKey, Timestamp};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

/// The caller's clock in replays: so far ahead that nothing is taken for live.
const NOW: Timestamp = Timestamp(i64::MAX);

/// One file series: rows as they would be posted.
#[derive(Debug, Clone, Copy)]
pub struct ReplaySeries<'a> {
    /// Full keys, one a column.
    pub keys: &'a [MetricKey],
    /// One instant a row, in the order of the file; may repeat or step back.
    pub timestamps: &'a [Timestamp],
    /// One column a key, NaN = missing.
    pub columns: &'a [Vec<f64>],
}

impl ReplaySeries<'_> {
    /// The group that the columns form.
    ///
    /// # Errors
    /// [`ModelError::Data`] when there is no column, the rules put the columns into several groups, or lengths differ.
    pub fn group(&self, rules: &Signals) -> Result<Labels, ModelError> {
        let mut groups: Vec<Labels> = self.keys.iter().map(|k| rules.place(k).0.group).collect();
        groups.sort();
        groups.dedup();
        let names = || groups.iter().take(3).map(group_id).collect::<Vec<_>>().join(", ");
        match groups.as_slice() {
            [] => Err(ModelError::data("a series", "it has no column: give at least one metric")),
            [one] => {
                let odd = self.columns.iter().position(|c| c.len() != self.timestamps.len());
                if self.columns.len() != self.keys.len() || odd.is_some() {
                    let problem = format!(
                        "{} keys, {} columns, {} instants; column {} differs: give one value a row",
                        self.keys.len(),
                        self.columns.len(),
                        self.timestamps.len(),
                        odd.unwrap_or(self.columns.len())
                    );
                    return Err(ModelError::data(format!("group {}", group_id(one)), problem));
                }
                Ok(one.clone())
            }
            many => Err(ModelError::data(
                format!("a series of {} columns", self.keys.len()),
                format!("its columns fall into {} groups ({}): replay each alone", many.len(), names()),
            )),
        }
    }
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayStatus {
    /// Its step's.
    Step(StepStatus),
    /// Refused; the code of the refusal. The score is its step's all the same.
    Refused(&'static str),
}

impl ReplayStatus {
    /// The name in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Step(s) => s.as_str(),
            Self::Refused(code) => code,
        }
    }
}

/// One row's answer. A row that was refused, or merged into a step with another, carries its step's.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayedRow {
    /// 1 is the alert line, NaN = no opinion.
    pub score: f64,
    /// Calibrated tail probability.
    pub p_value: f64,
    /// Scored at or above the line.
    pub is_anomaly: bool,
    /// What became of it.
    pub status: ReplayStatus,
    /// Scores of the members.
    pub members: Vec<f64>,
    /// The signals, where asked for or at or above the line.
    pub signals: Vec<SignalScore>,
}

/// A replay in figures.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReplaySummary {
    /// Rows that were replayed.
    pub rows: usize,
    /// Steps that closed.
    pub steps: usize,
    /// Refused samples by code.
    pub refused: BTreeMap<&'static str, usize>,
    /// Incidents as they ended, or stand at the end; in the order of opening.
    pub incidents: Vec<Incident>,
}

/// Replays `rows` of a series, one batch a row, and hands each row's answer to `sink` with its index, in order. Open steps
/// are closed at the end. With `all_signals` every row lists its signals, else those at or above the line.
///
/// # Errors
/// [`ModelError::Data`] when the columns form no single group (see [`ReplaySeries::group`]).
pub fn replay(
    monitor: &mut Monitor,
    series: &ReplaySeries<'_>,
    rows: Range<usize>,
    all_signals: bool,
    sink: &mut dyn FnMut(usize, &ReplayedRow),
) -> Result<ReplaySummary, ModelError> {
    let id = group_id(&series.group(monitor.pipeline().rules())?);
    let rows = rows.start.min(series.timestamps.len())..rows.end.min(series.timestamps.len());
    let detail = if all_signals { Detail::Full } else { Detail::Anomalous };
    let mut tape = Tape { steps: BTreeMap::new(), waiting: VecDeque::new(), summary: ReplaySummary::default() };
    let mut batch = MetricBatch { keys: series.keys.to_vec(), samples: Vec::with_capacity(series.keys.len()) };
    for row in rows.clone() {
        batch.samples.clear();
        for (c, column) in series.columns.iter().enumerate() {
            batch.push(c, series.timestamps[row], column[row], c);
        }
        let said = monitor.observe_with(&batch, NOW, detail);
        let refused = (said.accepted == 0).then(|| said.refused.first().map(|r| r.code)).flatten();
        tape.waiting.push_back(Waiting { row, time: series.timestamps[row], refused });
        tape.note(said);
        tape.emit(|t| monitor.step_time(&id, t), false, sink);
    }
    tape.note(monitor.flush_with(detail));
    tape.emit(|t| monitor.step_time(&id, t), true, sink);
    tape.summary.rows = rows.len();
    Ok(tape.summary)
}

struct Waiting {
    row: usize,
    time: Timestamp,
    refused: Option<&'static str>,
}

/// Rows that wait for their step's answer, and the answers.
struct Tape {
    steps: BTreeMap<Timestamp, ReplayedRow>,
    waiting: VecDeque<Waiting>,
    summary: ReplaySummary,
}

/// Answers that are kept for rows that step back in time: a day of minutes, doubled.
const KEPT: usize = 4_096;

impl Tape {
    fn note(&mut self, said: Observation) {
        for r in said.refused {
            *self.summary.refused.entry(r.code).or_default() += 1;
        }
        for event in said.incidents {
            let i = event.incident().clone();
            match (event, self.summary.incidents.iter_mut().rev().find(|old| old.id == i.id)) {
                (IncidentEvent::Updated(_) | IncidentEvent::Resolved(_), Some(old)) => *old = i,
                _ => self.summary.incidents.push(i),
            }
        }
        for step in said.results {
            if matches!(step.status, StepStatus::Pending | StepStatus::Duplicate) {
                continue;
            }
            self.summary.steps += 1;
            let answer = ReplayedRow {
                score: step.score,
                p_value: step.p_value,
                is_anomaly: step.is_anomaly,
                status: ReplayStatus::Step(step.status),
                members: step.members,
                signals: step.signals,
            };
            self.steps.insert(step.timestamp, answer);
        }
    }

    /// Answers the rows in front whose step is closed; at the `end` all of them.
    fn emit(
        &mut self,
        step_of: impl Fn(Timestamp) -> Option<Timestamp>,
        end: bool,
        sink: &mut dyn FnMut(usize, &ReplayedRow),
    ) {
        while let Some(first) = self.waiting.front() {
            let step = step_of(first.time);
            let exact = step.and_then(|t| self.steps.get(&t));
            // A refused row may lie in a gap: it gets the answer of the step before.
            let near = || step.and_then(|t| self.steps.range(..=t).next_back()).map(|(_, a)| a);
            let answer = match exact {
                Some(answer) => Some(answer),
                None if end || first.refused.is_some_and(|_| step.is_some()) => near(),
                None => break,
            };
            match answer {
                Some(answer) if first.refused.is_none() => sink(first.row, answer),
                other => {
                    let mut answer = other.cloned().unwrap_or_else(ReplayedRow::unknown);
                    if let Some(code) = first.refused {
                        answer.status = ReplayStatus::Refused(code);
                    }
                    sink(first.row, &answer);
                }
            }
            self.waiting.pop_front();
        }
        while self.waiting.is_empty() && self.steps.len() > KEPT {
            self.steps.pop_first();
        }
    }
}

impl ReplayedRow {
    /// A row of which nothing is known.
    fn unknown() -> Self {
        Self {
            score: f64::NAN,
            p_value: f64::NAN,
            is_anomaly: false,
            status: ReplayStatus::Step(StepStatus::Missing),
            members: Vec::new(),
            signals: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::MonitorOptions;
    use crate::pipeline::Pipeline;
    use crate::spec::Recipe;
    use foreglow_core::Seed;
    use proptest::prelude::*;
    use rand::Rng;
    use std::sync::Arc;

    fn monitor() -> Monitor {
        Monitor::new(Arc::new(Pipeline::online(Signals::default(), &Recipe::default())), MonitorOptions::replay())
    }

    fn t(minute: i64) -> Timestamp {
        Timestamp(1_767_225_600_000 + minute * 60_000)
    }

    fn keys() -> Vec<MetricKey> {
        ["a", "b"].map(|n| MetricKey::new(n, Labels::new([("series", "s")]))).to_vec()
    }

    fn rows_of(times: &[Timestamp], columns: &[Vec<f64>]) -> (Vec<(usize, ReplayedRow)>, ReplaySummary) {
        let keys = keys();
        let series = ReplaySeries { keys: &keys, timestamps: times, columns };
        let mut rows = Vec::new();
        let summary =
            replay(&mut monitor(), &series, 0..times.len(), true, &mut |i, r| rows.push((i, r.clone()))).unwrap();
        (rows, summary)
    }

    #[test]
    fn every_row_gets_an_answer_in_order() {
        let mut rng = Seed(3).rng();
        // An hour repeats, as at the end of daylight saving.
        let minutes: Vec<i64> = (0..200).chain(140..400).collect();
        let times: Vec<Timestamp> = minutes.iter().map(|m| t(*m)).collect();
        let columns: Vec<Vec<f64>> = (0..2).map(|_| minutes.iter().map(|_| rng.r#gen::<f64>()).collect()).collect();
        let (rows, summary) = rows_of(&times, &columns);
        assert!(rows.iter().enumerate().all(|(i, r)| r.0 == i) && rows.len() == 460);
        assert_eq!((summary.rows, summary.steps), (460, 400));
        assert_eq!(summary.refused.values().sum::<usize>(), 120);
        for i in 200..260 {
            assert!(matches!(rows[i].1.status, ReplayStatus::Refused("conflict")), "{:?}", rows[i].1.status);
            assert_eq!(rows[i].1.score.to_bits(), rows[i - 60].1.score.to_bits());
        }
        assert!(rows[300].1.score.is_finite() && rows[300].1.signals.len() == 2);
    }

    #[test]
    fn hopeless_series_are_answered_too() {
        let (rows, _) = rows_of(&[], &[vec![], vec![]]);
        assert!(rows.is_empty());
        let (rows, _) = rows_of(&[t(0)], &[vec![1.0], vec![f64::NAN]]);
        assert!(rows.len() == 1 && rows[0].1.score.is_nan());
        let times: Vec<Timestamp> = (0..100).map(t).collect();
        let (rows, _) = rows_of(&times, &[vec![f64::NAN; 100], vec![f64::INFINITY; 100]]);
        assert!(rows.len() == 100 && rows.iter().all(|r| r.1.score.is_nan()));
        let keys = [MetricKey::new("a", Labels::new([("h", "1")])), MetricKey::new("a", Labels::new([("h", "2")]))];
        let series = ReplaySeries { keys: &keys, timestamps: &times, columns: &[vec![0.0; 100], vec![0.0; 100]] };
        let e = replay(&mut monitor(), &series, 0..1, false, &mut |_, _| {}).unwrap_err().to_string();
        assert!(e.contains("2 groups"), "{e}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn no_order_of_instants_loses_a_row(minutes in prop::collection::vec(0i64..60, 1..120)) {
            let times: Vec<Timestamp> = minutes.iter().map(|m| t(*m)).collect();
            let columns = vec![vec![1.0; times.len()], vec![2.0; times.len()]];
            let (rows, _) = rows_of(&times, &columns);
            prop_assert!(rows.iter().enumerate().all(|(i, r)| r.0 == i) && rows.len() == times.len());
        }
    }
}
