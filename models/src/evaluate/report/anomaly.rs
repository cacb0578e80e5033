use super::{Alerts, Comparison, Cost, Provenance, Role};
use crate::evaluate::{BlameMeasures, EventMeasures, RankMeasures, mean_present, paired_difference};
use foreglow_core::Seed;
use foreglow_core::stats::median;
use serde::{Deserialize, Serialize};

/// Picks one figure.
type Measure = fn(&RankMeasures) -> f64;

/// One series judged for one detector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeriesDetection {
    /// The series.
    pub series: String,
    /// Ranking measures; absent where no row, or every row, is labelled.
    pub rank: Option<RankMeasures>,
    /// Measures at the alert line; absent for rows without a calibrated line.
    pub events: Option<EventMeasures>,
    /// Explanations; absent where truth names no metrics.
    pub blame: Option<BlameMeasures>,
}

/// Means over series, each over the series where it is defined.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct DetectorMeans {
    /// Mean VUS-PR.
    pub vus_pr: Option<f64>,
    /// Mean VUS-ROC.
    pub vus_roc: Option<f64>,
    /// Mean AUC-PR.
    pub auc_pr: Option<f64>,
    /// Mean AUC-ROC.
    pub auc_roc: Option<f64>,
    /// Mean event precision.
    pub precision: Option<f64>,
    /// Mean event recall.
    pub recall: Option<f64>,
    /// Mean event F1.
    pub f1: Option<f64>,
    /// Median over series of the median delay, milliseconds.
    pub median_delay_ms: Option<f64>,
    /// Mean of false alerts a day a series.
    pub false_alerts_per_day: Option<f64>,
    /// Mean HitRate@100 %.
    pub hit_100: Option<f64>,
    /// Mean HitRate@150 %.
    pub hit_150: Option<f64>,
    /// Mean NDCG.
    pub ndcg: Option<f64>,
}

/// One detector over all series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DetectorReport {
    /// Its name.
    pub name: String,
    /// Subject, member or baseline.
    pub role: Role,
    /// Means over series.
    pub means: DetectorMeans,
    /// A series each, in the order of the data.
    pub series: Vec<SeriesDetection>,
}

impl DetectorReport {
    /// Adds up `series`.
    pub fn new(name: impl Into<String>, role: Role, series: Vec<SeriesDetection>) -> Self {
        let rank = |f: fn(&RankMeasures) -> f64| mean_present(series.iter().map(|s| s.rank.as_ref().map(f)));
        let event =
            |f: fn(&EventMeasures) -> Option<f64>| mean_present(series.iter().map(|s| s.events.as_ref().and_then(f)));
        let blame = |f: fn(&BlameMeasures) -> f64| mean_present(series.iter().map(|s| s.blame.as_ref().map(f)));
        let delays: Vec<f64> =
            series.iter().filter_map(|s| s.events.as_ref().and_then(|e| e.median_delay_ms)).collect();
        let means = DetectorMeans {
            vus_pr: rank(|r| r.vus_pr),
            vus_roc: rank(|r| r.vus_roc),
            auc_pr: rank(|r| r.auc_pr),
            auc_roc: rank(|r| r.auc_roc),
            precision: event(|e| e.precision),
            recall: event(|e| e.recall),
            f1: event(|e| e.f1),
            median_delay_ms: (!delays.is_empty()).then(|| median(&delays)),
            false_alerts_per_day: event(|e| Some(e.false_alerts_per_day)),
            hit_100: blame(|b| b.hit_100),
            hit_150: blame(|b| b.hit_150),
            ndcg: blame(|b| b.ndcg),
        };
        Self { name: name.into(), role, means, series }
    }

    fn measure(&self, series: &[String], f: Measure) -> Vec<f64> {
        series
            .iter()
            .map(|name| {
                let found = self.series.iter().find(|s| s.series == *name);
                found.and_then(|s| s.rank.as_ref()).map_or(f64::NAN, f)
            })
            .collect()
    }
}

/// `report.json` of `backtest --task anomaly`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnomalyReport {
    /// Layout of this file; 1.
    pub schema: u32,
    /// Always `anomaly`.
    pub task: String,
    /// Data, recipe, protocol, seeds.
    pub provenance: Provenance,
    /// False alerts a day a group that the alert line was set for.
    pub budget_per_day: f64,
    /// The subject first, then its members, then the baselines.
    pub detectors: Vec<DetectorReport>,
    /// The subject against every other row.
    pub comparisons: Vec<Comparison>,
    /// What the subject raised.
    #[serde(default)]
    pub alerts: Alerts,
    /// Seconds and memory.
    pub cost: Cost,
}

impl AnomalyReport {
    /// Puts the figures together: orders rows by role (given order within a role) and compares the first subject with
    /// every other row in VUS-PR and AUC-PR over the series both have, by name.
    pub fn new(
        provenance: Provenance,
        budget_per_day: f64,
        mut detectors: Vec<DetectorReport>,
        alerts: Alerts,
        cost: Cost,
        seed: Seed,
    ) -> Self {
        detectors.sort_by_key(|d| d.role as u8);
        let mut comparisons = Vec::new();
        if let Some((subject, others)) = detectors.split_first() {
            let names: Vec<String> = subject.series.iter().map(|s| s.series.clone()).collect();
            for other in others {
                let measures: [(&str, Measure); 2] = [("vus_pr", |r| r.vus_pr), ("auc_pr", |r| r.auc_pr)];
                for (measure, f) in measures {
                    let (a, b) = (subject.measure(&names, f), other.measure(&names, f));
                    let seed = seed.child(&other.name).child(measure);
                    if let Some(difference) = paired_difference(&a, &b, true, seed) {
                        comparisons.push(Comparison {
                            against: other.name.clone(),
                            measure: measure.into(),
                            difference,
                        });
                    }
                }
            }
        }
        Self { schema: 1, task: "anomaly".into(), provenance, budget_per_day, detectors, comparisons, alerts, cost }
    }
}
