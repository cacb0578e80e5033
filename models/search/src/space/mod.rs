//! What may be varied: parameters with their types, scales, conditions, limits of movement and cost of change.
//!
//! A [`SpaceSpec`] is what users write; [`SpaceSpec::check`] turns it into a [`SearchSpace`], the only form that
//! designers accept.

mod encode;
mod parameter;
mod rule;
mod spec;

pub use parameter::{Domain, Parameter};
pub use spec::{ChangeCost, Condition, ParameterKind, ParameterSpec, SpaceSpec};

use crate::{Assignment, SearchError, Value, designers::sobol};
use foreglow_core::Seed;
use rule::Rule;
use serde::{Deserialize, Serialize};

/// The most parameters a space may have.
pub const MAX_PARAMETERS: usize = 256;

/// Points among which one that keeps the rules is looked for.
const SEARCHED: u32 = 4096;

/// A checked search space: every parameter usable, every condition resolved, no cycle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "SpaceSpec", into = "SpaceSpec")]
pub struct SearchSpace {
    parameters: Vec<Parameter>,
    /// Indices so that a parent comes before its children.
    order: Vec<usize>,
    rules: Vec<Rule>,
    /// A point of the cube at which all rules hold; what breaks one is moved towards it.
    anchor: Vec<f64>,
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
        Self { parameters, order, rules: Vec::new(), anchor: Vec::new() }
    }

    /// The same space in which every generated configuration keeps `rules`: `EXPR < EXPR` (also `<=`, `>`, `>=`) over
    /// numbers and numeric parameters with `+ - * / ( )`. A configuration that breaks one is moved towards one that keeps
    /// all. A rule that names an inactive parameter says nothing.
    ///
    /// # Errors
    /// [`SearchError::Space`]: a rule that cannot be read, or rules that no configuration keeps.
    pub fn with_rules(mut self, rules: &[String]) -> Result<Self, SearchError> {
        self.rules = rules.iter().map(|r| Rule::parse(r, &self.parameters)).collect::<Result<_, _>>()?;
        self.anchor = Vec::new();
        if self.rules.is_empty() {
            return Ok(self);
        }
        let d = self.len();
        let tries = std::iter::once(vec![0.5; d]).chain((0..SEARCHED).map(|n| sobol::point(n, d, Seed(1))));
        let current = self.current().map(|c| self.to_unit(&c));
        let found = current.into_iter().chain(tries.map(|u| self.spread(&u))).find(|u| self.keeps_rules(&self.raw(u)));
        self.anchor = found.ok_or_else(|| SearchError::Space {
            problem: format!(
                "no configuration was found that keeps all rules among {SEARCHED}: {}",
                self.rule_texts().join(", ")
            ),
        })?;
        Ok(self)
    }

    /// The rules as they were written.
    pub fn rule_texts(&self) -> Vec<String> {
        self.rules.iter().map(|r| r.text().to_owned()).collect()
    }

    /// Whether a configuration keeps all rules.
    pub fn keeps_rules(&self, assignment: &Assignment) -> bool {
        self.rules.iter().all(|r| r.holds(assignment))
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
        spec.check()?.with_rules(&self.rule_texts())
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
        partial.retain(|a| self.keeps_rules(a));
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
