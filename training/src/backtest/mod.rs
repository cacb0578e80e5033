//! Backtests: what is measured offline is what runs live, judged beside yardsticks.
//!
//! Each task is a function from data and options to an outcome in memory ([`forecast`], [`anomaly`], [`tuning`]); writing it
//! to a folder is a step of its own, so that tests and other programs can look at the figures without files.

pub mod anomaly;
mod anomaly_series;
mod anomaly_table;
mod contender;
pub mod forecast;
mod forecast_fit;
mod forecast_table;
mod lanes;
pub mod ltsf;
pub mod tuning;
mod tuning_page;
mod validation;
mod write;

pub use write::{write_json, write_text};

use foreglow_models::evaluate::report::Cost;

/// Highest resident memory of this process so far in bytes, where the system tells it (Linux: `VmHWM`).
pub fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// The cost of a run that fitted and scored for so many seconds.
pub(crate) fn cost(fit_seconds: f64, score_seconds: f64) -> Cost {
    Cost { fit_seconds, score_seconds, peak_memory_bytes: peak_memory_bytes(), threads: rayon::current_num_threads() }
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    fn memory_is_known_on_linux() {
        assert!(super::peak_memory_bytes().is_some_and(|b| b > 1 << 20));
    }
}
