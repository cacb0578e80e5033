//! Configurations and recommendations in the form that applies them.

use super::command::{quote, variable};
use foreglow_search::recommend::ConfirmVerdict;
use foreglow_search::{Advice, Assignment, ChangeCost, ParameterSpec, Recommendation, SearchSpace, Study, Value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A form in which a change is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Emit {
    /// The recommendation as an object; for `apply` the configuration as an object.
    Json,
    /// `NAME VALUE` lines with units, switches as on and off.
    Text,
    /// `NAME=VALUE` lines, names in upper case.
    Env,
    /// PostgreSQL: `ALTER SYSTEM SET` statements.
    Sql,
    /// A command that patches the workload named by the study's `entity`: environment of a container, or a config map.
    Kubectl,
}

/// One parameter's value with its declaration.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting<'a> {
    /// The declaration: name, unit, special values.
    pub spec: &'a ParameterSpec,
    /// The value; `None` where the parameter is not active.
    pub value: Option<Value>,
}

/// Units that PostgreSQL reads behind a number.
const SQL_UNITS: [&str; 11] = ["B", "kB", "MB", "GB", "TB", "us", "ms", "s", "min", "h", "d"];

/// What a kubectl patch changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    namespace: Option<String>,
    kind: &'static str,
    name: String,
    container: String,
}

impl Target {
    /// From the study's `entity`.
    ///
    /// # Errors
    /// Which label is missing.
    pub(crate) fn of(entity: &BTreeMap<String, String>) -> Result<Self, String> {
        let kinds = ["deployment", "statefulset", "daemonset", "configmap"];
        let Some((kind, name)) = kinds.iter().find_map(|k| Some((*k, entity.get(*k)?.clone()))) else {
            return Err(format!(
                "study field `entity`: a kubectl patch needs one of {}, such as entity = {{ namespace = \"shop\", \
                 deployment = \"api\", container = \"app\" }}",
                kinds.join(", ")
            ));
        };
        let container = match entity.get("container") {
            Some(c) => c.clone(),
            None if kind == "configmap" => String::new(),
            None => {
                return Err(format!(
                    "study field `entity`: a patch of a {kind} needs `container`, the container's name"
                ));
            }
        };
        Ok(Self { namespace: entity.get("namespace").cloned(), kind, name, container })
    }

    fn patch(&self, settings: &[Setting<'_>]) -> String {
        let value = |s: &Setting<'_>| s.value.as_ref().map(plain);
        let (form, patch) = if self.kind == "configmap" {
            // A merge with null takes the key away.
            let data: serde_json::Map<String, serde_json::Value> =
                settings.iter().map(|s| (s.spec.name.clone(), value(s).into())).collect();
            ("merge", serde_json::json!({ "data": data }))
        } else {
            let env: Vec<serde_json::Value> = settings
                .iter()
                .map(|s| match value(s) {
                    Some(v) => serde_json::json!({"name": variable(&s.spec.name), "value": v}),
                    None => serde_json::json!({"name": variable(&s.spec.name), "$patch": "delete"}),
                })
                .collect();
            let containers = serde_json::json!([{"name": self.container, "env": env}]);
            ("strategic", serde_json::json!({"spec": {"template": {"spec": {"containers": containers}}}}))
        };
        let namespace = self.namespace.as_ref().map(|n| format!(" --namespace {}", quote(n))).unwrap_or_default();
        let (kind, name, patch) = (self.kind, quote(&self.name), quote(&patch.to_string()));
        format!("kubectl{namespace} patch {kind} {name} --type {form} --patch {patch}\n")
    }
}

/// A value without quotes or unit. What is no whole number is rounded to 12 digits: a step of 0.1 taken 8 times is
/// 0.9000000000000001 to the machine, and 0.9 to everybody else. Trials run with the same text, so what is recommended is
/// what was measured.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Text(t) => t.clone(),
        Value::Float(v) if v.fract() != 0.0 => format!("{v:.11e}").parse().unwrap_or(*v).to_string(),
        other => other.to_string(),
    }
}

impl Setting<'_> {
    /// The unit behind an ordinary number; special values such as -1 have none.
    fn unit(&self) -> &str {
        match self.value.as_ref().and_then(Value::as_number) {
            Some(v) if !self.spec.special.contains(&v) => self.spec.unit.as_deref().unwrap_or_default(),
            _ => "",
        }
    }

    fn switch(&self) -> Option<String> {
        Some(match self.value.as_ref()? {
            Value::Bool(on) => if *on { "on" } else { "off" }.to_owned(),
            other => plain(other),
        })
    }
}

/// The active parameters of a configuration, in the order of their declaration.
pub(crate) fn settings<'a>(space: &'a SearchSpace, parameters: &Assignment) -> Vec<Setting<'a>> {
    let all = space.parameters().iter().map(foreglow_search::space::Parameter::spec);
    all.filter_map(|spec| Some(Setting { spec, value: Some(parameters.get(&spec.name)?.clone()) })).collect()
}

fn lines(kind: Emit, settings: &[Setting<'_>]) -> String {
    let mut out = String::new();
    for s in settings {
        let name = &s.spec.name;
        let line = match (kind, s.switch()) {
            (Emit::Env, Some(_)) => {
                format!("{}={}", variable(name), quote(&s.value.as_ref().map(plain).unwrap_or_default()))
            }
            (Emit::Env, None) => format!("unset {}", variable(name)),
            (Emit::Sql, Some(v)) => {
                let unit = if SQL_UNITS.contains(&s.unit()) { s.unit() } else { "" };
                format!("ALTER SYSTEM SET {} = '{}';", identifier(name), format!("{v}{unit}").replace('\'', "''"))
            }
            (Emit::Sql, None) => format!("ALTER SYSTEM RESET {};", identifier(name)),
            (_, Some(v)) => format!("{name} {v}{}", s.unit()),
            (_, None) => format!("# {name} has no value"),
        };
        // Writing into text cannot fail.
        let _ = writeln!(out, "{line}");
    }
    out
}

fn identifier(name: &str) -> String {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.');
    if name.chars().all(fine) { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// A whole configuration, for the `apply` command.
///
/// # Errors
/// When the configuration cannot be written as JSON.
pub(crate) fn configuration(kind: Emit, space: &SearchSpace, parameters: &Assignment) -> Result<String, String> {
    Ok(match kind {
        Emit::Json => serde_json::to_string(parameters).map_err(|e| e.to_string())? + "\n",
        Emit::Sql => lines(kind, &settings(space, parameters)) + "SELECT pg_reload_conf();\n",
        _ => lines(kind, &settings(space, parameters)),
    })
}

/// What was recommended, in the form that applies it, with the way back as a comment; a comment when nothing was.
///
/// # Errors
/// The study's `entity` does not say what to patch, or the advice cannot be written as JSON.
pub(crate) fn advice(kind: Emit, advice: &Advice, study: &Study) -> Result<String, String> {
    if kind == Emit::Json {
        return Ok(format!("{:#}\n", serde_json::to_value(advice).map_err(|e| e.to_string())?));
    }
    let comment = if kind == Emit::Sql { "--" } else { "#" };
    let r = match advice {
        Advice::None { none_because } => return Ok(format!("{comment} no recommendation: {none_because}\n")),
        Advice::Change(r) => r,
    };
    let mut out = format!("{comment} study {}: {}\n", r.study, promise(r));
    let (to, from) = (sides(study.space(), r, false), sides(study.space(), r, true));
    let (change, back) = match kind {
        Emit::Kubectl => {
            let target = Target::of(&study.spec().entity)?;
            (target.patch(&to), target.patch(&from))
        }
        _ => (lines(kind, &to), lines(kind, &from)),
    };
    out += &change;
    if kind == Emit::Sql {
        out += "SELECT pg_reload_conf();\n";
        let restart: Vec<&str> =
            to.iter().filter(|s| s.spec.cost == ChangeCost::Restart).map(|s| s.spec.name.as_str()).collect();
        if !restart.is_empty() {
            let _ = writeln!(out, "-- the server must be restarted for {}", restart.join(", "));
        }
    }
    let _ = writeln!(out, "{comment} the way back:");
    for line in back.lines() {
        let _ = writeln!(out, "{comment} {line}");
    }
    Ok(out)
}

fn sides<'a>(space: &'a SearchSpace, r: &Recommendation, back: bool) -> Vec<Setting<'a>> {
    let changes = if back { &r.rollback } else { &r.change };
    changes.iter().filter_map(|c| Some(Setting { spec: space.get(&c.name)?.spec(), value: c.to.clone() })).collect()
}

/// The effect on the objective in one line, and whether it was measured or is only expected.
pub(crate) fn promise(r: &Recommendation) -> String {
    let Some(e) = r.effect.first() else { return String::new() };
    let confirmed = r.confirmation.as_ref().filter(|c| c.verdict == ConfirmVerdict::Confirmed);
    let percent = |v: f64| format!("{:+.1} %", 100.0 * v);
    let of = |i: [f64; 2]| format!("{} to {}", percent(i[0]), percent(i[1]));
    let (mean, i80, i95) = (percent(e.relative.mean), of(e.relative.i80), of(e.relative.i95));
    match confirmed {
        Some(c) => format!("{} {mean} measured in turn over {} rounds (80 %: {i80}; 95 %: {i95})", e.metric, c.rounds),
        None => format!("UNVERIFIED, never measured in turn: {} {mean} expected (80 %: {i80}; 95 %: {i95})", e.metric),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreglow_search::{Objective, SpaceSpec, StudySpec};

    #[test]
    fn numbers_are_as_short_as_they_are_meant() {
        let cases = [
            (0.1 + 8.0 * 0.1, "0.9"),
            (0.1 + 0.2, "0.3"),
            (1.0 / 3.0, "0.333333333333"),
            (-2.5e-9, "-0.0000000025"),
            (1_099_511_627_776.0, "1099511627776"),
            (123_456_789_012_345.0, "123456789012345"),
        ];
        for (v, text) in cases {
            assert_eq!(plain(&Value::Float(v)), text);
        }
        let space = SpaceSpec(vec![ParameterSpec::float("checkpoint_completion_target", 0.1, 0.95).current(0.5)]);
        let objective = Objective {
            metric: "y".into(),
            aggregate: foreglow_search::Aggregate::Mean,
            goal: foreglow_search::Goal::Min,
        };
        let study = StudySpec::new("s", space, objective).check().unwrap();
        let a = Assignment::from([("checkpoint_completion_target".to_owned(), (0.1 + 8.0 * 0.1).into())]);
        let sql = configuration(Emit::Sql, study.space(), &a).unwrap();
        assert_eq!(sql, "ALTER SYSTEM SET checkpoint_completion_target = '0.9';\nSELECT pg_reload_conf();\n");
    }
}
