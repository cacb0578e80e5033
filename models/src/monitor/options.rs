use foreglow_core::Step;

/// Bounds of a monitor. Memory is bounded by groups x signals; nothing else grows with what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MonitorOptions {
    /// Groups at most, default 10,000; samples of further ones are refused.
    pub max_groups: usize,
    /// Signals of one group at most, default 1,000; samples of further ones are refused.
    pub max_signals_per_group: usize,
    /// How far before `now` a sample may lie, milliseconds, default 10 minutes; `None` = any, for replays.
    pub max_future: Option<i64>,
    /// The step of groups of an online pipeline; `None` (default) = found from each group's first timestamps.
    pub step: Option<Step>,
}

impl Default for MonitorOptions {
    fn default() -> Self {
        Self { max_groups: 10_000, max_signals_per_group: 1_000, max_future: Some(600_000), step: None }
    }
}

impl MonitorOptions {
    /// For replays of recorded data: as the default, and any instant is taken.
    pub fn replay() -> Self {
        Self { max_future: None, ..Self::default() }
    }
}
