use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// Labels sorted by name, each name once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Labels(Arc<[(Arc<str>, Arc<str>)]>);

impl Labels {
    /// Labels from pairs; of a name given twice the last value wins, an empty value means "not there" (as in Prometheus).
    pub fn new<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let map: BTreeMap<String, String> =
            pairs.into_iter().map(|(n, v)| (n.as_ref().to_owned(), v.as_ref().to_owned())).collect();
        map.into()
    }

    /// The value of label `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.binary_search_by(|(n, _)| (**n).cmp(name)).ok().map(|i| &*self.0[i].1)
    }

    /// Name and value, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (&**n, &**v))
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The labels whose names satisfy `keep`.
    pub fn filter(&self, mut keep: impl FnMut(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|(n, _)| keep(n)).cloned().collect())
    }

    /// These labels with one more (or one replaced).
    pub fn with(&self, name: &str, value: &str) -> Self {
        Self::new(self.iter().chain([(name, value)]))
    }
}

impl From<BTreeMap<String, String>> for Labels {
    fn from(map: BTreeMap<String, String>) -> Self {
        Self(map.into_iter().filter(|(_, v)| !v.is_empty()).map(|(n, v)| (n.into(), v.into())).collect())
    }
}

impl From<Labels> for BTreeMap<String, String> {
    fn from(l: Labels) -> Self {
        l.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
    }
}

impl fmt::Display for Labels {
    /// `{a="x",b="y"}`; nothing for no labels.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return Ok(());
        }
        for (i, (n, v)) in self.iter().enumerate() {
            write!(f, "{}{n}={v:?}", if i == 0 { "{" } else { "," })?;
        }
        f.write_str("}")
    }
}

/// The identity of a series: a metric's name and its sorted labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MetricKey {
    /// The metric's name.
    pub name: Arc<str>,
    /// Everything else that tells this series from others.
    #[serde(default)]
    pub labels: Labels,
}

impl MetricKey {
    /// A key from a name and labels.
    pub fn new(name: impl AsRef<str>, labels: Labels) -> Self {
        Self { name: name.as_ref().into(), labels }
    }

    /// A 64-bit fingerprint (xxh3 over name and labels, length-prefixed) that stays the same in every release: state and
    /// artifacts are keyed by it.
    pub fn fingerprint(&self) -> u64 {
        let mut h = Xxh3::new();
        let mut put = |s: &str| {
            h.update(&(s.len() as u64).to_le_bytes());
            h.update(s.as_bytes());
        };
        put(&self.name);
        for (n, v) in self.labels.iter() {
            put(n);
            put(v);
        }
        h.digest()
    }
}

impl fmt::Display for MetricKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name, self.labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fingerprint_is_frozen() {
        let k = MetricKey::new("cpu", Labels::new([("host", "a"), ("az", "1")]));
        assert_eq!(k.to_string(), r#"cpu{az="1",host="a"}"#);
        assert_eq!(k.fingerprint(), MetricKey::new("cpu", Labels::new([("az", "1"), ("host", "a")])).fingerprint());
        assert_ne!(
            MetricKey::new("ab", Labels::default()).fingerprint(),
            MetricKey::new("a", Labels::new([("b", "x")])).fingerprint()
        );
    }

    proptest! {
        #[test]
        fn labels_do_not_depend_on_order(mut pairs in proptest::collection::btree_map("[a-c]{1,3}", "[x-z]{1,2}", 0..6)
            .prop_map(|m| m.into_iter().collect::<Vec<_>>())) {
            let a = Labels::new(pairs.clone());
            pairs.reverse();
            let b = Labels::new(pairs.clone());
            prop_assert_eq!(&a, &b);
            for (n, v) in &pairs { prop_assert_eq!(a.get(n), Some(v.as_str())); }
            let json = serde_json::to_string(&a).unwrap();
            prop_assert_eq!(serde_json::from_str::<Labels>(&json).unwrap(), a);
        }
    }
}
