use super::{Facts, Source};
use std::fmt;

/// One edge, word or line that the plan does not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Package or file.
    pub place: String,
    /// What is wrong and what was expected.
    pub problem: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

/// The libraries and which of our crates each may import.
const EDGES: [(&str, &[&str]); 7] = [
    ("foreglow-core", &[]),
    ("foreglow-models", &["foreglow-core"]),
    ("foreglow-search", &["foreglow-core"]),
    ("foreglow-datasets", &["foreglow-core"]),
    ("foreglow-lab", &["foreglow-core"]),
    (
        "foreglow-training",
        &["foreglow-core", "foreglow-models", "foreglow-search", "foreglow-datasets", "foreglow-lab"],
    ),
    ("foreglow-engine", &["foreglow-core", "foreglow-models", "foreglow-search"]),
];

/// They may import any library; nothing imports them.
const LEAVES: [&str; 4] = ["foreglow-demo", "foreglow-bench", "foreglow-tests", "foreglow-native"];

/// Packages that only some of ours may use: prefix of the package's name, users.
const RESERVED: [(&str, &[&str]); 8] = [
    // The bench times ours beside candle's own layers.
    ("candle-", &["foreglow-models", "foreglow-bench"]),
    ("linfa", &["foreglow-models"]),
    ("polars", &["foreglow-datasets"]),
    ("tokio", &["foreglow-engine", "foreglow-lab", "foreglow-demo", "foreglow-bench", "foreglow-tests"]),
    ("axum", &["foreglow-engine", "foreglow-lab", "foreglow-demo", "foreglow-bench", "foreglow-tests"]),
    ("reqwest", &["foreglow-engine", "foreglow-lab", "foreglow-demo", "foreglow-bench", "foreglow-tests"]),
    ("hyper", &["foreglow-engine", "foreglow-lab", "foreglow-demo", "foreglow-bench", "foreglow-tests"]),
    ("tower", &["foreglow-engine", "foreglow-lab", "foreglow-demo", "foreglow-bench", "foreglow-tests"]),
];

/// Where nets live.
const NETS: [&str; 2] = ["models/src/nn/", "models/src/kernel/"];

/// The only folder with `unsafe`.
const KERNEL: &str = "models/src/kernel/";

/// Pure crates and, in them, the one module that may touch files.
const PURE: [&str; 3] = ["foreglow-core", "foreglow-models", "foreglow-search"];
const STORE: &str = "models/src/artifact/store";

/// The clock, the network, files, processes and the environment.
const IMPURE: [&str; 7] =
    ["std::fs", "std::net", "std::env", "std::process", "SystemTime::now", "Instant::now", "thread::sleep"];

/// Packages of which two versions in one program would be two different types for the same thing.
const SINGLE: [&str; 3] = ["ndarray", "argmin", "rayon"];

/// The lints of the workspace: group, name, level.
const LINTS: [(&str, &str, &str); 8] = [
    ("rust", "missing_docs", "warn"),
    ("rust", "unreachable_pub", "warn"),
    ("rust", "unsafe_code", "deny"),
    ("clippy", "pedantic", "warn"),
    ("clippy", "unwrap_used", "warn"),
    ("clippy", "print_stdout", "warn"),
    ("clippy", "print_stderr", "warn"),
    ("clippy", "dbg_macro", "warn"),
];

/// All violations of the plan, in the order of the rules.
pub fn violations(facts: &Facts) -> Vec<Violation> {
    let mut out = Vec::new();
    edges(facts, &mut out);
    reserved(facts, &mut out);
    closures(facts, &mut out);
    manifests(facts, &mut out);
    for source in &facts.sources {
        in_source(facts, source, &mut out);
    }
    out
}

fn add(out: &mut Vec<Violation>, place: &str, problem: String) {
    out.push(Violation { place: place.to_owned(), problem });
}

fn edges(facts: &Facts, out: &mut Vec<Violation>) {
    for (name, member) in &facts.members {
        let allowed = EDGES.iter().find(|(n, _)| n == name).map(|(_, to)| *to);
        if allowed.is_none() && !LEAVES.contains(&name.as_str()) {
            add(out, name, "the plan does not know this crate: say in house and here whom it may import".to_owned());
        }
        for to in member.uses.iter().filter(|u| facts.members.contains_key(*u) && *u != name) {
            if LEAVES.contains(&to.as_str()) {
                add(out, name, format!("imports {to}, which nothing may import"));
            } else if allowed.is_some_and(|a| !a.contains(&to.as_str())) {
                add(out, name, format!("imports {to}; it may import {}", list(allowed.unwrap_or_default())));
            }
        }
    }
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "none of ours".to_owned() } else { names.join(", ") }
}

fn reserved(facts: &Facts, out: &mut Vec<Violation>) {
    for (name, member) in &facts.members {
        for package in &member.uses {
            let rule = RESERVED.iter().find(|(prefix, _)| package.starts_with(prefix));
            if let Some((_, users)) = rule
                && !users.contains(&name.as_str())
            {
                add(out, name, format!("depends on {package}, which is for {} only", list(users)));
            }
        }
    }
}

fn closures(facts: &Facts, out: &mut Vec<Violation>) {
    let engine = facts.closure.get("foreglow-engine");
    if let Some(package) = engine.into_iter().flatten().find(|p| p.starts_with("polars")) {
        add(out, "foreglow-engine", format!("links {package}: building the engine must not compile polars"));
    }
    for package in SINGLE {
        if let Some(versions) = facts.versions.get(package).filter(|v| v.len() > 1) {
            let versions: Vec<&str> = versions.iter().map(String::as_str).collect();
            add(out, "Cargo.lock", format!("{package} in versions {}: one is allowed", versions.join(" and ")));
        }
    }
}

fn manifests(facts: &Facts, out: &mut Vec<Violation>) {
    let lints = facts.root.get("workspace").and_then(|w| w.get("lints"));
    for (group, name, level) in LINTS {
        let found = lints.and_then(|l| l.get(group)).and_then(|g| g.get(name));
        let found = found.and_then(|l| l.as_str().or_else(|| l.get("level")?.as_str()));
        if found != Some(level) {
            let found = found.unwrap_or("missing");
            add(out, "Cargo.toml", format!("workspace.lints.{group}.{name} is {found}, expected {level:?}"));
        }
    }
    for (name, member) in &facts.members {
        let place = format!("{}/Cargo.toml", member.folder);
        let inherits = |v: Option<&toml::Value>| v.and_then(|v| v.get("workspace")?.as_bool()) == Some(true);
        if !inherits(member.table.get("lints")) {
            add(out, &place, format!("{name} does not take the workspace's lints: add [lints] workspace = true"));
        }
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (dep, spec) in member.table.get(section).and_then(toml::Value::as_table).into_iter().flatten() {
                if !inherits(Some(spec)) || spec.get("features").is_some() {
                    let problem = "version and features stand in the root's [workspace.dependencies] only";
                    add(out, &place, format!("{section}.{dep}: {problem}"));
                }
            }
        }
    }
}

fn in_source(facts: &Facts, source: &Source, out: &mut Vec<Violation>) {
    let path = source.path.as_str();
    let uses = |prefix: &str| source.roots.iter().find(|r| r.starts_with(prefix));
    let in_nets = NETS.iter().any(|n| path.starts_with(n));
    if let Some(root) = uses("candle_").filter(|_| !in_nets && source.package != "foreglow-bench") {
        add(out, path, format!("uses {root}; nets live under {}", NETS.join(" and ")));
    }
    if let Some(root) = uses("linfa").filter(|_| in_nets) {
        add(out, path, format!("uses {root}; linfa has no place under {}", NETS.join(" and ")));
    }
    if !path.starts_with(KERNEL) {
        let mut words = source.code.split(|c: char| !c.is_alphanumeric() && c != '_');
        if words.any(|w| w == "unsafe" || w == "unsafe_code") {
            add(out, path, format!("unsafe code or leave for it; only {KERNEL} may have it"));
        }
    }
    // A crate that the manifest has as a dev dependency only is no import of the shipped program; the compiler sees to
    // that. What it cannot see: an import that the plan reserves, through a path that a manifest allows.
    for root in &source.roots {
        let package = root.replace('_', "-");
        let known = facts.members.contains_key(&package) && package != source.package;
        let declared = facts
            .members
            .get(&source.package)
            .is_some_and(|m| if source.for_tests { m.uses.contains(&package) } else { m.links.contains(&package) });
        if known && !declared {
            add(out, path, format!("uses {root}, which the manifest of {} does not name", source.package));
        }
    }
    if PURE.contains(&source.package.as_str()) && !source.for_tests && !path.starts_with(STORE) {
        let code: String = source.code.split_whitespace().collect();
        let named = |w: &str| code.contains(w) || source.imports.iter().any(|i| i.starts_with(w));
        if let Some(word) = IMPURE.iter().find(|w| named(w)) {
            add(out, path, format!("uses {word}; {} is pure: pass the value in", source.package));
        }
    }
}
