use std::collections::BTreeSet;

/// Rust source without comments, literals and items marked `#[cfg(test)]`; line breaks stay.
///
/// What is left is what the shipped program is made of: a word in a comment or a test is no import.
pub fn code_of(text: &str) -> String {
    without_test_items(&without_literals(text)).0
}

/// The names of modules that are compiled for tests only: `#[cfg(test)] mod NAME;`.
pub fn test_modules_of(text: &str) -> BTreeSet<String> {
    without_test_items(&without_literals(text)).1
}

/// The first segments of all paths in `code`, and what `use NAME;` and `extern crate NAME;` name: every crate that the
/// code can reach is among them.
pub fn roots_of(code: &str) -> BTreeSet<String> {
    let tokens = tokens(code);
    let mut roots = BTreeSet::new();
    for (i, token) in tokens.iter().enumerate() {
        let before = |n: usize| i.checked_sub(n).map_or("", |k| tokens[k]);
        let is_path = tokens.get(i + 1) == Some(&"::") && before(1) != "::";
        // `::name::x` names a crate outright; `a::name::x` does not.
        let is_absolute = before(1) == "::" && !is_word(before(2)) && before(2) != ">";
        let is_named = before(1) == "use" || (before(2) == "extern" && before(1) == "crate");
        if is_word(token) && (is_path || is_absolute || is_named) {
            roots.insert((*token).to_owned());
        }
    }
    roots
}

/// The full paths that `use` declarations name, groups written out: `use std::{fs, io::Read as R};` names `std::fs` and
/// `std::io::Read`.
pub fn imports_of(code: &str) -> BTreeSet<String> {
    let tokens = tokens(code);
    let mut out = BTreeSet::new();
    let mut i = 0;
    while i < tokens.len() {
        if tokens[i] == "use" {
            i = tree(&tokens, i + 1, "", &mut out);
        }
        i += 1;
    }
    out
}

/// Reads the use tree at `i`, whose parts all begin with `prefix`; answers where it ends.
fn tree(tokens: &[&str], mut i: usize, prefix: &str, out: &mut BTreeSet<String>) -> usize {
    let mut path = prefix.to_owned();
    while let Some(token) = tokens.get(i) {
        match *token {
            "{" => {
                i += 1;
                while tokens.get(i).is_some_and(|t| *t != "}") {
                    i = tree(tokens, i, &path, out);
                    if tokens.get(i) == Some(&",") {
                        i += 1;
                    }
                }
                return i + 1;
            }
            "," | "}" | ";" => break,
            "as" => i += 1,
            part => path.push_str(part),
        }
        i += 1;
    }
    out.insert(path);
    i
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Words, `::`, and single characters.
fn tokens(code: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let length = if first.is_alphanumeric() || first == '_' {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        if !first.is_whitespace() {
            out.push(&rest[..length]);
        }
        rest = &rest[length..];
    }
    out
}

/// Blanks comments, strings and characters.
fn without_literals(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut previous = ' ';
    while let Some(first) = rest.chars().next() {
        let in_word = previous.is_alphanumeric() || previous == '_';
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if first == '"' {
            string(rest)
        } else if !in_word && let Some(n) = raw_string(rest) {
            n
        } else if first == '\'' {
            character(rest).unwrap_or(0)
        } else {
            0
        };
        if length == 0 {
            out.push(first);
            previous = first;
            rest = &rest[first.len_utf8()..];
        } else {
            out.push(' ');
            out.extend(rest[..length].chars().filter(|c| *c == '\n'));
            previous = ' ';
            rest = &rest[length..];
        }
    }
    out
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    let bytes = text.as_bytes();
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return i + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of `r"..."`, `r#"..."#`, `br"..."`; `None` for anything else, such as a raw identifier.
fn raw_string(text: &str) -> Option<usize> {
    let body = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let inner = body[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let start = text.len() - inner.len();
    Some(inner.find(&close).map_or(text.len(), |i| start + i + close.len()))
}

/// The length of a character literal; `None` for a lifetime.
fn character(text: &str) -> Option<usize> {
    let inner = &text[1..];
    if let Some(escape) = inner.strip_prefix('\\') {
        let end = escape.char_indices().skip(1).find(|(_, c)| *c == '\'')?.0;
        return Some(2 + end + 1);
    }
    let c = inner.chars().next()?;
    inner[c.len_utf8()..].starts_with('\'').then_some(1 + c.len_utf8() + 1)
}

/// Drops each item that follows `#[cfg(test)]`, up to its closing brace or semicolon, and collects the modules among them.
fn without_test_items(code: &str) -> (String, BTreeSet<String>) {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(code.len());
    let mut modules = BTreeSet::new();
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        out.push_str(&rest[..at]);
        let item = &rest[at + MARK.len()..];
        let mut depth = 0usize;
        let mut end = item.len();
        for (i, c) in item.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        end = i + 1;
                        break;
                    }
                }
                ';' if depth == 0 => {
                    end = i + 1;
                    break;
                }
                _ => {}
            }
        }
        let words = tokens(&item[..end]);
        if words.last() == Some(&";")
            && let Some(m) = words.iter().position(|w| *w == "mod")
            && let Some(name) = words.get(m + 1)
        {
            modules.insert((*name).to_owned());
        }
        rest = &item[end..];
    }
    out.push_str(rest);
    (out, modules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_literals_and_tests_are_no_code() {
        let text = r##"
// use candle_core::A;
/* tokio::x /* polars::y */ still */
use serde::{Serialize, de::Error};
const S: &str = "reqwest::get \" unsafe";
const R: &str = r#"axum::" unsafe "#;
fn f<'a>(c: char) -> bool { c == '"' || c == '\'' || c == 'x' }
pub use linfa;
::ndarray::arr1(&[1]);
self::inner::f();
#[cfg(test)]
mod tests { use proptest::prelude::*; fn g() { std::fs::read("{"); } }
#[cfg(test)]
mod suite;
fn after() { rayon::join(a, b); }
"##;
        let code = code_of(text);
        assert_eq!(
            roots_of(&code).into_iter().collect::<Vec<_>>(),
            ["de", "linfa", "ndarray", "rayon", "self", "serde"]
        );
        assert!(!code.contains("unsafe") && code.contains("after"));
        assert_eq!(
            imports_of(&code).into_iter().collect::<Vec<_>>(),
            ["linfa", "serde::Serialize", "serde::de::Error"]
        );
        let nested = imports_of("use std::{fs, io::{self, Read as R}, net::*}; fn f() {} use a::b;");
        assert_eq!(
            nested.into_iter().collect::<Vec<_>>(),
            ["a::b", "std::fs", "std::io::Read", "std::io::self", "std::net::*"]
        );
        assert_eq!(test_modules_of(text).into_iter().collect::<Vec<_>>(), ["suite"]);
        assert_eq!(code_of("let r#type = 1; let x = br\"unsafe\"; 'a: loop { break 'a }").matches("unsafe").count(), 0);
    }
}
