use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Distance of log lines where there is no terminal.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// What every command gets beside its options: whether to stop, and where progress goes.
#[derive(Debug, Clone, Default)]
pub struct Context {
    stop: Arc<AtomicBool>,
    bars: bool,
}

impl Context {
    /// Progress as bars on standard error where that is a terminal, as log lines elsewhere; work ends early when `stop`
    /// becomes true.
    pub fn new(stop: Arc<AtomicBool>, bars: bool) -> Self {
        Self { stop, bars }
    }

    /// Whether the user asked to end.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Progress over `total` pieces of work.
    pub fn progress(&self, what: &str, total: usize) -> Progress {
        let bar = self.bars.then(|| {
            let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{msg:28!} {bar:32} {pos}/{len} {eta}") {
                bar.set_style(style);
            }
            bar.set_message(what.to_owned());
            bar
        });
        if bar.is_none() {
            tracing::info!(total, "{what}");
        }
        Progress { what: what.to_owned(), total, done: AtomicUsize::new(0), bar, last: Mutex::new(Instant::now()) }
    }
}

/// Progress of one stretch of work; may be advanced from several threads.
#[derive(Debug)]
pub struct Progress {
    what: String,
    total: usize,
    done: AtomicUsize,
    bar: Option<ProgressBar>,
    last: Mutex<Instant>,
}

impl Progress {
    /// One more piece is done.
    pub fn advance(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        self.show(done, self.total, "");
    }

    /// `done` of `total` pieces are done; `detail` says where the work stands.
    pub fn set(&self, done: usize, total: usize, detail: &str) {
        self.done.store(done, Ordering::Relaxed);
        self.show(done, total, detail);
    }

    /// One finished row: above the bar on a terminal, a log line elsewhere.
    pub fn line(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.println(text);
        } else {
            tracing::info!("{text}");
        }
    }

    fn show(&self, done: usize, total: usize, detail: &str) {
        if let Some(bar) = &self.bar {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            if !detail.is_empty() {
                bar.set_message(format!("{}: {detail}", self.what));
            }
            return;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= LOG_EVERY {
            *last = Instant::now();
            tracing::info!(done, total, detail, "{}", self.what);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
