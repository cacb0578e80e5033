//! Which artifact serves a group.

use super::Manifest;
use crate::monitor::group_id;
use foreglow_core::{Labels, MetricKey, Selector};
use serde::{Deserialize, Serialize};

/// Which groups an artifact serves.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MatchSpec {
    /// All of them must match the group's labels or one of its signals; none = any group.
    pub selectors: Vec<Selector>,
    /// Names of the labels that a group has.
    pub by: Vec<String>,
    /// Signals that a group must have.
    pub required: Vec<MetricKey>,
    /// Signals that a group may have.
    pub may_miss: Vec<MetricKey>,
}

impl MatchSpec {
    /// Why a group with these signals is not served, or how many matchers chose it.
    pub fn judge(&self, group: &Labels, signals: &[MetricKey]) -> Result<usize, String> {
        for selector in &self.selectors {
            if !matches(selector, group, signals) {
                return Err(format!("{selector} does not match"));
            }
        }
        if let Some(missing) = self.by.iter().find(|l| group.get(l).is_none()) {
            return Err(format!("the group has no label {missing:?}"));
        }
        if let Some((extra, _)) = group.iter().find(|(l, _)| !self.by.iter().any(|b| b == l)) {
            return Err(format!("the model's groups have no label {extra:?}"));
        }
        let missing: Vec<&MetricKey> = self.required.iter().filter(|k| !signals.contains(k)).collect();
        if let Some(first) = missing.first() {
            let rest = missing.len() - 1;
            let more = if rest == 0 { String::new() } else { format!(" and {rest} more") };
            return Err(format!("signal {first}{more} is missing"));
        }
        Ok(self.selectors.iter().map(Selector::specificity).sum())
    }
}

fn matches(selector: &Selector, group: &Labels, signals: &[MetricKey]) -> bool {
    let with = |k: &MetricKey| MetricKey::new(&k.name, Labels::new(group.iter().chain(k.labels.iter())));
    selector.matches(&MetricKey::new("", group.clone())) || signals.iter().any(|k| selector.matches(&with(k)))
}

/// An artifact that might serve.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its manifest.
    pub manifest: &'a Manifest,
    /// Whether it is its name's `current`.
    pub current: bool,
}

/// One candidate's place in the ranking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranked {
    /// Which of the candidates.
    pub index: usize,
    /// Whether it could serve.
    pub serves: bool,
    /// Why it stands where it stands.
    pub reason: String,
}

/// Ranks candidates for a group: those that can serve first, by most matchers (a group that was fitted counts as matched
/// by each of its labels), then alias `current`, then newest training data, then id; the first one that serves is it.
pub fn choose(candidates: &[Candidate<'_>], group: &Labels, signals: &[MetricKey]) -> Vec<Ranked> {
    let id = group_id(group);
    let mut ranked: Vec<(Ranked, usize)> = candidates
        .iter()
        .enumerate()
        .map(|(index, c)| match c.manifest.matches.judge(group, signals) {
            Ok(matchers) => {
                let fitted = c.manifest.p_alert.contains_key(&id);
                let matchers = matchers + if fitted { group.len() } else { 0 };
                let known = if fitted { "fitted on this group" } else { "served by the shared parts" };
                let alias = if c.current { ", current" } else { "" };
                let end = c.manifest.training.end;
                let reason = format!("{matchers} matchers, {known}{alias}, trained up to {end}");
                (Ranked { index, serves: true, reason }, matchers)
            }
            Err(reason) => (Ranked { index, serves: false, reason }, 0),
        })
        .collect();
    ranked.sort_by_key(|(r, matchers)| {
        let c = &candidates[r.index];
        let newest = std::cmp::Reverse(c.manifest.training.end);
        (!r.serves, std::cmp::Reverse(*matchers), !c.current, newest, c.manifest.id.clone())
    });
    ranked.into_iter().map(|(r, _)| r).collect()
}
