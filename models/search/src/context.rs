//! What surrounded a trial, as numbers: workload, version, host.

use crate::{Trial, Value};
use std::collections::BTreeMap;

/// What was observed around a trial, by name.
pub type Context = BTreeMap<String, Value>;

/// The numeric contexts of a study with the range that each was seen in; others (names, switches) tell environments
/// apart and are not numbers.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct ContextScale {
    keys: Vec<(String, f64, f64)>,
}

/// The middle: where a trial without the context is put.
const UNKNOWN: f64 = 0.5;

impl ContextScale {
    /// The numeric contexts that vary over `trials`.
    pub(crate) fn of(trials: &[Trial]) -> Self {
        let mut ranges: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
        for t in trials.iter().filter(|t| t.usable().is_some()) {
            for (k, v) in &t.context {
                if let Some(v) = v.as_number().filter(|v| v.is_finite()) {
                    let r = ranges.entry(k).or_insert((v, v));
                    *r = (r.0.min(v), r.1.max(v));
                }
            }
        }
        let keys = ranges.into_iter().filter(|(_, (a, b))| b > a).map(|(k, (a, b))| (k.to_owned(), a, b)).collect();
        Self { keys }
    }

    /// How many numbers a context becomes.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// A context as positions in the seen ranges; beyond them at most half a range further.
    pub(crate) fn features(&self, context: &Context) -> Vec<f64> {
        self.keys
            .iter()
            .map(|(k, a, b)| {
                let v = context.get(k).and_then(Value::as_number).filter(|v| v.is_finite());
                v.map_or(UNKNOWN, |v| ((v - a) / (b - a)).clamp(-0.5, 1.5))
            })
            .collect()
    }
}

/// The names and switches of a context in one line: trials of equal environments are comparable as they are.
pub(crate) fn environment(context: &Context) -> String {
    let named: Vec<String> =
        context.iter().filter(|(_, v)| v.as_number().is_none()).map(|(k, v)| format!("{k:?}:{v}")).collect();
    named.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Measurement, ParameterSpec, SpaceSpec, StudySpec};

    #[test]
    fn numbers_scale_and_names_tell_environments() {
        let objective = serde_json::from_str(r#"{"metric":"y","goal":"min"}"#).unwrap();
        let space = SpaceSpec(vec![ParameterSpec::float("x", 0.0, 1.0)]);
        let mut s = StudySpec::new("s", space, objective).check().unwrap();
        for (x, load) in [(0.1, 100.0), (0.2, 300.0), (0.3, 200.0)] {
            let context = Context::from([("load".into(), Value::Float(load)), ("host".into(), "a".into())]);
            let at = [("x".to_owned(), Value::Float(x))].into();
            s.add(&at, Some(Measurement::of(1.0)), context, vec![]).unwrap();
        }
        let scale = ContextScale::of(s.trials());
        assert_eq!(scale.len(), 1);
        assert_eq!(scale.features(&s.trials()[2].context), vec![0.5]);
        assert_eq!(scale.features(&Context::new()), vec![0.5]);
        assert_eq!(environment(&s.trials()[0].context), "\"host\":\"a\"");
    }
}
