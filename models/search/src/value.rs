use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// One parameter's value; plain in JSON (`true`, `8`, `0.5`, `"lru"`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A switch.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A real number.
    Float(f64),
    /// A name out of a list.
    Text(String),
}

/// A value for each active parameter, by name.
pub type Assignment = BTreeMap<String, Value>;

impl Value {
    /// The value as a number, `None` for switches and names.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Int(v) => Some(*v as f64),
            Self::Float(v) => Some(*v),
            Self::Bool(_) | Self::Text(_) => None,
        }
    }

    /// Whether both mean the same: numbers are compared by value, so that `8` and `8.0` are equal.
    pub fn same(&self, other: &Self) -> bool {
        match (self.as_number(), other.as_number()) {
            (Some(a), Some(b)) => a == b,
            _ => self == other,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(v) => write!(f, "{v}"),
            Self::Int(v) => write!(f, "{v}"),
            Self::Float(v) => write!(f, "{v}"),
            Self::Text(v) => write!(f, "\"{v}\""),
        }
    }
}

impl From<bool> for Value {
    fn from(v: bool) -> Self {
        Self::Bool(v)
    }
}

impl From<i64> for Value {
    fn from(v: i64) -> Self {
        Self::Int(v)
    }
}

impl From<i32> for Value {
    fn from(v: i32) -> Self {
        Self::Int(i64::from(v))
    }
}

impl From<f64> for Value {
    fn from(v: f64) -> Self {
        Self::Float(v)
    }
}

impl From<&str> for Value {
    fn from(v: &str) -> Self {
        Self::Text(v.to_owned())
    }
}

/// The assignment as one line of JSON with sorted names: two assignments are the same configuration when their keys are
/// equal.
pub fn assignment_key(assignment: &Assignment) -> String {
    let parts: Vec<String> = assignment.iter().map(|(k, v)| format!("{k:?}:{v}")).collect();
    format!("{{{}}}", parts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_plain_and_keeps_types() {
        let text = r#"{"a":true,"b":8,"c":0.5,"d":"lru","e":3.0}"#;
        let a: Assignment = serde_json::from_str(text).unwrap();
        assert_eq!(a["b"], Value::Int(8));
        assert_eq!(a["e"], Value::Float(3.0));
        assert_eq!(serde_json::to_string(&a).unwrap(), text);
        assert!(a["e"].same(&Value::Int(3)));
        assert!(!a["a"].same(&Value::Int(1)));
    }
}
