use super::emit::plain;
use foreglow_search::{Assignment, SearchSpace};
use serde::{Deserialize, Serialize};

/// A command of the study file: text for the shell (`sh -c`), or a program with its arguments as they are.
///
/// `{name}` becomes the value of that parameter, quoted where it is text for the shell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Shell {
    /// For `sh -c`.
    Text(String),
    /// Program and arguments.
    Words(Vec<String>),
}

/// A command with placeholders that all name parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    words: Vec<Vec<Piece>>,
    quoted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Plain(String),
    Parameter(String),
}

impl Template {
    /// Checks program and arguments.
    ///
    /// # Errors
    /// A placeholder that names no parameter, or no program.
    pub(crate) fn new(words: &[String], space: &SearchSpace) -> Result<Self, String> {
        if words.first().is_none_or(|w| w.trim().is_empty()) {
            return Err("no program is named".to_owned());
        }
        let words = words.iter().map(|w| pieces(w, space)).collect::<Result<_, _>>()?;
        Ok(Self { words, quoted: false })
    }

    /// The same for a command of the study file.
    ///
    /// # Errors
    /// As [`Template::new`].
    pub(crate) fn of(shell: &Shell, space: &SearchSpace) -> Result<Self, String> {
        match shell {
            Shell::Words(words) => Self::new(words, space),
            Shell::Text(text) => {
                let words = ["sh".to_owned(), "-c".to_owned(), text.clone()];
                Ok(Self { quoted: true, ..Self::new(&words, space)? })
            }
        }
    }

    /// Program and arguments under a configuration; an inactive parameter is empty text.
    pub(crate) fn fill(&self, parameters: &Assignment) -> Vec<String> {
        let value = |name: &String| {
            let text = parameters.get(name).map(plain).unwrap_or_default();
            if self.quoted { quote(&text) } else { text }
        };
        let word = |pieces: &Vec<Piece>| {
            let texts = pieces.iter().map(|p| match p {
                Piece::Plain(t) => t.clone(),
                Piece::Parameter(n) => value(n),
            });
            texts.collect::<String>()
        };
        self.words.iter().map(word).collect()
    }
}

/// Splits at `{name}`; `{{name}}` is a plain `{name}`, and braces around anything that is no name are left alone.
fn pieces(word: &str, space: &SearchSpace) -> Result<Vec<Piece>, String> {
    let mut out = Vec::new();
    let mut plain = String::new();
    let mut rest = word;
    while let Some(open) = rest.find('{') {
        plain.push_str(&rest[..open]);
        rest = &rest[open..];
        let literal = rest.strip_prefix("{{").and_then(named).filter(|(_, after)| after.starts_with('}'));
        if let Some((name, after)) = literal {
            plain.extend(["{", name, "}"]);
            rest = &after[1..];
        } else if let Some((name, after)) = named(&rest[1..]) {
            if space.get(name).is_none() {
                let known: Vec<&str> = space.parameters().iter().map(foreglow_search::space::Parameter::name).collect();
                return Err(format!(
                    "{{{name}}} names no parameter: the study has {}; for literal braces write {{{{{name}}}}}",
                    known.join(", ")
                ));
            }
            out.push(Piece::Plain(std::mem::take(&mut plain)));
            out.push(Piece::Parameter(name.to_owned()));
            rest = after;
        } else {
            plain.push('{');
            rest = &rest[1..];
        }
    }
    plain.push_str(rest);
    out.push(Piece::Plain(plain));
    Ok(out)
}

/// A name and a closing brace at the start of `text`: the name and what follows.
fn named(text: &str) -> Option<(&str, &str)> {
    let (name, after) = text.split_once('}')?;
    let first = name.chars().next()?;
    let fine = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
    ((first.is_alphabetic() || first == '_') && name.chars().all(fine)).then_some((name, after))
}

/// Text as one word of the shell.
pub(crate) fn quote(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ':' | '=' | '+');
    if !text.is_empty() && text.chars().all(safe) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// The name of a parameter's environment variable: upper case, everything but letters and digits an underscore.
pub(crate) fn variable(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreglow_search::{ParameterSpec, SpaceSpec};

    fn space() -> SearchSpace {
        SpaceSpec(vec![ParameterSpec::int("workers", 1, 9), ParameterSpec::categorical("mode", &["a b", "it's"])])
            .check()
            .unwrap()
    }

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn placeholders_are_filled() {
        let a = Assignment::from([("workers".to_owned(), 4.into()), ("mode".to_owned(), "it's".into())]);
        let t = Template::new(&words("run --w={workers} {mode} {{workers}} {} {1} {x"), &space()).unwrap();
        assert_eq!(t.fill(&a), ["run", "--w=4", "it's", "{workers}", "{}", "{1}", "{x"]);
        let t = Template::of(&Shell::Text("go {mode} | awk '{print $1}'".to_owned()), &space()).unwrap();
        assert_eq!(t.fill(&a)[2], r"go 'it'\''s' | awk '{print $1}'");
        assert_eq!(t.fill(&Assignment::new())[2], "go '' | awk '{print $1}'", "inactive");
    }

    #[test]
    fn mistakes_are_named() {
        let e = Template::new(&words("run {worker}"), &space()).unwrap_err();
        assert!(e.contains("workers, mode") && e.contains("{{worker}}"), "{e}");
        assert!(Template::new(&[], &space()).is_err());
        assert_eq!(variable("work-mem.kB"), "WORK_MEM_KB");
    }
}
