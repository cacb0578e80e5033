use super::anomaly_series::SeriesRun;
use foreglow_datasets::Column;

/// A number, or nothing for NaN.
fn present(v: f64) -> Option<f64> {
    (!v.is_nan()).then_some(v)
}

/// `scores.parquet` as it grows: one row an input row, in the order of the input.
pub(super) struct ScoreTable {
    series: Vec<String>,
    timestamp: Vec<i64>,
    row: Vec<i64>,
    split: Vec<String>,
    label: Vec<Option<i8>>,
    score: Vec<Option<f64>>,
    p_value: Vec<Option<f64>>,
    is_anomaly: Vec<bool>,
    status: Vec<String>,
    members: Vec<(String, Vec<Option<f64>>)>,
}

impl ScoreTable {
    pub(super) fn new(members: &[String]) -> Self {
        Self {
            series: Vec::new(),
            timestamp: Vec::new(),
            row: Vec::new(),
            split: Vec::new(),
            label: Vec::new(),
            score: Vec::new(),
            p_value: Vec::new(),
            is_anomaly: Vec::new(),
            status: Vec::new(),
            members: members.iter().map(|m| (m.clone(), Vec::new())).collect(),
        }
    }

    pub(super) fn push(&mut self, run: &SeriesRun) {
        let t = &run.table;
        let rows = t.in_file_order();
        for (place, &i) in rows.iter().enumerate() {
            self.series.push(t.id.clone());
            self.timestamp.push(t.timestamps[i].ms());
            self.row.push(place as i64);
            self.split.push(t.split[i].name().to_owned());
            self.label.push(t.label[i].map(i8::from));
            self.score.push(present(run.score[i]));
            self.p_value.push(present(run.p_value[i]));
            self.is_anomaly.push(run.is_anomaly[i]);
            self.status.push(run.status[i].to_owned());
        }
        for ((_, column), member) in self.members.iter_mut().zip(&run.members) {
            column.extend(rows.iter().map(|&i| present(member[i])));
        }
    }

    pub(super) fn columns(self) -> Vec<(String, Column)> {
        let mut out = vec![
            ("series".to_owned(), Column::Str(self.series)),
            ("timestamp".to_owned(), Column::TimestampMs(self.timestamp)),
            ("row".to_owned(), Column::I64(self.row)),
            ("split".to_owned(), Column::Str(self.split)),
            ("label".to_owned(), Column::OptI8(self.label)),
            ("score".to_owned(), Column::OptF64(self.score)),
            ("p_value".to_owned(), Column::OptF64(self.p_value)),
            ("is_anomaly".to_owned(), Column::Bool(self.is_anomaly)),
            ("status".to_owned(), Column::Str(self.status)),
        ];
        out.extend(self.members.into_iter().map(|(name, column)| (name, Column::OptF64(column))));
        out
    }
}

/// `expected.parquet` as it grows: one row a signal of an input row.
#[derive(Default)]
pub(super) struct ExpectedTable {
    series: Vec<String>,
    timestamp: Vec<i64>,
    metric: Vec<String>,
    numbers: [Vec<Option<f64>>; 6],
}

impl ExpectedTable {
    pub(super) fn push(&mut self, run: &SeriesRun) {
        for e in &run.expected {
            self.series.push(run.table.id.clone());
            self.timestamp.push(run.table.timestamps[e.row].ms());
            self.metric.push(run.table.metrics[e.metric].clone());
            for (column, v) in self.numbers.iter_mut().zip(e.numbers) {
                column.push(present(v));
            }
        }
    }

    pub(super) fn columns(self) -> Vec<(String, Column)> {
        let mut out = vec![
            ("series".to_owned(), Column::Str(self.series)),
            ("timestamp".to_owned(), Column::TimestampMs(self.timestamp)),
            ("metric".to_owned(), Column::Str(self.metric)),
        ];
        let names = ["actual", "expected", "lower", "upper", "score", "share"];
        out.extend(names.into_iter().zip(self.numbers).map(|(n, c)| (n.to_owned(), Column::OptF64(c))));
        out
    }
}
