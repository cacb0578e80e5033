//! How a judged step is written as JSON: the one form for replies, the stream and the store.

use foreglow_core::{Labels, MetricKey, Timestamp};
use foreglow_models::monitor::{SignalScore, StepResult, StepStatus};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// The fields of a result, as `?fields=` names them.
pub(crate) const FIELDS: [&str; 12] = [
    "group",
    "timestamp",
    "status",
    "score",
    "surprise",
    "p_value",
    "is_anomaly",
    "model",
    "members",
    "signals",
    "inherited",
    "ready_at",
];

/// Which fields are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fields(u16);

impl Fields {
    /// All of them.
    pub(crate) const ALL: Self = Self((1 << FIELDS.len()) - 1);

    /// From a comma-separated list; the name that is none.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        text.split(',').map(str::trim).filter(|t| !t.is_empty()).try_fold(Self(0), |all, name| {
            let i = FIELDS.iter().position(|f| *f == name).ok_or_else(|| name.to_owned())?;
            Ok(Self(all.0 | 1 << i))
        })
    }

    /// Without one of them.
    pub(crate) fn without(self, name: &str) -> Self {
        FIELDS.iter().position(|f| *f == name).map_or(self, |i| Self(self.0 & !(1 << i)))
    }

    fn has(self, i: usize) -> bool {
        self.0 & 1 << i != 0
    }
}

/// A number, or null where there is none.
pub(crate) fn number(v: f64) -> Option<f64> {
    v.is_finite().then_some(v)
}

/// The labels of a signal as they are posted: `__name__`, its own and its group's.
struct AllLabels<'a> {
    key: &'a MetricKey,
    group: &'a Labels,
}

impl Serialize for AllLabels<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut m = s.serialize_map(None)?;
        m.serialize_entry("__name__", &*self.key.name)?;
        for (n, v) in self.group.iter().filter(|(n, _)| self.key.labels.get(n).is_none()).chain(self.key.labels.iter())
        {
            m.serialize_entry(n, v)?;
        }
        m.end()
    }
}

/// The key of a signal as it is posted.
pub(crate) fn full_key(group: &Labels, signal: &MetricKey) -> MetricKey {
    MetricKey::new(&signal.name, Labels::new(group.iter().chain(signal.labels.iter())))
}

/// One signal of a step, as written.
#[derive(Serialize)]
struct SignalView<'a> {
    labels: AllLabels<'a>,
    actual: Option<f64>,
    expected: Option<f64>,
    lower: Option<f64>,
    upper: Option<f64>,
    score: Option<f64>,
    share: Option<f64>,
}

struct Signals<'a>(&'a [SignalScore], &'a Labels);

impl Serialize for Signals<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.0.iter().map(|x| SignalView {
            labels: AllLabels { key: &x.key, group: self.1 },
            actual: number(x.actual),
            expected: number(x.expected),
            lower: number(x.lower),
            upper: number(x.upper),
            score: number(x.score),
            share: number(x.share),
        }))
    }
}

struct Members<'a>(&'a [f64], &'a [String]);

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.1.iter().zip(self.0).map(|(n, v)| (n, number(*v))))
    }
}

/// A step with what is needed to write it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepView<'a> {
    pub(crate) result: &'a StepResult,
    /// The group's labels.
    pub(crate) group: &'a Labels,
    pub(crate) model: &'a str,
    /// Names of the pipeline's members.
    pub(crate) members: &'a [String],
    pub(crate) fields: Fields,
}

impl Serialize for StepView<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let r = self.result;
        let mut m = s.serialize_map(None)?;
        for (i, name) in FIELDS.iter().enumerate().filter(|(i, _)| self.fields.has(*i)) {
            match i {
                0 => m.serialize_entry(name, &r.group)?,
                1 => m.serialize_entry(name, &r.timestamp)?,
                2 => m.serialize_entry(name, r.status.as_str())?,
                3 => m.serialize_entry(name, &number(r.score))?,
                4 => m.serialize_entry(name, &number(r.surprise))?,
                5 => m.serialize_entry(name, &number(r.p_value))?,
                6 => m.serialize_entry(name, &r.is_anomaly)?,
                7 => m.serialize_entry(name, self.model)?,
                8 if !r.members.is_empty() => m.serialize_entry(name, &Members(&r.members, self.members))?,
                9 => m.serialize_entry(name, &Signals(&r.signals, self.group))?,
                10 if r.inherited => m.serialize_entry(name, &true)?,
                11 if r.ready_at.is_some() => m.serialize_entry(name, &r.ready_at)?,
                _ => {}
            }
        }
        m.end()
    }
}

/// One step of one group.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes in OpenAPI what StepView writes without copying")]
pub(crate) struct Step {
    /// The group's id.
    group: String,
    /// Epoch milliseconds of the step on the group's grid.
    timestamp: i64,
    /// `scored`, `pending`, `warming_up`, `duplicate`, `suppressed` or `missing`.
    status: String,
    /// ln p / ln `p_alert`; 1 is the alert line.
    score: Option<f64>,
    /// -log10 p.
    surprise: Option<f64>,
    /// Calibrated tail probability.
    p_value: Option<f64>,
    /// Scored at or above the alert line.
    is_anomaly: bool,
    /// `name/id` of the artifact, or `online`.
    model: String,
    /// Scores of the pipeline's members by name.
    members: Option<BTreeMap<String, Option<f64>>>,
    /// The signals, in the order of the model.
    signals: Vec<Signal>,
    /// The group was unknown when the artifact was fitted and is served by its shared parts.
    inherited: Option<bool>,
    /// Epoch milliseconds at which warm-up will be over.
    ready_at: Option<i64>,
}

/// One signal of a step.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes in OpenAPI what SignalView writes without copying")]
pub(crate) struct Signal {
    /// All labels, `__name__` among them.
    labels: BTreeMap<String, String>,
    /// The value; of a counter its rate a second.
    actual: Option<f64>,
    /// What was expected.
    expected: Option<f64>,
    /// Lower end of the expected band.
    lower: Option<f64>,
    /// Upper end of the expected band.
    upper: Option<f64>,
    /// The signal's own score.
    score: Option<f64>,
    /// Its share of the group's score.
    share: Option<f64>,
}

/// Whether a step is closed and told for the first time.
pub(crate) fn is_new(r: &StepResult) -> bool {
    !matches!(r.status, StepStatus::Pending | StepStatus::Duplicate)
}

/// A timestamp beyond every real one, for open ends.
pub(crate) const FOREVER: Timestamp = Timestamp(i64::MAX);

#[cfg(test)]
mod tests {
    use super::*;

    fn result() -> StepResult {
        let key = MetricKey::new("cpu", Labels::new([("core", "1")]));
        StepResult {
            group: "{host=\"a\"}".into(),
            timestamp: Timestamp(1_767_225_600_000),
            status: StepStatus::Scored,
            score: 0.5,
            surprise: f64::NAN,
            p_value: 0.1,
            is_anomaly: false,
            members: vec![0.4],
            signals: vec![SignalScore {
                key,
                actual: 0.7,
                expected: f64::NAN,
                lower: 0.0,
                upper: 1.0,
                score: 0.5,
                share: 1.0,
            }],
            inherited: false,
            ready_at: None,
        }
    }

    #[test]
    fn nan_is_null_and_labels_are_whole() {
        let (r, group, members) = (result(), Labels::new([("host", "a")]), ["pca".to_owned()]);
        let view = |fields| StepView { result: &r, group: &group, model: "online", members: &members, fields };
        let v = serde_json::to_value(view(Fields::ALL)).unwrap();
        assert!(v["surprise"].is_null() && v.get("inherited").is_none());
        assert_eq!(v["members"]["pca"], 0.4);
        assert_eq!(v["signals"][0]["labels"], serde_json::json!({"__name__":"cpu","core":"1","host":"a"}));
        let few = serde_json::to_string(&view(Fields::parse("score, timestamp").unwrap())).unwrap();
        assert_eq!(few, r#"{"timestamp":1767225600000,"score":0.5}"#);
        assert_eq!(Fields::parse("score,signal"), Err("signal".to_owned()));
        assert_eq!(full_key(&group, &r.signals[0].key).to_string(), r#"cpu{core="1",host="a"}"#);
    }
}
