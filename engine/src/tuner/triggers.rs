//! What opens a study, and resumes it: incidents, forecasts, another workload, the clock.

use super::Tuner;
use super::entry::{Entry, StudyState};
use super::live_trials::{Gathered, within};
use crate::EngineError;
use crate::compute::lock;
use crate::http::Problem;
use crate::store::{IncidentFilter, ask};
use foreglow_core::signals::Worse;
use foreglow_core::{Forecaster, History, IncidentState, MetricKey, Step, Timestamp};
use foreglow_models::forecast::{AutoLocal, AutoLocalParams};
use foreglow_search::{Bound, Trigger, TriggerKind};
use std::collections::BTreeSet;

/// Without news, triggers are looked at again after this long.
const AGAIN_MS: i64 = 30_000;
/// Incidents looked at.
const INCIDENTS: usize = 100;
/// Values from which a limit is forecast, at least and at most.
const FEWEST: usize = 30;
const MOST: usize = 1000;
/// Values that say what the workload is now.
const RECENT: usize = 50;
/// A forecast reaches a quarter of its history ahead, at most so many steps.
const FARTHEST: usize = 120;

/// What the objective contributes to an incident that is one of its own, at least: a signal that is as usual has some
/// share, too.
const LEAST_SHARE: f64 = 0.1;

impl Tuner {
    /// What happened before a study began opens nothing: noted in the time of the metrics, which may be a replay.
    pub(super) fn begin_watching(&self, tenant: &str, e: &mut Entry) -> Result<(), EngineError> {
        if e.study.spec().triggers.degraded
            && let Some(until) = self.gather(tenant, e, None)?.until()
        {
            e.seen.insert(TriggerKind::ObjectiveDegraded.to_string(), until);
        }
        Ok(())
    }

    /// Looks at the triggers of all studies, and at what became of promises: one that is broken is told in the stream, whether
    /// or not somebody asks.
    pub(crate) fn watch_studies(&self) {
        let told = |id: &str, r: Result<(), Problem>| {
            if let Err(p) = r {
                tracing::error!(id, code = p.code(), "a study, or a tenant's promises, could not be looked at");
            }
        };
        // A study that is busy must not hold up the list of all.
        let all: Vec<_> = lock(&self.studies).iter().map(|(k, e)| (k.clone(), e.clone())).collect();
        for ((tenant, id), e) in all {
            if lock(&e).study.spec().triggers.is_any() {
                told(&id, self.with(&tenant, &id, |_| Ok(())).map(|_| ()));
            }
        }
        let tenants: BTreeSet<String> =
            lock(&self.kept).iter().filter(|(_, k)| k.is_measured()).map(|((tenant, _), _)| tenant.clone()).collect();
        for tenant in &tenants {
            told(tenant, self.verify_applied(tenant, self.clock.now()));
        }
    }

    /// Lets the first trigger that went off open or resume the study.
    pub(super) fn look_at_triggers(&self, tenant: &str, e: &mut Entry, g: &Gathered) -> Result<(), EngineError> {
        let spec = e.study.spec().triggers.clone();
        let (now, until) = (self.clock.now(), g.until().unwrap_or(Timestamp(i64::MIN)));
        let fresh = e.looked.is_none_or(|(data, at)| data < until || now.ms() - at.ms() >= AGAIN_MS);
        let cooling = e.trigger.as_ref().is_some_and(|t| now < t.noticed_at.plus(spec.cooldown.ms()));
        if !spec.is_any() || cooling || !fresh {
            return Ok(());
        }
        e.looked = Some((until, now));
        let found = match self.degraded(tenant, e, g)? {
            Some(found) => Some(found),
            None => self.limit_nears(e, g).or_else(|| workload_changed(e, g)).or_else(|| its_time(e, now)),
        };
        let Some((kind, at, why)) = found else { return Ok(()) };
        let trigger = Trigger { kind, at, noticed_at: now, why };
        tracing::info!(study = e.id, kind = %kind, why = trigger.why, "a trigger went off");
        self.events.send(&tenant.into(), "trigger", serde_json::json!({"study": e.id, "trigger": trigger}).to_string());
        e.study.extend(spec.trials);
        e.state = StudyState::Active;
        e.seen.insert(kind.to_string(), at);
        e.trigger = Some(trigger);
        // What was advised before may be told again: then for this reason.
        e.advice = None;
        Ok(())
    }

    /// An incident of the entity in which the objective is worse than expected.
    fn degraded(&self, tenant: &str, e: &Entry, g: &Gathered) -> Result<Option<Found>, EngineError> {
        if !e.study.spec().triggers.degraded {
            return Ok(None);
        }
        let kind = TriggerKind::ObjectiveDegraded;
        let seen = e.seen.get(&kind.to_string()).copied();
        let filter = IncidentFilter {
            group: None,
            state: None,
            from: seen.unwrap_or(Timestamp(i64::MIN)),
            to: Timestamp(i64::MAX),
            before: i64::MAX,
        };
        let (owner, entity, objective) = (tenant.to_owned(), e.entity(), e.study.spec().objective.clone());
        let first = g.series(&objective.metric).and_then(|(t, _)| t.first().copied());
        let incidents = self.store.wait(move |c| ask::incidents(c, &owner, &filter, INCIDENTS))?;
        Ok(incidents.into_iter().map(|r| r.incident).find_map(|i| {
            // What was over before the study watched is none of its business.
            let news = match seen {
                Some(seen) => i.opened_at > seen,
                None => i.state == IncidentState::Open || first.is_some_and(|f| i.opened_at >= f),
            };
            let worse = i.finding.contributors.iter().find(|c| {
                let (Some(actual), Some(expected)) = (c.actual, c.expected) else { return false };
                let worse = objective.goal.sign() * (actual - expected) > 0.0;
                *c.key.name == *objective.metric && worse && c.share >= LEAST_SHARE
            })?;
            (news && within(&i.finding.group, &entity)).then(|| {
                let value = |v: Option<f64>| v.map_or("missing".to_owned(), |v| format!("{v:.4}"));
                let (actual, expected) = (value(worse.actual), value(worse.expected));
                let why = format!("incident {}: `{}` was {actual}, expected was {expected}", i.id, objective.metric);
                (kind, i.opened_at, why)
            })
        }))
    }

    /// A metric that is forecast to cross its limit: that of its signal, or an absolute one of a guard-rail.
    fn limit_nears(&self, e: &Entry, g: &Gathered) -> Option<Found> {
        let spec = e.study.spec();
        if !spec.triggers.limit {
            return None;
        }
        let seen = e.seen.get(&TriggerKind::LimitNears.to_string()).copied();
        for name in e.metrics() {
            let signal = self.signals.signal_of(&MetricKey::new(&name, e.entity()));
            let own = signal.and_then(|s| Some((s.limit?, if s.worse == Worse::Down { -1.0 } else { 1.0 })));
            let guard = spec.guard_rails.iter().filter(|r| r.metric == name).find_map(|r| match r.limit() {
                (Bound::Absolute(v), sign) => Some((v, sign)),
                (Bound::TimesBaseline(_), _) => None,
            });
            let Some((limit, sign)) = own.or(guard) else { continue };
            if let Some((at, crossing, steps)) = g.series(&name).and_then(|(t, v)| crossing(t, v, limit, sign))
                && seen.is_none_or(|s| s < at)
            {
                let why =
                    format!("`{name}` is forecast to cross its limit of {limit} at {crossing}, {steps} steps ahead");
                return Some((TriggerKind::LimitNears, at, why));
            }
        }
        None
    }
}

/// Kind, time in the metrics, why.
type Found = (TriggerKind, Timestamp, String);

/// When a series that keeps its limit is forecast to cross it: the newest value's time, the crossing's, steps between.
fn crossing(times: &[Timestamp], values: &[f64], limit: f64, sign: f64) -> Option<(Timestamp, Timestamp, usize)> {
    let from = times.len().saturating_sub(MOST);
    let (times, values) = (&times[from..], &values[from..]);
    let (step, last) = (Step::detect(times)?, *times.last()?);
    if values.len() < FEWEST || sign * values.last()? >= sign * limit {
        return None;
    }
    let horizon = (values.len() / 4).min(FARTHEST);
    let history = History { values, last, step };
    let local = AutoLocal { params: AutoLocalParams::default(), season: None };
    let table = local.forecast(&history, horizon, &[0.5]);
    let ahead = (0..horizon).find(|h| sign * table[[*h, 0]] >= sign * limit)? + 1;
    Some((last, last.plus(ahead as i64 * step.ms()), ahead))
}

fn workload_changed(e: &Entry, g: &Gathered) -> Option<Found> {
    let spec = e.study.spec();
    let (share, name) = (spec.triggers.workload?, spec.workload.as_ref()?);
    let (times, values) = g.series(name)?;
    let recent = &values[values.len().saturating_sub(RECENT)..];
    let at = *times.last()?;
    let why = e.study.workload_changed(recent, share)?;
    let kind = TriggerKind::WorkloadChanged;
    // The same load goes on being another one: told once, until new trials have seen it.
    let told = e.seen.get(&kind.to_string()).copied();
    let tried = e.trigger.as_ref().is_none_or(|t| t.kind != kind) || e.state == StudyState::Waiting;
    (told.is_none() || tried).then_some((kind, at, why))
}

fn its_time(e: &Entry, now: Timestamp) -> Option<Found> {
    let every = e.study.spec().triggers.every?;
    let last = e.trigger.as_ref().map_or(e.created_at, |t| t.noticed_at);
    (now >= last.plus(every.ms())).then(|| (TriggerKind::Schedule, now, format!("{every} have passed since {last}")))
}

/// A study that has triggers and no trials left waits for the next one.
pub(super) fn rest(e: &mut Entry) {
    let spec = e.study.spec();
    let spent = e.study.is_spent();
    let pending = e.study.trials().iter().any(|t| t.state == foreglow_search::TrialState::Pending);
    if e.state == StudyState::Active && spec.triggers.is_any() && spent && !pending && !e.study.is_confirming() {
        e.state = StudyState::Waiting;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rise_crosses_its_limit_and_a_level_does_not() {
        let times: Vec<Timestamp> = (0..120).map(|i| Timestamp(i * 60_000)).collect();
        let wave = |i: usize| 0.3 * ((i * 7919) % 13) as f64 / 13.0;
        let rise: Vec<f64> = (0..120).map(|i| 10.0 + 0.2 * i as f64 + wave(i)).collect();
        let (at, crossing_at, steps) = crossing(&times, &rise, 37.0, 1.0).unwrap();
        assert_eq!((at, crossing_at), (times[119], times[119].plus(steps as i64 * 60_000)));
        assert!((8..=24).contains(&steps), "the truth is about 16: {steps}");
        assert!(crossing(&times, &rise, 30.0, 1.0).is_none(), "it is there already");
        assert!(
            crossing(&times, &rise, 500.0, 1.0).is_none() && crossing(&times[..20], &rise[..20], 15.0, 1.0).is_none()
        );
        let level: Vec<f64> = (0..120).map(|i| 10.0 + wave(i)).collect();
        assert!(crossing(&times, &level, 11.0, 1.0).is_none());
        let fall: Vec<f64> = rise.iter().map(|v| -v).collect();
        assert!(crossing(&times, &fall, -37.0, -1.0).is_some());
    }
}
