//! From a body's bytes to a [`MetricBatch`]: pure, with every refusal named.

use super::problem::Problem;
use super::wire::{BatchBody, HELD_LABELS, LabelsBody, PointBody, SeriesBody, Text};
use foreglow_core::{Labels, MetricBatch, MetricKey};
use serde::{Deserialize, Serialize};
use serde_path_to_error::Segment;
use std::collections::HashMap;
use std::fmt::Write as _;
use utoipa::ToSchema;

/// Bytes of one label, name and value.
const LABEL_BYTES: usize = 2048;

/// A sample that was not taken.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct RefusedSample {
    /// Row of `points`, or the running number over the samples of `series`.
    pub(crate) index: u32,
    /// Why, for programs.
    pub(crate) code: &'static str,
    /// Why, for people.
    pub(crate) detail: String,
}

/// What a body holds.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    pub(crate) batch: MetricBatch,
    pub(crate) refused: Vec<RefusedSample>,
}

/// Reads JSON; where it does not fit, the problem names the place.
///
/// # Errors
/// 400 `malformed_json` (no JSON: NaN and Infinity are none) or `invalid_field` (JSON of another shape).
pub(crate) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Problem> {
    // The place costs time to keep track of, so it is looked for only when it is needed.
    serde_json::from_slice(bytes).map_err(|first| {
        let mut d = serde_json::Deserializer::from_slice(bytes);
        let place = match serde_path_to_error::deserialize::<_, T>(&mut d) {
            Err(e) => pointer(e.path()),
            Ok(_) => String::new(),
        };
        let code = if first.is_data() { "invalid_field" } else { "malformed_json" };
        Problem::bad(code, first.to_string()).at(place)
    })
}

/// RFC 6901.
fn pointer(path: &serde_path_to_error::Path) -> String {
    path.iter().fold(String::new(), |mut out, s| {
        let _ = match s {
            Segment::Seq { index } => write!(out, "/{index}"),
            Segment::Map { key } => write!(out, "/{}", key.replace('~', "~0").replace('/', "~1")),
            Segment::Enum { .. } | Segment::Unknown => Ok(()),
        };
        out
    })
}

/// Reads a batch.
///
/// # Errors
/// As [`parse`]; 422 when both or none of `series` and `points` are there, or a series has more values than timestamps.
pub(crate) fn decode(bytes: &[u8], max_labels: usize) -> Result<Decoded, Problem> {
    from_body(&parse(bytes)?, max_labels)
}

/// Reads the body of `POST /v1/score` as the server does, for tools that want the batch alone, with the number of samples
/// that were not taken.
///
/// # Errors
/// The stable code of the problem that the server would answer with.
pub fn decode_batch(bytes: &[u8]) -> Result<(MetricBatch, usize), &'static str> {
    let decoded = decode(bytes, HELD_LABELS).map_err(|p| p.code())?;
    Ok((decoded.batch, decoded.refused.len()))
}

/// A batch from a body that is read already.
///
/// # Errors
/// 422 as [`decode`].
pub(crate) fn from_body(body: &BatchBody<'_>, max_labels: usize) -> Result<Decoded, Problem> {
    match (&body.series, &body.points) {
        (Some(s), None) => by_column(s, max_labels),
        (None, Some(p)) => Ok(by_row(p, max_labels)),
        (None, None) => Err(Problem::meaningless("empty", "the body has neither series nor points")),
        (Some(_), Some(_)) => Err(Problem::meaningless("ambiguous", "the body has both series and points: send one")),
    }
}

/// Keys of a batch, each once.
#[derive(Default)]
struct Keys {
    place: HashMap<MetricKey, usize>,
}

impl Keys {
    fn index(&mut self, batch: &mut MetricBatch, key: MetricKey) -> usize {
        *self.place.entry(key).or_insert_with_key(|k| {
            batch.keys.push(k.clone());
            batch.keys.len() - 1
        })
    }
}

/// Whether labels can be those of a series; else code and detail.
fn check_labels(labels: &LabelsBody<'_>, most: usize) -> Result<(), (&'static str, String)> {
    let most = most.min(HELD_LABELS);
    if labels.count > most {
        return Err(("too_many_labels", format!("the series has {} labels, {most} are allowed", labels.count)));
    }
    for (n, v) in &labels.pairs {
        if n.0.is_empty() {
            return Err(("label_name", "a label has no name".to_owned()));
        }
        let bytes = n.0.len() + v.0.len();
        if bytes > LABEL_BYTES {
            let name: String = n.0.chars().take(40).collect();
            return Err(("label_too_long", format!("label {name:?} has {bytes} bytes, {LABEL_BYTES} are allowed")));
        }
    }
    Ok(())
}

fn labels_of(body: &LabelsBody<'_>) -> Labels {
    Labels::new(body.pairs.iter().filter(|p| p.0.0 != "__name__").map(|(n, v)| (&*n.0, &*v.0)))
}

fn by_column(series: &[SeriesBody<'_>], max_labels: usize) -> Result<Decoded, Problem> {
    let mut out = Decoded::default();
    let mut keys = Keys::default();
    let mut index = 0usize;
    for (i, s) in series.iter().enumerate() {
        let (times, values) = (s.timestamps.len(), s.values.len());
        if times != values {
            let detail = format!("series {i} has {times} timestamps and {values} values: send one value a timestamp");
            return Err(Problem::meaningless("length_mismatch", detail).at(format!("/series/{i}/values")));
        }
        let name = s.labels.pairs.iter().rev().find(|p| p.0.0 == "__name__").map_or("", |p| &*p.1.0);
        let usable = check_labels(&s.labels, max_labels).and_then(|()| {
            if name.is_empty() {
                Err(("no_name", "the series has no label __name__".to_owned()))
            } else {
                Ok(keys.index(&mut out.batch, MetricKey::new(name, labels_of(&s.labels))))
            }
        });
        for (t, v) in s.timestamps.iter().zip(&s.values) {
            let sample = usable.clone().and_then(|k| Ok((k, t.check()?)));
            match sample {
                Ok((k, t)) => out.batch.push(k, t, v.unwrap_or(f64::NAN), index),
                Err((code, detail)) => out.refused.push(RefusedSample { index: index as u32, code, detail }),
            }
            index += 1;
        }
    }
    Ok(out)
}

/// What rows with the same labels share.
struct Entity<'a> {
    labels: Labels,
    columns: HashMap<Text<'a>, usize>,
}

fn by_row(points: &[PointBody<'_>], max_labels: usize) -> Decoded {
    let mut out = Decoded::default();
    let mut keys = Keys::default();
    let mut entities: Vec<Entity<'_>> = Vec::new();
    let mut places: HashMap<&LabelsBody<'_>, usize> = HashMap::new();
    for (i, p) in points.iter().enumerate() {
        let checked = check_labels(&p.labels, max_labels).and_then(|()| p.timestamp.check());
        let t = match checked {
            Ok(t) => t,
            Err((code, detail)) => {
                out.refused.push(RefusedSample { index: i as u32, code, detail });
                continue;
            }
        };
        let e = *places.entry(&p.labels).or_insert_with(|| {
            entities.push(Entity { labels: labels_of(&p.labels), columns: HashMap::new() });
            entities.len() - 1
        });
        let entity = &mut entities[e];
        for (name, v) in &p.values.0 {
            if name.0.is_empty() {
                let detail = "a metric of the row has no name".to_owned();
                out.refused.push(RefusedSample { index: i as u32, code: "no_name", detail });
                continue;
            }
            let k = if let Some(k) = entity.columns.get(name) {
                *k
            } else {
                let k = keys.index(&mut out.batch, MetricKey::new(&*name.0, entity.labels.clone()));
                entity.columns.insert(name.clone(), k);
                k
            };
            out.batch.push(k, t, v.unwrap_or(f64::NAN), i);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 64;

    #[test]
    fn both_shapes_say_the_same() {
        let columns = br#"{"series":[{"labels":{"__name__":"cpu","host":"a"},"timestamps":[1767225600000,1767225660000],"values":[0.7,null]},
            {"labels":{"host":"a","__name__":"mem"},"timestamps":["2026-01-01T00:00:00Z"],"values":[1e308]}]}"#;
        let rows = br#"{"points":[{"timestamp":1767225600000,"labels":{"host":"a"},"values":{"cpu":0.7,"mem":1e308}},
            {"timestamp":1.76722566e12,"labels":{"host":"a"},"values":{"cpu":null}}]}"#;
        let (c, r) = (decode(columns, MAX).unwrap(), decode(rows, MAX).unwrap());
        assert_eq!(c.batch.keys, r.batch.keys);
        assert_eq!(c.batch.keys[0].to_string(), r#"cpu{host="a"}"#);
        let plain = |d: &Decoded| {
            let mut v: Vec<_> =
                d.batch.samples.iter().map(|s| (s.series, s.timestamp.ms(), s.value.to_bits())).collect();
            v.sort_unstable();
            v
        };
        assert_eq!(plain(&c), plain(&r));
        assert_eq!(c.batch.samples.iter().map(|s| s.index).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(r.batch.samples.iter().map(|s| s.index).collect::<Vec<_>>(), [0, 0, 1]);
    }

    #[test]
    fn the_place_is_named() {
        let at = |body: &str| {
            let v = serde_json::to_value(decode(body.as_bytes(), MAX).unwrap_err().body()).unwrap();
            (v["code"].as_str().unwrap().to_owned(), v["pointer"].as_str().unwrap_or("").to_owned())
        };
        let series = |timestamps: &str, values: &str| {
            format!(r#"{{"series":[{{"labels":{{"__name__":"a"}},"timestamps":{timestamps},"values":{values}}}]}}"#)
        };
        let malformed = |p: &str| ("malformed_json".to_owned(), p.to_owned());
        assert_eq!(at(&series("[1767225600000]", "[NaN]")), malformed("/series/0/values/0"));
        assert_eq!(at(&series("[1767225600000]", "[1e999]")), malformed("/series/0/values/0"));
        assert_eq!(at(r#"{"series":[{"labels":{"#), malformed("/series/0/labels"));
        assert_eq!(at(&series("[1767225600000]", r#"["0.5"]"#)).0, "invalid_field");
        assert_eq!(at(r#"{"points":[{"timestamp":1,"values":{"a/b":true}}]}"#).1, "/points/0/values/a~1b");
        assert_eq!(at(r#"{"serie":[]}"#).0, "invalid_field");
        assert_eq!(at(&series("[1767225600000]", "[]")), ("length_mismatch".into(), "/series/0/values".into()));
        assert_eq!(at("{}").0, "empty");
        assert_eq!(at(r#"{"series":[],"points":[]}"#).0, "ambiguous");
    }

    #[test]
    fn bad_samples_are_refused_alone() {
        let body = br#"{"series":[{"labels":{"__name__":"a"},"timestamps":[1767225600,1767225600000,"yesterday"],"values":[1,2,3]},
            {"labels":{"host":"a"},"timestamps":[1767225600000],"values":[1]}]}"#;
        let d = decode(body, MAX).unwrap();
        assert_eq!(d.batch.samples.len(), 1);
        let codes: Vec<_> = d.refused.iter().map(|r| (r.index, r.code)).collect();
        assert_eq!(codes, [(0, "seconds"), (2, "timestamp"), (3, "no_name")]);
        assert!(d.refused[0].detail.contains("did you send seconds?"));
    }

    #[test]
    fn a_million_labels() {
        let labels: Vec<String> = (0..1_000_000).map(|i| format!("\"l{i}\":\"v\"")).collect();
        let body = format!(
            r#"{{"points":[{{"timestamp":1767225600000,"labels":{{{}}},"values":{{"a":1}}}},{{"timestamp":1767225600000,"values":{{"a":1}}}}]}}"#,
            labels.join(",")
        );
        let d = decode(body.as_bytes(), MAX).unwrap();
        assert_eq!(d.batch.samples.len(), 1);
        assert_eq!(d.refused[0].code, "too_many_labels");
        assert!(d.refused[0].detail.contains("1000000 labels, 64 are allowed"));
    }
}
