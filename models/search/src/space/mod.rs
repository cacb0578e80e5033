//! What may be varied: parameters with their types, scales, conditions, limits of movement and cost of change.
//!
//! A [`SpaceSpec`] is what users write; [`SpaceSpec::check`] turns it into a [`SearchSpace`], the only form that
//! designers accept.

mod encode;
mod parameter;
mod spec;

pub use parameter::{Domain, Parameter};
pub use spec::{ChangeCost, Condition, ParameterKind, ParameterSpec, SpaceSpec};

use crate::{Assignment, SearchError, Value};
use serde::{Deserialize, Serialize};

/// The most parameters a space may have.
pub const MAX_PARAMETERS: usize = 256;

/// A checked search space: every parameter usable, every condition resolved, no cycle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "SpaceSpec", into = "SpaceSpec")]
pub struct SearchSpace {
    parameters: Vec<Parameter>,
    /// Indices so that a parent comes before its children.
    order: Vec<usize>,
}

impl TryFrom<SpaceSpec> for SearchSpace {
    type Error = SearchError;

    fn try_from(spec: SpaceSpec) -> Result<Self, SearchError> {
        spec.check()
    }
}

impl From<SearchSpace> for SpaceSpec {
    fn from(space: SearchSpace) -> Self {
        Self(space.parameters.into_iter().map(|p| p.spec).collect())
    }
}

impl SearchSpace {
    pub(crate) fn from_parts(parameters: Vec<Parameter>, order: Vec<usize>) -> Self {
        Self { parameters, order }
    }

    /// The parameters in the order of their declaration.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The number of parameters.
    pub fn len(&self) -> usize {
        self.parameters.len()
    }

    /// Always false: a space without parameters is refused by [`SpaceSpec::check`].
    pub fn is_empty(&self) -> bool {
        self.parameters.is_empty()
    }

    /// The parameter of that name.
    pub fn get(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|p| p.name() == name)
    }

    /// Indices of the parameters, parents before children.
    pub(crate) fn order(&self) -> &[usize] {
        &self.order
    }

    /// Whether parameter `index` is active under the (perhaps partial, parents first) `assignment`.
    pub(crate) fn is_active(&self, index: usize, assignment: &Assignment) -> bool {
        match &self.parameters[index].spec.when {
            None => true,
            Some(c) => assignment.get(&c.parameter).is_some_and(|v| c.among.iter().any(|a| a.same(v))),
        }
    }

    /// The assignment with each value in its parameter's own type and without inactive parameters.
    ///
    /// # Errors
    /// A name that the space does not have, an active parameter without a value, a value outside its parameter's range
    /// or off its step.
    pub fn canonical(&self, assignment: &Assignment) -> Result<Assignment, SearchError> {
        if let Some(unknown) = assignment.keys().find(|k| self.get(k).is_none()) {
            let known: Vec<&str> = self.parameters.iter().map(Parameter::name).collect();
            return Err(SearchError::Assignment {
                problem: format!("unknown parameter `{unknown}`: the space has {}", known.join(", ")),
            });
        }
        let mut out = Assignment::new();
        for &i in &self.order {
            if !self.is_active(i, &out) {
                continue;
            }
            let p = &self.parameters[i];
            let value = assignment.get(p.name()).ok_or_else(|| SearchError::Assignment {
                problem: format!("parameter `{}` has no value: give one of {}", p.name(), p.describe()),
            })?;
            out.insert(p.name().to_owned(), p.canonical(value)?);
        }
        Ok(out)
    }

    /// The configuration that runs now, when every active parameter declares its `current` value.
    pub fn current(&self) -> Option<Assignment> {
        let mut out = Assignment::new();
        for &i in &self.order {
            if self.is_active(i, &out) {
                let p = &self.parameters[i];
                out.insert(p.name().to_owned(), p.current()?.clone());
            }
        }
        Some(out)
    }

    /// The same space with other current values; `max_step` is counted from them. Parameters that `assignment` does not
    /// name keep theirs.
    pub fn with_current(&self, assignment: &Assignment) -> Result<Self, SearchError> {
        let mut spec: SpaceSpec = self.clone().into();
        for p in &mut spec.0 {
            if let Some(v) = assignment.get(&p.name) {
                p.current = Some(v.clone());
            }
        }
        spec.check()
    }

    /// The number of values a parameter can take within its reach, multiplied over parameters; `None` when one is
    /// continuous or the product leaves 64 bits. Conditions make the true number smaller.
    pub fn cardinality(&self) -> Option<u64> {
        self.parameters.iter().try_fold(1u64, |acc, p| acc.checked_mul(p.count()?))
    }

    /// Every configuration within reach in lexicographic order, or `None` when there are more than `limit` or a
    /// parameter is continuous.
    pub fn enumerate(&self, limit: usize) -> Option<Vec<Assignment>> {
        let mut partial = vec![Assignment::new()];
        for &i in &self.order {
            let p = &self.parameters[i];
            let values: Vec<Value> = (0..p.count()?.min(limit as u64 + 1)).map(|k| p.reachable(k)).collect();
            let mut next = Vec::new();
            for a in partial {
                if self.is_active(i, &a) {
                    for v in &values {
                        let mut b = a.clone();
                        b.insert(p.name().to_owned(), v.clone());
                        next.push(b);
                    }
                } else {
                    next.push(a);
                }
                if next.len() > limit {
                    return None;
                }
            }
            partial = next;
        }
        Some(partial)
    }

    /// The parameters whose value (or activity) differs, in the order of declaration.
    pub fn changed(&self, a: &Assignment, b: &Assignment) -> Vec<usize> {
        (0..self.len())
            .filter(|&i| {
                let n = self.parameters[i].name();
                match (a.get(n), b.get(n)) {
                    (Some(x), Some(y)) => !x.same(y),
                    (None, None) => false,
                    _ => true,
                }
            })
            .collect()
    }
}
