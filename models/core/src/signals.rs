//! `signals.toml`: what is watched (signals) and what is judged together (groups). Read by both binaries.

use crate::{AlertLine, CoreError, Labels, MetricKey, Selector, Step};
use serde::{Deserialize, Serialize};

/// How a series becomes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalType {
    /// The value itself.
    #[default]
    Gauge,
    /// A counter: its rate of increase a second.
    CounterRate,
}

/// Which direction is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Worse {
    /// Only larger values are worth an alert.
    Up,
    /// Only smaller values are worth an alert.
    Down,
    /// Either direction.
    #[default]
    Both,
}

/// The smallest change that matters: smaller deviations from the expected value never alert.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinChange {
    /// In the signal's unit.
    #[serde(default)]
    pub abs: f64,
    /// As a share of the expected value.
    #[serde(default)]
    pub rel: f64,
}

impl MinChange {
    /// Whether `actual` is far enough from `expected` to matter.
    pub fn exceeded(&self, actual: f64, expected: f64) -> bool {
        let d = (actual - expected).abs();
        d >= self.abs && d >= self.rel * expected.abs()
    }
}

/// One `[[signal]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signal {
    /// The name it is shown by.
    pub name: String,
    /// Which series it is.
    #[serde(rename = "match")]
    pub selector: Selector,
    /// Gauge (default) or counter.
    #[serde(default, rename = "as")]
    pub kind: SignalType,
    /// Unit, as shown.
    #[serde(default)]
    pub unit: Option<String>,
    /// Which direction is worse; default both.
    #[serde(default)]
    pub worse: Worse,
    /// A hard limit: reaching it is an anomaly whatever the models say.
    #[serde(default)]
    pub limit: Option<f64>,
    /// Range of sensible values `[low, high]`; values outside are treated as missing.
    #[serde(default)]
    pub range: Option<[f64; 2]>,
    /// Deviations smaller than this never alert.
    #[serde(default)]
    pub min_change: MinChange,
    /// Name of the signal that is this one's load.
    #[serde(default)]
    pub load: Option<String>,
}

/// A false-alarm budget.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// False alerts a day of one group.
    pub per_day: f64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { per_day: 1.0 }
    }
}

/// One `[[group]]`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupRule {
    /// Labels whose values form a group.
    pub by: Vec<String>,
    /// Labels that survive a redeploy and stay part of the group's name.
    #[serde(default)]
    pub identity: Vec<String>,
    /// Labels that do not count (pod, instance, replica).
    #[serde(default)]
    pub drop: Vec<String>,
    /// False alerts a day that the group may raise; default 1.
    #[serde(default)]
    pub budget: Budget,
}

/// The whole file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signals {
    /// The signals; without any, every series is a gauge.
    #[serde(default, rename = "signal")]
    pub signals: Vec<Signal>,
    /// The groups; without any, series that share all labels but the name form a group.
    #[serde(default, rename = "group")]
    pub groups: Vec<GroupRule>,
}

/// Where a series belongs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Placement {
    /// The group's labels.
    pub group: Labels,
    /// The series within the group: the signal's name (or the metric's) and the labels that the group does not fix.
    pub signal: MetricKey,
}

impl Signals {
    /// Parses and checks `signals.toml`.
    ///
    /// # Errors
    /// [`CoreError::Signals`] naming line or field.
    pub fn parse(text: &str) -> Result<Self, CoreError> {
        let s: Self = toml::from_str(text).map_err(|e| CoreError::Signals {
            place: e.span().map_or("file".into(), |r| format!("line {}", text[..r.start].lines().count().max(1))),
            problem: e.message().to_owned(),
        })?;
        s.check()?;
        Ok(s)
    }

    fn check(&self) -> Result<(), CoreError> {
        let fail = |place: String, problem: &str| Err(CoreError::Signals { place, problem: problem.to_owned() });
        for (i, s) in self.signals.iter().enumerate() {
            let place = |f: &str| format!("signal {} ({}).{f}", i + 1, s.name);
            if self.signals[..i].iter().any(|o| o.name == s.name) {
                return fail(place("name"), "given twice; names must differ");
            }
            if let Some(load) = &s.load
                && !self.signals.iter().any(|o| o.name == *load)
            {
                return fail(place("load"), &format!("there is no signal {load:?}"));
            }
            if let Some([low, high]) = s.range
                && !(low < high)
            {
                return fail(place("range"), "expected [low, high] with low < high");
            }
            if !(s.min_change.abs >= 0.0 && s.min_change.rel >= 0.0) {
                return fail(place("min_change"), "expected numbers of 0 or more");
            }
        }
        for (i, g) in self.groups.iter().enumerate() {
            if g.by.is_empty() {
                return fail(format!("group {}.by", i + 1), "expected at least one label name");
            }
            if let Some(l) = g.by.iter().find(|l| g.drop.contains(l)) {
                return fail(format!("group {}.drop", i + 1), &format!("label {l:?} also stands in by"));
            }
            if AlertLine::new(g.budget.per_day, Step::from_ms(1000)?).is_err() {
                return fail(format!("group {}.budget.per_day", i + 1), "expected a number above 0 and at most 86400");
            }
        }
        Ok(())
    }

    /// The signal that a series is; `None` for a plain gauge (or, where signals are declared, an undeclared series).
    pub fn signal_of(&self, key: &MetricKey) -> Option<&Signal> {
        self.signals.iter().find(|s| s.selector.matches(key))
    }

    /// The signal of a name.
    pub fn named(&self, name: &str) -> Option<&Signal> {
        self.signals.iter().find(|s| s.name == name)
    }

    /// The metric, as it is sent, that is the load of another one: where `signals.toml` names it, and it is a gauge.
    pub fn load_of(&self, key: &MetricKey) -> Option<&str> {
        let load = self.named(self.signal_of(key)?.load.as_ref()?)?;
        load.selector.metric().filter(|_| load.kind == SignalType::Gauge)
    }

    /// Where a series belongs: the first group rule all of whose `by` labels it has, else all its labels.
    pub fn place(&self, key: &MetricKey) -> (Placement, Option<&GroupRule>) {
        let name = self.signal_of(key).map_or_else(|| key.name.to_string(), |s| s.name.clone());
        let rule = self.groups.iter().find(|g| g.by.iter().all(|l| key.labels.get(l).is_some()));
        let Some(rule) = rule else {
            return (Placement { group: key.labels.clone(), signal: MetricKey::new(name, Labels::default()) }, None);
        };
        let in_group = |l: &str| rule.by.iter().chain(&rule.identity).any(|x| x == l);
        let group = key.labels.filter(in_group);
        let rest = key.labels.filter(|l| !in_group(l) && !rule.drop.iter().any(|x| x == l));
        (Placement { group, signal: MetricKey::new(name, rest) }, Some(rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
[[signal]]
name = "errors"
match = 'http_errors_total{job="api"}'
as = "counter_rate"
unit = "1/s"
worse = "up"
limit = 50.0
min_change = { abs = 0.5, rel = 0.2 }
load = "requests"
[[signal]]
name = "requests"
match = "http_requests_total"
[[group]]
by = ["service"]
identity = ["namespace"]
drop = ["pod"]
budget = { per_day = 1.0 }
"#;

    #[test]
    fn places_series() {
        let s = Signals::parse(FILE).unwrap();
        let k = MetricKey::new(
            "http_errors_total",
            Labels::new([
                ("job", "api"),
                ("service", "cart"),
                ("namespace", "shop"),
                ("pod", "cart-1"),
                ("code", "5xx"),
            ]),
        );
        let (p, rule) = s.place(&k);
        assert_eq!(p.group.to_string(), r#"{namespace="shop",service="cart"}"#);
        assert_eq!(p.signal.to_string(), r#"errors{code="5xx",job="api"}"#);
        assert_eq!(rule.unwrap().budget.per_day, 1.0);
        assert_eq!(s.signal_of(&k).unwrap().kind, SignalType::CounterRate);
        let other = MetricKey::new("cpu", Labels::new([("host", "a")]));
        assert_eq!(s.place(&other).0.group.to_string(), r#"{host="a"}"#);
        assert!(!s.signals[0].min_change.exceeded(10.4, 10.0) && s.signals[0].min_change.exceeded(12.1, 10.0));
    }

    #[test]
    fn errors_name_the_field() {
        for (text, part) in [
            (FILE.replace("\"requests\"\n[[", "\"load\"\n[["), "signal 1 (errors).load"),
            (FILE.replace("0.5", "-1.0"), "min_change"),
            (FILE.replace("per_day = 1.0", "per_day = 0.0"), "group 1.budget.per_day"),
            (FILE.replace("worse = \"up\"", "worse = \"higher\""), "line 7"),
            (FILE.replace("by = [\"service\"]", "by = []"), "group 1.by"),
        ] {
            let e = Signals::parse(&text).unwrap_err().to_string();
            assert!(e.contains(part), "{part}: {e}");
        }
    }
}
