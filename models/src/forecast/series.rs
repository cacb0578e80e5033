use foreglow_core::{Step, Timestamp};

/// One series to fit on.
#[derive(Debug, Clone, Copy)]
pub struct TrainSeries<'a> {
    /// Values on the grid, oldest first, NaN = missing.
    pub values: &'a [f64],
    /// The instant of the first value.
    pub start: Timestamp,
    /// The distance of values.
    pub step: Step,
}
