use crate::{Context, TrainError};
use foreglow_core::{Step, Timestamp};
use foreglow_datasets::{Dataset, GridOptions, Split, to_grid};
use std::ops::Range;

/// One metric of one series on its grid: what a forecaster is judged on.
pub(super) struct Lane {
    pub(super) series: String,
    pub(super) metric: String,
    pub(super) start: Timestamp,
    pub(super) step: Step,
    pub(super) values: Vec<f64>,
    /// The steps from the first train row to the one behind the last; empty without any. The same for test.
    pub(super) train: Range<usize>,
    pub(super) test: Range<usize>,
}

impl Lane {
    pub(super) fn time(&self, row: usize) -> Timestamp {
        self.start.plus(row as i64 * self.step.ms())
    }

    /// A name for messages.
    pub(super) fn name(&self) -> String {
        format!("{}, {}", self.series, self.metric)
    }
}

/// All metrics of all selected series, and a note for each that has nothing to judge: a series without a grid or a metric
/// without a value costs the others nothing.
pub(super) fn lanes(data: &Dataset, context: &Context) -> Result<(Vec<Lane>, Vec<String>), TrainError> {
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let progress = context.progress("reading", data.series.len());
    for series in &data.series {
        if context.stopped() {
            return Err(TrainError::Interrupted("nothing was finished yet".into()));
        }
        let table = data.load_series(&series.id, None)?;
        progress.advance();
        let grid = match to_grid(&table, &GridOptions::default()) {
            Ok(grid) => grid,
            Err(e) => {
                notes.push(format!("left out {}: {e}", series.id));
                continue;
            }
        };
        let range = |want: Split| match (
            grid.split.iter().position(|s| *s == want),
            grid.split.iter().rposition(|s| *s == want),
        ) {
            (Some(first), Some(last)) => first..last + 1,
            _ => 0..0,
        };
        let (train, test) = (range(Split::Train), range(Split::Test));
        for (m, metric) in table.metrics.iter().enumerate() {
            let values = grid.frame.column(m).to_vec();
            if values.iter().all(|v| v.is_nan()) {
                notes.push(format!("left out {}, {metric}: no value at all", series.id));
                continue;
            }
            out.push(Lane {
                series: series.id.clone(),
                metric: metric.clone(),
                start: grid.frame.start,
                step: grid.frame.step,
                values,
                train: train.clone(),
                test: test.clone(),
            });
        }
    }
    if out.is_empty() {
        let why = notes.first().map_or("it has no series", String::as_str);
        return Err(TrainError::Data(format!("{}: nothing to forecast: {why}", data.name)));
    }
    for note in &notes {
        tracing::warn!("{note}");
    }
    Ok((out, notes))
}
