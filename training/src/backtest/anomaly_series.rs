use crate::TrainError;
use foreglow_core::signals::Signals;
use foreglow_core::{MetricKey, Seed, Timestamp};
use foreglow_datasets::{Event, SeriesTable, Split};
use foreglow_models::evaluate::report::{ScorePlot, SeriesDetection};
use foreglow_models::evaluate::{
    BlameTally, ReplaySeries, ReplayedRow, Said, Truth, first_varying_column, judge, judge_baselines, replay,
};
use foreglow_models::monitor::Monitor;
use ndarray::Array2;
use std::ops::Range;

/// One signal's expectation at one row.
pub(super) struct ExpectedRow {
    pub(super) row: usize,
    pub(super) metric: usize,
    /// Actual, expected, lower, upper, score, share.
    pub(super) numbers: [f64; 6],
}

/// One file series, replayed and judged.
pub(super) struct SeriesRun {
    pub(super) table: SeriesTable,
    /// How many rows were replayed.
    pub(super) replayed: usize,
    pub(super) score: Vec<f64>,
    pub(super) p_value: Vec<f64>,
    pub(super) is_anomaly: Vec<bool>,
    pub(super) status: Vec<&'static str>,
    /// A member each, one score a row.
    pub(super) members: Vec<Vec<f64>>,
    pub(super) expected: Vec<ExpectedRow>,
    /// The subject's figures; none where nothing was judged.
    pub(super) subject: Option<SeriesDetection>,
    /// The members' figures, in order.
    pub(super) alone: Vec<SeriesDetection>,
    /// The yardsticks' figures by name.
    pub(super) baselines: Vec<(&'static str, SeriesDetection)>,
    pub(super) plot: Option<ScorePlot>,
    pub(super) notes: Vec<String>,
}

impl SeriesRun {
    /// A series of which no row was scored.
    pub(super) fn blank(table: SeriesTable, members: usize, status: &'static str) -> Self {
        let n = table.len();
        Self {
            table,
            replayed: 0,
            score: vec![f64::NAN; n],
            p_value: vec![f64::NAN; n],
            is_anomaly: vec![false; n],
            status: vec![status; n],
            members: vec![vec![f64::NAN; n]; members],
            expected: Vec::new(),
            subject: None,
            alone: Vec::new(),
            baselines: Vec::new(),
            plot: None,
            notes: Vec::new(),
        }
    }
}

/// What is needed to replay and judge one file series.
pub(super) struct Stage<'a> {
    pub(super) monitor: Monitor,
    /// Rows that are replayed.
    pub(super) rows: Range<usize>,
    /// Those of them that are judged.
    pub(super) judged: Vec<usize>,
    pub(super) rules: &'a Signals,
    pub(super) events: Vec<&'a Event>,
    pub(super) members: usize,
    pub(super) expected_all: bool,
    pub(super) seed: Seed,
}

impl Stage<'_> {
    /// Replays the rows and judges them.
    pub(super) fn run(mut self, table: SeriesTable) -> Result<SeriesRun, TrainError> {
        let mut run = SeriesRun::blank(table, self.members, "not_replayed");
        let keys = run.table.keys();
        let signals: Vec<MetricKey> = keys.iter().map(|k| self.rules.place(k).0.signal).collect();
        let truth =
            |e: &Event| e.metrics.iter().filter_map(|m| run.table.metrics.iter().position(|x| x == m)).collect();
        let mut blame = BlameTally::new(&signals, self.events.iter().map(|e| (rows_of(e, &run.table), truth(e))));
        let all_signals = self.expected_all || self.rows.clone().any(|row| blame.wants(row));
        let columns = std::mem::take(&mut run.table.columns);
        let timestamps = std::mem::take(&mut run.table.timestamps);
        let series = ReplaySeries { keys: &keys, timestamps: &timestamps, columns: &columns };
        let mut take = |row: usize, out: &ReplayedRow| {
            run.score[row] = out.score;
            run.p_value[row] = out.p_value;
            run.is_anomaly[row] = out.is_anomaly;
            run.status[row] = out.status.as_str();
            for (column, v) in run.members.iter_mut().zip(&out.members) {
                column[row] = *v;
            }
            blame.add(row, out.score, &out.signals);
            if self.expected_all || out.score >= 1.0 {
                run.expected.extend(out.signals.iter().filter_map(|s| {
                    let metric = signals.iter().position(|k| *k == s.key)?;
                    let numbers = [s.actual, s.expected, s.lower, s.upper, s.score, s.share];
                    Some(ExpectedRow { row, metric, numbers })
                }));
            }
        };
        let summary = replay(&mut self.monitor, &series, self.rows.clone(), all_signals, &mut take)?;
        run.replayed = summary.rows;
        run.table.columns = columns;
        run.table.timestamps = timestamps;
        self.judge(&mut run, &blame);
        Ok(run)
    }

    fn judge(&self, run: &mut SeriesRun, blame: &BlameTally) {
        let t = &run.table;
        let (Some(step), false) = (t.step(), self.judged.is_empty()) else {
            run.notes.push(format!("{}: no labelled row to judge", t.id));
            return;
        };
        let labels: Vec<Option<bool>> = self.judged.iter().map(|&i| t.label[i]).collect();
        let pick = |column: &[f64]| self.judged.iter().map(|&i| column[i]).collect::<Vec<f64>>();
        let matrix =
            |rows: &[usize]| Array2::from_shape_fn((rows.len(), t.columns.len()), |(r, c)| t.columns[c][rows[r]]);
        let learned: Vec<usize> = (0..t.len()).filter(|&i| t.split[i] == Split::Train).collect();
        let (train, test) = (matrix(&learned), matrix(&self.judged));
        let truth = Truth { series: &t.id, labels: &labels, step, train: train.view(), test: test.view() };
        let scores = pick(&run.score);
        run.subject = Some(judge(&truth, &Said { scores: &scores, line: true, blame: Some(&blame.events()) }));
        run.alone =
            run.members.iter().map(|m| judge(&truth, &Said { scores: &pick(m), line: true, blame: None })).collect();
        match judge_baselines(&truth, self.seed) {
            Ok(rows) => run.baselines = rows,
            Err(e) => run.notes.push(format!("{}: no yardsticks: {e}", t.id)),
        }
        if labels.contains(&Some(true)) {
            run.plot = Some(ScorePlot {
                title: t.id.clone(),
                times: self.judged.iter().map(|&i| t.timestamps[i]).collect(),
                scores,
                labels: labels.iter().map(|l| *l == Some(true)).collect(),
                alerts: self.judged.iter().map(|&i| run.is_anomaly[i]).collect(),
                metric: first_varying_column(test.view()).map(|c| (t.metrics[c].clone(), test.column(c).to_vec())),
            });
        }
    }
}

/// The rows whose instants lie inside an event; of rows out of order, from the first to the last of them.
fn rows_of(event: &Event, table: &SeriesTable) -> Range<usize> {
    let (Some(start), Some(end)) = (event.start, event.end.or(event.start)) else { return 0..0 };
    let inside = |t: &Timestamp| start <= *t && *t <= end;
    let first = table.timestamps.iter().position(inside);
    let last = table.timestamps.iter().rposition(inside);
    first.zip(last).map_or(0..0, |(a, b)| a..b + 1)
}
