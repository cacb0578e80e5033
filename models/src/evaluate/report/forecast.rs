use super::{Comparison, Cost, Provenance, Role};
use crate::evaluate::{ForecastMeasures, ForecastTally, WindowMeasures, paired_difference};
use foreglow_core::Seed;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One window of one metric, judged for one model.
#[derive(Debug, Clone, PartialEq)]
pub struct ForecastEntry {
    /// The series.
    pub series: String,
    /// The metric.
    pub metric: String,
    /// Number of the window, counted from the earliest.
    pub window: usize,
    /// Its figures.
    pub measures: WindowMeasures,
}

/// One metric of one series over its windows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeriesMeasures {
    /// The series.
    pub series: String,
    /// The metric.
    pub metric: String,
    /// Figures over its windows.
    pub measures: ForecastMeasures,
}

/// One model over all windows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelReport {
    /// Its name.
    pub name: String,
    /// Subject, member or baseline.
    pub role: Role,
    /// Figures over all windows of all metrics.
    pub measures: ForecastMeasures,
    /// A series and metric each, in order of name.
    pub series: Vec<SeriesMeasures>,
    #[serde(skip)]
    mase: BTreeMap<(String, String, usize), f64>,
    #[serde(skip)]
    sql: BTreeMap<(String, String, usize), f64>,
}

impl ModelReport {
    /// Adds up the windows of one model, ordered by series, metric and window, whatever order they come in.
    pub fn new(name: impl Into<String>, role: Role, mut entries: Vec<ForecastEntry>) -> Self {
        entries.sort_by(|a, b| (&a.series, &a.metric, a.window).cmp(&(&b.series, &b.metric, b.window)));
        let mut all = ForecastTally::default();
        let mut parts: BTreeMap<(String, String), ForecastTally> = BTreeMap::new();
        let (mut mase, mut sql) = (BTreeMap::new(), BTreeMap::new());
        for e in entries {
            let key = (e.series.clone(), e.metric.clone(), e.window);
            mase.insert(key.clone(), e.measures.mase.unwrap_or(f64::NAN));
            sql.insert(key, e.measures.sql.unwrap_or(f64::NAN));
            all.push(e.measures.clone());
            parts.entry((e.series, e.metric)).or_default().push(e.measures);
        }
        let series = parts
            .into_iter()
            .map(|((series, metric), tally)| SeriesMeasures { series, metric, measures: tally.measures() })
            .collect();
        Self { name: name.into(), role, measures: all.measures(), series, mase, sql }
    }
}

/// `report.json` of `backtest --task forecast`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ForecastReport {
    /// Layout of this file; 1.
    pub schema: u32,
    /// Always `forecast`.
    pub task: String,
    /// Data, recipe, protocol, seeds, horizon and season.
    pub provenance: Provenance,
    /// The subject first, then its members, then the baselines.
    pub models: Vec<ModelReport>,
    /// The subject against every other row, paired by window.
    pub comparisons: Vec<Comparison>,
    /// Seconds and memory.
    pub cost: Cost,
}

impl ForecastReport {
    /// Puts the figures together: orders rows by role (given order within a role) and compares the first subject with
    /// every other row in MASE and SQL over the windows both have. Windows of one series are not independent: the
    /// intervals are too narrow where windows overlap.
    pub fn new(provenance: Provenance, mut models: Vec<ModelReport>, cost: Cost, seed: Seed) -> Self {
        models.sort_by_key(|m| m.role as u8);
        let mut comparisons = Vec::new();
        if let Some((subject, others)) = models.split_first() {
            for other in others {
                for (measure, ours, theirs) in [("mase", &subject.mase, &other.mase), ("sql", &subject.sql, &other.sql)]
                {
                    let (a, b): (Vec<f64>, Vec<f64>) =
                        ours.iter().map(|(key, v)| (*v, theirs.get(key).copied().unwrap_or(f64::NAN))).unzip();
                    let seed = seed.child(&other.name).child(measure);
                    if let Some(difference) = paired_difference(&a, &b, false, seed) {
                        comparisons.push(Comparison {
                            against: other.name.clone(),
                            measure: measure.into(),
                            difference,
                        });
                    }
                }
            }
        }
        Self { schema: 1, task: "forecast".into(), provenance, models, comparisons, cost }
    }
}
