//! Rules between parameters, such as `min_conn < max_conn` or `workers * memory <= 0.5 * limit`.

use super::Parameter;
use crate::{Assignment, SearchError};

/// How deep parentheses may nest.
const DEEPEST: usize = 32;

/// A checked rule: two expressions and a comparison.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rule {
    text: String,
    left: Expression,
    order: Order,
    right: Expression,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Order {
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

#[derive(Debug, Clone, PartialEq)]
enum Expression {
    Number(f64),
    Parameter(String),
    Binary(char, Box<Self>, Box<Self>),
}

impl Rule {
    /// Reads `EXPR < EXPR` (also `<=`, `>`, `>=`) with `+ - * / ( )`, numbers and numeric parameters' names. A name that
    /// is not made of letters, digits, `_` and `.` stands in backquotes.
    pub(crate) fn parse(text: &str, parameters: &[Parameter]) -> Result<Self, SearchError> {
        let bad = |problem: String| SearchError::Space { problem: format!("rule `{text}`: {problem}") };
        let (place, order, width) = comparison(text).ok_or_else(|| bad("needs one of <, <=, >, >=".to_owned()))?;
        let side = |part: &str| {
            let mut p = Parser { rest: part, parameters };
            let e = p.sum(0).map_err(&bad)?;
            match p.peek() {
                None => Ok(e),
                Some(c) => Err(bad(format!("`{c}` does not belong there"))),
            }
        };
        let (left, right) = (side(&text[..place])?, side(&text[place + width..])?);
        Ok(Self { text: text.to_owned(), left, order, right })
    }

    /// The rule as it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it holds; a rule that names an inactive parameter says nothing and holds.
    pub(crate) fn holds(&self, a: &Assignment) -> bool {
        let (Some(l), Some(r)) = (self.left.value(a), self.right.value(a)) else { return true };
        match self.order {
            Order::Less => l < r,
            Order::LessEqual => l <= r,
            Order::Greater => l > r,
            Order::GreaterEqual => l >= r,
        }
    }
}

fn comparison(text: &str) -> Option<(usize, Order, usize)> {
    let mut quoted = false;
    for (i, c) in text.char_indices() {
        quoted ^= c == '`';
        if quoted || (c != '<' && c != '>') {
            continue;
        }
        let equal = text[i + 1..].starts_with('=');
        let order = match (c, equal) {
            ('<', false) => Order::Less,
            ('<', true) => Order::LessEqual,
            ('>', false) => Order::Greater,
            _ => Order::GreaterEqual,
        };
        return Some((i, order, 1 + usize::from(equal)));
    }
    None
}

impl Expression {
    fn value(&self, a: &Assignment) -> Option<f64> {
        match self {
            Self::Number(v) => Some(*v),
            Self::Parameter(name) => a.get(name)?.as_number(),
            Self::Binary(op, l, r) => {
                let (l, r) = (l.value(a)?, r.value(a)?);
                Some(match op {
                    '+' => l + r,
                    '-' => l - r,
                    '*' => l * r,
                    _ => l / r,
                })
            }
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
    parameters: &'a [Parameter],
}

impl Parser<'_> {
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start();
        self.rest.chars().next()
    }

    fn take(&mut self, among: &[char]) -> Option<char> {
        let c = self.peek().filter(|c| among.contains(c))?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn sum(&mut self, depth: usize) -> Result<Expression, String> {
        let mut left = self.product(depth)?;
        while let Some(op) = self.take(&['+', '-']) {
            left = Expression::Binary(op, Box::new(left), Box::new(self.product(depth)?));
        }
        Ok(left)
    }

    fn product(&mut self, depth: usize) -> Result<Expression, String> {
        let mut left = self.atom(depth)?;
        while let Some(op) = self.take(&['*', '/']) {
            left = Expression::Binary(op, Box::new(left), Box::new(self.atom(depth)?));
        }
        Ok(left)
    }

    fn atom(&mut self, depth: usize) -> Result<Expression, String> {
        if depth > DEEPEST {
            return Err(format!("nests deeper than {DEEPEST} parentheses"));
        }
        match self.peek() {
            None => Err("ends where a number or a parameter is expected".to_owned()),
            Some('(') => {
                self.take(&['(']);
                let e = self.sum(depth + 1)?;
                self.take(&[')']).map(|_| e).ok_or_else(|| "a parenthesis is not closed".to_owned())
            }
            Some('-') => {
                self.take(&['-']);
                let e = self.atom(depth + 1)?;
                Ok(Expression::Binary('-', Box::new(Expression::Number(0.0)), Box::new(e)))
            }
            Some('`') => {
                let inner = &self.rest[1..];
                let end = inner.find('`').ok_or_else(|| "a backquote is not closed".to_owned())?;
                let name = inner[..end].to_owned();
                self.rest = &inner[end + 1..];
                self.parameter(name)
            }
            Some(c) if c.is_ascii_digit() || c == '.' => {
                let mut end = self.word(|c| c.is_ascii_digit() || c == '.');
                // An exponent, with its sign.
                if self.rest[end..].starts_with(['e', 'E']) {
                    let sign = usize::from(self.rest[end + 1..].starts_with(['+', '-']));
                    let digits = self.rest[end + 1 + sign..].find(|c: char| !c.is_ascii_digit());
                    end = digits.map_or(self.rest.len(), |d| end + 1 + sign + d);
                }
                let (number, rest) = self.rest.split_at(end);
                self.rest = rest;
                number.parse().map(Expression::Number).map_err(|_| format!("`{number}` is not a number"))
            }
            Some(c) if c.is_alphabetic() || c == '_' => {
                let end = self.word(|c| c.is_alphanumeric() || c == '_' || c == '.');
                let (name, rest) = self.rest.split_at(end);
                self.rest = rest;
                self.parameter(name.to_owned())
            }
            Some(c) => Err(format!("`{c}` does not belong there")),
        }
    }

    fn word(&self, part: impl Fn(char) -> bool) -> usize {
        self.rest.find(|c| !part(c)).unwrap_or(self.rest.len())
    }

    fn parameter(&self, name: String) -> Result<Expression, String> {
        match self.parameters.iter().find(|p| p.name() == name) {
            None => Err(format!("the space has no parameter `{name}`")),
            Some(p) if p.numeric_range().is_none() => Err(format!("`{name}` is not a number")),
            Some(_) => Ok(Expression::Parameter(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ParameterSpec, SearchSpace, SpaceSpec, Value};
    use proptest::prelude::*;

    fn space(rules: &[&str]) -> Result<SearchSpace, SearchError> {
        SpaceSpec(vec![
            ParameterSpec::int("min", 1, 100),
            ParameterSpec::int("max", 1, 100),
            ParameterSpec::float("work-mem", 0.1, 10.0).log(),
            ParameterSpec::categorical("kind", &["a", "b"]),
        ])
        .check()?
        .with_rules(&rules.iter().map(|r| (*r).to_owned()).collect::<Vec<_>>())
    }

    proptest! {
        #[test]
        fn everything_generated_keeps_the_rules(unit in prop::collection::vec(0.0..1.0f64, 4)) {
            let s = space(&["min < max", "max * `work-mem` <= 2e1 + (4 - 1)/3"]).unwrap();
            let a = s.from_unit(&unit);
            let n = |k: &str| a[k].as_number().unwrap();
            prop_assert!(n("min") < n("max") && n("max") * n("work-mem") <= 21.0, "{a:?}");
            let plain = SpaceSpec::from(s.clone()).check().unwrap().from_unit(&unit);
            if s.keeps_rules(&plain) {
                prop_assert_eq!(plain, a, "what keeps the rules is left alone");
            }
        }
    }

    #[test]
    fn mistakes_are_named() {
        let e = |r: &str| space(&[r]).unwrap_err().to_string();
        assert!(e("min max").contains("needs one of"));
        assert!(e("min < mux").contains("no parameter `mux`"));
        assert!(e("kind < 3").contains("not a number"));
        assert!(e("(min < 3").contains("does not belong") || e("(min < 3").contains("not closed"));
        assert!(e("min < ").contains("ends where"));
        assert!(e("min < max < 3").contains("does not belong"));
        assert!(e("min > 200").contains("no configuration"));
        assert!(e(&format!("{}min < 3", "(".repeat(100))).contains("nests deeper"));
    }

    #[test]
    fn rules_survive_a_new_current() {
        let s = space(&["min < max"]).unwrap();
        let a = s.from_unit(&[0.9, 0.1, 0.5, 0.1]);
        let t = s.with_current(&a).unwrap();
        assert!(t.keeps_rules(&t.from_unit(&[0.9, 0.1, 0.5, 0.1])));
        assert!(!t.keeps_rules(&[("min".to_owned(), Value::Int(5)), ("max".to_owned(), Value::Int(5))].into()));
    }
}
