//! Ready-made spaces: what is worth tuning in well-known software, with units, costs and rules.

use foreglow_search::{ChangeCost, ParameterSpec, SearchError, SpaceSpec, Value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The ready-made spaces: name and TOML text. To add one: a file in `training/configs/spaces`, a line here.
pub const READY_MADE: [(&str, &str); 3] = [
    ("postgresql", include_str!("../../configs/spaces/postgresql.toml")),
    ("jvm", include_str!("../../configs/spaces/jvm.toml")),
    ("nginx", include_str!("../../configs/spaces/nginx.toml")),
];

/// Fields of a ready-made parameter that a study sets otherwise; the range may only get smaller.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Narrow {
    /// The smallest value.
    pub low: Option<f64>,
    /// The largest value.
    pub high: Option<f64>,
    /// The value that runs now.
    pub current: Option<Value>,
    /// The largest factor by which a suggestion may leave the current value.
    pub max_step: Option<f64>,
    /// The choices to keep.
    pub choices: Option<Vec<Value>>,
    /// The values to keep.
    pub values: Option<Vec<f64>>,
    /// The special values to keep.
    pub special: Option<Vec<f64>>,
    /// What a change takes here.
    pub cost: Option<ChangeCost>,
}

/// A ready-made space's file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ready {
    /// Facts that rules may name, each with what it means.
    #[serde(default)]
    given: BTreeMap<String, String>,
    #[serde(default)]
    rules: Vec<String>,
    parameters: SpaceSpec,
}

/// What a study file says about its space.
pub(crate) struct SpaceChoice<'a> {
    pub(crate) name: Option<&'a str>,
    pub(crate) only: &'a [String],
    pub(crate) narrow: &'a BTreeMap<String, Narrow>,
    pub(crate) given: &'a BTreeMap<String, f64>,
    pub(crate) own: &'a SpaceSpec,
    pub(crate) rules: &'a [String],
}

fn bad<T>(field: &'static str, problem: String) -> Result<T, SearchError> {
    Err(SearchError::Study { field, problem })
}

impl SpaceChoice<'_> {
    /// Parameters and rules of the study.
    ///
    /// # Errors
    /// [`SearchError::Study`] naming the field and what exists.
    pub(crate) fn resolve(&self) -> Result<(SpaceSpec, Vec<String>), SearchError> {
        let Some(name) = self.name else {
            let fields = [("only", self.only.is_empty()), ("narrow", self.narrow.is_empty())];
            for (field, unused) in fields.into_iter().chain([("given", self.given.is_empty())]) {
                if !unused {
                    return bad(field, format!("means nothing without `space`: name one of {}", names()));
                }
            }
            if self.own.0.is_empty() {
                return bad(
                    "parameters",
                    format!("are missing: add [[parameters]], or `space` with one of {}", names()),
                );
            }
            if let Some(p) = self.own.0.iter().find(|p| p.from_metric.is_some()) {
                let problem = format!(
                    "`{}` has `from_metric`, which the server reads: here the command is given its value",
                    p.name
                );
                return bad("parameters", problem);
            }
            return Ok((self.own.clone(), self.rules.to_vec()));
        };
        let Some((_, text)) = READY_MADE.iter().find(|(n, _)| *n == name) else {
            return bad("space", format!("there is no ready-made space `{name}`: name one of {}", names()));
        };
        let ready: Ready = toml::from_str(text).map_err(|e| SearchError::Space { problem: e.to_string() })?;
        let known: Vec<&str> = ready.parameters.0.iter().map(|p| p.name.as_str()).collect();
        let unknown = |n: &&String| !known.contains(&n.as_str());
        if let Some(n) = self.only.iter().find(unknown) {
            return bad("only", format!("`{n}` is not in space `{name}`, which has {}", known.join(", ")));
        }
        if let Some(n) = self.narrow.keys().find(unknown) {
            return bad("narrow", format!("`{n}` is not in space `{name}`, which has {}", known.join(", ")));
        }
        if let Some(n) = self.given.keys().find(|n| !ready.given.contains_key(*n)) {
            let asked: Vec<String> = ready.given.iter().map(|(k, v)| format!("{k} ({v})")).collect();
            return bad("given", format!("space `{name}` does not ask for `{n}` but for {}", asked.join(", ")));
        }
        let mut kept = Vec::new();
        for p in ready.parameters.0.clone() {
            let replaced = self.own.0.iter().any(|o| o.name == p.name);
            if replaced || !(self.only.is_empty() || self.only.contains(&p.name)) {
                continue;
            }
            kept.push(match self.narrow.get(&p.name) {
                Some(n) => n.apply(p)?,
                None => p,
            });
        }
        kept.extend(self.own.0.iter().cloned());
        // A condition on a parameter that was left out says nothing any more: what depends on it goes with it.
        while let Some(i) = kept.iter().position(|p| orphan(p, &kept)) {
            kept.remove(i);
        }
        let mut rules: Vec<String> = ready.rules.iter().filter_map(|r| self.applicable(r, &ready, &kept)).collect();
        rules.extend(self.rules.iter().cloned());
        Ok((SpaceSpec(kept), rules))
    }

    /// A ready-made rule with the given facts filled in; `None` when it names a fact that was not given or a parameter that
    /// was left out.
    fn applicable(&self, rule: &str, ready: &Ready, kept: &[ParameterSpec]) -> Option<String> {
        let mut out = String::new();
        let mut rest = rule;
        while let Some(c) = rest.chars().next() {
            if !(c.is_ascii_alphabetic() || c == '_') {
                out.push(c);
                rest = &rest[c.len_utf8()..];
                continue;
            }
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
            let word = &rest[..end];
            if ready.given.contains_key(word) {
                out.push_str(&self.given.get(word)?.to_string());
            } else if kept.iter().any(|p| p.name == word) {
                out.push_str(word);
            } else {
                return None;
            }
            rest = &rest[end..];
        }
        Some(out)
    }
}

fn orphan(p: &ParameterSpec, kept: &[ParameterSpec]) -> bool {
    p.when.as_ref().is_some_and(|c| !kept.iter().any(|q| q.name == c.parameter))
}

fn names() -> String {
    READY_MADE.map(|(n, _)| n).join(", ")
}

impl Narrow {
    fn apply(&self, mut p: ParameterSpec) -> Result<ParameterSpec, SearchError> {
        let wider = |problem: String| {
            let problem = format!(
                "{problem}: a ready-made range only gets narrower; to widen it, declare the parameter under [[parameters]]"
            );
            Err(SearchError::Parameter { name: p.name.clone(), problem })
        };
        if let (Some(l), Some(low)) = (self.low, p.low)
            && l < low
        {
            return wider(format!("`low` {l} is below {low}"));
        }
        if let (Some(h), Some(high)) = (self.high, p.high)
            && h > high
        {
            return wider(format!("`high` {h} is above {high}"));
        }
        let offered = p.choices.clone().unwrap_or_default();
        if let Some(c) = self.choices.iter().flatten().find(|c| !offered.iter().any(|o| o.same(c))) {
            return wider(format!("`choices` has {c}"));
        }
        let offered = p.values.clone().unwrap_or_default();
        if let Some(v) = self.values.iter().flatten().find(|v| !offered.contains(v)) {
            return wider(format!("`values` has {v}"));
        }
        if let Some(v) = self.special.iter().flatten().find(|v| !p.special.contains(v)) {
            return wider(format!("`special` has {v}"));
        }
        p.low = self.low.or(p.low);
        p.high = self.high.or(p.high);
        p.max_step = self.max_step.or(p.max_step);
        p.cost = self.cost.unwrap_or(p.cost);
        if let Some(special) = &self.special {
            p.special.clone_from(special);
        }
        // A field that the type does not have is refused by the space's own check, which names it.
        p.choices = self.choices.clone().or(p.choices);
        p.values = self.values.clone().or(p.values);
        p.current = self.current.clone().or(p.current);
        Ok(p)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> Result<(SpaceSpec, Vec<String>), SearchError> {
        let text = format!("{text}\n[objective]\nmetric = \"y\"\ngoal = \"min\"\n");
        let file = crate::tune::StudyFile::parse(&text).unwrap();
        let spec = file.spec()?;
        Ok((spec.parameters, spec.rules))
    }

    #[test]
    fn every_ready_made_space_is_sound() {
        for (name, text) in READY_MADE {
            let ready: Ready = toml::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}"));
            let given: Vec<String> = ready.given.keys().map(|k| format!("{k} = 16384\n")).collect();
            for given in [String::new(), format!("[given]\n{}", given.concat())] {
                let (parameters, rules) = resolve(&format!("space = \"{name}\"\n{given}")).unwrap();
                let space = parameters.check().unwrap().with_rules(&rules).unwrap_or_else(|e| panic!("{name}: {e}"));
                if let Some(current) = space.current() {
                    assert!(space.keeps_rules(&current), "{name}: the defaults keep the rules");
                }
                assert!(rules.len() >= 2, "{name} has rules: {rules:?}");
            }
            assert!(ready.parameters.0.iter().any(|p| p.unit.is_some()), "{name} has units");
            assert!(
                ready.parameters.0.iter().all(|p| p.cost != ChangeCost::None),
                "{name}: every change costs something"
            );
        }
    }

    #[test]
    fn a_study_narrows_and_replaces() {
        let (space, rules) = resolve(
            "space = \"postgresql\"\nonly = [\"shared_buffers\", \"work_mem\", \"min_wal_size\"]\n\
             given = { memory_mb = 8192 }\n\
             parameters = [{ name = \"work_mem\", type = \"int\", low = 1, high = 9 }]\n\
             [narrow.shared_buffers]\nhigh = 512\ncurrent = 256\n",
        )
        .unwrap();
        let names: Vec<&str> = space.0.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["shared_buffers", "min_wal_size", "work_mem"]);
        assert_eq!((space.0[0].high, &space.0[0].current), (Some(512.0), &Some(Value::Int(256))));
        assert_eq!(rules, ["shared_buffers <= 0.4 * 8192"], "rules of what was left out go with it");
    }

    #[test]
    fn mistakes_name_the_field_and_what_exists() {
        let bad = |text: &str| resolve(text).unwrap_err().to_string();
        assert!(bad("").contains("postgresql, jvm, nginx"));
        assert!(bad("space = \"oracle\"").contains("postgresql"));
        assert!(bad("only = [\"x\"]\nparameters = [{ name = \"a\", type = \"bool\" }]").contains("without `space`"));
        assert!(bad("space = \"nginx\"\nonly = [\"worker\"]").contains("worker_processes"));
        assert!(bad("space = \"nginx\"\n[narrow.worker]\nlow = 1").contains("worker_processes"));
        assert!(bad("space = \"postgresql\"\ngiven = { memory = 1 }").contains("memory_mb"));
        assert!(bad("space = \"postgresql\"\n[narrow.shared_buffers]\nhigh = 9e9").contains("[[parameters]]"));
    }
}
