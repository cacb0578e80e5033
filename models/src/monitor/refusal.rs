//! The codes of refused samples. They are part of the HTTP interface: they stay.

/// Behind the group's newest step, whose value for this signal was not there when it closed.
pub const LATE: &str = "late";
/// The step is closed with another value of this signal.
pub const CONFLICT: &str = "conflict";
/// Further in the future than allowed.
pub const FUTURE: &str = "future";
/// No instant that a calendar knows.
pub const OUT_OF_RANGE: &str = "out_of_range";
/// Infinite. Missing values are NaN (JSON null).
pub const NOT_FINITE: &str = "not_finite";
/// The model that serves the group does not know the signal.
pub const UNKNOWN_SIGNAL: &str = "unknown_signal";
/// More groups than allowed.
pub const TOO_MANY_GROUPS: &str = "too_many_groups";
/// More signals in the group than allowed.
pub const TOO_MANY_SIGNALS: &str = "too_many_signals";
/// More labels on a series than any system needs.
pub const TOO_MANY_LABELS: &str = "too_many_labels";
