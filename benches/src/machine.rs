//! Where and of what a figure was taken.

use foreglow_core::Timestamp;
use serde::Serialize;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// A machine and a state of the code.
#[derive(Debug, Serialize)]
pub(crate) struct About {
    /// Day, UTC.
    pub(crate) date: String,
    /// A short name of the machine: cores and processor.
    pub(crate) name: String,
    /// The processor as it names itself.
    cpu: String,
    /// Cores.
    cores: usize,
    /// Commit of the code; `-dirty` with changes on top.
    commit: String,
    /// The compiler.
    rustc: String,
    /// Whether this program was built with optimisation.
    release: bool,
    /// Load average over a minute when the run ended, where the system tells it.
    load: Option<String>,
}

fn said(program: &str, arguments: &[&str]) -> String {
    let out = Command::new(program).args(arguments).output();
    out.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
}

/// Asks the system.
pub(crate) fn about() -> About {
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu =
        info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':')).map_or("unknown", |(_, n)| n.trim());
    let short: String = cpu
        .to_lowercase()
        .split_whitespace()
        .filter(|w| {
            !["(r)", "(tm)", "processor", "cpu", "@"].contains(w) && w.chars().all(|c| c.is_ascii_alphanumeric())
        })
        .take(3)
        .collect::<Vec<_>>()
        .join("-");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").ok();
    About {
        date: Timestamp(now.as_millis() as i64).to_string().chars().take(10).collect(),
        name: format!("{cores}x-{}", if short.is_empty() { "unknown" } else { &short }),
        cpu: cpu.to_owned(),
        cores,
        commit: said("git", &["describe", "--always", "--dirty", "--abbrev=12"]),
        rustc: said("rustc", &["--version"]),
        release: !cfg!(debug_assertions),
        load: load.and_then(|l| l.split_whitespace().next().map(str::to_owned)),
    }
}
