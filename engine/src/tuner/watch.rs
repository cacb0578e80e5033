use crate::compute::lock;
use foreglow_core::{Labels, MetricKey, Selector};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Series that are kept.
#[derive(Debug, Clone)]
struct Watched {
    entity: Labels,
    /// Which of the entity's series; `None`: all.
    selector: Option<Selector>,
    /// Which metrics; `None`: all.
    names: Option<Vec<String>>,
}

impl Watched {
    fn is_as(&self, other: &Self) -> bool {
        let text = |w: &Self| w.selector.as_ref().map(|s| s.as_str().to_owned());
        self.entity == other.entity && self.names == other.names && text(self) == text(other)
    }

    fn covers(&self, key: &MetricKey) -> bool {
        self.entity.iter().all(|(n, v)| key.labels.get(n) == Some(v))
            && self.selector.as_ref().is_none_or(|s| s.matches(key))
            && self.names.as_ref().is_none_or(|names| names.iter().any(|n| *n == *key.name))
    }
}

/// Whose metrics are written down, so that trials can be cut from them: entities of which a configuration is known, and
/// the metrics of studies and experiments.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    lists: Mutex<HashMap<String, Vec<Watched>>>,
    epoch: AtomicU64,
}

impl Watch {
    /// Keeps all metrics of an entity from now on.
    pub(crate) fn entity(&self, tenant: &str, entity: &Labels) {
        self.add(tenant, Watched { entity: entity.clone(), selector: None, names: None });
    }

    /// Keeps the named metrics of an entity from now on.
    pub(crate) fn metrics(&self, tenant: &str, entity: &Labels, names: Vec<String>) {
        self.add(tenant, Watched { entity: entity.clone(), selector: None, names: Some(names) });
    }

    /// Keeps the named metrics of the selected series from now on.
    pub(crate) fn selected(&self, tenant: &str, selector: Selector, names: Vec<String>) {
        let watched = Watched { entity: Labels::default(), selector: Some(selector), names: Some(names) };
        self.add(tenant, watched);
    }

    fn add(&self, tenant: &str, w: Watched) {
        let mut lists = lock(&self.lists);
        let list = lists.entry(tenant.to_owned()).or_default();
        if !list.iter().any(|x| x.is_as(&w)) {
            list.push(w);
            self.epoch.fetch_add(1, Ordering::Release);
        }
    }

    /// Changes whenever an answer of [`Watch::covers`] may.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether a series is kept.
    pub(crate) fn covers(&self, tenant: &str, key: &MetricKey) -> bool {
        lock(&self.lists).get(tenant).is_some_and(|l| l.iter().any(|w| w.covers(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_and_metrics() {
        let w = Watch::default();
        let key = |name: &str| MetricKey::new(name, Labels::new([("service", "a"), ("pod", "a-1")]));
        w.metrics("t", &Labels::new([("service", "a")]), vec!["latency".into()]);
        assert!(w.covers("t", &key("latency")) && !w.covers("t", &key("cpu")) && !w.covers("u", &key("latency")));
        let before = w.epoch();
        w.entity("t", &Labels::new([("service", "a")]));
        w.entity("t", &Labels::new([("service", "a")]));
        assert_eq!(w.epoch(), before + 1);
        assert!(w.covers("t", &key("cpu")));
        w.selected("u", "{pod=~\"a-.*\"}".parse().unwrap(), vec!["cpu".into()]);
        w.selected("u", "{pod=~\"a-.*\"}".parse().unwrap(), vec!["cpu".into()]);
        assert_eq!(w.epoch(), before + 2);
        assert!(w.covers("u", &key("cpu")) && !w.covers("u", &key("latency")));
    }
}
