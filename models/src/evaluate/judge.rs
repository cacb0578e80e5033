//! From replayed scores and truth to the rows of a report.

use super::report::SeriesDetection;
use super::{
    Blamed, blame_measures, detection_baselines, event_measures, first_varying_column, rank_measures, vus_window,
};
use crate::ModelError;
use crate::monitor::SignalScore;
use foreglow_core::{MetricKey, Seed, Step};
use ndarray::ArrayView2;
use std::ops::Range;

/// What is known about the judged rows of one series.
#[derive(Debug, Clone, Copy)]
pub struct Truth<'a> {
    /// The series, as reports name it.
    pub series: &'a str,
    /// One a judged row; rows without a label are left out.
    pub labels: &'a [Option<bool>],
    /// The distance of rows.
    pub step: Step,
    /// Rows that baselines may learn from, one column a metric.
    pub train: ArrayView2<'a, f64>,
    /// The judged rows, the same columns.
    pub test: ArrayView2<'a, f64>,
}

/// What one detector said of the judged rows.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// One score a judged row, higher = stranger, NaN = no opinion.
    pub scores: &'a [f64],
    /// Whether 1 is a calibrated alert line for these scores.
    pub line: bool,
    /// The blamed metrics of each event that truth explains.
    pub blame: Option<&'a [Blamed]>,
}

/// The yardsticks of a report, for one series: name and figures.
pub type BaselineRows = Vec<(&'static str, SeriesDetection)>;

/// Judges one detector on one series: ranking measures with the window of [`judge_window`], event measures at the alert
/// line, explanations.
pub fn judge(truth: &Truth<'_>, said: &Said<'_>) -> SeriesDetection {
    let kept: Vec<usize> =
        (0..truth.labels.len().min(said.scores.len())).filter(|&i| truth.labels[i].is_some()).collect();
    let labels: Vec<bool> = kept.iter().map(|&i| truth.labels[i] == Some(true)).collect();
    let scores: Vec<f64> = kept.iter().map(|&i| said.scores[i]).collect();
    let events = (said.line && !kept.is_empty()).then(|| {
        let alerts: Vec<bool> = scores.iter().map(|s| *s >= 1.0).collect();
        event_measures(&alerts, &labels, truth.step.ms() as f64)
    });
    SeriesDetection {
        series: truth.series.to_owned(),
        rank: rank_measures(&scores, &labels, judge_window(truth.test)),
        events,
        blame: said.blame.and_then(blame_measures),
    }
}

/// TSB-AD's window for the judged rows, from the first metric that is not constant there.
pub fn judge_window(test: ArrayView2<'_, f64>) -> usize {
    let column = first_varying_column(test);
    vus_window(&column.map(|c| test.column(c).to_vec()).unwrap_or_default())
}

/// Judges the yardsticks: random, distance from the median, and PCA where there is more than one metric.
///
/// # Errors
/// [`ModelError::Data`] when train has fewer than two rows or other columns than test.
pub fn judge_baselines(truth: &Truth<'_>, seed: Seed) -> Result<BaselineRows, ModelError> {
    let b = detection_baselines(truth.train, truth.test, seed.child(truth.series))?;
    let row = |scores: &[f64]| judge(truth, &Said { scores, line: false, blame: None });
    let mut rows = vec![("random", row(&b.random)), ("median_distance", row(&b.median_distance))];
    rows.extend(b.pca.map(|p| ("pca", row(&p))));
    Ok(rows)
}

/// Adds up, row by row, what a detector blames in each event that truth explains: `Σ score x share` over the event's rows.
#[derive(Debug, Clone, PartialEq)]
pub struct BlameTally {
    events: Vec<(Range<usize>, Blamed)>,
    metrics: Vec<MetricKey>,
}

impl BlameTally {
    /// `metrics` are the signals that `truth` counts; each event is a range of rows with the indices of its metrics.
    /// Events that name none are left out.
    pub fn new(metrics: &[MetricKey], events: impl IntoIterator<Item = (Range<usize>, Vec<usize>)>) -> Self {
        let events = events
            .into_iter()
            .filter(|(_, truth)| truth.iter().any(|t| *t < metrics.len()))
            .map(|(rows, truth)| (rows, Blamed { shares: vec![0.0; metrics.len()], truth }))
            .collect();
        Self { events, metrics: metrics.to_vec() }
    }

    /// Whether a row's signals are needed.
    pub fn wants(&self, row: usize) -> bool {
        self.events.iter().any(|(rows, _)| rows.contains(&row))
    }

    /// Takes a row. Signals are told by their key, so that they may come in any order.
    pub fn add(&mut self, row: usize, score: f64, signals: &[SignalScore]) {
        if score.is_nan() || score <= 0.0 {
            return;
        }
        for (rows, blamed) in &mut self.events {
            if !rows.contains(&row) {
                continue;
            }
            for (i, s) in signals.iter().enumerate() {
                // Nearly always the same order; else look it up.
                let at = if self.metrics.get(i) == Some(&s.key) {
                    Some(i)
                } else {
                    self.metrics.iter().position(|m| *m == s.key)
                };
                if let Some(at) = at
                    && s.share > 0.0
                {
                    blamed.shares[at] += score * s.share;
                }
            }
        }
    }

    /// The events, for [`Said::blame`].
    pub fn events(&self) -> Vec<Blamed> {
        self.events.iter().map(|(_, b)| b.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreglow_core::Labels;
    use ndarray::Array2;

    #[test]
    fn judges_labelled_rows_only() {
        let test = Array2::from_shape_fn((8, 2), |(i, j)| if j == 0 { 1.0 } else { i as f64 });
        let labels = [Some(false), Some(true), Some(true), None, Some(false), Some(false), Some(true), Some(false)];
        let truth =
            Truth { series: "s", labels: &labels, step: "1m".parse().unwrap(), train: test.view(), test: test.view() };
        let scores = [0.1, 0.5, 1.2, 9.0, 0.2, 1.1, 0.3, f64::NAN];
        let got = judge(&truth, &Said { scores: &scores, line: true, blame: None });
        let (rank, events) = (got.rank.unwrap(), got.events.unwrap());
        assert_eq!((rank.rows, rank.missing), (7, 1));
        assert_eq!((events.events, events.found, events.false_alerts), (2, 1, 1));
        let rows = judge_baselines(&truth, Seed(1)).unwrap();
        assert_eq!(rows.iter().map(|r| r.0).collect::<Vec<_>>(), ["random", "median_distance", "pca"]);
        assert!(rows.iter().all(|r| r.1.events.is_none() && r.1.rank.is_some()));
    }

    #[test]
    fn blame_adds_up_over_an_event() {
        let keys: Vec<MetricKey> = ["a", "b", "c"].map(|n| MetricKey::new(n, Labels::default())).to_vec();
        let mut tally = BlameTally::new(&keys, [(2..4, vec![1]), (6..7, vec![9])]);
        assert!(tally.wants(3) && !tally.wants(6));
        let signal = |i: usize, share| SignalScore {
            key: keys[i].clone(),
            actual: 0.0,
            expected: 0.0,
            lower: 0.0,
            upper: 0.0,
            score: 1.0,
            share,
        };
        tally.add(1, 5.0, &[signal(0, 1.0)]);
        tally.add(2, 2.0, &[signal(1, 0.75), signal(0, 0.25)]);
        tally.add(3, f64::NAN, &[signal(0, 1.0)]);
        let events = tally.events();
        assert_eq!(events[0].shares, [0.5, 1.5, 0.0]);
        assert_eq!(blame_measures(&events).unwrap().hit_100, 1.0);
    }
}
