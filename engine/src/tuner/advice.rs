//! Recommendations: made of studies, decided by people, checked against what happened.

use super::verify::{Verdict, Verification, judge};
use super::{Entry, StudyState, Tuner, live_trials};
use crate::EngineError;
use crate::compute::lock;
use crate::config::labels_json;
use crate::http::Problem;
use crate::store::{ConfigurationRow, ask};
use foreglow_core::{MetricKey, Selector, Timestamp};
use foreglow_search::experiment::PromiseRecord;
use foreglow_search::recommend::{Recommendation, Status};
use foreglow_search::{Advice, AdviceOptions, Assignment, Mark, Measurement, Trial, assignment_key};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One step in the life of a recommendation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Passed {
    /// What it became.
    pub(crate) status: Status,
    /// When.
    pub(crate) at: Timestamp,
    /// Who did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) by: Option<String>,
}

/// A recommendation with its life so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// What was recommended.
    #[serde(flatten)]
    pub(crate) recommendation: Recommendation,
    /// The study's id.
    pub(crate) study_id: String,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// What became of it.
    pub(crate) history: Vec<Passed>,
    /// What was really applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) applied: Option<Assignment>,
    /// What was measured afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) verification: Option<Verification>,
}

impl Kept {
    /// Whether its effect is still being measured.
    pub(super) fn is_measured(&self) -> bool {
        let undecided = self.verification.as_ref().is_none_or(|v| v.verdict == Verdict::Measuring);
        self.recommendation.status == Status::Applied && undecided
    }
}

/// What somebody decided.
#[derive(Debug, Clone)]
pub(crate) struct Decision {
    pub(crate) status: Status,
    pub(crate) at: Timestamp,
    pub(crate) by: Option<String>,
    /// Parameters really applied, where they differ from the recommended ones.
    pub(crate) parameters: Assignment,
}

impl Tuner {
    /// What to change now: one recommendation a study at most, with those under way; or why there is none.
    pub(crate) fn recommendations(
        &self,
        tenant: &str,
        study: Option<&str>,
        now: Timestamp,
    ) -> Result<(Vec<Kept>, String), Problem> {
        if let Some(id) = study {
            self.entry(tenant, id)?;
        }
        let (mut reasons, mut frozen) = (Vec::new(), Vec::new());
        let asked: Vec<Entry> = self.list(tenant).into_iter().filter(|e| study.is_none_or(|s| s == e.id)).collect();
        for e in &asked {
            if let Err(reason) = self.advise(tenant, &e.id, now)? {
                reasons.push(format!("study {:?}: {reason}", e.study.spec().name));
            }
            if self.frozen(tenant, e, now)?.is_some() {
                frozen.push(e.id.clone());
            }
        }
        if asked.is_empty() {
            reasons.push("there is no study: POST /v1/studies".to_owned());
        }
        self.verify_applied(tenant, now)?;
        // Inside a freeze nothing is recommended, whatever was before it.
        let hidden = |v: &Kept| v.recommendation.status == Status::Proposed && frozen.contains(&v.study_id);
        let all = lock(&self.kept)
            .iter()
            .filter(|(k, v)| k.0 == tenant && study.is_none_or(|s| s == v.study_id) && !hidden(v))
            .map(|(_, v)| v.clone())
            .collect();
        Ok((all, reasons.join("; ")))
    }

    /// Asks one study; the reason where it has nothing to recommend.
    fn advise(&self, tenant: &str, id: &str, now: Timestamp) -> Result<Result<(), String>, Problem> {
        self.get(tenant, id)?;
        let entry = self.entry(tenant, id)?;
        let mut e = lock(&entry);
        self.expire(tenant, id, now)?;
        if e.state == StudyState::Stopped {
            return Ok(Err("it is stopped".to_owned()));
        }
        if let Some(until) = self.frozen(tenant, &e, now)? {
            return Ok(Err(format!("nothing is changed inside a freeze, which lasts until {until}")));
        }
        let advice = e.advice.clone().unwrap_or_else(|| {
            let trigger = e.trigger.as_ref().map_or_else(|| "request".to_owned(), |t| t.kind.to_string());
            let (spec, usual) = (e.study.spec(), AdviceOptions::default());
            let p_break = if spec.mode.is_careful() { 1.0 - spec.safety.confidence } else { usual.p_break };
            e.study.recommend(&AdviceOptions { now: Some(now), trigger, p_break, ..usual })
        });
        e.advice = Some(advice.clone());
        match advice {
            Advice::None { none_because } => {
                // What was proposed before is refuted by what was measured since.
                let why = if e.study.spec().confirm.is_some() { "not confirmed" } else { "no longer recommended" };
                self.withdraw(tenant, id, now, why)?;
                Ok(Err(none_because))
            }
            Advice::Change(r) => {
                let id = r.id.clone();
                self.keep(tenant, &e, *r, now)?;
                let over = |k: &Kept| match k.recommendation.status {
                    Status::Rejected => Some("was rejected"),
                    Status::Expired => Some("has expired"),
                    _ => None,
                };
                let over = lock(&self.kept).get(&(tenant.to_owned(), id.clone())).and_then(over);
                Ok(over.map_or(Ok(()), |how| {
                    Err(format!("what it recommends, {id}, {how}, and nothing has been measured since: try more"))
                }))
            }
        }
    }

    /// Takes a recommendation in; an older undecided one of the study is superseded.
    fn keep(&self, tenant: &str, e: &Entry, r: Recommendation, now: Timestamp) -> Result<(), EngineError> {
        let key = (tenant.to_owned(), r.id.clone());
        let mut changed = Vec::new();
        {
            let mut kept = lock(&self.kept);
            if let Some(there) = kept.get_mut(&key) {
                let old = &there.recommendation;
                let news = old.trigger != r.trigger || old.confirmation != r.confirmation;
                if old.status != Status::Proposed || !news {
                    return Ok(());
                }
                there.recommendation = Recommendation { expires: old.expires, ..r };
                let told = there.clone();
                drop(kept);
                return self.write(tenant, vec![(key.1, told)]);
            }
            changed.extend(take_back(&mut kept, tenant, &e.id, now, "superseded")?);
            let new = Kept {
                recommendation: r,
                study_id: e.id.clone(),
                created_at: now,
                history: vec![Passed { status: Status::Proposed, at: now, by: None }],
                applied: None,
                verification: None,
            };
            changed.push((key.1.clone(), new.clone()));
            kept.insert(key, new);
        }
        self.write(tenant, changed)
    }

    fn withdraw(&self, tenant: &str, study: &str, now: Timestamp, why: &str) -> Result<(), EngineError> {
        let changed = take_back(&mut lock(&self.kept), tenant, study, now, why)?;
        self.write(tenant, changed)
    }

    fn write(&self, tenant: &str, changed: Vec<(String, Kept)>) -> Result<(), EngineError> {
        if changed.is_empty() {
            return Ok(());
        }
        let to: Arc<str> = tenant.into();
        let mut rows = Vec::with_capacity(changed.len());
        for (id, k) in changed {
            let body = serde_json::to_string(&k)?;
            self.events.send(&to, "recommendation", body.clone());
            rows.push((id, k.study_id, body));
        }
        let tenant = tenant.to_owned();
        self.store.wait(move |c| {
            for (id, study, body) in &rows {
                ask::put_recommendation(c, &tenant, id, study, body)?;
            }
            Ok(())
        })
    }

    fn expire(&self, tenant: &str, study: &str, now: Timestamp) -> Result<(), EngineError> {
        let mut changed = Vec::new();
        for (k, v) in lock(&self.kept).iter_mut().filter(|(k, v)| k.0 == tenant && v.study_id == study) {
            let over = v.recommendation.expires.is_some_and(|t| t <= now);
            if over && matches!(v.recommendation.status, Status::Proposed | Status::Accepted) {
                pass(v, Status::Expired, now, None)?;
                changed.push((k.1.clone(), v.clone()));
            }
        }
        self.write(tenant, changed)
    }

    /// When a freeze of the study's entity ends.
    pub(super) fn frozen(&self, tenant: &str, e: &Entry, now: Timestamp) -> Result<Option<Timestamp>, EngineError> {
        let objective = MetricKey::new(&e.study.spec().objective.metric, e.entity());
        let tenant = tenant.to_owned();
        self.store.wait(move |c| {
            let freezes = ask::active_changes(c, now)?.into_iter().filter(|(t, c)| {
                *t == tenant
                    && c.kind == "freeze"
                    && c.start <= now
                    && c.selector.as_ref().is_none_or(|s| s.parse::<Selector>().is_ok_and(|s| s.matches(&objective)))
            });
            Ok(freezes.map(|(_, c)| c.end.unwrap_or(Timestamp(i64::MAX))).max())
        })
    }

    /// How often the promises of a study were kept, of those that were measured.
    pub(crate) fn promises(&self, tenant: &str, study: &str) -> PromiseRecord {
        let mut record = PromiseRecord::default();
        let kept = lock(&self.kept);
        let mine = kept.iter().filter(|(k, v)| k.0 == tenant && v.study_id == study);
        mine.filter_map(|(_, v)| v.verification.as_ref()?.promise_held).for_each(|held| record.count(held));
        record
    }

    /// Accepts, rejects or marks as applied.
    ///
    /// # Errors
    /// 404 for an unknown one, 409 naming the state when the step is not possible, 422 for parameters outside the space.
    pub(crate) fn decide(&self, tenant: &str, id: &str, d: Decision) -> Result<Kept, Problem> {
        let key = (tenant.to_owned(), id.to_owned());
        let unknown = || Problem::not_found(format!("there is no recommendation {id:?}"));
        let study = lock(&self.kept).get(&key).map(|k| k.study_id.clone()).ok_or_else(unknown)?;
        // By the clock: `at` is what the caller says.
        let now = self.clock.now();
        let _deciding = lock(&self.deciding);
        self.expire(tenant, &study, now)?;
        if d.status == Status::Accepted {
            let entry = self.entry(tenant, &study)?;
            let e = lock(&entry).clone();
            if let Some(until) = self.frozen(tenant, &e, now)? {
                let detail = format!("nothing is accepted inside a freeze, which lasts until {until}");
                return Err(Problem::conflict("frozen", "frozen", detail));
            }
        }
        let mut next = lock(&self.kept).get(&key).cloned().ok_or_else(unknown)?;
        let state = format!("{:?}", next.recommendation.status).to_lowercase();
        if pass(&mut next, d.status, d.at, d.by.as_deref()).is_err() {
            let detail = format!("recommendation {id} is {state} and cannot become {:?}", d.status).to_lowercase();
            return Err(Problem::conflict("wrong_state", state, detail));
        }
        if d.status == Status::Applied {
            let mut parameters = next.recommendation.parameters.clone();
            parameters.extend(d.parameters);
            let e = self.apply(tenant, &study, &parameters, d.at, id)?;
            next.applied = Some(e.study.space().canonical(&parameters)?);
        }
        lock(&self.kept).insert(key, next.clone());
        self.write(tenant, vec![(id.to_owned(), next.clone())])?;
        Ok(next)
    }

    /// The applied parameters run from now on and are what the study counts from.
    fn apply(
        &self,
        tenant: &str,
        study: &str,
        parameters: &Assignment,
        at: Timestamp,
        id: &str,
    ) -> Result<Entry, Problem> {
        let entry = self.entry(tenant, study)?;
        let entity = lock(&entry).entity();
        let canonical = lock(&entry).study.space().canonical(parameters)?;
        let row = ConfigurationRow {
            entity: labels_json(&entity),
            since: at,
            parameters: serde_json::to_string(&canonical).map_err(EngineError::from)?,
            reference: Some(format!("recommendation {id}")),
        };
        self.configure(tenant, &entity, row)?;
        self.with(tenant, study, |e| Ok(e.study.set_current(&canonical)?))
    }

    /// Looks at what was measured of every applied recommendation of a tenant.
    pub(super) fn verify_applied(&self, tenant: &str, now: Timestamp) -> Result<(), Problem> {
        let applied: Vec<Kept> = lock(&self.kept)
            .iter()
            .filter(|(k, v)| k.0 == tenant && v.recommendation.status == Status::Applied)
            .map(|(_, v)| v.clone())
            .collect();
        for before in applied {
            let mut k = before.clone();
            let Ok(entry) = self.entry(tenant, &k.study_id) else { continue };
            let e = lock(&entry).clone();
            let v = self.measure_effect(tenant, &e, &k)?;
            if k.verification.as_ref() == Some(&v) {
                continue;
            }
            if let Some(status) = v.verdict.status() {
                pass(&mut k, status, now, None)?;
            }
            k.verification = Some(v);
            let (id, _deciding) = (k.recommendation.id.clone(), lock(&self.deciding));
            let key = (tenant.to_owned(), id.clone());
            let decided = lock(&self.kept).get(&key) != Some(&before);
            if !decided {
                lock(&self.kept).insert(key, k.clone());
                self.write(tenant, vec![(id, k)])?;
            }
        }
        Ok(())
    }

    fn measure_effect(&self, tenant: &str, e: &Entry, k: &Kept) -> Result<Verification, EngineError> {
        let r = &k.recommendation;
        let spec = e.study.spec();
        let at = k.history.iter().rev().find(|p| p.status == Status::Applied).map_or(k.created_at, |p| p.at);
        let gathered = self.gather(tenant, e, None)?;
        let now = k.applied.as_ref().unwrap_or(&r.parameters);
        let after = gathered.cut_one(e, at, now)?;
        let from = before_change(r);
        // The stretch right before shares the most with the one after; else what the study measured of it.
        let before =
            gathered.cut_before(e, at, &from, after.as_ref())?.filter(|t| live_trials::unusable(Some(t)).is_none());
        let load = before.as_ref().zip(after.as_ref()).and_then(|(b, a)| gathered.without_load(e, b, a));
        let before = before.and_then(|t| t.measurement).or_else(|| measured_of(e, &from));
        let over = after.as_ref().is_some_and(|t| t.finished);
        let disturbed = after.as_ref().is_some_and(|t| t.marks.contains(&Mark::TwoChanges));
        let after = after.and_then(|t| t.measurement);
        let v = judge(r, spec.objective.goal, &spec.guard_rails, [before.as_ref(), after.as_ref()], load);
        // An incident may be what the change did; another change is not.
        let v = if disturbed { v.disturbed() } else { v };
        Ok(if over { v.over() } else { v })
    }
}

/// Ends the undecided recommendations of a study.
fn take_back(
    kept: &mut BTreeMap<(String, String), Kept>,
    tenant: &str,
    study: &str,
    now: Timestamp,
    why: &str,
) -> Result<Vec<(String, Kept)>, EngineError> {
    let mut changed = Vec::new();
    for (k, old) in kept.iter_mut().filter(|(k, v)| k.0 == tenant && v.study_id == study) {
        if old.recommendation.status == Status::Proposed {
            pass(old, Status::Expired, now, Some(why))?;
            changed.push((k.1.clone(), old.clone()));
        }
    }
    Ok(changed)
}

fn pass(k: &mut Kept, status: Status, at: Timestamp, by: Option<&str>) -> Result<(), EngineError> {
    k.recommendation.advance(status)?;
    k.history.push(Passed { status, at, by: by.map(str::to_owned) });
    Ok(())
}

/// The configuration from which a recommendation counts.
pub(super) fn before_change(r: &Recommendation) -> Assignment {
    let mut out = r.parameters.clone();
    for c in &r.rollback {
        match &c.to {
            Some(v) => out.insert(c.name.clone(), v.clone()),
            None => out.remove(&c.name),
        };
    }
    out
}

fn measured_of(e: &Entry, parameters: &Assignment) -> Option<Measurement> {
    let key = assignment_key(parameters);
    let same = |t: &&Trial| t.usable().is_some() && assignment_key(&t.parameters) == key;
    e.study.trials().iter().rev().find(same).and_then(Trial::usable).cloned()
}
