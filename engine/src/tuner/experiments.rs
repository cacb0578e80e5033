//! A/B experiments: what is compared lies in the live metrics of each variant, or is posted.

use super::arms::{self, Grid, live_values};
use super::entry::study_id;
use super::watch::Watch;
use crate::EngineError;
use crate::compute::lock;
use crate::http::Problem;
use crate::store::{ObservationRow, Store, ask};
use foreglow_core::{Selector, Step, TimeRange, Timestamp};
use foreglow_search::SearchError;
use foreglow_search::experiment::{
    Arm, Decision, Experiment, ExperimentReport, ExperimentSpec, Plan, Samples, SwitchbackPlan,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// An experiment as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    version: u32,
    pub(crate) id: String,
    pub(crate) spec: ExperimentSpec,
    /// Which live series belong to a variant; a variant without a selector has posted values only.
    pub(crate) selectors: BTreeMap<String, String>,
    pub(crate) created_at: Timestamp,
    /// Values from here on count.
    pub(crate) start: Timestamp,
    /// Values from here on do not count any more.
    pub(crate) stopped_at: Option<Timestamp>,
    /// What was planned from a baseline, one a metric that had one.
    pub(crate) plans: BTreeMap<String, Plan>,
    /// Set when one system takes turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) switchback: Option<Switchback>,
}

/// One system that runs control and variant in turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Switchback {
    /// Its series.
    pub(crate) selector: String,
    pub(crate) period_ms: i64,
    /// Left out at the start of each period.
    pub(crate) washout_ms: i64,
}

impl Kept {
    pub(super) fn new(id: String, spec: ExperimentSpec, now: Timestamp) -> Self {
        Self {
            version: 1,
            id,
            spec,
            selectors: BTreeMap::new(),
            created_at: now,
            start: now,
            stopped_at: None,
            plans: BTreeMap::new(),
            switchback: None,
        }
    }

    /// When values count.
    pub(super) fn range(&self) -> TimeRange {
        TimeRange { start: self.start, end: self.stopped_at.unwrap_or(Timestamp(i64::MAX)) }
    }

    /// Whether the variant, not the control, runs in a period of a switchback.
    pub(super) fn treated(&self, period: u64) -> bool {
        // Washout is cut by time before periods are compared.
        SwitchbackPlan { period: 1, washout: 0, seed: self.spec.seed }.treated(period)
    }

    /// The variant that is to run at `now` and until when, in a switchback that goes on.
    pub(crate) fn turn(&self, now: Timestamp) -> Option<(&str, Timestamp)> {
        let s = self.switchback.as_ref().filter(|_| self.stopped_at.is_none())?;
        let period = (now.ms() - self.start.ms()).max(0) / s.period_ms;
        Some((
            &self.spec.variants[usize::from(self.treated(period as u64))],
            self.start.plus((period + 1) * s.period_ms),
        ))
    }
}

/// A look at an experiment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Look {
    pub(crate) kept: Kept,
    pub(crate) report: ExperimentReport,
    pub(crate) verdict: Verdict,
    pub(crate) why: String,
    /// Values so far, by variant, of the metric that has the fewest.
    pub(crate) samples: BTreeMap<String, usize>,
}

/// What follows from a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// A variant is better in a metric and worse in none.
    Winner,
    /// No variant is better, and at least one is worse: stay with the control.
    Control,
    /// The planned end is reached without a difference.
    NoDifference,
    /// Not told apart yet.
    Undecided,
    /// Too few independent blocks for any statement.
    NotEnoughIndependentData,
}

/// An experiment to begin.
#[derive(Debug, Clone)]
pub(crate) struct New {
    pub(crate) spec: ExperimentSpec,
    pub(crate) selectors: BTreeMap<String, String>,
    pub(crate) switchback: Option<Switchback>,
    pub(crate) start: Timestamp,
    /// Samples of metrics from before.
    pub(crate) baseline: BTreeMap<String, Vec<f64>>,
    /// The relative difference to find in them.
    pub(crate) effect: f64,
}

/// All experiments of the server.
pub(crate) struct Experiments {
    store: Store,
    watch: Arc<Watch>,
    all: Mutex<BTreeMap<(String, String), Kept>>,
}

impl Experiments {
    /// What the store holds.
    pub(super) fn open(store: Store, watch: Arc<Watch>) -> Result<Self, EngineError> {
        let mut all = BTreeMap::new();
        for (tenant, body) in store.wait(ask::experiments)? {
            let kept: Kept = serde_json::from_str(&body)?;
            if kept.version != 1 {
                let problem = format!("experiment {} has version {}, this program knows 1", kept.id, kept.version);
                return Err(EngineError::config("saved experiment", problem));
            }
            if kept.stopped_at.is_none() {
                keep_series(&watch, &tenant, &kept)?;
            }
            all.insert((tenant, kept.id.clone()), kept);
        }
        Ok(Self { store, watch, all: Mutex::new(all) })
    }

    fn save(&self, tenant: &str, k: &Kept) -> Result<(), EngineError> {
        let (tenant, id, body) = (tenant.to_owned(), k.id.clone(), serde_json::to_string(k)?);
        self.store.wait(move |c| ask::put_experiment(c, &tenant, &id, &body))
    }

    fn one(&self, tenant: &str, id: &str) -> Result<Kept, Problem> {
        let found = lock(&self.all).get(&(tenant.to_owned(), id.to_owned())).cloned();
        found.ok_or_else(|| Problem::not_found(format!("there is no experiment {id:?}")))
    }

    /// Begins an experiment; the same again is the one that is there. The flag says whether it is new.
    /// With a baseline the plan is kept with it, and data that are too dependent are refused now rather than after weeks.
    ///
    /// # Errors
    /// 422 for a specification that does not hold, 409 when another experiment has the name.
    pub(crate) fn create(&self, tenant: &str, new: New, now: Timestamp) -> Result<(Look, bool), Problem> {
        let New { spec, selectors, switchback, start, baseline, effect } = new;
        let experiment = spec.clone().check().map_err(refused)?;
        let mut plans = BTreeMap::new();
        for (metric, history) in &baseline {
            if !spec.metrics.iter().any(|m| m.metric == *metric) {
                let detail = format!("baseline has `{metric}`, which is no metric of the experiment");
                return Err(Problem::meaningless("invalid_experiment", detail).at(format!("/baseline/{metric}")));
            }
            plans.insert(metric.clone(), plan(&experiment, history, effect)?);
        }
        let id = study_id(tenant, &spec.name);
        let kept = Kept { selectors, start, plans, switchback, ..Kept::new(id.clone(), spec, now) };
        let there = lock(&self.all).get(&(tenant.to_owned(), id.clone())).cloned();
        if let Some(there) = there {
            if there.spec == kept.spec && there.selectors == kept.selectors && there.switchback == kept.switchback {
                return Ok((self.look(tenant, &id)?, false));
            }
            let detail =
                format!("experiment {:?} exists with another specification: choose another name", kept.spec.name);
            return Err(Problem::conflict("experiment_exists", "exists", detail).at("/name"));
        }
        keep_series(&self.watch, tenant, &kept)?;
        self.save(tenant, &kept)?;
        lock(&self.all).insert((tenant.to_owned(), id.clone()), kept);
        Ok((self.look(tenant, &id)?, true))
    }

    /// All experiments of a tenant, by id.
    pub(crate) fn list(&self, tenant: &str) -> Vec<Kept> {
        lock(&self.all).iter().filter(|(k, _)| k.0 == tenant).map(|(_, v)| v.clone()).collect()
    }

    /// Takes posted values in.
    ///
    /// # Errors
    /// 404, 409 when it is stopped, 422 for a variant or metric that it does not have.
    pub(crate) fn observe(&self, tenant: &str, id: &str, rows: Vec<ObservationRow>) -> Result<usize, Problem> {
        let kept = self.one(tenant, id)?;
        if kept.stopped_at.is_some() {
            return Err(Problem::conflict("wrong_state", "stopped", format!("experiment {id} is stopped")));
        }
        if kept.switchback.is_some() {
            let detail = "a switchback reads the live series of its system: there is nothing to post";
            return Err(Problem::meaningless("switchback", detail).at("/observations"));
        }
        for (i, r) in rows.iter().enumerate() {
            let place = format!("/observations/{i}");
            if !kept.spec.variants.contains(&r.variant) {
                let known = kept.spec.variants.join(", ");
                let detail = format!("there is no variant `{}`: the experiment has {known}", r.variant);
                return Err(Problem::meaningless("unknown_variant", detail).at(format!("{place}/variant")));
            }
            let known = kept.spec.metrics.iter().map(|m| &m.metric).chain(&kept.spec.covariate);
            if !known.into_iter().any(|m| *m == r.metric) {
                let detail = format!("`{}` is no metric of the experiment", r.metric);
                return Err(Problem::meaningless("unknown_metric", detail).at(format!("{place}/values/{}", r.metric)));
            }
        }
        let (count, tenant, id) = (rows.len(), tenant.to_owned(), id.to_owned());
        self.store.wait(move |c| ask::add_observations(c, &tenant, &id, &rows))?;
        Ok(count)
    }

    /// Ends an experiment: later values do not count.
    pub(crate) fn stop(&self, tenant: &str, id: &str, now: Timestamp) -> Result<Look, Problem> {
        let mut kept = self.one(tenant, id)?;
        if kept.stopped_at.is_none() {
            kept.stopped_at = Some(now);
            self.save(tenant, &kept)?;
            lock(&self.all).insert((tenant.to_owned(), id.to_owned()), kept);
        }
        self.look(tenant, id)
    }

    /// What is known so far.
    pub(crate) fn look(&self, tenant: &str, id: &str) -> Result<Look, Problem> {
        let kept = self.one(tenant, id)?;
        let experiment = kept.spec.clone().check().map_err(refused)?;
        let (tenant, k) = (tenant.to_owned(), kept.clone());
        let mut samples = BTreeMap::new();
        let mut count = |variant: &str, n: usize| {
            samples.entry(variant.to_owned()).and_modify(|m: &mut usize| *m = n.min(*m)).or_insert(n);
        };
        let report = if let Some(s) = kept.switchback.clone() {
            let all = self.store.wait(move |c| arms::stretches(c, &tenant, &k, &s))?;
            for metric in &all {
                for (treated, variant) in [false, true].into_iter().zip(&kept.spec.variants) {
                    count(variant, metric.iter().filter(|s| s.0 == treated).map(|s| s.1.len()).sum());
                }
            }
            let views: Vec<_> = all.iter().map(|metric| arms::periods(metric)).collect();
            experiment.analyse_switchback(&views, 0).map_err(refused)?
        } else {
            let all = self.store.wait(move |c| arms::gather(c, &tenant, &k))?;
            let views: Vec<Arm<'_>> = all
                .iter()
                .map(|(variant, metric, m)| {
                    let samples = Samples { values: &m.values, covariate: m.covariate.as_deref() };
                    Arm { variant, metric, samples }
                })
                .collect();
            for (variant, _, m) in &all {
                count(variant, m.values.iter().filter(|v| v.is_finite()).count());
            }
            experiment.analyse(&views).map_err(refused)?
        };
        let (verdict, why) = sum_up(&report);
        Ok(Look { kept, report, verdict, why, samples })
    }

    /// Power and duration of an experiment that has not begun, from posted samples or from those kept of live series.
    ///
    /// # Errors
    /// 422: no history, or data too dependent.
    pub(crate) fn power(
        &self,
        tenant: &str,
        spec: ExperimentSpec,
        history: &[f64],
        live: Option<(String, Selector)>,
        effect: f64,
    ) -> Result<(Plan, Option<Step>), Problem> {
        let experiment = spec.check().map_err(refused)?;
        let Some((metric, selector)) = live.filter(|_| history.is_empty()) else {
            return Ok((plan(&experiment, history, effect)?, None));
        };
        let tenant = tenant.to_owned();
        let whole = TimeRange { start: Timestamp(i64::MIN), end: Timestamp(i64::MAX) };
        let name = metric.clone();
        let values = self.store.wait(move |c| live_values(c, &tenant, &name, &selector, whole))?;
        if values.is_empty() {
            let detail = format!(
                "no values of `{metric}` are kept under this selector: series are kept from the moment a configuration, a \
                 study or an experiment names them; or send history"
            );
            return Err(Problem::meaningless("no_history", detail).at("/match"));
        }
        let grid = Grid::of(values);
        Ok((plan(&experiment, &grid.values, effect)?, grid.step))
    }
}

/// The plan for a difference of `effect` times the history's mean.
fn plan(experiment: &Experiment, history: &[f64], effect: f64) -> Result<Plan, Problem> {
    let level = foreglow_core::stats::mean(history);
    experiment.plan(history, effect * if level == 0.0 { 1.0 } else { level.abs() }).map_err(refused)
}

/// A mistake of the client, with the field; what is too dependent has a code of its own.
pub(crate) fn refused(e: SearchError) -> Problem {
    match e {
        SearchError::Study { field, problem } if problem.contains("independent blocks") => {
            let detail = format!("not enough independent data: {problem}");
            Problem::meaningless("not_enough_independent_data", detail).at(format!("/{field}"))
        }
        SearchError::Study { field, problem } => {
            Problem::meaningless("invalid_experiment", format!("`{field}` {problem}")).at(format!("/{field}"))
        }
        e => e.into(),
    }
}

fn keep_series(watch: &Watch, tenant: &str, kept: &Kept) -> Result<(), EngineError> {
    let metrics = kept.spec.metrics.iter().map(|m| &m.metric);
    let names: Vec<String> = metrics.chain(&kept.spec.covariate).cloned().collect();
    for selector in kept.selectors.values().chain(kept.switchback.as_ref().map(|s| &s.selector)) {
        watch.selected(tenant, selector.parse()?, names.clone());
    }
    Ok(())
}

/// One verdict, and why.
fn sum_up(r: &ExperimentReport) -> (Verdict, String) {
    let of = |d: Decision| r.comparisons.iter().find(|c| c.decision == d);
    let said = |c: &foreglow_search::experiment::Comparison| format!("{} in {}: {}", c.variant, c.metric, c.why);
    if let Some(winner) = &r.winner {
        let better = r.comparisons.iter().find(|c| c.variant == *winner && c.decision == Decision::Better);
        return (Verdict::Winner, better.map_or_else(String::new, said));
    }
    if let Some(c) = of(Decision::NotEnoughData) {
        return (Verdict::NotEnoughIndependentData, said(c));
    }
    if let Some(c) = of(Decision::Undecided) {
        return (Verdict::Undecided, said(c));
    }
    if let Some(c) = of(Decision::Worse) {
        return (Verdict::Control, said(c));
    }
    (Verdict::NoDifference, "no difference was found in the planned samples".to_owned())
}
