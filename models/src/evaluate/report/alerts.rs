use super::table::{Better, Cell, Table, duration};
use super::{AnomalyReport, plot};
use foreglow_core::{Step, Timestamp};
use serde::{Deserialize, Serialize};

/// Alerts that a report lists at most: those of the highest scores.
const MOST: usize = 200;

/// A run of rows above the alert line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The series.
    pub series: String,
    /// Its first row.
    pub start: Timestamp,
    /// Its last row.
    pub end: Timestamp,
    /// The highest score; the alert line is at 1.
    pub peak_score: f64,
    /// Whether it touches a labelled anomaly; absent where none of its rows is labelled either way.
    pub labelled: Option<bool>,
    /// The metric of the largest share at the peak, with what was seen and what was expected.
    pub metric: Option<(String, Option<f64>, Option<f64>)>,
}

/// The alerts of a report and how many there were.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Alerts {
    /// All of them.
    pub count: usize,
    /// Rows that were scored, in days of their series' steps.
    pub days: f64,
    /// The highest first, 200 at most.
    pub highest: Vec<Alert>,
}

impl Alerts {
    /// Adds those of one series, of which `rows` rows were scored.
    pub fn extend(&mut self, alerts: Vec<Alert>, rows: usize, step: Option<Step>) {
        self.count += alerts.len();
        self.days += rows as f64 * step.map_or(0.0, |s| s.ms() as f64) / foreglow_core::DAY_MS as f64;
        self.highest.extend(alerts);
        self.highest.sort_by(|a, b| b.peak_score.total_cmp(&a.peak_score).then_with(|| a.series.cmp(&b.series)));
        self.highest.truncate(MOST);
    }

    /// How many there were, in words.
    pub fn summary(&self) -> String {
        let each =
            if self.days > 0.0 { format!(", {:.2} a day", self.count as f64 / self.days) } else { String::new() };
        let alerts = if self.count == 1 { "alert" } else { "alerts" };
        format!("{} {alerts} in {:.1} days of scored rows{each}", self.count, self.days)
    }
}

impl AnomalyReport {
    /// Whether nothing could be judged, so that the alerts are all there is to see.
    pub fn is_unlabelled(&self) -> bool {
        self.detectors.is_empty()
    }
}

impl Alert {
    /// When and how long, the score, and what stood out, for tables.
    pub fn cells(&self) -> [String; 5] {
        let metric = self.metric.as_ref();
        let number = |v: Option<f64>| v.map_or_else(|| "missing".to_owned(), plot::number);
        [
            plot::clock(self.start),
            if self.end > self.start {
                duration((self.end.ms() - self.start.ms()) as f64)
            } else {
                "one row".to_owned()
            },
            format!("{:.2}", self.peak_score),
            metric.map_or_else(|| "–".to_owned(), |m| m.0.clone()),
            metric.map_or_else(|| "–".to_owned(), |m| format!("{}, expected {}", number(m.1), number(m.2))),
        ]
    }
}

/// The alerts as a table.
pub(super) fn table(alerts: &Alerts) -> Table {
    let head = ["start", "length", "peak", "metric", "seen", "labelled"].map(|h| (h, Better::Neither));
    let mut out = Table::new("series", &head);
    for a in &alerts.highest {
        let labelled = match a.labelled {
            Some(true) => "yes",
            Some(false) => "no",
            None => "–",
        };
        let cells = a.cells().into_iter().chain([labelled.to_owned()]);
        out.row(&a.series, "", cells.map(Cell::text).collect());
    }
    out
}
