//! Between configurations and numbers.
//!
//! *Unit* form has one number in `[0, 1]` a parameter and serves designers that move in a cube; *features* are what the
//! Gaussian process sees: the unit position of numbers, 0/1 for two choices, a scaled one-hot for more, so that two
//! different choices are always at squared distance 1.

use super::{Domain, Parameter, SearchSpace};
use crate::{Assignment, Value};

/// The unit position of a parameter that is not active: the middle, so that it never tells two configurations apart.
const INACTIVE: f64 = 0.5;
/// The part of the unit range that each special value takes, at its upper end.
const SPECIAL_WIDTH: f64 = 0.1;

impl SearchSpace {
    /// One position in `[0, 1]` a parameter, in the order of declaration; inactive ones are 0.5.
    ///
    /// [`SearchSpace::from_unit`] inverts it: exactly for steps, lists and choices, to rounding for real numbers.
    pub fn to_unit(&self, assignment: &Assignment) -> Vec<f64> {
        self.parameters().iter().map(|p| assignment.get(p.name()).map_or(INACTIVE, |v| p.position(v))).collect()
    }

    /// The configuration at a point of the unit cube, moved within reach of the current values; inactive parameters
    /// are left out. Numbers outside `[0, 1]` are clamped.
    pub fn from_unit(&self, unit: &[f64]) -> Assignment {
        let plain = self.raw(unit);
        if self.keeps_rules(&plain) {
            return plain;
        }
        // Bisection on the way from the anchor, which keeps the rules.
        let (mut low, mut high) = (0.0, 1.0);
        let mut kept = self.raw(&self.anchor);
        for _ in 0..24 {
            let t = f64::midpoint(low, high);
            let between: Vec<f64> =
                self.anchor.iter().zip(unit).map(|(a, u)| a + t * (u.clamp(0.0, 1.0) - a)).collect();
            let a = self.raw(&between);
            if self.keeps_rules(&a) {
                (low, kept) = (t, a);
            } else {
                high = t;
            }
        }
        kept
    }

    /// The configuration at a point, whatever the rules say.
    pub(super) fn raw(&self, unit: &[f64]) -> Assignment {
        let mut out = Assignment::new();
        for &i in self.order() {
            if self.is_active(i, &out) {
                let p = &self.parameters()[i];
                out.insert(p.name().to_owned(), p.at(unit[i]));
            }
        }
        out
    }

    /// The range of unit positions of parameter `index` that lies within reach of its current value.
    pub fn unit_range(&self, index: usize) -> (f64, f64) {
        self.parameters()[index].unit_range()
    }

    /// A point of the unit cube stretched over what is within reach: uniform draws give uniform configurations.
    pub(crate) fn spread(&self, unit: &[f64]) -> Vec<f64> {
        unit.iter()
            .enumerate()
            .map(|(i, u)| {
                let (a, b) = self.unit_range(i);
                a + u * (b - a)
            })
            .collect()
    }

    /// What the Gaussian process sees of a configuration.
    pub fn features(&self, assignment: &Assignment) -> Vec<f64> {
        let mut out = Vec::with_capacity(self.len() + 4);
        for p in self.parameters() {
            p.push_features(assignment.get(p.name()), &mut out);
        }
        out
    }

    /// The parameter that each feature belongs to.
    pub fn feature_groups(&self) -> Vec<usize> {
        self.parameters().iter().enumerate().flat_map(|(i, p)| std::iter::repeat_n(i, p.feature_count())).collect()
    }

    /// Squared distance of two configurations in features, divided by the number of parameters: 0 same, 1 opposite.
    pub fn distance(&self, a: &Assignment, b: &Assignment) -> f64 {
        let (x, y) = (self.features(a), self.features(b));
        (x.iter().zip(&y).map(|(p, q)| (p - q) * (p - q)).sum::<f64>() / self.len() as f64).sqrt()
    }
}

impl Parameter {
    /// Whether a gradient can move it: real, or steps and lists of at least 5 values.
    pub(crate) fn is_smooth(&self) -> bool {
        if !self.specials().is_empty() {
            return false;
        }
        match &self.domain {
            Domain::Real { .. } => true,
            Domain::Choice { .. } => false,
            Domain::Steps { .. } | Domain::Listed { .. } => self.count().is_some_and(|n| n >= 5),
        }
    }

    fn edges(&self) -> (f64, f64, bool) {
        match &self.domain {
            Domain::Real { low, high, log } => (*low, *high, *log),
            Domain::Steps { low, step, count, log, .. } => (low - step / 2.0, low + step * (*count as f64 - 0.5), *log),
            Domain::Listed { values } => (0.0, values.len() as f64, false),
            Domain::Choice { choices } => (0.0, choices.len() as f64, false),
        }
    }

    fn warp(&self, v: f64) -> f64 {
        let (a, b, log) = self.edges();
        let u = if log { (v / a).ln() / (b / a).ln() } else { (v - a) / (b - a) };
        u.clamp(0.0, 1.0)
    }

    /// Special values that may be generated: none while the largest step binds, for a jump to one is not a step.
    pub(crate) fn specials(&self) -> &[f64] {
        if self.reach.is_some() { &[] } else { &self.spec.special }
    }

    fn special_index(&self, value: &Value) -> Option<usize> {
        let v = value.as_number()?;
        self.spec.special.iter().position(|s| *s == v)
    }

    /// The part of the unit range that numbers take.
    fn ordinary(&self) -> f64 {
        1.0 - SPECIAL_WIDTH * self.specials().len() as f64
    }

    /// The position of a value in `[0, 1]`.
    pub(crate) fn position(&self, value: &Value) -> f64 {
        match self.special_index(value) {
            Some(k) => (self.ordinary() + SPECIAL_WIDTH * (k as f64 + 0.5)).min(1.0),
            None => self.ordinary() * self.number_position(value),
        }
    }

    fn number_position(&self, value: &Value) -> f64 {
        match &self.domain {
            Domain::Choice { choices } => {
                let k = choices.iter().position(|c| c.same(value)).unwrap_or(0);
                self.warp(k as f64 + 0.5)
            }
            Domain::Listed { values } => {
                let v = value.as_number().unwrap_or(values[0]);
                let k = values.iter().position(|x| *x >= v).unwrap_or(values.len() - 1);
                self.warp(k as f64 + 0.5)
            }
            Domain::Real { low, .. } | Domain::Steps { low, .. } => self.warp(value.as_number().unwrap_or(*low)),
        }
    }

    fn unit_range(&self) -> (f64, f64) {
        let (a, b) = self.number_range();
        if self.specials().is_empty() { (a, b) } else { (a * self.ordinary(), 1.0) }
    }

    fn number_range(&self) -> (f64, f64) {
        match (&self.domain, self.reach) {
            (Domain::Real { .. }, Some((a, b))) => (self.warp(a), self.warp(b)),
            (Domain::Real { .. } | Domain::Choice { .. }, _) | (_, None) => (0.0, 1.0),
            (Domain::Listed { .. }, Some(_)) => {
                let (first, last) = self.level_range();
                (self.warp(first as f64), self.warp(last as f64 + 1.0))
            }
            (Domain::Steps { low, step, .. }, Some(_)) => {
                let (first, last) = self.level_range();
                (self.warp(low + step * (first as f64 - 0.5)), self.warp(low + step * (last as f64 + 0.5)))
            }
        }
    }

    /// The unit positions of the smallest and largest reachable value of a real parameter.
    pub(crate) fn grid_range(&self) -> (f64, f64) {
        let (a, b) = self.number_range();
        (a * self.ordinary(), b * self.ordinary())
    }

    /// The value at a position, within reach.
    pub(crate) fn at(&self, unit: f64) -> Value {
        let u = if unit.is_finite() { unit.clamp(0.0, 1.0) } else { INACTIVE };
        let (ordinary, specials) = (self.ordinary(), self.specials());
        if !specials.is_empty() && u > ordinary {
            let k = (((u - ordinary) / SPECIAL_WIDTH) as usize).min(specials.len() - 1);
            return self.special(k);
        }
        let u = u / ordinary;
        let (a, b, log) = self.edges();
        let v = if log { a * (b / a).powf(u) } else { a + u * (b - a) };
        match &self.domain {
            Domain::Real { low, high, .. } => {
                let (l, h) = self.reach.map_or((*low, *high), |r| (r.0.max(*low), r.1.min(*high)));
                Value::Float(v.clamp(l, h))
            }
            Domain::Choice { choices } => choices[(v.floor() as usize).min(choices.len() - 1)].clone(),
            Domain::Listed { .. } => {
                let (first, last) = self.level_range();
                self.level((v.floor() as u64).clamp(first, last))
            }
            Domain::Steps { low, step, .. } => {
                let (first, last) = self.level_range();
                self.level((((v - low) / step).round().max(0.0) as u64).clamp(first, last))
            }
        }
    }

    fn feature_count(&self) -> usize {
        match &self.domain {
            Domain::Choice { choices } if choices.len() > 2 => choices.len(),
            _ => 1 + self.spec.special.len(),
        }
    }

    fn push_features(&self, value: Option<&Value>, out: &mut Vec<f64>) {
        match (&self.domain, value) {
            (Domain::Choice { choices }, _) if choices.len() > 2 => {
                let k = value.and_then(|v| choices.iter().position(|c| c.same(v)));
                // An inactive choice sits in the middle of all; two different ones are at squared distance 1.
                let blank = std::f64::consts::FRAC_1_SQRT_2 / choices.len() as f64;
                out.extend((0..choices.len()).map(|i| match k {
                    None => blank,
                    Some(k) if k == i => std::f64::consts::FRAC_1_SQRT_2,
                    Some(_) => 0.0,
                }));
            }
            (Domain::Choice { choices }, Some(v)) => {
                out.push(if choices.iter().position(|c| c.same(v)) == Some(1) { 1.0 } else { 0.0 });
            }
            (_, value) => {
                let special = value.and_then(|v| self.special_index(v));
                out.push(match (value, special) {
                    (Some(v), None) => self.number_position(v),
                    _ => INACTIVE,
                });
                // A special value is as far from every number as two choices are from one another.
                out.extend((0..self.spec.special.len()).map(|k| f64::from(u8::from(special == Some(k)))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{ParameterSpec, SearchSpace, SpaceSpec, Value};
    use proptest::prelude::*;

    fn space() -> SearchSpace {
        SpaceSpec(vec![
            ParameterSpec::float("f", -3.0, 5.0),
            ParameterSpec::float("g", 1e-4, 1e2).log(),
            ParameterSpec::int("i", -7, 9),
            ParameterSpec::int("j", 1, 1024).log(),
            ParameterSpec::discrete("d", &[1.0, 5.0, 1000.0]),
            ParameterSpec::categorical("c", &["a", "b", "z"]),
            ParameterSpec::boolean("b"),
            ParameterSpec::float("h", 0.0, 1.0).when("c", vec!["b".into()]),
            ParameterSpec { step: Some(0.25), ..ParameterSpec::float("s", 0.5, 4.0) },
            ParameterSpec::int("limit", 10, 500).log().special(&[-1.0, 0.0]),
            ParameterSpec::float("timeout", 1.0, 9.0).special(&[0.0]),
        ])
        .check()
        .unwrap()
    }

    proptest! {
        #[test]
        fn decoding_inverts_encoding(unit in prop::collection::vec(0.0..1.0f64, 11)) {
            let s = space();
            let a = s.from_unit(&unit);
            prop_assert_eq!(s.canonical(&a).unwrap(), a.clone());
            let b = s.from_unit(&s.to_unit(&a));
            prop_assert_eq!(a.len(), b.len());
            for (k, v) in &a {
                if let Value::Float(x) = v {
                    let Value::Float(y) = b[k] else { panic!("type changed") };
                    prop_assert!((x - y).abs() <= 1e-9 * x.abs().max(1.0), "{k}: {x} {y}");
                } else {
                    prop_assert_eq!(v, &b[k]);
                }
            }
            prop_assert_eq!(a.contains_key("h"), a["c"] == Value::from("b"));
            prop_assert_eq!(s.features(&a).len(), s.feature_groups().len());
        }

        #[test]
        fn reach_holds(u in 0.0..1.0f64, current in 1..1000i64, f in 1.1..8.0f64) {
            let s = SpaceSpec(vec![ParameterSpec::int("w", 1, 1000).log().current(current).max_step(f)]).check().unwrap();
            for unit in [s.spread(&[u]), vec![u]] {
                let Value::Int(v) = s.from_unit(&unit)["w"] else { panic!("type changed") };
                prop_assert!(v as f64 <= current as f64 * f + 1e-6 && v as f64 >= current as f64 / f - 1e-6);
            }
            let all = s.enumerate(1000).unwrap();
            prop_assert_eq!(all.len() as u64, s.cardinality().unwrap());
        }
    }

    #[test]
    fn uniform_draws_hit_every_level() {
        let s = SpaceSpec(vec![ParameterSpec::int("w", 0, 3)]).check().unwrap();
        let mut counts = [0; 4];
        for k in 0..400 {
            let Value::Int(v) = s.from_unit(&[(k as f64 + 0.5) / 400.0])["w"] else { panic!("type changed") };
            counts[v as usize] += 1;
        }
        assert_eq!(counts, [100; 4]);
    }

    #[test]
    fn different_choices_are_one_apart() {
        let s = SpaceSpec(vec![ParameterSpec::categorical("c", &["a", "b", "z"])]).check().unwrap();
        let a = s.from_unit(&[0.1]);
        let z = s.from_unit(&[0.9]);
        assert!((s.distance(&a, &z) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn bad_declarations_are_named() {
        let err = |p: ParameterSpec| SpaceSpec(vec![p]).check().unwrap_err().to_string();
        assert!(err(ParameterSpec::float("x", 2.0, 1.0)).contains("low <= high"));
        assert!(err(ParameterSpec::float("x", 0.0, 1.0).log()).contains("above 0"));
        assert!(err(ParameterSpec::int("x", 1, 9).max_step(2.0)).contains("current"));
        assert!(err(ParameterSpec::int("x", 1, 9).current(12)).contains("[1, 9]"));
        assert!(err(ParameterSpec::categorical("x", &[])).contains("choices"));
        assert!(err(ParameterSpec::boolean("x").when("y", vec![true.into()])).contains("`y`"));
        let circle = SpaceSpec(vec![
            ParameterSpec::boolean("x").when("y", vec![true.into()]),
            ParameterSpec::boolean("y").when("x", vec![true.into()]),
        ]);
        assert!(circle.check().unwrap_err().to_string().contains("circle"));
        assert!(SpaceSpec(vec![]).check().is_err());
        let twice = SpaceSpec(vec![ParameterSpec::boolean("x"), ParameterSpec::boolean("x")]);
        assert!(twice.check().unwrap_err().to_string().contains("twice"));
    }

    #[test]
    fn contract_json_round_trips() {
        let text = r#"[{"name":"workers","type":"int","low":1,"high":64,"log":true,"current":8,"max_step":2.0,
            "cost":"restart"},{"name":"p","type":"cat","choices":["a","b"]}]"#;
        let s: SearchSpace = serde_json::from_str(text).unwrap();
        assert_eq!(s.unit_range(0).0, s.to_unit(&s.from_unit(&[0.0, 0.0]))[0].min(s.unit_range(0).0));
        let again: SearchSpace = serde_json::from_str(&serde_json::to_string(&s).unwrap()).unwrap();
        assert_eq!(s, again);
        assert!(
            serde_json::from_str::<SearchSpace>(r#"[{"name":"w","type":"int","low":1,"high":4,"hihg":4}]"#).is_err()
        );
    }
}
