//! What can be read of a monitor, saved and taken up again.

use super::engine::Monitor;
use super::group::Group;
use super::observation::{GroupInfo, SignalHistory};
use super::snapshot;
use crate::ModelError;
use crate::artifact::TensorMap;
use foreglow_core::{Incident, Labels, MetricKey, Selector, TimeRange, Timestamp};

impl Monitor {
    /// The groups, in the order of their ids.
    pub fn groups(&self) -> Vec<GroupInfo> {
        let mut all: Vec<GroupInfo> = self.groups.iter().map(Group::info).collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// One group.
    pub fn group(&self, id: &str) -> Option<GroupInfo> {
        Some(self.get(id)?.info())
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The past of a signal up to the newest closed step: what forecasts are made from. Counters are rates.
    pub fn history(&self, id: &str, signal: &MetricKey) -> Option<SignalHistory> {
        self.get(id)?.history(signal)
    }

    /// The instant of the step of group `id` that a sample at `t` belongs to; `None` while the step is not known.
    pub fn step_time(&self, id: &str, t: Timestamp) -> Option<Timestamp> {
        let clock = self.get(id)?.intake.clock?;
        Some(clock.time(clock.index(t)))
    }

    /// The incidents that go on, in the order of group ids.
    pub fn incidents_open(&self) -> Vec<Incident> {
        let mut open: Vec<(&str, Incident)> = self
            .groups
            .iter()
            .filter_map(|g| Some((g.judge.id.as_str(), g.judge.watch.incident(&g.judge.id)?)))
            .collect();
        open.sort_by(|a, b| a.0.cmp(b.0));
        open.into_iter().map(|(_, i)| i).collect()
    }

    /// Everything about one group as versioned bytes (safetensors).
    pub fn export_group(&self, id: &str) -> Option<Vec<u8>> {
        snapshot::encode(self.get(id)?, &self.pipeline).ok()
    }

    /// Takes up a group from [`Monitor::export_group`] (replacing the one of the same id) and gives its id.
    ///
    /// # Errors
    /// [`ModelError::Artifact`] when the bytes are damaged, of an unknown version, or of a pipeline with other signals or
    /// another state.
    pub fn import_group(&mut self, bytes: &[u8]) -> Result<String, ModelError> {
        let group = snapshot::decode(bytes, &self.pipeline)?;
        let id = group.judge.id.clone();
        match self.by_labels.get(&group.judge.labels) {
            Some(&slot) => self.groups[slot] = group,
            None => {
                self.insert(group);
            }
        }
        self.places.clear();
        Ok(id)
    }

    /// All groups, each as [`Monitor::export_group`] gives it: the start state of an artifact.
    pub fn export(&self) -> TensorMap {
        let mut map = TensorMap::default();
        for group in &self.groups {
            if let Ok(bytes) = snapshot::encode(group, &self.pipeline) {
                map.put_u8(place_of(&group.judge.id), bytes);
            }
        }
        map
    }

    /// Takes up what [`Monitor::export`] gave.
    ///
    /// # Errors
    /// As [`Monitor::import_group`].
    pub fn import(&mut self, map: &TensorMap) -> Result<(), ModelError> {
        let names: Vec<String> = map.names().map(str::to_owned).collect();
        for name in names {
            self.import_group(map.u8s(&name)?)?;
        }
        Ok(())
    }

    /// Takes up some of the groups that [`Monitor::export`] gave, where they are in it.
    ///
    /// # Errors
    /// As [`Monitor::import_group`].
    pub fn import_some(&mut self, map: &TensorMap, groups: &[Labels]) -> Result<(), ModelError> {
        let mut places: Vec<String> = groups.iter().map(|g| place_of(&super::group_id(g))).collect();
        places.sort();
        places.dedup();
        for place in places.iter().filter(|p| map.contains(p)) {
            self.import_group(map.u8s(place)?)?;
        }
        Ok(())
    }

    /// Forgets a group; says whether it was there.
    pub fn remove_group(&mut self, id: &str) -> bool {
        let Some(slot) = self.by_id.remove(id) else { return false };
        let gone = self.groups.swap_remove(slot);
        self.by_labels.remove(&gone.judge.labels);
        if let Some(moved) = self.groups.get(slot) {
            self.by_id.insert(moved.judge.id.clone(), slot);
            self.by_labels.insert(moved.judge.labels.clone(), slot);
        }
        self.places.clear();
        true
    }

    /// Ids of the groups that changed since the last call, in order.
    pub fn take_dirty(&mut self) -> Vec<String> {
        let mut ids: Vec<String> = self
            .groups
            .iter_mut()
            .filter_map(|g| std::mem::take(&mut g.judge.dirty).then(|| g.judge.id.clone()))
            .collect();
        ids.sort();
        ids
    }

    /// Suppresses a range (maintenance, freeze, expected load) for the groups that `selector` matches, by their labels or
    /// by one of their signals: steps are scored with status `suppressed` and raise nothing. Not part of exported state.
    pub fn suppress(&mut self, selector: &Selector, range: TimeRange, reason: &str) {
        self.suppressions.add(selector, range, reason);
    }

    /// Memory of one group, bytes, with everything it has on the heap.
    pub fn bytes_of(&self, id: &str) -> Option<usize> {
        Some(self.get(id)?.bytes())
    }
}

/// Where [`Monitor::export`] puts a group.
fn place_of(id: &str) -> String {
    format!("group {id}")
}
