//! The two body shapes of `/v1/score` as they stand in JSON, read without copying text.

use foreglow_core::{CoreError, Timestamp};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use utoipa::ToSchema;

/// Labels held of one series; what comes beyond is counted only, so that a series of a million labels costs nothing.
pub(crate) const HELD_LABELS: usize = 256;

/// Metric samples: exactly one of `series` and `points`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchBody<'a> {
    /// By column: one entry a series.
    #[serde(borrow, default)]
    pub(crate) series: Option<Vec<SeriesBody<'a>>>,
    /// By row: one entry an entity and instant.
    #[serde(borrow, default)]
    pub(crate) points: Option<Vec<PointBody<'a>>>,
}

/// One series.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SeriesBody<'a> {
    /// Labels; `__name__` is the metric's name.
    #[serde(borrow)]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub(crate) labels: LabelsBody<'a>,
    /// Epoch milliseconds or RFC 3339.
    #[serde(borrow)]
    #[schema(value_type = Vec<i64>)]
    pub(crate) timestamps: Vec<TimeBody<'a>>,
    /// One a timestamp; `null` is missing.
    pub(crate) values: Vec<Option<f64>>,
}

/// One row.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PointBody<'a> {
    /// Epoch milliseconds or RFC 3339.
    #[serde(borrow)]
    #[schema(value_type = i64)]
    pub(crate) timestamp: TimeBody<'a>,
    /// What all metrics of the row share.
    #[serde(borrow, default)]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub(crate) labels: LabelsBody<'a>,
    /// One value a metric; `null` is missing.
    #[serde(borrow)]
    #[schema(value_type = std::collections::BTreeMap<String, Option<f64>>)]
    pub(crate) values: ValuesBody<'a>,
}

/// A JSON string, borrowed where it has no escapes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: Error>(self, v: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(v)))
            }
            fn visit_str<E: Error>(self, v: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(v.to_owned())))
            }
            fn visit_string<E: Error>(self, v: String) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(v)))
            }
        }
        d.deserialize_str(V)
    }
}

/// Labels in the order they were written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct LabelsBody<'a> {
    /// At most [`HELD_LABELS`] of them.
    pub(crate) pairs: Vec<(Text<'a>, Text<'a>)>,
    /// How many there were.
    pub(crate) count: usize,
}

impl<'de: 'a, 'a> Deserialize<'de> for LabelsBody<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = LabelsBody<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut out = LabelsBody::default();
                while let Some(pair) = map.next_entry::<Text<'de>, Text<'de>>()? {
                    out.count += 1;
                    if out.pairs.len() < HELD_LABELS {
                        out.pairs.push(pair);
                    }
                }
                Ok(out)
            }
        }
        d.deserialize_map(V)
    }
}

/// Metric names and values in the order they were written.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct ValuesBody<'a>(pub(crate) Vec<(Text<'a>, Option<f64>)>);

impl<'de: 'a, 'a> Deserialize<'de> for ValuesBody<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = ValuesBody<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of numbers and nulls")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut out = Vec::with_capacity(map.size_hint().unwrap_or(8));
                while let Some(pair) = map.next_entry()? {
                    out.push(pair);
                }
                Ok(ValuesBody(out))
            }
        }
        d.deserialize_map(V)
    }
}

/// An instant as it was sent. What is none refuses its sample alone, not the body.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TimeBody<'a> {
    /// Milliseconds, not looked at yet.
    Ms(i64),
    /// RFC 3339, not looked at yet.
    Text(Text<'a>),
}

impl TimeBody<'_> {
    /// The instant, or the code and detail of the refusal.
    pub(crate) fn check(&self) -> Result<Timestamp, (&'static str, String)> {
        match self {
            Self::Ms(ms) => Timestamp::from_epoch_ms(*ms),
            Self::Text(t) => t.0.parse(),
        }
        .map_err(|e| {
            let code = match e {
                CoreError::Seconds { .. } => "seconds",
                CoreError::Microseconds { .. } => "microseconds",
                _ => "timestamp",
            };
            (code, e.to_string())
        })
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for TimeBody<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = TimeBody<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("epoch milliseconds or an RFC 3339 string")
            }
            fn visit_i64<E: Error>(self, v: i64) -> Result<Self::Value, E> {
                Ok(TimeBody::Ms(v))
            }
            fn visit_u64<E: Error>(self, v: u64) -> Result<Self::Value, E> {
                Ok(TimeBody::Ms(i64::try_from(v).unwrap_or(i64::MAX)))
            }
            fn visit_f64<E: Error>(self, v: f64) -> Result<Self::Value, E> {
                // Writers without integers send 1.7e12; a cast saturates at the ends.
                Ok(TimeBody::Ms(v.round() as i64))
            }
            fn visit_borrowed_str<E: Error>(self, v: &'de str) -> Result<Self::Value, E> {
                Ok(TimeBody::Text(Text(Cow::Borrowed(v))))
            }
            fn visit_str<E: Error>(self, v: &str) -> Result<Self::Value, E> {
                Ok(TimeBody::Text(Text(Cow::Owned(v.to_owned()))))
            }
        }
        d.deserialize_any(V)
    }
}
