use crate::work::Blob;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A least-recently-used cache of prepared records: lookups O(1) plus O(log n) for the order of use.
#[derive(Debug, Default)]
pub(crate) struct Lru {
    capacity: usize,
    entries: HashMap<u64, (Arc<Blob>, u64)>,
    order: BTreeMap<u64, u64>,
    clock: u64,
    bytes: usize,
}

impl Lru {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, ..Self::default() }
    }

    /// Changes the capacity; what is too much leaves at once.
    pub(crate) fn resize(&mut self, capacity: usize) {
        self.capacity = capacity;
        self.shrink();
    }

    pub(crate) fn get(&mut self, key: u64) -> Option<Arc<Blob>> {
        self.clock += 1;
        let (blob, used) = self.entries.get_mut(&key)?;
        self.order.remove(used);
        *used = self.clock;
        self.order.insert(self.clock, key);
        Some(blob.clone())
    }

    pub(crate) fn insert(&mut self, key: u64, blob: Arc<Blob>) {
        self.clock += 1;
        self.bytes += blob.size();
        if let Some((old, used)) = self.entries.insert(key, (blob, self.clock)) {
            self.bytes -= old.size();
            self.order.remove(&used);
        }
        self.order.insert(self.clock, key);
        self.shrink();
    }

    /// Bytes of the records held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn shrink(&mut self) {
        while self.entries.len() > self.capacity {
            let Some((_, key)) = self.order.pop_first() else { return };
            if let Some((blob, _)) = self.entries.remove(&key) {
                self.bytes -= blob.size();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(n: u8) -> Arc<Blob> {
        Arc::new(Blob::prepare(&[n; 64]))
    }

    #[test]
    fn the_least_recently_used_leaves() {
        let mut c = Lru::new(2);
        c.insert(1, blob(1));
        c.insert(2, blob(2));
        assert!(c.get(1).is_some());
        c.insert(3, blob(3));
        assert!(c.get(2).is_none() && c.get(1).is_some() && c.get(3).is_some());
        assert_eq!(c.bytes(), blob(1).size() + blob(3).size());
        c.insert(3, blob(3));
        c.resize(1);
        assert!(c.get(1).is_none() && c.get(3).is_some());
        assert_eq!(c.bytes(), blob(3).size());
        c.resize(0);
        assert_eq!(c.bytes(), 0);
    }
}
