//! What a stretch above the line looks like, and which signals it is made of.

use super::observation::SignalScore;
use foreglow_core::{Contribution, FindingKind, MetricKey};
use serde::{Deserialize, Serialize};

/// Contributors of a finding at most.
const CONTRIBUTORS: usize = 10;
/// Steps on one side of the band that make a level of an excursion.
const LEVEL: u32 = 6;
/// Series of the same metric that a signal needs beside it in its group for one of them to be unlike its peers.
const PEERS: usize = 2;

/// Where the leading signal stood in the steps of a stretch, beside the band that it had when it first led: later bands have
/// followed it to where it went.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Shape {
    above: u32,
    below: u32,
    inside: u32,
    missing: u32,
    /// Steps outside in which its peers were as they are expected.
    #[serde(default)]
    alone: u32,
    peak: Side,
    /// The first leading signal and its band, lower and upper.
    #[serde(default)]
    first: Option<(MetricKey, [f64; 2])>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Side {
    Above,
    Below,
    #[default]
    Inside,
    Missing,
}

impl Shape {
    /// A step above the line; `peak` when it is the highest so far.
    pub(super) fn add(&mut self, signals: &[SignalScore], peak: bool) {
        let leading = leading(signals);
        if let (None, Some(l)) = (&self.first, leading)
            && l.lower <= l.upper
        {
            self.first = Some((l.key.clone(), [l.lower, l.upper]));
        }
        let side = leading.map_or(Side::Inside, |l| match &self.first {
            Some((key, [lower, upper])) if *key == l.key => {
                side(&SignalScore { lower: *lower, upper: *upper, ..l.clone() })
            }
            _ => side(l),
        });
        let alone = matches!(side, Side::Above | Side::Below) && leading.is_some_and(|l| is_alone(l, signals));
        self.alone = self.alone.saturating_add(u32::from(alone));
        let count = match side {
            Side::Above => &mut self.above,
            Side::Below => &mut self.below,
            Side::Inside => &mut self.inside,
            Side::Missing => &mut self.missing,
        };
        *count = count.saturating_add(1);
        if peak {
            self.peak = side;
        }
    }

    /// A step without any value.
    pub(super) fn silent(&mut self) {
        self.missing = self.missing.saturating_add(1);
        self.peak = Side::Missing;
    }

    /// The kind, by what most steps show:
    /// missing values; both sides of the band in turn (at least 2 each, the rarer a third of the other): variance; 6 or
    /// more on one side: level shift, or peer where the same metric of the group's other parts, at least 2, stayed inside
    /// its bands; inside the band: shape, as no signal alone is unusual; else spike or dip.
    pub(super) fn kind(&self) -> FindingKind {
        let outside = self.above + self.below;
        let (less, more) = (self.above.min(self.below), self.above.max(self.below));
        if self.missing > outside + self.inside || (self.missing > 0 && self.peak == Side::Missing) {
            FindingKind::Missing
        } else if self.inside > outside {
            FindingKind::Shape
        } else if less >= 2 && less * 3 >= more {
            FindingKind::Variance
        } else if more >= LEVEL {
            if 2 * self.alone > outside { FindingKind::Peer } else { FindingKind::LevelShift }
        } else {
            match self.peak {
                Side::Above => FindingKind::Spike,
                Side::Below => FindingKind::Dip,
                _ if self.above > self.below => FindingKind::Spike,
                _ if self.below > self.above => FindingKind::Dip,
                _ => FindingKind::Shape,
            }
        }
    }
}

/// Signals by share, largest first (equal shares in the order of columns), at most 10, none without a share.
pub(super) fn contributors(signals: &[SignalScore]) -> Vec<Contribution> {
    let mut order: Vec<&SignalScore> = signals.iter().filter(|s| s.share > 0.0).collect();
    order.sort_by(|a, b| b.share.total_cmp(&a.share));
    order.truncate(CONTRIBUTORS);
    let finite = |v: f64| v.is_finite().then_some(v);
    order
        .into_iter()
        .map(|s| Contribution {
            key: s.key.clone(),
            share: s.share,
            actual: finite(s.actual),
            expected: finite(s.expected),
        })
        .collect()
}

/// Signals that come no more, each with what was expected of it, in equal shares, at most 10.
pub(super) fn absent<'a>(gone: impl Iterator<Item = (&'a MetricKey, f64)>) -> Vec<Contribution> {
    let gone: Vec<_> = gone.take(CONTRIBUTORS).collect();
    let share = 1.0 / gone.len() as f64;
    let one = |(key, expected): (&MetricKey, f64)| Contribution {
        key: key.clone(),
        share,
        actual: None,
        expected: expected.is_finite().then_some(expected),
    };
    gone.into_iter().map(one).collect()
}

/// Both explanations in equal parts, at most 10 signals.
pub(super) fn joined(first: Vec<Contribution>, then: Vec<Contribution>) -> Vec<Contribution> {
    let part = if first.is_empty() || then.is_empty() { 1.0 } else { 0.5 };
    let all = first.into_iter().chain(then).take(CONTRIBUTORS);
    all.map(|c| Contribution { share: part * c.share, ..c }).collect()
}

/// The signal that a step is told by: of those that are strange by themselves and outside their band the one with the
/// largest share, else the one with the largest share.
fn leading(signals: &[SignalScore]) -> Option<&SignalScore> {
    let largest = |alone: bool| {
        let some = signals.iter().filter(|s| s.share > 0.0 && (!alone || (s.score >= 1.0 && side(s) != Side::Inside)));
        some.reduce(|a, b| if b.share > a.share { b } else { a })
    };
    largest(true).or_else(|| largest(false))
}

/// Whether the same metric of the other parts of a group is there and as it is expected.
fn is_alone(leading: &SignalScore, signals: &[SignalScore]) -> bool {
    let mut peers = signals.iter().filter(|s| s.key.name == leading.key.name && s.key != leading.key);
    let mut seen = 0;
    peers.all(|s| {
        seen += usize::from(!s.actual.is_nan());
        !matches!(side(s), Side::Above | Side::Below)
    }) && seen >= PEERS
}

fn side(s: &SignalScore) -> Side {
    if s.actual.is_nan() {
        Side::Missing
    } else if s.actual > s.upper {
        Side::Above
    } else if s.actual < s.lower {
        Side::Below
    } else {
        Side::Inside
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreglow_core::{Labels, MetricKey};

    fn signal(actual: f64, share: f64) -> SignalScore {
        let key = MetricKey::new("x", Labels::default());
        SignalScore { key, actual, expected: 0.0, lower: -1.0, upper: 1.0, score: 1.0, share }
    }

    fn kind(values: &[f64]) -> FindingKind {
        let mut shape = Shape::default();
        for (i, v) in values.iter().enumerate() {
            shape.add(&[signal(*v, 0.7), signal(0.0, 0.3)], i == 0);
        }
        shape.kind()
    }

    #[test]
    fn kinds() {
        assert_eq!(kind(&[5.0]), FindingKind::Spike);
        assert_eq!(kind(&[-5.0, -3.0]), FindingKind::Dip);
        assert_eq!(kind(&[5.0; 6]), FindingKind::LevelShift);
        assert_eq!(kind(&[5.0, -4.0, 3.0, -6.0, 5.0]), FindingKind::Variance);
        assert_eq!(kind(&[0.5, 0.2, 5.0]), FindingKind::Shape);
        assert_eq!(kind(&[f64::NAN, f64::NAN]), FindingKind::Missing);
        assert_eq!(Shape::default().kind(), FindingKind::Shape);
        let mut shape = Shape::default();
        shape.add(&[signal(0.0, 0.9), signal(7.0, 0.1)], true);
        assert_eq!(shape.kind(), FindingKind::Spike, "the one that stands out, though a model spread the blame");
    }

    #[test]
    fn one_of_several_alike_is_unlike_its_peers() {
        let of = |agent: &str, actual: f64| {
            let key = MetricKey::new("task_ms", Labels::new([("agent", agent)]));
            SignalScore { key, ..signal(actual, if actual.abs() > 1.0 { 0.8 } else { 0.1 }) }
        };
        let kind = |others: &[f64], steps: u32| {
            let mut signals = vec![of("a", 5.0), signal(0.0, 0.1)];
            signals.extend(others.iter().enumerate().map(|(i, v)| of(&format!("b{i}"), *v)));
            let mut shape = Shape::default();
            (0..steps).for_each(|i| shape.add(&signals, i == 0));
            shape.kind()
        };
        assert_eq!(kind(&[0.5, -0.5], 6), FindingKind::Peer);
        assert_eq!(kind(&[0.5, -0.5, f64::NAN], 6), FindingKind::Peer);
        assert_eq!(kind(&[0.5, 3.0], 6), FindingKind::LevelShift, "another one is as strange");
        assert_eq!(kind(&[0.5, f64::NAN], 6), FindingKind::LevelShift, "one peer is no majority");
        assert_eq!(kind(&[0.5, -0.5], 3), FindingKind::Spike, "it is over before it is a state");
    }

    #[test]
    fn an_agent_that_leaves_its_swarm_is_found_and_told_as_such() {
        use crate::Recipe;
        use crate::monitor::tests::{at, wave};
        use crate::monitor::{Monitor, MonitorOptions};
        use crate::pipeline::Pipeline;
        let rules = foreglow_core::signals::Signals::parse("[[group]]\nby = [\"swarm\"]\n").unwrap();
        let mut m = Monitor::new(Pipeline::online(rules, &Recipe::default()).into(), MonitorOptions::replay());
        let agents = ["a", "b", "c", "d"];
        let keys: Vec<MetricKey> =
            agents.iter().map(|a| MetricKey::new("task_ms", Labels::new([("swarm", "s"), ("agent", a)]))).collect();
        let mut kinds = Vec::new();
        for i in 0..220 {
            let mut batch = foreglow_core::MetricBatch { keys: keys.clone(), ..Default::default() };
            for (s, agent) in agents.iter().enumerate() {
                let slow = if i >= 200 && s == 2 { 30.0 } else { 0.0 };
                batch.push(s, at(i), wave(i, agent) + slow, s);
            }
            kinds.extend(m.observe(&batch, at(i)).findings.into_iter().map(|f| (f.kind, f.contributors)));
        }
        let (kind, contributors) = kinds.last().unwrap();
        assert_eq!(
            (*kind, &contributors[0].key),
            (FindingKind::Peer, &MetricKey::new("task_ms", Labels::new([("agent", "c")])))
        );
    }

    /// Kinds of the incidents of one series that is `value(i)` at minute `i`, when they end, by rules written as TOML.
    fn told(rules: &str, steps: i64, value: impl Fn(i64) -> f64) -> Vec<FindingKind> {
        use crate::Recipe;
        use crate::monitor::tests::at;
        use crate::monitor::{IncidentEvent, Monitor, MonitorOptions};
        use crate::pipeline::Pipeline;
        let rules = foreglow_core::signals::Signals::parse(rules).unwrap();
        let mut m = Monitor::new(Pipeline::online(rules, &Recipe::default()).into(), MonitorOptions::replay());
        let mut last: Vec<(String, FindingKind)> = Vec::new();
        for i in 0..steps {
            let key = MetricKey::new("cpu", Labels::new([("host", "a")]));
            let mut batch = foreglow_core::MetricBatch { keys: vec![key], ..Default::default() };
            batch.push(0, at(i), value(i), 0);
            for e in m.observe(&batch, at(i)).incidents {
                let (IncidentEvent::Opened(i) | IncidentEvent::Updated(i) | IncidentEvent::Resolved(i)) = e;
                last.retain(|l| l.0 != i.id);
                last.push((i.id, i.finding.kind));
            }
        }
        last.into_iter().map(|l| l.1).collect()
    }

    #[test]
    fn what_lasts_is_a_level_and_its_end_is_no_variance() {
        use crate::monitor::tests::wave;
        for (seed, lasts) in [("a", 30), ("b", 25), ("c", 400), ("d", 20)] {
            let step = |i: i64| if (600..600 + lasts).contains(&i) { 40.0 } else { 0.0 };
            assert_eq!(
                told("", 900, |i| wave(i, seed) + step(i)),
                [FindingKind::LevelShift],
                "{seed}, {lasts} minutes"
            );
        }
    }

    #[test]
    fn a_limit_is_told_before_anything_else_is_known() {
        let rules = "[[signal]]\nname = \"cpu\"\nmatch = \"cpu\"\nworse = \"up\"\nlimit = 100.0\n";
        assert_eq!(told(rules, 40, |i| if i < 30 { 50.0 } else { 500.0 + i as f64 }).len(), 1);
        assert_eq!(told(rules, 40, |i| 50.0 + i as f64).len(), 0);
    }

    #[test]
    fn contributors_are_the_largest_shares() {
        let mut signals: Vec<SignalScore> = (0..30).map(|i| signal(f64::from(i), f64::from(i) / 435.0)).collect();
        signals[29].actual = f64::INFINITY;
        let c = contributors(&signals);
        assert_eq!(c.len(), 10);
        assert_eq!((c[0].actual, c[1].actual), (None, Some(28.0)));
        assert!(contributors(&[signal(1.0, 0.0), signal(1.0, f64::NAN)]).is_empty());
    }
}
