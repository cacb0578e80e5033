use super::group_id;
use super::intake::{Closed, Intake, Taken};
use super::recent::Recent;
use crate::ModelError;
use crate::evaluate::ReplaySeries;
use foreglow_core::signals::{SignalType, Signals};
use foreglow_core::{CounterRate, Labels, MetricKey, Step, Timestamp};
use std::ops::Range;

/// A group's rows on its grid, by the very rules that a live monitor follows: what models are fitted on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Gridded {
    pub(crate) group: Labels,
    pub(crate) keys: Vec<MetricKey>,
    /// The instant of step 0.
    pub(crate) start: Timestamp,
    pub(crate) step: Step,
    /// Steps that closed, ascending, and their values, row after row.
    steps: Vec<usize>,
    values: Vec<f64>,
    /// For each input row, how many steps there are up to its own.
    reached: Vec<usize>,
}

impl Gridded {
    /// Grids `rows` of a series.
    ///
    /// # Errors
    /// [`ModelError::Data`] when there is no row, or the rules put the columns into several groups.
    pub(crate) fn of(
        rules: &Signals,
        series: &ReplaySeries<'_>,
        rows: Range<usize>,
        step: Option<Step>,
    ) -> Result<Self, ModelError> {
        let group = series.group(rules)?;
        let fail = |problem: String| ModelError::data(format!("group {}", group_id(&group)), problem);
        let keys: Vec<MetricKey> = series.keys.iter().map(|k| rules.place(k).0.signal).collect();
        if let Some(twice) = keys.iter().enumerate().find(|(i, k)| keys[..*i].contains(k)) {
            return Err(fail(format!(
                "two columns are signal {}: drop one, or keep a label that tells them apart",
                twice.1
            )));
        }
        let known: Vec<(MetricKey, bool)> = keys.iter().map(|k| (k.clone(), true)).collect();
        let mut intake = Intake::new(&known);
        for (counter, key) in intake.counters.iter_mut().zip(series.keys) {
            *counter =
                rules.signal_of(key).filter(|s| s.kind == SignalType::CounterRate).map(|_| CounterRate::default());
        }
        let (mut times, mut values) = (Vec::new(), Vec::new());
        let mut close = |_: &mut Recent, closed: &Closed<'_>| {
            times.push(closed.time);
            values.extend_from_slice(closed.values);
        };
        for row in rows.clone() {
            for (lane, column) in series.columns.iter().enumerate() {
                let value = if column[row].is_infinite() { f64::NAN } else { column[row] };
                intake.take(Taken { lane, time: series.timestamps[row], value, index: 0 }, step, &mut close);
            }
        }
        intake.flush(&mut close);
        let Some(clock) = intake.clock.filter(|_| !times.is_empty()) else {
            return Err(fail("it has no row: give at least one".into()));
        };
        let start = times[0];
        let at = |t: Timestamp| clock.index(t) - clock.index(start);
        let mut most = 0;
        let reached = rows
            .map(|row| {
                most = most.max(usize::try_from(at(series.timestamps[row]) + 1).unwrap_or(0));
                most
            })
            .collect();
        let steps = times.iter().map(|t| at(*t) as usize).collect();
        Ok(Self { group, keys, start, step: clock.step, steps, values, reached })
    }

    /// Steps from the first to the last, gaps included.
    pub(crate) fn len(&self) -> usize {
        self.steps.last().map_or(0, |s| s + 1)
    }

    /// Steps that closed.
    pub(crate) fn closed(&self) -> usize {
        self.steps.len()
    }

    /// The instant of the last step.
    pub(crate) fn end(&self) -> Timestamp {
        self.start.plus((self.len() as i64 - 1) * self.step.ms())
    }

    /// Steps and their values.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (usize, &[f64])> {
        self.steps.iter().copied().zip(self.values.chunks_exact(self.keys.len().max(1)))
    }

    /// The steps of a range of input rows; ranges that follow one another share none.
    pub(crate) fn steps_of(&self, rows: &Range<usize>) -> Range<usize> {
        let up_to = |row: usize| row.checked_sub(1).map_or(0, |r| self.reached[r.min(self.reached.len() - 1)]);
        up_to(rows.start)..up_to(rows.end).max(up_to(rows.start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(minute: i64) -> Timestamp {
        Timestamp(1_767_225_600_000 + minute * 60_000)
    }

    #[test]
    fn gaps_repeats_and_backward_steps_keep_their_place() {
        let times: Vec<Timestamp> = [0, 1, 2, 3, 7, 7, 6, 8].into_iter().map(t).collect();
        let keys = [MetricKey::new("x", Labels::new([("series", "s")]))];
        let columns = [vec![0.0, 10.0, 20.0, 30.0, 70.0, 71.0, 60.0, f64::INFINITY]];
        let series = ReplaySeries { keys: &keys, timestamps: &times, columns: &columns };
        let g = Gridded::of(&Signals::default(), &series, 0..8, None).unwrap();
        assert_eq!((g.len(), g.closed(), g.step.ms()), (9, 6, 60_000));
        let rows: Vec<(usize, f64)> = g.rows().map(|(i, v)| (i, v[0])).collect();
        assert_eq!(rows[..5], [(0, 0.0), (1, 10.0), (2, 20.0), (3, 30.0), (7, 70.0)]);
        assert!(rows[5].1.is_nan());
        assert_eq!((g.steps_of(&(0..4)), g.steps_of(&(4..8)), g.steps_of(&(8..8))), (0..4, 4..9, 9..9));
        assert!(Gridded::of(&Signals::default(), &series, 0..0, None).is_err());
    }
}
