use super::{Domain, MAX_PARAMETERS, Parameter, SearchSpace};
use crate::{SearchError, Value};
use serde::{Deserialize, Serialize};

/// The type of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParameterKind {
    /// A real number between `low` and `high`.
    Float,
    /// A whole number between `low` and `high`.
    Int,
    /// One of the numbers in `values`, which have an order.
    Discrete,
    /// One of `choices`, which have no order.
    #[serde(rename = "cat", alias = "categorical")]
    Categorical,
    /// On or off.
    Bool,
}

/// What changing a parameter on the running system takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeCost {
    /// Takes effect by itself.
    #[default]
    None,
    /// The configuration is read again; nothing stops.
    Reload,
    /// The process restarts.
    Restart,
}

impl std::fmt::Display for ChangeCost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Reload => "reload",
            Self::Restart => "restart",
        })
    }
}

/// A parameter exists only while another one has one of the given values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// The parent: a categorical, bool, int or discrete parameter.
    pub parameter: String,
    /// The parent's values under which the child is active.
    #[serde(rename = "in")]
    pub among: Vec<Value>,
}

/// A parameter as users write it; unchecked.
///
/// `{"name":"workers","type":"int","low":1,"high":64,"log":true,"current":8,"max_step":2.0,"cost":"restart"}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParameterSpec {
    /// The name, unique in the space.
    pub name: String,
    /// The type.
    #[serde(rename = "type")]
    pub kind: ParameterKind,
    /// The smallest value (float, int).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    /// The largest value (float, int).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
    /// Whether ratios matter rather than differences (float, int); needs `low > 0`. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub log: bool,
    /// Only `low + k step` is allowed (float, int). Default: none for float, 1 for int.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<f64>,
    /// The list of a categorical parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choices: Option<Vec<Value>>,
    /// The numbers of a discrete parameter; their rank is their position, so uneven lists are fine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<f64>>,
    /// Values outside of the range with a meaning of their own, such as -1 for unlimited or 0 for off (float, int).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub special: Vec<f64>,
    /// The unit, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The value that runs now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Value>,
    /// The largest factor by which a suggestion may leave `current` (2.0: from half to double); above 1, needs
    /// `current` and only positive values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_step: Option<f64>,
    /// What a change takes. Default none.
    #[serde(default)]
    pub cost: ChangeCost,
    /// When the parameter is active. Default always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Condition>,
    /// The metric of the entity that tells the value that runs, such as `pg_settings_work_mem_bytes`: exporters publish many,
    /// and then nobody has to say what was changed. Numbers and bools (on: not 0). Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_metric: Option<String>,
    /// What that metric is multiplied by to give the value: 1e-6 for a metric in bytes and a parameter in MB. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric_scale: Option<f64>,
}

impl ParameterSpec {
    fn new(name: &str, kind: ParameterKind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            low: None,
            high: None,
            log: false,
            step: None,
            choices: None,
            values: None,
            special: Vec::new(),
            unit: None,
            current: None,
            max_step: None,
            cost: ChangeCost::None,
            when: None,
            from_metric: None,
            metric_scale: None,
        }
    }

    /// A real number between `low` and `high`.
    pub fn float(name: &str, low: f64, high: f64) -> Self {
        Self { low: Some(low), high: Some(high), ..Self::new(name, ParameterKind::Float) }
    }

    /// A whole number between `low` and `high`, both allowed.
    pub fn int(name: &str, low: i64, high: i64) -> Self {
        Self { low: Some(low as f64), high: Some(high as f64), ..Self::new(name, ParameterKind::Int) }
    }

    /// One of some numbers that have an order.
    pub fn discrete(name: &str, values: &[f64]) -> Self {
        Self { values: Some(values.to_vec()), ..Self::new(name, ParameterKind::Discrete) }
    }

    /// One of some names that have no order.
    pub fn categorical(name: &str, choices: &[&str]) -> Self {
        let choices = choices.iter().map(|c| Value::from(*c)).collect();
        Self { choices: Some(choices), ..Self::new(name, ParameterKind::Categorical) }
    }

    /// On or off.
    pub fn boolean(name: &str) -> Self {
        Self::new(name, ParameterKind::Bool)
    }

    /// On a logarithmic scale.
    pub fn log(self) -> Self {
        Self { log: true, ..self }
    }

    /// Or one of these values outside of the range, each with a meaning of its own.
    pub fn special(self, values: &[f64]) -> Self {
        Self { special: values.to_vec(), ..self }
    }

    /// Running at `value` now.
    pub fn current(self, value: impl Into<Value>) -> Self {
        Self { current: Some(value.into()), ..self }
    }

    /// Never further from the current value than this factor.
    pub fn max_step(self, factor: f64) -> Self {
        Self { max_step: Some(factor), ..self }
    }

    /// With this cost of change.
    pub fn cost(self, cost: ChangeCost) -> Self {
        Self { cost, ..self }
    }

    /// Told by this metric, multiplied by `scale`.
    pub fn from_metric(self, metric: &str, scale: f64) -> Self {
        Self { from_metric: Some(metric.to_owned()), metric_scale: Some(scale), ..self }
    }

    /// Active only while `parameter` has one of `among`.
    pub fn when(self, parameter: &str, among: Vec<Value>) -> Self {
        Self { when: Some(Condition { parameter: parameter.to_owned(), among }), ..self }
    }
}

/// A search space as users write it: a list of parameters; unchecked.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SpaceSpec(pub Vec<ParameterSpec>);

impl SpaceSpec {
    /// Checks every parameter, resolves conditions and puts parents before children.
    ///
    /// # Errors
    /// [`SearchError::Parameter`] or [`SearchError::Space`] naming the parameter, the field and what was expected.
    pub fn check(self) -> Result<SearchSpace, SearchError> {
        let n = self.0.len();
        if n == 0 || n > MAX_PARAMETERS {
            return Err(SearchError::Space { problem: format!("{n} parameters: give 1 to {MAX_PARAMETERS}") });
        }
        let mut parameters: Vec<Parameter> = Vec::with_capacity(n);
        for (i, spec) in self.0.into_iter().enumerate() {
            if spec.name.trim().is_empty() {
                return Err(SearchError::Parameter { name: format!("#{i}"), problem: "has no name".to_owned() });
            }
            if parameters.iter().any(|p| p.name() == spec.name) {
                return Err(SearchError::Parameter { name: spec.name, problem: "is declared twice".to_owned() });
            }
            parameters.push(Parameter::check(spec)?);
        }
        check_conditions(&parameters)?;
        let order = parents_first(&parameters)?;
        Ok(SearchSpace::from_parts(parameters, order))
    }
}

fn check_conditions(parameters: &[Parameter]) -> Result<(), SearchError> {
    for p in parameters {
        let Some(c) = &p.spec.when else { continue };
        let bad = |problem: String| Err(SearchError::Parameter { name: p.name().to_owned(), problem });
        let Some(parent) = parameters.iter().find(|q| q.name() == c.parameter) else {
            return bad(format!("`when.parameter` names `{}`, which the space does not have", c.parameter));
        };
        if matches!(parent.domain, Domain::Real { .. }) {
            return bad(format!(
                "`when.parameter` names `{}`, a float: a condition needs a list of values",
                c.parameter
            ));
        }
        if c.among.is_empty() {
            return bad("`when.in` is empty: the parameter would never be active".to_owned());
        }
        for v in &c.among {
            if let Err(e) = parent.canonical(v) {
                return bad(format!("`when.in`: {e}"));
            }
        }
    }
    Ok(())
}

fn parents_first(parameters: &[Parameter]) -> Result<Vec<usize>, SearchError> {
    let mut order: Vec<usize> = Vec::with_capacity(parameters.len());
    let mut placed = vec![false; parameters.len()];
    while order.len() < parameters.len() {
        let before = order.len();
        for (i, p) in parameters.iter().enumerate() {
            let ready = p.spec.when.as_ref().is_none_or(|c| order.iter().any(|&j| parameters[j].name() == c.parameter));
            if !placed[i] && ready {
                placed[i] = true;
                order.push(i);
            }
        }
        if order.len() == before {
            let names: Vec<&str> =
                (0..parameters.len()).filter(|&i| !placed[i]).map(|i| parameters[i].name()).collect();
            return Err(SearchError::Space {
                problem: format!("conditions form a circle among {}: remove one `when`", names.join(", ")),
            });
        }
    }
    Ok(order)
}
