use crate::TrainError;
use foreglow_core::signals::Signals;
use foreglow_core::{MetricKey, Seed, Timestamp};
use foreglow_datasets::{Event, SeriesTable, Split};
use foreglow_models::evaluate::report::{Alert, ScorePlot, SeriesDetection};
use foreglow_models::evaluate::{
    BlameTally, ReplaySeries, ReplayedRow, Said, Truth, first_varying_column, judge, judge_baselines, replay, segments,
};
use foreglow_models::monitor::Monitor;
use ndarray::Array2;
use std::collections::HashMap;
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
    /// Runs of rows above the alert line.
    pub(super) alerts: Vec<Alert>,
    /// How many rows may raise one.
    pub(super) watched: usize,
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
            alerts: Vec::new(),
            watched: 0,
            notes: Vec::new(),
        }
    }
}

/// What is needed to replay and judge one file series.
pub(super) struct Stage<'a> {
    pub(super) monitor: Monitor,
    /// Rows that are replayed.
    pub(super) rows: Range<usize>,
    /// Those of them that count: under the causal protocol test rows.
    pub(super) watched: Vec<usize>,
    /// Those of these that are labelled.
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
        self.raise(&mut run);
        if run.plot.is_none() && self.judged.is_empty() && !self.watched.is_empty() {
            // What stood out most is what one wants to see.
            let highest = run.alerts.iter().max_by(|a, b| a.peak_score.total_cmp(&b.peak_score));
            let metric = highest.and_then(|a| Some(a.metric.as_ref()?.0.clone()));
            run.plot = Some(self.plot(&run, metric.and_then(|m| run.table.metrics.iter().position(|x| *x == m))));
        }
        Ok(run)
    }

    /// Lists the alerts.
    fn raise(&self, run: &mut SeriesRun) {
        run.watched = self.watched.iter().filter(|&&i| !run.score[i].is_nan()).count();
        let flags: Vec<bool> = self.watched.iter().map(|&i| run.is_anomaly[i]).collect();
        let mut blamed: HashMap<usize, &ExpectedRow> = HashMap::new();
        for e in &run.expected {
            let best = blamed.entry(e.row).or_insert(e);
            if e.numbers[5] > best.numbers[5] {
                *best = e;
            }
        }
        let t = &run.table;
        let one = |(a, b): (usize, usize)| {
            let rows = &self.watched[a..=b];
            let peak = rows.iter().copied().max_by(|x, y| run.score[*x].total_cmp(&run.score[*y])).unwrap_or(rows[0]);
            let known = rows.iter().filter_map(|&i| t.label[i]).collect::<Vec<bool>>();
            let number = |v: f64| v.is_finite().then_some(v);
            let shown = |e: &&ExpectedRow| (t.metrics[e.metric].clone(), number(e.numbers[0]), number(e.numbers[1]));
            let metric = blamed.get(&peak).map(shown);
            Alert {
                series: t.id.clone(),
                start: t.timestamps[rows[0]],
                end: t.timestamps[rows[rows.len() - 1]],
                peak_score: run.score[peak],
                labelled: (!known.is_empty()).then(|| known.contains(&true)),
                metric,
            }
        };
        let alerts = segments(&flags).into_iter().map(one).collect();
        run.alerts = alerts;
    }

    /// The rows that count, drawn with one metric: the first that varies where none is named.
    fn plot(&self, run: &SeriesRun, metric: Option<usize>) -> ScorePlot {
        let (t, rows) = (&run.table, &self.watched);
        let column = |c: usize| rows.iter().map(|&i| t.columns[c][i]).collect::<Vec<f64>>();
        let varies = || {
            let all = Array2::from_shape_fn((rows.len(), t.columns.len()), |(r, c)| t.columns[c][rows[r]]);
            first_varying_column(all.view())
        };
        ScorePlot {
            title: t.id.clone(),
            times: rows.iter().map(|&i| t.timestamps[i]).collect(),
            scores: rows.iter().map(|&i| run.score[i]).collect(),
            labels: rows.iter().map(|&i| t.label[i] == Some(true)).collect(),
            alerts: rows.iter().map(|&i| run.is_anomaly[i]).collect(),
            metric: metric.or_else(varies).map(|c| (t.metrics[c].clone(), column(c))),
        }
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
            run.plot = Some(self.plot(run, None));
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
