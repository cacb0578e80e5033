//! Ranges in which steps are scored but raise nothing: maintenance, freezes, expected load.

use foreglow_core::{Labels, MetricKey, Selector, TimeRange, Timestamp};

/// Ranges that are kept at most; those that end first go first.
const MOST: usize = 1_000;

#[derive(Debug, Clone, PartialEq)]
struct Suppression {
    selector: Selector,
    range: TimeRange,
    reason: String,
}

/// All suppressed ranges of a monitor.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Suppressions(Vec<Suppression>);

impl Suppressions {
    pub(super) fn add(&mut self, selector: &Selector, range: TimeRange, reason: &str) {
        let same = |s: &&mut Suppression| s.selector == *selector && s.reason == reason && s.range.start == range.start;
        if let Some(there) = self.0.iter_mut().find(same) {
            // Told again, as one that had no end is when it ends.
            there.range.end = range.end;
            return;
        }
        self.0.push(Suppression { selector: selector.clone(), range, reason: reason.to_owned() });
        if self.0.len() > MOST
            && let Some(oldest) = (0..self.0.len()).min_by_key(|&i| self.0[i].range.end)
        {
            self.0.remove(oldest);
        }
    }

    /// Why a group is suppressed at `t`: a range whose selector matches the group's labels or one of its signals.
    pub(super) fn reason(&self, group: &Labels, signals: &[MetricKey], t: Timestamp) -> Option<&str> {
        self.0
            .iter()
            .find(|s| {
                s.range.contains(t)
                    && (s.selector.matches(&MetricKey::new("", group.clone()))
                        || signals.iter().any(|k| s.selector.matches(&whole(group, k))))
            })
            .map(|s| s.reason.as_str())
    }
}

/// A signal with the labels of its group.
fn whole(group: &Labels, signal: &MetricKey) -> MetricKey {
    MetricKey::new(&signal.name, Labels::new(group.iter().chain(signal.labels.iter())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_groups_and_signals_inside_the_range() {
        let mut all = Suppressions::default();
        let range = TimeRange { start: Timestamp(10), end: Timestamp(20) };
        all.add(&r#"{host="a"}"#.parse().unwrap(), range, "maintenance");
        all.add(&r#"cpu{host="b"}"#.parse().unwrap(), range, "load test");
        let host = |h| Labels::new([("host", h)]);
        let cpu = [MetricKey::new("cpu", Labels::default())];
        let mem = [MetricKey::new("mem", Labels::default())];
        assert_eq!(all.reason(&host("a"), &mem, Timestamp(10)), Some("maintenance"));
        assert_eq!(all.reason(&host("a"), &mem, Timestamp(20)), None);
        assert_eq!(all.reason(&host("b"), &cpu, Timestamp(15)), Some("load test"));
        assert_eq!(all.reason(&host("b"), &mem, Timestamp(15)), None);
        let ended = TimeRange { start: Timestamp(10), end: Timestamp(15) };
        all.add(&r#"{host="a"}"#.parse().unwrap(), ended, "maintenance");
        assert_eq!((all.reason(&host("a"), &mem, Timestamp(15)), all.0.len()), (None, 2), "it ends sooner");
        for i in 0..1_500 {
            all.add(&r#"{host="a"}"#.parse().unwrap(), TimeRange { start: Timestamp(i), end: Timestamp(i + 1) }, "x");
        }
        assert_eq!(all.0.len(), MOST);
    }
}
