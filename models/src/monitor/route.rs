//! From a batch to the order in which each group takes its samples.

use super::MonitorOptions;
use super::observation::{Observation, Refusal};
use super::refusal;
use foreglow_core::{BatchSample, MetricBatch, Timestamp};

/// Labels of a series at most: systems that measure themselves stay far below.
const MOST_LABELS: usize = 128;
/// Instants from outside lie within 100 million days of the epoch, as calendars have it, so that no sum overflows.
const CALENDAR: u64 = 8_640_000_000_000_000;

/// One sample on its way: which group, in which order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Visit {
    /// The group's place, by first appearance in the batch.
    pub(super) turn: usize,
    /// The latest instant of its series so far in this batch.
    pub(super) reached: Timestamp,
    /// Place in the batch.
    pub(super) at: usize,
    pub(super) value: f64,
}

/// The guards that need no group. `Some(value)`: go on with it; an infinite value is refused and goes on as missing, so
/// that its step need not wait for it.
pub(super) fn guard(
    batch: &MetricBatch,
    sample: &BatchSample,
    now: Timestamp,
    options: &MonitorOptions,
    out: &mut Observation,
) -> Option<f64> {
    let key = batch.keys.get(sample.series as usize)?;
    let mut refuse = |code, detail| out.refused.push(Refusal { index: sample.index, code, detail });
    let t = sample.timestamp;
    if t.ms().unsigned_abs() > CALENDAR {
        refuse(refusal::OUT_OF_RANGE, format!("{t} is no instant of a calendar: expected epoch milliseconds"));
        return None;
    }
    if let Some(most) = options.max_future
        && t > now.plus(most)
    {
        refuse(
            refusal::FUTURE,
            format!("{t} lies more than {most} ms after {now}: check the sender's clock or its unit of time"),
        );
        return None;
    }
    if key.labels.len() > MOST_LABELS {
        refuse(
            refusal::TOO_MANY_LABELS,
            format!("{} has {} labels, {MOST_LABELS} are allowed", key.name, key.labels.len()),
        );
        return None;
    }
    if sample.value.is_infinite() {
        refuse(
            refusal::NOT_FINITE,
            format!("{} at {t} is {}: it counts as missing; send null for missing values", key.name, sample.value),
        );
        return Some(f64::NAN);
    }
    Some(sample.value)
}

/// The order of a batch: groups by first appearance; inside a group by the latest instant that each series had reached,
/// then as they came. Columns (one series after another) are thereby taken row by row, and rows that step back in time
/// stay where they stood, as if each had been a batch of its own.
pub(super) fn order(visits: &mut [Visit]) {
    let key = |v: &Visit| (v.turn, v.reached, v.at);
    if !visits.is_sorted_by_key(key) {
        visits.sort_unstable_by_key(key);
    }
}
