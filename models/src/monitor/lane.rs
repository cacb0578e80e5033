use super::intake::Intake;
use foreglow_core::CounterRate;
use serde::{Deserialize, Serialize};

/// Nobody feeds the lane yet.
pub(super) const NOBODY: u64 = 0;
/// Closed steps without a sample after which another series may take a lane over.
const ABANDONED: u8 = 200;

/// A series that feeds a signal. Most signals have one; several where the labels are dropped that tell replicas apart, or
/// where pods follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(usize, u64)", into = "(usize, u64)")]
pub(super) struct Lane {
    /// The signal's column.
    pub(super) column: usize,
    /// Fingerprint of the series as it is sent, or [`NOBODY`].
    pub(super) series: u64,
}

impl From<(usize, u64)> for Lane {
    fn from((column, series): (usize, u64)) -> Self {
        Self { column, series }
    }
}

impl From<Lane> for (usize, u64) {
    fn from(l: Lane) -> Self {
        (l.column, l.series)
    }
}

impl Intake {
    /// The lane of a series: its own, one that nobody has, or one that was abandoned.
    pub(super) fn lane(&mut self, column: usize, series: u64) -> Option<usize> {
        let of = |l: &Lane, series| l.column == column && l.series == series;
        let find = |series| self.lanes.iter().position(|l| of(l, series));
        if let Some(own) = find(series) {
            return Some(own);
        }
        let free = find(NOBODY);
        let abandoned = || {
            let gone = |l: usize| self.lanes[l].column == column && self.quiet[l] >= ABANDONED && !self.came[l];
            (0..self.lanes.len()).find(|l| gone(*l))
        };
        let lane = free.or_else(abandoned)?;
        self.lanes[lane].series = series;
        // Another series' counter says nothing of this one.
        self.counters[lane] = self.counters[lane].map(|_| CounterRate::default());
        Some(lane)
    }

    /// Whether a lane is still that of a series.
    pub(super) fn feeds(&self, lane: usize, series: u64) -> bool {
        self.lanes.get(lane).is_some_and(|l| l.series == series)
    }

    /// What the signals of the closing step are: the mean of a gauge over the series that came, the sum of the counters'
    /// rates. A counter that came in the step before and not in this one counts with the mean of the others: one scrape
    /// that fails is no loss of a replica.
    pub(super) fn combine(&mut self) {
        if self.lanes.len() == self.keys.len() {
            self.rates.copy_from_slice(&self.raw);
            return;
        }
        let mut all = vec![Together::default(); self.keys.len()];
        for (l, lane) in self.lanes.iter().enumerate() {
            let of = &mut all[lane.column];
            of.counter |= self.counters[l].is_some();
            if !self.raw[l].is_nan() {
                of.sum += self.raw[l];
                of.came += 1;
            } else if self.quiet[l] == 1 {
                of.expected += 1;
            }
        }
        for (rate, of) in self.rates.iter_mut().zip(&all) {
            let mean = if of.came == 0 { f64::NAN } else { of.sum / f64::from(of.came) };
            *rate = if of.counter { mean * f64::from(of.came + of.expected) } else { mean };
        }
    }
}

/// The series of one signal at one step.
#[derive(Debug, Clone, Copy, Default)]
struct Together {
    counter: bool,
    sum: f64,
    /// How many came, and how many more came in the step before.
    came: u32,
    expected: u32,
}

#[cfg(test)]
mod tests {
    use crate::monitor::{Monitor, MonitorOptions, Observation};
    use crate::pipeline::Pipeline;
    use crate::spec::Recipe;
    use foreglow_core::signals::Signals;
    use foreglow_core::{Labels, MetricBatch, MetricKey, Timestamp};
    use std::sync::Arc;

    const RULES: &str = r#"
        [[signal]]
        name = "requests"
        match = "requests_total"
        as = "counter_rate"
        [[group]]
        by = ["service"]
        drop = ["pod"]
    "#;

    fn monitor() -> Monitor {
        let pipeline = Pipeline::online(Signals::parse(RULES).unwrap(), &Recipe::default());
        Monitor::new(Arc::new(pipeline), MonitorOptions::replay())
    }

    fn at(i: i64, offset: i64) -> Timestamp {
        Timestamp(1_767_225_600_000 + 60_000 * i + offset)
    }

    /// What one pod sends at minute `i`: a counter that grows by `rate` a second, and a gauge.
    fn send(m: &mut Monitor, i: i64, pods: &[(&str, f64, f64)]) -> Observation {
        let mut b = MetricBatch::default();
        for (k, (pod, rate, queue)) in pods.iter().enumerate() {
            for (name, value) in [("requests_total", rate * 60.0 * (1_000 + i) as f64), ("queue", *queue)] {
                b.keys.push(MetricKey::new(name, Labels::new([("service", "s"), ("pod", *pod)])));
                b.push(b.keys.len() - 1, at(i, 700 * k as i64), value, b.samples.len());
            }
        }
        m.observe(&b, at(i, 0))
    }

    /// The newest closed step: requests a second, and the queue.
    fn newest(m: &Monitor) -> (f64, f64) {
        let info = m.group(r#"{service="s"}"#).unwrap();
        let last = |name: &str| {
            let key = info.signals.iter().find(|k| &*k.name == name).unwrap();
            m.history(&info.id, key).unwrap().values.pop().unwrap()
        };
        (last("requests"), last("queue"))
    }

    #[test]
    fn counters_of_replicas_add_up_and_gauges_are_averaged() {
        let mut m = monitor();
        let all = [("a", 1.0, 10.0), ("b", 2.0, 20.0), ("c", 3.0, 60.0)];
        for i in 0..40 {
            let o = send(&mut m, i, &all);
            assert!(o.refused.is_empty(), "{:?}", o.refused);
            let id = m.groups()[0].id.clone();
            let bytes = m.export_group(&id).unwrap();
            m.import_group(&bytes).unwrap();
            if i > 6 {
                let (rate, queue) = newest(&m);
                assert!((rate - 6.0).abs() < 1e-6 && queue == 30.0, "{i}: {rate} {queue}");
            }
        }
        // One scrape fails: its requests were served all the same. The step closes with the next.
        send(&mut m, 40, &all[..2]);
        send(&mut m, 41, &all);
        let past = m.history(r#"{service="s"}"#, &MetricKey::new("requests", Labels::default())).unwrap();
        let tail = &past.values[past.values.len() - 2..];
        assert!((tail[0] - 4.5).abs() < 1e-6 && (tail[1] - 6.0).abs() < 1e-6, "{tail:?}");
        assert_eq!(m.groups()[0].signals.len(), 2);
    }

    /// A pod is replaced by another one: at no time do both count.
    #[test]
    fn one_pod_follows_another() {
        let mut m = monitor();
        for i in 0..30 {
            send(&mut m, i, &[("old", 2.0, 10.0)]);
        }
        for i in 30..60 {
            send(&mut m, i, &[("new", 2.0, 10.0)]);
        }
        m.flush(at(60, 0));
        let past = m.history(r#"{service="s"}"#, &MetricKey::new("requests", Labels::default())).unwrap();
        let there: Vec<f64> = past.values.iter().copied().filter(|v| !v.is_nan()).collect();
        assert!(there.len() >= past.values.len() - 2 && there.iter().all(|v| (v - 2.0).abs() < 1e-6), "{there:?}");
    }
}
