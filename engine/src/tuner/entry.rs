use crate::EngineError;
use crate::hash::sha256_hex;
use foreglow_core::{Labels, Timestamp};
use foreglow_search::{Advice, Measurement, Study, Trigger};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use utoipa::ToSchema;

/// Whether a study goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StudyState {
    /// It suggests, learns and recommends.
    #[default]
    Active,
    /// It suggests nothing until one of its triggers goes off.
    Waiting,
    /// It stays as it is.
    Stopped,
}

/// One study with what the engine adds to it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) study: Study,
    pub(crate) state: StudyState,
    pub(crate) created_at: Timestamp,
    /// Measurements of pending trials, until they are completed.
    pub(crate) reports: BTreeMap<u64, Vec<Measurement>>,
    /// The start of the last configuration that became a trial (or never can).
    pub(crate) absorbed: Option<Timestamp>,
    /// Suggested trials that metrics completed, until their client completes them.
    pub(crate) by_metrics: BTreeSet<u64>,
    /// Trials that the hook of mode `auto` made to run.
    pub(crate) made: BTreeSet<u64>,
    /// The last trigger that went off.
    pub(crate) trigger: Option<Trigger>,
    /// The newest thing that each kind of trigger spoke of: it does not go off twice for it.
    pub(crate) seen: BTreeMap<String, Timestamp>,
    /// Up to where triggers were looked at; not kept.
    pub(crate) looked: Option<(Timestamp, Timestamp)>,
    /// What was advised of this very content; forgotten at every change.
    pub(crate) advice: Option<Advice>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    version: u32,
    id: String,
    state: StudyState,
    created_at: Timestamp,
    study: Box<RawValue>,
    reports: BTreeMap<u64, Vec<Measurement>>,
    absorbed: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    by_metrics: BTreeSet<u64>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    made: BTreeSet<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trigger: Option<Trigger>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    seen: BTreeMap<String, Timestamp>,
}

/// The name of a study in addresses: 16 hexadecimal digits of the hash of tenant and name.
pub(crate) fn study_id(tenant: &str, name: &str) -> String {
    let length = (tenant.len() as u64).to_le_bytes();
    let mut id = sha256_hex(&[&length, tenant.as_bytes(), name.as_bytes()]);
    id.truncate(16);
    id
}

impl Entry {
    pub(crate) fn new(tenant: &str, study: Study, now: Timestamp) -> Self {
        Self {
            id: study_id(tenant, &study.spec().name),
            state: if study.spec().triggers.wait { StudyState::Waiting } else { StudyState::Active },
            study,
            created_at: now,
            reports: BTreeMap::new(),
            absorbed: None,
            by_metrics: BTreeSet::new(),
            made: BTreeSet::new(),
            trigger: None,
            seen: BTreeMap::new(),
            looked: None,
            advice: None,
        }
    }

    /// What is tuned, as labels.
    pub(crate) fn entity(&self) -> Labels {
        Labels::new(&self.study.spec().entity)
    }

    /// The metrics a trial needs: objectives, guard-rails, workload.
    pub(crate) fn metrics(&self) -> Vec<String> {
        let spec = self.study.spec();
        let mut names = vec![spec.objective.metric.clone()];
        names.extend(spec.also.iter().map(|o| o.metric.clone()));
        names.extend(spec.guard_rails.iter().map(|g| g.metric.clone()));
        names.extend(spec.workload.clone());
        names.sort();
        names.dedup();
        names
    }

    /// All metrics that are kept for it: those, and the ones that tell what runs.
    pub(crate) fn kept_metrics(&self) -> Vec<String> {
        let mut names = self.metrics();
        names.extend(self.study.space().parameters().iter().filter_map(|p| p.spec().from_metric.clone()));
        names.sort();
        names.dedup();
        names
    }

    pub(crate) fn to_json(&self) -> Result<String, EngineError> {
        Ok(serde_json::to_string(&Saved {
            version: 1,
            id: self.id.clone(),
            state: self.state,
            created_at: self.created_at,
            study: RawValue::from_string(self.study.to_json()?)?,
            reports: self.reports.clone(),
            absorbed: self.absorbed,
            by_metrics: self.by_metrics.clone(),
            made: self.made.clone(),
            trigger: self.trigger.clone(),
            seen: self.seen.clone(),
        })?)
    }

    pub(crate) fn from_json(text: &str) -> Result<Self, EngineError> {
        let s: Saved = serde_json::from_str(text)?;
        if s.version != 1 {
            let problem = format!("study {} has version {}, this program knows 1", s.id, s.version);
            return Err(EngineError::config("saved study", problem));
        }
        Ok(Self {
            id: s.id,
            study: Study::from_json(s.study.get())?,
            state: s.state,
            created_at: s.created_at,
            reports: s.reports,
            absorbed: s.absorbed,
            by_metrics: s.by_metrics,
            made: s.made,
            trigger: s.trigger,
            seen: s.seen,
            looked: None,
            advice: None,
        })
    }
}

/// The mean of what was reported of a trial, with its standard error; guard metrics alike.
pub(crate) fn mean_of(reports: &[Measurement]) -> Option<Measurement> {
    if reports.len() < 2 {
        return reports.first().cloned();
    }
    let names: BTreeSet<&String> = reports.iter().flat_map(|r| r.metrics.keys()).collect();
    let mean_error = |values: Vec<f64>| {
        let se = foreglow_core::stats::std_dev(&values) / (values.len() as f64).sqrt();
        (foreglow_core::stats::mean(&values), se.is_finite().then_some(se))
    };
    let (value, se) = mean_error(reports.iter().map(|r| r.value).collect());
    let metrics = names
        .into_iter()
        .map(|n| {
            let (value, se) = mean_error(reports.iter().filter_map(|r| r.metrics.get(n)).map(|m| m.value).collect());
            (n.clone(), foreglow_search::MetricValue { value, se })
        })
        .collect();
    Some(Measurement { value, se, replicates: reports.len() as u32, metrics })
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreglow_search::{Aggregate, Goal, Objective, ParameterSpec, SpaceSpec, StudySpec};

    #[test]
    fn entries_round_trip() {
        let space = SpaceSpec(vec![ParameterSpec::int("workers", 1, 64).current(8)]);
        let objective = Objective { metric: "latency".into(), aggregate: Aggregate::Mean, goal: Goal::Min };
        let study = StudySpec::new("s", space, objective).check().unwrap();
        let mut e = Entry::new("t", study, Timestamp(5));
        e.study.suggest("c").unwrap();
        e.reports.insert(0, vec![Measurement::of(1.0)]);
        let back = Entry::from_json(&e.to_json().unwrap()).unwrap();
        assert_eq!((back.study, back.reports, back.id.len()), (e.study, e.reports, 16));
        assert_ne!(study_id("t", "s"), study_id("ts", ""));
    }

    #[test]
    fn reports_are_averaged() {
        let reports =
            [Measurement::of(1.0).with_metric("errors", 2.0), Measurement::of(3.0).with_metric("errors", 4.0)];
        let m = mean_of(&reports).unwrap();
        assert_eq!((m.value, m.replicates, m.metrics["errors"].value), (2.0, 2, 3.0));
        assert!((m.se.unwrap() - 1.0).abs() < 1e-12);
        assert!(mean_of(&[]).is_none());
    }
}
