use crate::{Step, Timestamp};
use ndarray::Array2;

/// The past of one series on its grid.
#[derive(Debug, Clone, Copy)]
pub struct History<'a> {
    /// Values, oldest first, NaN = missing.
    pub values: &'a [f64],
    /// The instant of the last value.
    pub last: Timestamp,
    /// The distance of values.
    pub step: Step,
}

impl History<'_> {
    /// The instant of `values[i]`.
    pub fn time(&self, i: usize) -> Timestamp {
        self.last.plus((i as i64 + 1 - self.values.len() as i64) * self.step.ms())
    }
}

/// A fitted forecaster of single series. Narrow and dyn-compatible; forecasting before fitting does not compile, because
/// what is unfitted has another type.
pub trait Forecaster: Send + Sync {
    /// The model's name, as reports and replies show it.
    fn name(&self) -> &str;

    /// How many past values it can make use of.
    fn context(&self) -> usize;

    /// Quantiles of the next `horizon` values: shape (horizon, levels), ascending in each row, finite for any history
    /// (an empty or all-missing one gives zeros), and the same whatever else is forecast beside it.
    fn forecast(&self, history: &History<'_>, horizon: usize, levels: &[f64]) -> Array2<f64>;

    /// The same for many series at once; the default asks one by one.
    fn forecast_many(&self, histories: &[History<'_>], horizon: usize, levels: &[f64]) -> Vec<Array2<f64>> {
        histories.iter().map(|h| self.forecast(h, horizon, levels)).collect()
    }
}

/// One step of one group, as a detector sees it.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// The step's instant.
    pub time: Timestamp,
    /// One value a signal in the order of fitting, NaN = missing.
    pub values: &'a [f64],
    /// How many whole steps are missing between the row before and this one.
    pub gap: usize,
}

/// What a detector says of a row. The buffers are the caller's and are reused from row to row.
#[derive(Debug, Clone, Default)]
pub struct RawScore {
    /// Of the group: larger is stranger, NaN = no opinion (too little history, all values missing). Left NaN by detectors
    /// that judge signal by signal.
    pub group: f64,
    /// One a signal. Where the detector judges signals: their raw scores, NaN = no opinion. Else how much each signal
    /// has to do with `group` (>= 0, any unit).
    pub signals: Vec<f64>,
    /// What was expected of each signal, NaN = not said.
    pub expected: Vec<f64>,
}

impl RawScore {
    /// Buffers for `n` signals.
    pub fn new(n: usize) -> Self {
        Self { group: f64::NAN, signals: vec![f64::NAN; n], expected: vec![f64::NAN; n] }
    }

    /// Back to "no opinion".
    pub fn clear(&mut self) {
        self.group = f64::NAN;
        self.signals.fill(f64::NAN);
        self.expected.fill(f64::NAN);
    }
}

/// What a detector judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Each signal for itself; the pipeline combines them.
    Signal,
    /// The row as a whole.
    Group,
}

/// A fitted detector. The model is shared and immutable; what changes from row to row is a flat state of fixed length
/// that the monitor owns, saves and restores.
pub trait Detector: Send + Sync {
    /// The detector's name, as reports and replies show it.
    fn name(&self) -> &str;

    /// Whether it judges signals or the group.
    fn scope(&self) -> Scope;

    /// How many numbers of state a group needs.
    fn state_len(&self) -> usize;

    /// Writes the state of a group that has seen nothing.
    fn reset(&self, state: &mut [f64]);

    /// Scores the row with what was known before it, then learns from it. `out` is cleared by the caller.
    fn step(&self, state: &mut [f64], row: &Row<'_>, out: &mut RawScore);
}
