use anyhow::{Context, Result};
use std::fs;
use std::time::Instant;

/// A moment: CPU seconds of all threads of this process, and wall time.
pub(crate) struct Clock {
    cpu: f64,
    wall: Instant,
}

/// What went by since a [`Clock`], in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    pub(crate) cpu: f64,
    pub(crate) wall: f64,
}

impl Clock {
    pub(crate) fn now() -> Result<Self> {
        Ok(Self { cpu: cpu()?, wall: Instant::now() })
    }

    pub(crate) fn elapsed(&self) -> Result<Spent> {
        Ok(Spent { wall: self.wall.elapsed().as_secs_f64(), cpu: cpu()? - self.cpu })
    }
}

impl Spent {
    /// The figure to compare: CPU time of one thread, wall time of several.
    pub(crate) fn figure(self, threads: usize) -> f64 {
        if threads == 1 { self.cpu } else { self.wall }
    }
}

/// CPU seconds of all threads, in nanoseconds from the scheduler.
fn cpu() -> Result<f64> {
    let mut total = 0.0;
    for task in fs::read_dir("/proc/self/task").context("CPU time is read from Linux' /proc/self/task")? {
        let path = task?.path().join("schedstat");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let first = text.split_whitespace().next().unwrap_or_default();
        total += first.parse::<f64>().with_context(|| format!("{}: {text:?}", path.display()))?;
    }
    Ok(total * 1e-9)
}

/// The median; sorts.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    if n % 2 == 1 { values[n / 2] } else { f64::midpoint(values[n / 2 - 1], values[n / 2]) }
}
