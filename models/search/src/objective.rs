use crate::SearchError;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Whether small or large values are good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Goal {
    /// Small is good.
    Min,
    /// Large is good.
    Max,
}

impl Goal {
    /// 1 for min, -1 for max: `sign * value` is what every designer makes small.
    pub fn sign(self) -> f64 {
        match self {
            Self::Min => 1.0,
            Self::Max => -1.0,
        }
    }
}

/// How the samples of a stretch become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Aggregate {
    /// Arithmetic mean.
    #[default]
    Mean,
    /// Median.
    P50,
    /// 95 % quantile, interpolated.
    P95,
    /// 99 % quantile, interpolated.
    P99,
    /// Sum of the values divided by the seconds they cover, for values that count events in their step. A series that
    /// already is per second wants `mean`.
    Rate,
    /// Smallest value.
    Min,
    /// Largest value.
    Max,
}

impl Aggregate {
    /// One number out of the finite `values` that cover `seconds`; `None` when there are none.
    pub fn of(self, values: &[f64], seconds: f64) -> Option<f64> {
        if values.is_empty() {
            return None;
        }
        Some(match self {
            Self::Mean => crate::stats::mean(values),
            Self::P50 => crate::stats::quantile(values, 0.5),
            Self::P95 => crate::stats::quantile(values, 0.95),
            Self::P99 => crate::stats::quantile(values, 0.99),
            Self::Rate => values.iter().sum::<f64>() / seconds,
            Self::Min => values.iter().copied().fold(f64::INFINITY, f64::min),
            Self::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        })
    }
}

/// What a study makes small or large.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// The metric's name.
    pub metric: String,
    /// How its samples become a trial's value. Default mean.
    #[serde(default)]
    pub aggregate: Aggregate,
    /// The direction; there is no default.
    pub goal: Goal,
}

/// A limit of a guard-rail: a number, or a multiple of what the current configuration shows.
///
/// In JSON `0.5` or `"1.2*baseline"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// This value.
    Absolute(f64),
    /// This factor times the metric under the current configuration.
    TimesBaseline(f64),
}

impl Bound {
    /// The limit as a number; `None` when it needs a baseline that is not known.
    pub fn resolve(self, baseline: Option<f64>) -> Option<f64> {
        match self {
            Self::Absolute(v) => Some(v),
            Self::TimesBaseline(f) => baseline.map(|b| f * b),
        }
    }
}

impl Serialize for Bound {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absolute(v) => s.serialize_f64(*v),
            Self::TimesBaseline(f) => s.serialize_str(&format!("{f}*baseline")),
        }
    }
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(f64),
            Text(String),
        }
        let fail = |what: &str| {
            serde::de::Error::custom(format!("limit {what}: give a number or text such as \"1.2*baseline\""))
        };
        match Raw::deserialize(d).map_err(|_| fail("is neither number nor text"))? {
            Raw::Number(v) if v.is_finite() => Ok(Self::Absolute(v)),
            Raw::Number(v) => Err(fail(&v.to_string())),
            Raw::Text(t) => {
                let squeezed: String = t.chars().filter(|c| !c.is_whitespace()).collect();
                let factor = squeezed.strip_suffix("*baseline").or_else(|| squeezed.strip_prefix("baseline*"));
                let factor = if squeezed == "baseline" { Some("1") } else { factor };
                match factor.and_then(|f| f.parse::<f64>().ok()) {
                    Some(f) if f.is_finite() && f > 0.0 => Ok(Self::TimesBaseline(f)),
                    _ => Err(fail(&format!("\"{t}\""))),
                }
            }
        }
    }
}

/// A metric that must stay within a limit: exactly one of `at_most` and `at_least`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardRail {
    /// The metric's name.
    pub metric: String,
    /// How its samples become a trial's value. Default mean.
    #[serde(default)]
    pub aggregate: Aggregate,
    /// The largest allowed value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<Bound>,
    /// The smallest allowed value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<Bound>,
}

impl GuardRail {
    /// `metric` never above `limit`.
    pub fn at_most(metric: &str, limit: Bound) -> Self {
        Self { metric: metric.to_owned(), aggregate: Aggregate::Mean, at_most: Some(limit), at_least: None }
    }

    /// `metric` never below `limit`.
    pub fn at_least(metric: &str, limit: Bound) -> Self {
        Self { metric: metric.to_owned(), aggregate: Aggregate::Mean, at_most: None, at_least: Some(limit) }
    }

    /// The limit and its sign: `sign * value <= sign * limit` is kept.
    pub fn limit(&self) -> (Bound, f64) {
        match (self.at_most, self.at_least) {
            (Some(b), _) => (b, 1.0),
            (None, Some(b)) => (b, -1.0),
            // `check` refuses this; an infinite limit is never broken.
            (None, None) => (Bound::Absolute(f64::INFINITY), 1.0),
        }
    }

    pub(crate) fn check(&self) -> Result<(), SearchError> {
        if self.at_most.is_some() == self.at_least.is_some() {
            return Err(SearchError::Study {
                field: "guard_rails",
                problem: format!("`{}` needs exactly one of `at_most` and `at_least`", self.metric),
            });
        }
        if self.metric.is_empty() {
            return Err(SearchError::Study { field: "guard_rails", problem: "a `metric` has no name".to_owned() });
        }
        Ok(())
    }

    /// The rule in words.
    pub fn describe(&self) -> String {
        let (bound, sign) = self.limit();
        let word = if sign > 0.0 { "at most" } else { "at least" };
        match bound {
            Bound::Absolute(v) => format!("`{}` {word} {v}", self.metric),
            Bound::TimesBaseline(f) => format!("`{}` {word} {f} times its value now", self.metric),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_read_and_write() {
        let g: GuardRail =
            serde_json::from_str(r#"{"metric":"errors","aggregate":"rate","at_most":"1.2*baseline"}"#).unwrap();
        assert_eq!(g.at_most, Some(Bound::TimesBaseline(1.2)));
        assert_eq!(g.limit().0.resolve(Some(10.0)), Some(12.0));
        assert_eq!(g.limit().0.resolve(None), None);
        assert_eq!(serde_json::to_string(&g.at_most).unwrap(), "\"1.2*baseline\"");
        let bad = serde_json::from_str::<Bound>("\"x*baseline\"").unwrap_err().to_string();
        assert!(bad.contains("1.2*baseline"), "{bad}");
        assert!(GuardRail { at_most: None, ..g }.check().is_err());
    }

    #[test]
    fn aggregates() {
        let v = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(Aggregate::Rate.of(&v, 2.0), Some(5.0));
        assert_eq!(Aggregate::P50.of(&v, 2.0), Some(2.5));
        assert_eq!(Aggregate::Max.of(&v, 2.0), Some(4.0));
        assert_eq!(Aggregate::Mean.of(&[], 2.0), None);
    }
}
