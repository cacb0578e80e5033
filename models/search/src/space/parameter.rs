use super::{ParameterKind, ParameterSpec};
use crate::{SearchError, Value};

/// The largest magnitude at which neighbouring whole numbers are still exact in a float.
const EXACT: f64 = 9.0e15;

/// The values a checked parameter takes.
#[derive(Debug, Clone, PartialEq)]
pub enum Domain {
    /// Any real number in `[low, high]`.
    Real {
        /// Smallest value.
        low: f64,
        /// Largest value.
        high: f64,
        /// Whether positions are logarithmic.
        log: bool,
    },
    /// `low + k step` for k in `0..count`.
    Steps {
        /// Smallest value.
        low: f64,
        /// Distance of neighbours.
        step: f64,
        /// How many values.
        count: u64,
        /// Whether positions are logarithmic.
        log: bool,
        /// Whether values are whole numbers.
        whole: bool,
    },
    /// A sorted list of numbers; the position is the rank.
    Listed {
        /// The numbers, ascending.
        values: Vec<f64>,
    },
    /// A list without an order; a bool is `[false, true]`.
    Choice {
        /// The values.
        choices: Vec<Value>,
    },
}

/// A checked parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// The declaration it came from.
    pub(crate) spec: ParameterSpec,
    /// The values it takes.
    pub(crate) domain: Domain,
    /// The range of numbers that `max_step` leaves around the current value.
    pub(crate) reach: Option<(f64, f64)>,
}

impl Parameter {
    /// The name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The declaration.
    pub fn spec(&self) -> &ParameterSpec {
        &self.spec
    }

    /// The values it takes.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The value that runs now.
    pub fn current(&self) -> Option<&Value> {
        self.spec.current.as_ref()
    }

    pub(crate) fn check(mut spec: ParameterSpec) -> Result<Self, SearchError> {
        let domain = domain_of(&spec)?;
        check_special(&spec)?;
        check_metric(&spec)?;
        let mut parameter = Self { spec: spec.clone(), domain, reach: None };
        if let Some(c) = &spec.current {
            spec.current = Some(parameter.canonical(c).map_err(|e| bad(&spec, format!("`current`: {e}")))?);
            parameter.spec.current.clone_from(&spec.current);
        }
        if let Some(f) = spec.max_step {
            let current = spec.current.as_ref().and_then(Value::as_number);
            let Some(current) = current.filter(|c| !spec.special.contains(c)) else {
                if current.is_some() {
                    // From a special value no factor leads anywhere: the whole range is open.
                    return Ok(parameter);
                }
                return Err(bad(&spec, "`max_step` needs a numeric `current` value to count from"));
            };
            if !(f.is_finite() && f > 1.0) {
                return Err(bad(&spec, format!("`max_step` is {f}: give a factor above 1, such as 2")));
            }
            if parameter.numeric_range().is_none_or(|(low, _)| low <= 0.0) {
                return Err(bad(&spec, "`max_step` is a factor and needs positive values only"));
            }
            parameter.reach = Some((current / f, current * f));
        }
        Ok(parameter)
    }

    /// The value that a reading of its `from_metric` tells; `None` where the metric shows what the parameter cannot be.
    pub fn told_by_metric(&self, reading: f64) -> Option<Value> {
        let value = match self.spec.kind {
            ParameterKind::Bool => Value::Bool(reading != 0.0),
            _ => Value::Float(twelve_digits(reading * self.spec.metric_scale.unwrap_or(1.0))),
        };
        self.canonical(&value).ok().filter(|_| reading.is_finite())
    }

    /// Smallest and largest number, `None` for choices.
    pub(crate) fn numeric_range(&self) -> Option<(f64, f64)> {
        match &self.domain {
            Domain::Real { low, high, .. } => Some((*low, *high)),
            Domain::Steps { low, step, count, .. } => Some((*low, low + step * (*count - 1) as f64)),
            Domain::Listed { values } => Some((values[0], values[values.len() - 1])),
            Domain::Choice { .. } => None,
        }
    }

    /// The `k`-th special value in the parameter's own type.
    pub(crate) fn special(&self, k: usize) -> Value {
        number(self.spec.special[k], self.spec.kind == ParameterKind::Int)
    }

    /// The value in the parameter's own type.
    pub(crate) fn canonical(&self, value: &Value) -> Result<Value, SearchError> {
        if let Some(k) = value.as_number().and_then(|v| self.spec.special.iter().position(|s| *s == v)) {
            return Ok(self.special(k));
        }
        let refuse =
            || SearchError::Value { name: self.name().to_owned(), value: value.clone(), expected: self.describe() };
        match &self.domain {
            Domain::Choice { choices } => choices.iter().find(|c| c.same(value)).cloned().ok_or_else(refuse),
            Domain::Listed { values } => {
                let v = value.as_number().ok_or_else(refuse)?;
                values.iter().find(|x| **x == v).map(|x| Value::Float(*x)).ok_or_else(refuse)
            }
            Domain::Real { low, high, .. } => {
                let v = value.as_number().ok_or_else(refuse)?;
                if v.is_finite() && v >= *low && v <= *high { Ok(Value::Float(v)) } else { Err(refuse()) }
            }
            Domain::Steps { low, step, count, whole, .. } => {
                let v = value.as_number().ok_or_else(refuse)?;
                let k = ((v - low) / step).round();
                if !(k >= 0.0 && k < *count as f64) || (low + k * step - v).abs() > 1e-9 * step.max(v.abs()) {
                    return Err(refuse());
                }
                Ok(number(low + k * step, *whole))
            }
        }
    }

    /// How many values lie within reach; `None` when continuous.
    pub(crate) fn count(&self) -> Option<u64> {
        match &self.domain {
            Domain::Real { .. } => None,
            Domain::Choice { choices } => Some(choices.len() as u64),
            Domain::Steps { .. } | Domain::Listed { .. } => {
                let (a, b) = self.level_range();
                Some(b - a + 1 + self.specials().len() as u64)
            }
        }
    }

    /// The `k`-th value within reach.
    pub(crate) fn reachable(&self, k: u64) -> Value {
        match &self.domain {
            Domain::Real { low, high, .. } => Value::Float(if k == 0 { *low } else { *high }),
            Domain::Choice { choices } => choices[k as usize].clone(),
            Domain::Steps { .. } | Domain::Listed { .. } => {
                let (a, b) = self.level_range();
                if k > b - a { self.special((k - (b - a) - 1) as usize) } else { self.level(a + k) }
            }
        }
    }

    /// The value of level `k` of the whole domain (steps and lists only).
    pub(crate) fn level(&self, k: u64) -> Value {
        match &self.domain {
            Domain::Steps { low, step, whole, .. } => number(low + step * k as f64, *whole),
            Domain::Listed { values } => Value::Float(values[k as usize]),
            Domain::Choice { choices } => choices[k as usize].clone(),
            Domain::Real { low, .. } => Value::Float(*low),
        }
    }

    /// First and last level within reach (steps and lists only). The current value is always within.
    pub(crate) fn level_range(&self) -> (u64, u64) {
        match (&self.domain, self.reach) {
            (Domain::Steps { low, step, count, .. }, Some((a, b))) => {
                let first = ((a - low) / step - 1e-9).ceil().max(0.0) as u64;
                let last = ((b - low) / step + 1e-9).floor().min((*count - 1) as f64) as u64;
                (first.min(last), last)
            }
            (Domain::Steps { count, .. }, None) => (0, count - 1),
            (Domain::Listed { values }, Some((a, b))) => {
                let first = values.iter().position(|v| *v >= a * (1.0 - 1e-12)).unwrap_or(0);
                let last = values.iter().rposition(|v| *v <= b * (1.0 + 1e-12)).unwrap_or(values.len() - 1);
                (first.min(last) as u64, last as u64)
            }
            (Domain::Listed { values }, None) => (0, values.len() as u64 - 1),
            (Domain::Choice { choices }, _) => (0, choices.len() as u64 - 1),
            (Domain::Real { .. }, _) => (0, 1),
        }
    }

    /// Whether `max_step` allows the value.
    pub(crate) fn within_reach(&self, value: &Value) -> bool {
        match (self.reach, value.as_number()) {
            (Some((a, b)), Some(v)) => v >= a - 1e-12 * a.abs() && v <= b + 1e-12 * b.abs(),
            _ => true,
        }
    }

    /// The level of a value of the domain (steps and lists only; 0 otherwise).
    pub(crate) fn level_index(&self, value: &Value) -> u64 {
        let v = value.as_number().unwrap_or(0.0);
        match &self.domain {
            Domain::Steps { low, step, count, .. } => ((v - low) / step).round().clamp(0.0, (*count - 1) as f64) as u64,
            Domain::Listed { values } => values.iter().position(|x| *x >= v).unwrap_or(values.len() - 1) as u64,
            Domain::Real { .. } | Domain::Choice { .. } => 0,
        }
    }

    /// The allowed values in words.
    pub(crate) fn describe(&self) -> String {
        let specials: Vec<String> = self.spec.special.iter().map(|v| format!(" or {v}")).collect();
        format!("{}{}", self.describe_range(), specials.concat())
    }

    fn describe_range(&self) -> String {
        match &self.domain {
            Domain::Real { low, high, .. } => format!("a number in [{low}, {high}]"),
            Domain::Steps { low, step, whole, .. } => {
                let high = self.numeric_range().map_or(*low, |r| r.1);
                let what = if *whole { "a whole number" } else { "a number" };
                if *whole && *step == 1.0 {
                    format!("{what} in [{low}, {high}]")
                } else {
                    format!("{what} in [{low}, {high}] in steps of {step}")
                }
            }
            Domain::Listed { values } => format!("one of {values:?}"),
            Domain::Choice { choices } => {
                let names: Vec<String> = choices.iter().map(ToString::to_string).collect();
                format!("one of {}", names.join(", "))
            }
        }
    }
}

fn number(v: f64, whole: bool) -> Value {
    if whole { Value::Int(v.round() as i64) } else { Value::Float(v) }
}

fn bad(spec: &ParameterSpec, problem: impl Into<String>) -> SearchError {
    SearchError::Parameter { name: spec.name.clone(), problem: problem.into() }
}

fn domain_of(spec: &ParameterSpec) -> Result<Domain, SearchError> {
    let numeric = matches!(spec.kind, ParameterKind::Float | ParameterKind::Int);
    if !numeric && (spec.low.is_some() || spec.high.is_some() || spec.step.is_some() || spec.log) {
        return Err(bad(spec, "`low`, `high`, `step` and `log` belong to float and int parameters only"));
    }
    if spec.kind != ParameterKind::Categorical && spec.choices.is_some() {
        return Err(bad(spec, "`choices` belongs to cat parameters only"));
    }
    if spec.kind != ParameterKind::Discrete && spec.values.is_some() {
        return Err(bad(spec, "`values` belongs to discrete parameters only"));
    }
    match spec.kind {
        ParameterKind::Bool => Ok(Domain::Choice { choices: vec![Value::Bool(false), Value::Bool(true)] }),
        ParameterKind::Categorical => choices_of(spec),
        ParameterKind::Discrete => listed_of(spec),
        ParameterKind::Float | ParameterKind::Int => range_of(spec),
    }
}

fn check_special(spec: &ParameterSpec) -> Result<(), SearchError> {
    if spec.special.is_empty() {
        return Ok(());
    }
    if !matches!(spec.kind, ParameterKind::Float | ParameterKind::Int) || spec.special.len() > 5 {
        return Err(bad(spec, "`special` takes up to 5 values of a float or int parameter"));
    }
    for (i, v) in spec.special.iter().enumerate() {
        let inside = spec.low.is_some_and(|l| *v >= l) && spec.high.is_some_and(|h| *v <= h);
        let whole = spec.kind != ParameterKind::Int || v.fract() == 0.0;
        if !v.is_finite() || v.abs() >= EXACT || inside || !whole || spec.special[..i].contains(v) {
            return Err(bad(spec, format!("`special` holds {v}: give each value once, outside of low to high")));
        }
    }
    Ok(())
}

/// Another unit must not make 24 MB of 24,000,000 bytes a value that no list holds.
fn twelve_digits(v: f64) -> f64 {
    format!("{v:.11e}").parse().unwrap_or(v)
}

fn check_metric(spec: &ParameterSpec) -> Result<(), SearchError> {
    let Some(metric) = &spec.from_metric else {
        return match spec.metric_scale {
            Some(_) => Err(bad(spec, "`metric_scale` belongs to `from_metric`, which is missing")),
            None => Ok(()),
        };
    };
    if metric.trim().is_empty() {
        return Err(bad(spec, "`from_metric` is empty: name a metric or leave it out"));
    }
    match (spec.kind, spec.metric_scale) {
        (ParameterKind::Categorical, _) => {
            Err(bad(spec, "`from_metric` tells numbers and bools: a metric has no choices"))
        }
        (ParameterKind::Bool, Some(_)) => {
            Err(bad(spec, "`metric_scale` means nothing for a bool, which is on unless its metric is 0"))
        }
        (_, Some(s)) if !(s.is_finite() && s > 0.0) => {
            Err(bad(spec, format!("`metric_scale` is {s}: give a number above 0")))
        }
        _ => Ok(()),
    }
}

fn choices_of(spec: &ParameterSpec) -> Result<Domain, SearchError> {
    let choices = spec.choices.clone().unwrap_or_default();
    if choices.is_empty() {
        return Err(bad(spec, "`choices` is missing: list the values, such as [\"a\", \"b\"]"));
    }
    for (i, c) in choices.iter().enumerate() {
        if choices[..i].iter().any(|d| d.same(c)) {
            return Err(bad(spec, format!("`choices` lists {c} twice")));
        }
        if matches!(c, Value::Float(v) if !v.is_finite()) {
            return Err(bad(spec, "`choices` holds a number that is not finite"));
        }
    }
    Ok(Domain::Choice { choices })
}

fn listed_of(spec: &ParameterSpec) -> Result<Domain, SearchError> {
    let mut values = spec.values.clone().unwrap_or_default();
    if values.is_empty() || values.iter().any(|v| !v.is_finite()) {
        return Err(bad(spec, "`values` must list at least one finite number"));
    }
    values.sort_by(f64::total_cmp);
    if values.windows(2).any(|w| w[0] == w[1]) {
        return Err(bad(spec, "`values` lists a number twice"));
    }
    Ok(Domain::Listed { values })
}

fn range_of(spec: &ParameterSpec) -> Result<Domain, SearchError> {
    let (Some(low), Some(high)) = (spec.low, spec.high) else {
        return Err(bad(spec, "`low` and `high` are both needed"));
    };
    if !(low.is_finite() && high.is_finite() && low <= high && low.abs() < EXACT && high.abs() < EXACT) {
        return Err(bad(spec, format!("`low` is {low} and `high` is {high}: give finite numbers with low <= high")));
    }
    if spec.log && low <= 0.0 {
        return Err(bad(spec, format!("`log` needs `low` above 0, got {low}")));
    }
    let whole = spec.kind == ParameterKind::Int;
    if whole && (low.fract() != 0.0 || high.fract() != 0.0) {
        return Err(bad(spec, format!("an int needs whole `low` and `high`, got {low} and {high}")));
    }
    let step = spec.step.or(if whole { Some(1.0) } else { None });
    let Some(step) = step else {
        if low == high {
            return Ok(Domain::Listed { values: vec![low] });
        }
        return Ok(Domain::Real { low, high, log: spec.log });
    };
    if !(step.is_finite() && step > 0.0) || (whole && step.fract() != 0.0) {
        let what = if whole { "a whole number above 0" } else { "a number above 0" };
        return Err(bad(spec, format!("`step` is {step}: give {what}")));
    }
    let count = ((high - low) / step + 1e-9).floor();
    if count >= 1e9 && !whole {
        return Err(bad(spec, format!("`step` {step} makes over a billion values: leave it out")));
    }
    if spec.log && low <= step / 2.0 {
        return Err(bad(spec, format!("`log` needs `low` above half a step ({}), got {low}", step / 2.0)));
    }
    Ok(Domain::Steps { low, step, count: count as u64 + 1, log: spec.log, whole })
}
