//! Prometheus-style selectors: `name{label="x", other=~"a|b"}`.

use crate::{CoreError, MetricKey};
use regex::Regex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

#[derive(Debug, Clone)]
enum Op {
    Eq,
    Ne,
    Re(Regex),
    NotRe(Regex),
}

#[derive(Debug, Clone)]
struct Matcher {
    label: String,
    op: Op,
    value: String,
}

/// A conjunction of label matchers with Prometheus's meaning: an absent label is an empty string, regular expressions
/// match whole values, `__name__` is the metric's name.
#[derive(Debug, Clone)]
pub struct Selector {
    text: String,
    matchers: Vec<Matcher>,
}

impl Selector {
    /// Whether the series is selected.
    pub fn matches(&self, key: &MetricKey) -> bool {
        self.matchers.iter().all(|m| {
            let v = if m.label == "__name__" { &key.name } else { key.labels.get(&m.label).unwrap_or("") };
            match &m.op {
                Op::Eq => v == m.value,
                Op::Ne => v != m.value,
                Op::Re(re) => re.is_match(v),
                Op::NotRe(re) => !re.is_match(v),
            }
        })
    }

    /// How many matchers there are: the more, the more specific.
    pub fn specificity(&self) -> usize {
        self.matchers.len()
    }

    /// The metric's name, where exactly one is selected.
    pub fn metric(&self) -> Option<&str> {
        let named = |m: &&Matcher| m.label == "__name__" && matches!(m.op, Op::Eq);
        self.matchers.iter().find(named).map(|m| m.value.as_str())
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn fail<T>(&self, problem: &str) -> Result<T, CoreError> {
        Err(CoreError::Selector { text: self.text.to_owned(), problem: problem.to_owned(), at: self.at })
    }

    fn skip_space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn eat(&mut self, token: &str) -> bool {
        self.skip_space();
        let hit = self.text[self.at..].starts_with(token);
        if hit {
            self.at += token.len();
        }
        hit
    }

    fn word(&mut self) -> &'a str {
        self.skip_space();
        let rest = &self.text[self.at..];
        let end = rest
            .find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':' | '.' | '-' | '/' | '|')))
            .unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn quoted(&mut self) -> Result<String, CoreError> {
        self.skip_space();
        let mut chars = self.text[self.at..].char_indices();
        let Some((_, quote @ ('"' | '\''))) = chars.next() else {
            return self.fail("expected a quoted value");
        };
        let mut out = String::new();
        while let Some((i, c)) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some((_, 'n')) => out.push('\n'),
                    // Anything else stays escaped only where a regular expression needs it.
                    Some((_, e @ ('\\' | '"' | '\''))) => out.push(e),
                    Some((_, e)) => {
                        out.push('\\');
                        out.push(e);
                    }
                    None => return self.fail("the value does not end"),
                },
                c if c == quote => {
                    self.at += i + c.len_utf8();
                    return Ok(out);
                }
                c => out.push(c),
            }
        }
        self.fail("the value does not end")
    }
}

impl FromStr for Selector {
    type Err = CoreError;

    fn from_str(text: &str) -> Result<Self, CoreError> {
        let mut c = Cursor { text, at: 0 };
        let mut matchers = Vec::new();
        let name = c.word();
        if !name.is_empty() {
            matchers.push(Matcher { label: "__name__".into(), op: Op::Eq, value: name.to_owned() });
        }
        if c.eat("{") {
            while !c.eat("}") {
                let label = c.word().to_owned();
                if label.is_empty() {
                    return c.fail("expected a label name");
                }
                let op = ["=~", "!~", "!=", "="].into_iter().find(|op| c.eat(op));
                let Some(op) = op else { return c.fail("expected =, !=, =~ or !~") };
                let at = c.at;
                let value = c.quoted()?;
                let regex = |v: &str| {
                    Regex::new(&format!("^(?s:{v})$")).map_err(|_| CoreError::Selector {
                        text: text.to_owned(),
                        problem: format!("{v:?} is no regular expression"),
                        at,
                    })
                };
                let op = match op {
                    "=" => Op::Eq,
                    "!=" => Op::Ne,
                    "=~" => Op::Re(regex(&value)?),
                    _ => Op::NotRe(regex(&value)?),
                };
                matchers.push(Matcher { label, op, value });
                if !c.eat(",") {
                    if c.eat("}") {
                        break;
                    }
                    return c.fail("expected , or }");
                }
            }
        }
        c.skip_space();
        if c.at != text.len() {
            return c.fail("unexpected text");
        }
        if matchers.is_empty() {
            return c.fail("it selects nothing");
        }
        Ok(Self { text: text.to_owned(), matchers })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Serialize for Selector {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Labels;

    fn key() -> MetricKey {
        MetricKey::new("http_errors_total", Labels::new([("job", "api"), ("code", "500")]))
    }

    #[test]
    fn matches_as_prometheus_does() {
        let yes = [
            "http_errors_total",
            r#"http_errors_total{job="api"}"#,
            r#"{job=~"a.*",code!="200",}"#,
            r#"{__name__=~"http_.+", absent=""}"#,
            r#"http_errors_total{code!~"4.."}"#,
        ];
        for s in yes {
            assert!(s.parse::<Selector>().unwrap().matches(&key()), "{s}");
        }
        for s in [r#"http_errors_total{job="web"}"#, r#"{job=~"ap"}"#, "other"] {
            assert!(!s.parse::<Selector>().unwrap().matches(&key()), "{s}");
        }
    }

    #[test]
    fn errors_name_the_place() {
        for (s, part) in [
            ("a{b}", "expected =, !=, =~ or !~"),
            (r#"a{b="x"#, "does not end"),
            (r#"a{b=~"("}"#, "no regular expression"),
            ("", "selects nothing"),
            (r#"a{b="x"} rest"#, "unexpected text"),
        ] {
            let e = s.parse::<Selector>().unwrap_err().to_string();
            assert!(e.contains(part), "{s}: {e}");
        }
    }
}
