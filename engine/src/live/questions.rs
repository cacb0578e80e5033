//! What is asked of the monitors: groups, pasts, last scores.

use super::router::shard_of;
use super::{Live, Scope};
use crate::EngineError;
use crate::compute::lock;
use crate::config::ANONYMOUS;
use crate::registry::{Choice, Loaded};
use crate::telemetry::{Exposed, Gauges};
use crate::view::full_key;
use foreglow_core::{Labels, MetricKey, Selector};
use foreglow_models::monitor::{GroupInfo, SignalHistory, StepResult};
use std::sync::Arc;

/// A group with what serves it.
pub(crate) struct ServedGroup {
    pub(crate) info: GroupInfo,
    pub(crate) loaded: Arc<Loaded>,
}

/// One series to forecast from the server's state.
pub(crate) struct Past {
    pub(crate) key: MetricKey,
    pub(crate) history: SignalHistory,
    pub(crate) loaded: Arc<Loaded>,
}

impl Live {
    /// All groups of a scope, by id.
    pub(crate) async fn groups(&self, scope: &Scope) -> Result<Vec<ServedGroup>, EngineError> {
        let s = scope.clone();
        let mut all: Vec<ServedGroup> = self
            .on_all(move |shard| shard.groups(&s))
            .await?
            .into_iter()
            .flatten()
            .map(|(info, loaded)| ServedGroup { info, loaded })
            .collect();
        all.sort_by(|a, b| (&a.info.id, &a.loaded.model).cmp(&(&b.info.id, &b.loaded.model)));
        Ok(all)
    }

    /// One group, its memory in bytes, and why it is served as it is.
    pub(crate) async fn group(
        &self,
        scope: &Scope,
        id: &str,
    ) -> Result<Option<(ServedGroup, usize, Option<Choice>)>, EngineError> {
        let entry = lock(&self.scopes).get(scope).cloned();
        let choice = entry.and_then(|e| lock(&e.router).explain(id));
        let (s, group) = (scope.clone(), id.to_owned());
        let serving = choice.as_ref().map(|c| c.loaded.state_key.clone());
        let found = self
            .on(shard_of(id, self.shards.len()), move |shard| {
                let monitors = &shard.scopes.get(&s)?.monitors;
                let chosen = serving.and_then(|k| monitors.get(&k));
                let served = chosen
                    .filter(|m| m.monitor.group(&group).is_some())
                    .or_else(|| monitors.values().find(|m| m.monitor.group(&group).is_some()))?;
                let info = served.monitor.group(&group)?;
                let bytes = served.monitor.bytes_of(&group).unwrap_or(0);
                Some((ServedGroup { info, loaded: served.loaded.clone() }, bytes))
            })
            .await?;
        Ok(found.map(|(g, bytes)| (g, bytes, choice)))
    }

    /// The past of every series of a tenant that one of the selectors matches, by key; at most `most` of them.
    pub(crate) async fn pasts(
        &self,
        scope: &Scope,
        selectors: Vec<Selector>,
        most: usize,
    ) -> Result<Vec<Past>, EngineError> {
        let s = scope.clone();
        let found = self
            .on_all(move |shard| {
                let mut out = Vec::new();
                let Some(state) = shard.scopes.get(&s) else { return out };
                for served in state.monitors.values() {
                    for g in served.monitor.groups() {
                        for signal in &g.signals {
                            let key = full_key(&g.labels, signal);
                            if out.len() <= most
                                && selectors.iter().any(|s| s.matches(&key))
                                && let Some(history) = served.monitor.history(&g.id, signal)
                            {
                                out.push(Past { key, history, loaded: served.loaded.clone() });
                            }
                        }
                    }
                }
                out
            })
            .await?;
        let mut all: Vec<Past> = found.into_iter().flatten().collect();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(all)
    }

    /// What is measured at the moment, and the last scores by vmanomaly's names.
    pub(crate) async fn measure(
        &self,
        sees: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Result<(Gauges, Vec<Exposed>), EngineError> {
        let most = self.limits.metrics_groups;
        let told = self
            .on_all(move |shard| {
                let mut groups = 0;
                let mut scores = Vec::new();
                let mut shown = 0;
                for (scope, state) in shard.scopes.iter().filter(|(s, _)| s.session.is_none()) {
                    groups += state.monitors.values().map(|m| m.monitor.len()).sum::<usize>();
                    if !sees(&scope.tenant) {
                        continue;
                    }
                    for l in state.latest.values().take(most.saturating_sub(shown)) {
                        expose(&scope.tenant, &l.step, &l.labels, &mut scores);
                    }
                    shown += state.latest.len();
                }
                (groups, scores)
            })
            .await?;
        let sessions = lock(&self.scopes).keys().filter(|s| s.session.is_some()).count();
        let gauges = Gauges {
            groups: told.iter().map(|t| t.0).sum(),
            queue_used: self.limits.queue.saturating_sub(self.permits.available_permits()),
            queue_size: self.limits.queue,
            models: self.registry.catalogue().artifacts.len(),
            sessions,
            streams: 0,
        };
        let mut scores: Vec<Exposed> = told.into_iter().flat_map(|t| t.1).collect();
        scores.sort_by(|a, b| (a.name, &a.labels).cmp(&(b.name, &b.labels)));
        Ok((gauges, scores))
    }
}

/// A step as series, named as vmanomaly names them.
fn expose(tenant: &str, r: &StepResult, group: &Labels, out: &mut Vec<Exposed>) {
    let own = |name: &str, value: &str| {
        let tenant = (tenant != ANONYMOUS).then(|| ("tenant".to_owned(), tenant.to_owned()));
        std::iter::once((name.to_owned(), value.to_owned())).chain(tenant).collect::<Vec<_>>()
    };
    out.push(Exposed { name: "foreglow_group_score", labels: own("group", &r.group), value: r.score });
    for s in &r.signals {
        let labels = beside(own("for", &s.key.name), &full_key(group, &s.key).labels);
        let values = [
            ("foreglow_anomaly_score", s.score),
            ("foreglow_y", s.actual),
            ("foreglow_yhat", s.expected),
            ("foreglow_yhat_lower", s.lower),
            ("foreglow_yhat_upper", s.upper),
        ];
        out.extend(values.map(|(name, value)| Exposed { name, labels: labels.clone(), value }));
    }
}

/// A series' labels beside those that the server adds. A name that is taken gets `exported_` before it, as Prometheus does:
/// a name twice would spoil the whole page.
fn beside(mut own: Vec<(String, String)>, labels: &Labels) -> Vec<(String, String)> {
    for (name, value) in labels.iter() {
        let mut name = label_name(name);
        while own.iter().any(|(n, _)| *n == name) {
            name.insert_str(0, "exported_");
        }
        own.push((name, value.to_owned()));
    }
    own
}

/// A label's name as Prometheus allows it: letters, digits and underscores, no digit first.
fn label_name(name: &str) -> String {
    let allowed =
        |(i, c): (usize, char)| if c.is_ascii_alphabetic() || (i > 0 && c.is_ascii_digit()) { c } else { '_' };
    name.chars().enumerate().map(allowed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_names() {
        assert_eq!(label_name("k8s.pod-name"), "k8s_pod_name");
        assert_eq!(label_name("9lives"), "_lives");
    }

    #[test]
    fn no_label_name_comes_twice() {
        let labels = Labels::new([("a.b", "1"), ("a_b", "2"), ("for", "x"), ("tenant", "y")]);
        let own = [("for", "cpu"), ("tenant", "t")].map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec();
        let all = beside(own, &labels);
        let names: Vec<&str> = all.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["for", "tenant", "a_b", "exported_a_b", "exported_for", "exported_tenant"]);
        assert_eq!(all[3].1, "2");
    }
}
