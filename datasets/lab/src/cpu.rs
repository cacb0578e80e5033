use std::fs;
use std::path::PathBuf;

/// Microseconds of a clock tick in `/proc/<pid>/stat`: the kernel reports in USER_HZ, which is 100 on every Linux port.
const STAT_TICK_US: u64 = 10_000;

/// The CPU time of one thread, readable from any thread.
///
/// On Linux it is the scheduler's own account, `/proc/<pid>/task/<tid>/schedstat` (first field, nanoseconds), or where the
/// kernel was built without it `stat` (user and system time in hundredths of a second). Elsewhere there is no such file,
/// and the caller falls back on the time spent inside work, which it counts itself.
#[derive(Debug, Clone)]
pub(crate) struct ThreadClock(Source);

#[derive(Debug, Clone)]
enum Source {
    Schedstat(PathBuf),
    Stat(PathBuf),
    Absent,
}

impl ThreadClock {
    /// The clock of the calling thread.
    pub(crate) fn current() -> Self {
        let Ok(link) = fs::read_link("/proc/thread-self") else { return Self(Source::Absent) };
        let folder = PathBuf::from("/proc").join(link);
        // A young thread has not been charged yet, so whether the kernel keeps this account is asked of the main thread.
        let main = Self(Source::Schedstat(PathBuf::from("/proc/self/schedstat")));
        let clock = Self(Source::Schedstat(folder.join("schedstat")));
        if main.micros().is_some_and(|us| us > 0) && clock.micros().is_some() {
            return clock;
        }
        let clock = Self(Source::Stat(folder.join("stat")));
        if clock.micros().is_some() { clock } else { Self(Source::Absent) }
    }

    /// Microseconds on a CPU since the thread began, or `None` where the system does not tell or the thread has ended.
    pub(crate) fn micros(&self) -> Option<u64> {
        match &self.0 {
            Source::Schedstat(path) => {
                let nanos: u64 = fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()?;
                Some(nanos / 1000)
            }
            Source::Stat(path) => {
                let text = fs::read_to_string(path).ok()?;
                // The second field is the thread's name in parentheses and may hold spaces; utime and stime are 14 and 15.
                let mut rest = text.get(text.rfind(')')? + 1..)?.split_whitespace().skip(11);
                let user: u64 = rest.next()?.parse().ok()?;
                let system: u64 = rest.next()?.parse().ok()?;
                Some((user + system) * STAT_TICK_US)
            }
            Source::Absent => None,
        }
    }

    /// Whether the system gives no account, so that busy time has to do.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self.0, Source::Absent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;
    use std::time::{Duration, Instant};

    #[test]
    fn burning_counts_and_sleeping_does_not() {
        let clock = ThreadClock::current();
        if clock.is_absent() {
            return;
        }
        let before = clock.micros().unwrap();
        let begin = Instant::now();
        let mut x = 0u64;
        // Until the clock itself says so: on a busy machine wall time says little.
        while clock.micros().unwrap() < before + 30_000 && begin.elapsed() < Duration::from_secs(10) {
            for i in 0..100_000u64 {
                x = black_box(x.wrapping_mul(31).wrapping_add(i));
            }
        }
        let burnt = clock.micros().unwrap() - before;
        assert!(
            burnt >= 30_000 && Duration::from_micros(burnt) <= begin.elapsed() + Duration::from_millis(30),
            "{burnt}"
        );
    }
}
