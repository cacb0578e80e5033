//! The configuration file (TOML), its defaults and its checks.

use crate::EngineError;
use foreglow_core::signals::Signals;
use foreglow_core::{Labels, Step};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Everything that can be set. Unchecked: [`Config::check`] says what is wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port. Default `127.0.0.1:8780`.
    pub listen: SocketAddr,
    /// The folder that survives restarts. Default `./foreglow-state`.
    pub state: PathBuf,
    /// The folder of artifacts. Default none: everything is scored by the online baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<PathBuf>,
    /// `signals.toml` for what no artifact serves. Default none: every series is a gauge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signals: Option<PathBuf>,
    /// Listen beyond loopback although nobody has to show a token. Default false.
    pub allow_open: bool,
    /// Names by which the server may be called, beside `localhost` and IP addresses. Default none.
    pub hosts: Vec<String>,
    /// Threads of the CPU pool, and shards of groups. Default: what the machine has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// How the log is written. Default `text`.
    pub log: LogFormat,
    /// Sizes that are refused.
    pub limits: Limits,
    /// How long things are kept.
    pub retain: Retain,
    /// Who makes the changes of studies in mode `auto`.
    #[serde(skip_serializing_if = "Auto::is_default")]
    pub auto: Auto,
    /// Who may call, as `[[token]]`. Default: everybody.
    #[serde(rename = "token", skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<Token>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8780)),
            state: PathBuf::from("foreglow-state"),
            registry: None,
            signals: None,
            allow_open: false,
            hosts: Vec::new(),
            threads: None,
            log: LogFormat::default(),
            limits: Limits::default(),
            retain: Retain::default(),
            auto: Auto::default(),
            tokens: Vec::new(),
        }
    }
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Sizes that are refused, so that no client can take the server's memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a body. Default 16 MiB. Larger: 413.
    pub max_body: usize,
    /// Bodies that are read, wait or are worked on at a time. Default 64. More: 503 with Retry-After.
    pub queue: usize,
    /// Seconds a body may take to arrive. Default 10. Longer: 408.
    pub body_seconds: u64,
    /// Labels of a series. Default 64. More: its samples are refused.
    pub max_labels: usize,
    /// Groups of a tenant and pipeline. Default 10,000.
    pub max_groups: usize,
    /// Signals of a group. Default 1,000.
    pub max_signals_per_group: usize,
    /// How far ahead of the clock a sample may be, or `off` for replays. Default 10m.
    pub max_future: Horizon,
    /// Samples a second that a tenant may send, averaged over 10 s. Default no limit. More: 429.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples_per_second: Option<f64>,
    /// Sessions (`?session=`) at a time. Default 64. More: 429.
    pub max_sessions: usize,
    /// A session is dropped after this long without a request. Default 10m.
    pub session_idle: Step,
    /// Groups whose last scores `/metrics` shows. Default 1,000.
    pub metrics_groups: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body: 16 << 20,
            queue: 64,
            body_seconds: 10,
            max_labels: 64,
            max_groups: 10_000,
            max_signals_per_group: 1_000,
            max_future: Horizon(Some(minutes(10))),
            samples_per_second: None,
            max_sessions: 64,
            session_idle: minutes(10),
            metrics_groups: 1_000,
        }
    }
}

/// How long things are kept, counted from when they were written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retain {
    /// Scores of steps and anomalous steps. Default 7d.
    pub results: Step,
    /// Metrics of entities whose configuration is known, for cutting trials. Default 30d.
    pub history: Step,
    /// State of groups that no longer send. Default 30d.
    pub groups: Step,
}

impl Default for Retain {
    fn default() -> Self {
        Self { results: days(7), history: days(30), groups: days(30) }
    }
}

/// The hook that makes the changes of studies in mode `auto`: the operator's own, so it stands here and not in studies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auto {
    /// `http://` address that each change is posted to; an answer 2xx means that it runs now. Default none: there is no
    /// mode `auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// Sent to it as bearer token. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// How often studies are asked what they want to change. Default 10s.
    pub every: Step,
}

impl Default for Auto {
    fn default() -> Self {
        Self { webhook: None, token: None, every: n_of(10_000) }
    }
}

impl Auto {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A duration, or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon(pub Option<Step>);

impl std::str::FromStr for Horizon {
    type Err = foreglow_core::CoreError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim() == "off" { Ok(Self(None)) } else { text.parse().map(|s| Self(Some(s))) }
    }
}

impl Serialize for Horizon {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            None => s.serialize_str("off"),
            Some(step) => step.serialize(s),
        }
    }
}

impl<'de> Deserialize<'de> for Horizon {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One bearer token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// SHA-256 of the token, hexadecimal: the token itself stands in no file.
    pub sha256: String,
    /// Tenants it may speak for. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<String>,
    /// What it may do. Default `write`.
    #[serde(default)]
    pub role: Role,
}

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    #[default]
    Write,
    /// GET only.
    Read,
}

fn minutes(n: i64) -> Step {
    n_of(n * 60_000)
}

fn days(n: i64) -> Step {
    n_of(n * foreglow_core::DAY_MS)
}

fn n_of(ms: i64) -> Step {
    Step::from_ms(ms).unwrap_or_else(|_| unreachable!("a positive constant"))
}

impl Config {
    /// Parses a configuration file; it is not checked yet.
    ///
    /// # Errors
    /// [`EngineError::Config`] naming line and field.
    pub fn parse(text: &str) -> Result<Self, EngineError> {
        toml::from_str(text).map_err(|e| {
            let line = e.span().map(|r| text[..r.start].matches('\n').count() + 1);
            EngineError::config(line.map_or_else(|| "file".into(), |l| format!("line {l}")), e.message())
        })
    }

    /// Reads a configuration file; paths in it count from the folder in which the server is started.
    ///
    /// # Errors
    /// [`EngineError::Io`], [`EngineError::Config`].
    pub fn read(path: &Path) -> Result<Self, EngineError> {
        let text = std::fs::read_to_string(path).map_err(|e| EngineError::io(path.display().to_string(), e))?;
        Self::parse(&text)
    }

    /// Checks what can be checked without starting: ranges, tokens, the registry folder, `signals.toml`, and that listening
    /// beyond loopback without tokens was asked for.
    ///
    /// # Errors
    /// [`EngineError::Config`] naming the field, the value and the remedy.
    pub fn check(&self) -> Result<(), EngineError> {
        let l = &self.limits;
        for (field, value) in [
            ("limits.max_body", l.max_body),
            ("limits.queue", l.queue),
            ("limits.body_seconds", l.body_seconds as usize),
            ("limits.max_labels", l.max_labels),
            ("limits.max_groups", l.max_groups),
            ("limits.max_signals_per_group", l.max_signals_per_group),
            ("limits.max_sessions", l.max_sessions),
            ("threads", self.threads.unwrap_or(1)),
        ] {
            if value == 0 {
                return Err(EngineError::config(field, "is 0: give at least 1"));
            }
        }
        if let Some(r) = l.samples_per_second
            && !(r.is_finite() && r > 0.0)
        {
            return Err(EngineError::config("limits.samples_per_second", format!("is {r}: give a number above 0")));
        }
        if let Some(url) = self.auto.webhook.as_ref().filter(|u| !u.starts_with("http://")) {
            let problem =
                format!("is {url:?}: give an http:// address, of a proxy on this machine where more is needed");
            return Err(EngineError::config("auto.webhook", problem));
        }
        for (i, t) in self.tokens.iter().enumerate() {
            if t.sha256.len() != 64 || !t.sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
                let problem = "is no SHA-256: give the 64 hexadecimal digits that `printf %s TOKEN | sha256sum` prints";
                return Err(EngineError::config(format!("token {}.sha256", i + 1), problem));
            }
        }
        if !self.listen.ip().is_loopback() && self.tokens.is_empty() && !self.allow_open {
            return Err(EngineError::config(
                "listen",
                format!(
                    "{} is reachable from other machines and nobody has to show a token: add a [[token]], or set \
                     allow_open = true (--allow-open) if the network keeps strangers out",
                    self.listen
                ),
            ));
        }
        if let Some(r) = &self.registry
            && !r.is_dir()
        {
            let problem = format!("{} is no folder: make it with foreglow-train fit, or leave it out", r.display());
            return Err(EngineError::config("registry", problem));
        }
        self.rules()?;
        Ok(())
    }

    /// `signals.toml`, or no rules where none is named.
    ///
    /// # Errors
    /// [`EngineError::Io`] or [`EngineError::Core`] naming file, line and field.
    pub fn rules(&self) -> Result<Signals, EngineError> {
        let Some(path) = &self.signals else { return Ok(Signals::default()) };
        let text = std::fs::read_to_string(path).map_err(|e| EngineError::io(path.display().to_string(), e))?;
        Signals::parse(&text).map_err(|e| EngineError::config(path.display().to_string(), e.to_string()))
    }

    /// Threads of the CPU pool.
    pub fn pool_threads(&self) -> usize {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into))
    }
}

/// The tenant of a request that names none.
pub(crate) const ANONYMOUS: &str = "anonymous";

/// Whether a text can be a tenant: 1 to 64 letters, digits, `_`, `-`, `.`.
pub(crate) fn is_tenant(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

/// Labels as JSON with sorted names: how an entity is written in the store.
pub(crate) fn labels_json(labels: &Labels) -> String {
    serde_json::to_string(labels).unwrap_or_else(|_| "{}".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_what_the_contract_says() {
        let c = Config::default();
        assert_eq!(c.listen.to_string(), "127.0.0.1:8780");
        assert_eq!(c.state, PathBuf::from("foreglow-state"));
        c.check().unwrap();
        let text = toml::to_string(&c).unwrap();
        assert_eq!(Config::parse(&text).unwrap(), c);
    }

    #[test]
    fn errors_name_place_and_remedy() {
        for (text, part) in [
            ("listen = \"0.0.0.0:8780\"", "allow_open = true"),
            ("[limits]\nqueue = 0", "limits.queue: is 0"),
            ("[[token]]\nsha256 = \"abc\"", "token 1.sha256"),
            ("signals = \"/nowhere/signals.toml\"", "/nowhere/signals.toml"),
            ("registry = \"/nowhere\"", "foreglow-train fit"),
            ("\n\nlisten = 5", "line 3"),
            ("port = 5", "unknown field"),
            ("[limits]\nmax_future = \"soon\"", "no step"),
        ] {
            let e = Config::parse(text).and_then(|c| c.check()).unwrap_err().to_string();
            assert!(e.contains(part), "{text}: {e}");
        }
        let open =
            Config::parse("listen = \"0.0.0.0:8780\"\nallow_open = true\n[limits]\nmax_future = \"off\"").unwrap();
        open.check().unwrap();
        assert_eq!(open.limits.max_future, Horizon(None));
    }

    #[test]
    fn tenants() {
        assert!(is_tenant("team-a.b_1") && !is_tenant("") && !is_tenant("a/b") && !is_tenant(&"x".repeat(65)));
    }
}
