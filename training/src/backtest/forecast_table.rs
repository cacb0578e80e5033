use super::lanes::Lane;
use foreglow_core::QUANTILE_LEVELS;
use foreglow_datasets::Column;
use ndarray::Array2;
use std::ops::Range;

/// `forecasts.parquet` as it grows: one row a model, window and step ahead.
#[derive(Default)]
pub(super) struct ForecastTable {
    series: Vec<String>,
    metric: Vec<String>,
    cutoff: Vec<i64>,
    timestamp: Vec<i64>,
    step: Vec<i64>,
    y: Vec<Option<f64>>,
    model: Vec<String>,
    refit: Vec<String>,
    /// One column a level.
    quantiles: Vec<Vec<f64>>,
}

impl ForecastTable {
    pub(super) fn push(&mut self, lane: &Lane, rows: &Range<usize>, forecast: &Array2<f64>, model: &str, refit: &str) {
        self.quantiles.resize(QUANTILE_LEVELS.len(), Vec::new());
        let cutoff = lane.time(rows.start - 1).ms();
        for (k, row) in rows.clone().enumerate() {
            self.series.push(lane.series.clone());
            self.metric.push(lane.metric.clone());
            self.cutoff.push(cutoff);
            self.timestamp.push(lane.time(row).ms());
            self.step.push(k as i64 + 1);
            self.y.push(Some(lane.values[row]).filter(|v| !v.is_nan()));
            self.model.push(model.to_owned());
            self.refit.push(refit.to_owned());
            for (column, q) in self.quantiles.iter_mut().zip(forecast.row(k)) {
                column.push(*q);
            }
        }
    }

    /// The columns of the file. `median` repeats the 0.5 level under the name that readers look for.
    pub(super) fn columns(self) -> Vec<(String, Column)> {
        let middle = QUANTILE_LEVELS.iter().position(|l| *l == 0.5).and_then(|k| self.quantiles.get(k)).cloned();
        let mut out = vec![
            ("series".to_owned(), Column::Str(self.series)),
            ("metric".to_owned(), Column::Str(self.metric)),
            ("cutoff".to_owned(), Column::TimestampMs(self.cutoff)),
            ("timestamp".to_owned(), Column::TimestampMs(self.timestamp)),
            ("step".to_owned(), Column::I64(self.step)),
            ("y".to_owned(), Column::OptF64(self.y)),
            ("model".to_owned(), Column::Str(self.model)),
            ("refit".to_owned(), Column::Str(self.refit)),
            ("median".to_owned(), Column::F64(middle.unwrap_or_default())),
        ];
        let levels = QUANTILE_LEVELS.iter().zip(self.quantiles);
        out.extend(levels.map(|(level, values)| (format!("q{level}"), Column::F64(values))));
        out
    }
}
