//! Which pipeline and which shard a series belongs to.

use super::Scope;
use crate::registry::{Catalogue, Choice, Loaded};
use crate::tuner::Watch;
use foreglow_core::{Labels, MetricBatch, MetricKey};
use foreglow_models::monitor::{GroupInfo, Refusal, group_id, refusal};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Series remembered of a scope, for each group it may have.
const SERIES_A_GROUP: usize = 100;

/// Where a series goes.
#[derive(Clone)]
struct Route {
    loaded: Arc<Loaded>,
    group: Arc<str>,
    shard: usize,
    /// Its values are kept for cutting trials.
    watched: bool,
}

/// A group as one set of rules forms it.
#[derive(Clone)]
struct Seen {
    id: Arc<str>,
    signals: Vec<MetricKey>,
    /// The series that form it, as posted.
    series: Vec<MetricKey>,
    /// What serves it: `None` while another set of rules has its series.
    serves: Option<Arc<Loaded>>,
}

/// A group that another pipeline serves from now on: its old state is dropped.
pub(super) struct Moved {
    pub(super) shard: usize,
    pub(super) from: Arc<Loaded>,
    pub(super) group: Arc<str>,
}

/// The part of a batch that one shard observes with one pipeline.
pub(super) struct Part {
    pub(super) shard: usize,
    pub(super) loaded: Arc<Loaded>,
    pub(super) batch: MetricBatch,
    /// Of each key, the group.
    pub(super) groups: Vec<Arc<str>>,
}

impl Part {
    /// Each group with the index of its first sample.
    pub(super) fn first(&self) -> Vec<(String, u32)> {
        let mut first: HashMap<&str, u32> = HashMap::new();
        for s in &self.batch.samples {
            let at = first.entry(&self.groups[s.series as usize]).or_insert(s.index);
            *at = s.index.min(*at);
        }
        first.into_iter().map(|(g, i)| (g.to_owned(), i)).collect()
    }
}

/// A batch taken apart.
#[derive(Default)]
pub(super) struct Routed {
    pub(super) parts: Vec<Part>,
    pub(super) moved: Vec<Moved>,
    pub(super) refused: Vec<Refusal>,
    /// Samples of watched series.
    pub(super) watched: MetricBatch,
    /// Known series of groups that moved.
    again: Vec<MetricKey>,
}

/// The routes of one scope. Everything here can be found again from what is sent; only memory bounds it.
pub(super) struct Router {
    shards: usize,
    max_groups: usize,
    catalogue: Arc<Catalogue>,
    watch_epoch: u64,
    routes: HashMap<MetricKey, Route>,
    /// By set of rules.
    groups: Vec<HashMap<Labels, Seen>>,
}

/// The shard of a group; not kept anywhere, so it may change with the number of shards.
pub(super) fn shard_of(group: &str, shards: usize) -> usize {
    let mut h = DefaultHasher::new();
    group.hash(&mut h);
    (h.finish() % shards as u64) as usize
}

impl Router {
    pub(super) fn new(shards: usize, max_groups: usize, catalogue: Arc<Catalogue>) -> Self {
        let groups = catalogue.rules.iter().map(|_| HashMap::new()).collect();
        Self { shards, max_groups, catalogue, watch_epoch: 0, routes: HashMap::new(), groups }
    }

    /// Groups that are known from saved state.
    pub(super) fn restore(&mut self, loaded: &Arc<Loaded>, groups: &[GroupInfo]) {
        for g in groups {
            let seen = Seen {
                id: g.id.as_str().into(),
                signals: g.signals.clone(),
                series: Vec::new(),
                serves: Some(loaded.clone()),
            };
            self.groups[loaded.ruleset].insert(g.labels.clone(), seen);
        }
    }

    /// Takes up another catalogue; gives the groups that move by it.
    pub(super) fn refresh(&mut self, catalogue: &Arc<Catalogue>) -> Vec<Moved> {
        if catalogue.version == self.catalogue.version {
            return Vec::new();
        }
        let old = std::mem::replace(&mut self.catalogue, catalogue.clone());
        let mut before = std::mem::take(&mut self.groups);
        self.groups = catalogue.rules.iter().map(|_| HashMap::new()).collect();
        self.routes.clear();
        let mut moved = Vec::new();
        let mut series = Vec::new();
        for (rules, groups) in old.rules.iter().zip(&mut before) {
            // Sets of rules that stay keep what they saw; a group that was served by something gone is chosen anew.
            let place = catalogue.rules.iter().position(|r| r == rules);
            for (labels, mut seen) in groups.drain() {
                series.append(&mut seen.series.clone());
                if let Some(from) = seen.serves.take() {
                    moved.push(Moved { shard: shard_of(&seen.id, self.shards), from, group: seen.id.clone() });
                }
                if let Some(place) = place {
                    self.groups[place].insert(labels, seen);
                }
            }
        }
        for key in &series {
            self.see(key);
        }
        for r in 0..self.groups.len() {
            let groups: Vec<Labels> = self.groups[r].keys().cloned().collect();
            for g in &groups {
                self.choose(r, g);
            }
        }
        let served: HashSet<(&str, &str)> = self
            .groups
            .iter()
            .flat_map(HashMap::values)
            .filter(|s| !self.is_left(s))
            .filter_map(|s| Some((&*s.id, &*s.serves.as_ref()?.state_key)))
            .collect();
        moved.retain(|m| !served.contains(&(&*m.group, &*m.from.state_key)));
        moved
    }

    /// Lets go of groups: each by what served it and its id.
    pub(super) fn forget(&mut self, gone: &HashSet<(&str, &str)>) {
        let served_by = |l: &Loaded, id: &str| gone.contains(&(&*l.state_key, id));
        let is_gone = |s: &Seen| s.serves.as_ref().is_some_and(|l| served_by(l, &s.id));
        self.routes.retain(|_, r| !served_by(&r.loaded, &r.group));
        let series: HashSet<MetricKey> = self
            .groups
            .iter()
            .flat_map(HashMap::values)
            .filter(|s| is_gone(s))
            .flat_map(|s| s.series.clone())
            .collect();
        for groups in &mut self.groups {
            groups.retain(|_, s| {
                let had_some = !s.series.is_empty();
                s.series.retain(|k| !series.contains(k));
                !(is_gone(s) || had_some && s.series.is_empty())
            });
        }
    }

    /// Where most of the series that it may remember are remembered, forgets them: those that still come are found again.
    pub(super) fn forget_series(&mut self) {
        if self.routes.len() > self.most_series() / 2 {
            self.routes.clear();
            self.groups.iter_mut().flat_map(HashMap::values_mut).for_each(|s| s.series.clear());
        }
    }

    fn most_series(&self) -> usize {
        self.max_groups.saturating_mul(SERIES_A_GROUP)
    }

    /// What it knows of the groups that these series belong to: enough to say where they would go without going there.
    pub(super) fn beside(&self, keys: &[MetricKey]) -> Self {
        let mut out = Self::new(self.shards, self.max_groups, self.catalogue.clone());
        out.watch_epoch = self.watch_epoch;
        for key in keys {
            if let Some(route) = self.routes.get(key) {
                out.routes.insert(key.clone(), route.clone());
            }
            for (r, rules) in self.catalogue.rules.iter().enumerate() {
                let group = rules.place(key).0.group;
                if let Some(seen) = self.groups[r].get(&group) {
                    out.groups[r].entry(group).or_insert_with(|| seen.clone());
                }
            }
        }
        if self.groups[0].len() >= self.max_groups {
            out.max_groups = out.groups[0].len();
        }
        out
    }

    /// Takes a batch apart. Series of a group beyond the limits are refused, sample by sample.
    pub(super) fn route(&mut self, scope: &Scope, batch: &MetricBatch, watch: &Watch) -> Routed {
        let mut out = Routed::default();
        if watch.epoch() != self.watch_epoch {
            self.watch_epoch = watch.epoch();
            self.routes.clear();
        }
        let fresh: Vec<&MetricKey> = batch.keys.iter().filter(|k| !self.routes.contains_key(*k)).collect();
        if !fresh.is_empty() {
            self.add(scope, &fresh, watch, &mut out);
        }
        let mut parts: BTreeMap<(usize, Arc<str>), usize> = BTreeMap::new();
        let mut places: Vec<Option<(usize, u32)>> = Vec::with_capacity(batch.keys.len());
        let mut kept: Vec<Option<u32>> = Vec::with_capacity(batch.keys.len());
        for key in &batch.keys {
            let Some(r) = self.routes.get(key) else {
                places.push(None);
                kept.push(None);
                continue;
            };
            let at = *parts.entry((r.shard, r.loaded.state_key.clone())).or_insert_with(|| {
                let (batch, groups) = (MetricBatch::default(), Vec::new());
                out.parts.push(Part { shard: r.shard, loaded: r.loaded.clone(), batch, groups });
                out.parts.len() - 1
            });
            out.parts[at].groups.push(r.group.clone());
            let keys = &mut out.parts[at].batch.keys;
            keys.push(key.clone());
            places.push(Some((at, keys.len() as u32 - 1)));
            kept.push((r.watched && scope.session.is_none()).then(|| {
                out.watched.keys.push(key.clone());
                out.watched.keys.len() as u32 - 1
            }));
        }
        for s in &batch.samples {
            let Some(Some((at, series))) = places.get(s.series as usize).copied() else {
                let detail = format!("the tenant has {} groups or too many series already", self.max_groups);
                out.refused.push(Refusal { index: s.index, code: refusal::TOO_MANY_GROUPS, detail });
                continue;
            };
            out.parts[at].batch.samples.push(foreglow_core::BatchSample { series, ..*s });
            if let Some(series) = kept[s.series as usize]
                && s.value.is_finite()
            {
                out.watched.samples.push(foreglow_core::BatchSample { series, ..*s });
            }
        }
        out
    }

    /// Finds routes for series that are new.
    fn add(&mut self, scope: &Scope, fresh: &[&MetricKey], watch: &Watch, out: &mut Routed) {
        let catalogue = self.catalogue.clone();
        let most = self.most_series();
        let mut taken = Vec::new();
        let mut touched: BTreeSet<(usize, Labels)> = BTreeSet::new();
        for key in fresh {
            let groups = &self.groups[0];
            let room = groups.len() < self.max_groups || groups.contains_key(&catalogue.rules[0].place(key).0.group);
            if room && self.routes.len() + taken.len() < most {
                self.see(key);
                taken.push(*key);
                touched.extend(catalogue.rules.iter().enumerate().map(|(r, rules)| (r, rules.place(key).0.group)));
            }
        }
        for (r, labels) in &touched {
            self.settle(*r, labels, out);
        }
        let again = std::mem::take(&mut out.again);
        for key in taken.into_iter().chain(&again) {
            if let Some(route) = self.home(scope, key, watch) {
                self.routes.insert(key.clone(), route);
            }
        }
    }

    /// Chooses (again) what serves a group; where that changes, its known series follow.
    fn settle(&mut self, r: usize, labels: &Labels, out: &mut Routed) {
        let before = self.groups[r].get(labels).and_then(|s| s.serves.clone());
        self.choose(r, labels);
        let Some(seen) = self.groups[r].get(labels) else { return };
        let now_there = |l: &Arc<Loaded>| l.artifact.is_some();
        if r > 0 && !before.as_ref().is_some_and(now_there) && seen.serves.as_ref().is_some_and(now_there) {
            // The online groups that these series formed until now.
            let rules = &self.catalogue.rules[0];
            let formed: BTreeSet<Labels> = seen.series.iter().map(|k| rules.place(k).0.group).collect();
            for left in formed.iter().filter_map(|g| self.groups[0].get(g)).filter(|s| self.is_left(s)) {
                let Some(from) = left.serves.clone() else { continue };
                out.moved.push(Moved { shard: shard_of(&left.id, self.shards), from, group: left.id.clone() });
            }
            // Those that came before it was complete had gone there.
            out.again.extend(seen.series.iter().filter(|k| self.routes.contains_key(*k)).cloned());
        }
        if let (Some(from), Some(to)) = (before, &seen.serves)
            && from.state_key != to.state_key
        {
            let shard = shard_of(&seen.id, self.shards);
            out.moved.push(Moved { shard, from, group: seen.id.clone() });
            out.again.extend(seen.series.iter().filter(|k| self.routes.contains_key(*k)).cloned());
        }
    }

    /// Whether the online baseline would serve this group, but artifacts under other rules have all its series: nothing
    /// comes to it any more, and a group that is kept would be taken for silent.
    fn is_left(&self, seen: &Seen) -> bool {
        let elsewhere = |key: &MetricKey| {
            self.catalogue.rules.iter().zip(&self.groups).skip(1).any(|(rules, groups)| {
                let serves = groups.get(&rules.place(key).0.group).and_then(|s| s.serves.as_ref());
                serves.is_some_and(|l| l.artifact.is_some())
            })
        };
        seen.serves.as_ref().is_some_and(|l| l.artifact.is_none())
            && !seen.series.is_empty()
            && seen.series.iter().all(elsewhere)
    }

    /// Where a series goes: to an artifact before the online baseline, whatever rules form its group.
    fn home(&self, scope: &Scope, key: &MetricKey, watch: &Watch) -> Option<Route> {
        let of = |r: usize| self.groups[r].get(&self.catalogue.rules[r].place(key).0.group);
        let serves = |r: &usize| of(*r).and_then(|s| s.serves.as_ref()).is_some_and(|l| l.artifact.is_some());
        let seen = of((0..self.groups.len()).find(serves).unwrap_or(0))?;
        Some(Route {
            loaded: seen.serves.clone()?,
            group: seen.id.clone(),
            shard: shard_of(&seen.id, self.shards),
            watched: watch.covers(&scope.tenant, key),
        })
    }

    /// Notes a series under every set of rules.
    fn see(&mut self, key: &MetricKey) {
        for (rules, groups) in self.catalogue.rules.iter().zip(&mut self.groups) {
            let (place, _) = rules.place(key);
            let seen = groups.entry(place.group).or_insert_with_key(|labels| Seen {
                id: group_id(labels).into(),
                signals: Vec::new(),
                series: Vec::new(),
                serves: None,
            });
            if !seen.signals.contains(&place.signal) {
                seen.signals.push(place.signal);
            }
            if !seen.series.contains(key) {
                seen.series.push(key.clone());
            }
        }
    }

    /// Chooses what serves a group of one set of rules: the best artifact, or under the first set the online baseline.
    fn choose(&mut self, r: usize, group: &Labels) {
        let Some(seen) = self.groups[r].get_mut(group) else { return };
        let ranked = self.catalogue.rank(r, group, &seen.signals);
        let best = ranked.into_iter().find(|(_, rank)| rank.serves).map(|(l, _)| l);
        let online = (r == 0).then(|| self.catalogue.online.clone());
        seen.serves = best.or(online);
    }

    /// Why a group is served by what serves it.
    pub(super) fn explain(&self, id: &str) -> Option<Choice> {
        let (r, labels, seen) = self
            .groups
            .iter()
            .enumerate()
            .flat_map(|(r, g)| g.iter().map(move |(l, s)| (r, l, s)))
            .filter(|(_, _, s)| *s.id == *id && s.serves.is_some())
            .max_by_key(|(_, _, s)| s.serves.as_ref().is_some_and(|l| l.artifact.is_some()))?;
        let loaded = seen.serves.clone()?;
        let ranked = self.catalogue.rank(r, labels, &seen.signals);
        let mut reason = "no artifact serves it".to_owned();
        let mut runners_up = Vec::new();
        for (l, rank) in ranked {
            if l.model == loaded.model { reason = rank.reason } else { runners_up.push((l.model.clone(), rank.reason)) }
        }
        if loaded.artifact.is_some() {
            runners_up.push((self.catalogue.online.model.clone(), "serves what no artifact does".to_owned()));
        }
        Some(Choice { loaded, reason, runners_up })
    }
}
