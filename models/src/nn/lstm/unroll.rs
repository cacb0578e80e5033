use super::shape::{LEVELS, LstmShape, MEDIAN};
use super::window::{Verdict, Window};
use foreglow_core::{History, Step, Timestamp};

/// A forecast on its way: what is known, and what has been said so far.
pub(super) struct Unrolled {
    pub(super) window: Window,
    values: Vec<f64>,
    last: Timestamp,
    step: Step,
    /// The spread that the block before ended with.
    carried: [f64; LEVELS],
    pub(super) rows: Vec<[f64; LEVELS]>,
}

impl Unrolled {
    pub(super) fn new(shape: &LstmShape, history: &History<'_>, horizon: usize) -> Self {
        let from = history.values.len().saturating_sub(shape.reach());
        Self {
            window: Window::new(shape),
            values: history.values[from..].to_vec(),
            last: history.last,
            step: history.step,
            carried: [0.0; LEVELS],
            rows: Vec::with_capacity(horizon),
        }
    }

    /// Whether the net has to read the window; what needs no net is said here.
    pub(super) fn is_due(&mut self, shape: &LstmShape, horizon: usize) -> bool {
        if self.rows.len() >= horizon {
            return false;
        }
        match self.window.fill(shape, &self.values, self.last, self.step) {
            Verdict::Empty => self.rows = vec![[0.0; LEVELS]; horizon],
            Verdict::Constant(c) => {
                let row = std::array::from_fn(|l| (c + self.carried[l]).clamp(f64::MIN, f64::MAX));
                self.rows.resize(horizon, row);
            }
            Verdict::Usable => return true,
        }
        false
    }

    pub(super) fn append(&mut self, block: &[[f32; LEVELS]], horizon: usize) {
        for (k, u) in block.iter().enumerate().take(horizon - self.rows.len()) {
            let mut row: [f64; LEVELS] = std::array::from_fn(|l| self.window.decode(k, u[l]));
            let median = row[MEDIAN];
            for (l, v) in row.iter_mut().enumerate() {
                let off = (*v - median).hypot(self.carried[l]);
                *v = (if l < MEDIAN { median - off } else { median + off }).clamp(f64::MIN, f64::MAX);
            }
            self.values.push(median);
            self.rows.push(row);
        }
        if let Some(end) = self.rows.last() {
            self.carried = std::array::from_fn(|l| (end[l] - end[MEDIAN]).clamp(f64::MIN, f64::MAX));
        }
        self.last = self.last.plus(block.len() as i64 * self.step.ms());
    }
}
