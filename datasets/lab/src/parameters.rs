use crate::LabError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// How the dispatcher chooses the agent of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// One after the other.
    RoundRobin,
    /// The agent with the fewest tasks queued or in work; ties take turns.
    LeastLoaded,
    /// By the key of the task's record: the same record always goes to the same agent, which keeps caches warm and lets
    /// popular records load their agent more.
    Hash,
    /// In proportion to [`Parameters::weights`], spread evenly (smooth weighted round robin, as nginx does it).
    Weighted,
}

impl Placement {
    /// All policies, in the order of the search space.
    pub const ALL: [Self; 4] = [Self::RoundRobin, Self::LeastLoaded, Self::Hash, Self::Weighted];

    /// The name in `snake_case`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::LeastLoaded => "least_loaded",
            Self::Hash => "hash",
            Self::Weighted => "weighted",
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Placement {
    type Err = LabError;

    fn from_str(text: &str) -> Result<Self, LabError> {
        Self::ALL.into_iter().find(|p| p.as_str() == text).ok_or_else(|| {
            LabError::range("placement", format!("{text:?}"), "one of round_robin, least_loaded, hash, weighted")
        })
    }
}

/// What can be tuned, while the swarm runs, through [`Swarm::configure`](crate::Swarm::configure).
///
/// | field | range | too small | too large |
/// | --- | --- | --- | --- |
/// | `workers` | 1-16 | tasks wait for each other's store reads | the cache is split between workers: fewer hits, more memory |
/// | `batch_size` | 1-32 | each task pays for its own lock and store read | a batch ends together: the first waits for the last |
/// | `queue_bound` | 4-512 | bursts are refused | overload becomes latency instead of refusals |
/// | `timeout_ms` | 20-2,000 | work is thrown away just before it is done | a stuck agent is noticed late |
/// | `retry_limit` | 0-4 | one bad agent loses tasks | overload multiplies itself |
/// | `cache_size` | 8-1,024 | records are fetched and prepared again | memory |
/// | `placement` | see [`Placement`] | | |
///
/// The default is plausible and not the best: that is what a tuner is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// Tasks (or batches) that one agent works on at a time. Default 2.
    pub workers: usize,
    /// The most tasks a worker takes from the queue at once; it never waits for a batch to fill. Default 4.
    pub batch_size: usize,
    /// The most tasks that wait at one agent; more are refused. Default 64.
    pub queue_bound: usize,
    /// Milliseconds after which an attempt counts as failed, queue included. Default 250.
    pub timeout_ms: u64,
    /// How often a failed attempt is placed again, on another agent, after 5 ms doubled each time. Default 1.
    pub retry_limit: u32,
    /// Prepared records one agent keeps, least recently used leave first; each worker has an equal share. Default 48.
    pub cache_size: usize,
    /// How agents are chosen. Default [`Placement::RoundRobin`].
    pub placement: Placement,
    /// One weight an agent, 0 or more, for [`Placement::Weighted`]; empty means all equal. Default empty.
    #[serde(default)]
    pub weights: Vec<f64>,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            workers: 2,
            batch_size: 4,
            queue_bound: 64,
            timeout_ms: 250,
            retry_limit: 1,
            cache_size: 48,
            placement: Placement::RoundRobin,
            weights: Vec::new(),
        }
    }
}

/// Name, low, high, logarithmic.
const INTEGERS: [(&str, u64, u64, bool); 6] = [
    ("workers", 1, 16, true),
    ("batch_size", 1, 32, true),
    ("queue_bound", 4, 512, true),
    ("timeout_ms", 20, 2000, true),
    ("retry_limit", 0, 4, false),
    ("cache_size", 8, 1024, true),
];
const MAX_WEIGHT: f64 = 1000.0;
const MAX_AGENTS: usize = 32;

impl Parameters {
    /// Refuses values out of range and weights that do not fit `agents`.
    pub fn check(&self, agents: usize) -> Result<(), LabError> {
        for (name, low, high, _) in INTEGERS {
            let value = self.integer(name);
            if !(low..=high).contains(&value) {
                return Err(LabError::range(name, value, format!("a whole number from {low} to {high}")));
            }
        }
        if !self.weights.is_empty() && self.weights.len() != agents {
            let expected = format!("one weight an agent ({agents}), or none");
            return Err(LabError::range("weights", format!("{} values", self.weights.len()), expected));
        }
        if let Some((i, w)) = self.weights.iter().enumerate().find(|(_, w)| !(0.0..=MAX_WEIGHT).contains(*w)) {
            return Err(LabError::range(format!("weight_a{i}"), w, format!("a number from 0 to {MAX_WEIGHT}")));
        }
        if !self.weights.is_empty() && self.weights.iter().sum::<f64>() <= 0.0 {
            return Err(LabError::range("weights", "all 0", "at least one weight above 0"));
        }
        Ok(())
    }

    /// The parameters as names and values: the seven names of the table, and `weight_a0`... where weights are set.
    pub fn to_map(&self) -> BTreeMap<String, Value> {
        let mut map: BTreeMap<String, Value> =
            INTEGERS.iter().map(|(name, ..)| ((*name).to_owned(), json!(self.integer(name)))).collect();
        map.insert("placement".to_owned(), json!(self.placement.as_str()));
        map.extend(self.weights.iter().enumerate().map(|(i, w)| (format!("weight_a{i}"), json!(w))));
        map
    }

    /// These parameters with the named ones replaced; names that are not in `map` keep their value.
    ///
    /// Whole numbers may be written as floats (`8.0`), as tuners do. The ranges are checked by [`Parameters::check`].
    ///
    /// # Errors
    /// An unknown name, or a value of the wrong type.
    pub fn updated(&self, map: &BTreeMap<String, Value>) -> Result<Self, LabError> {
        let mut next = self.clone();
        for (name, value) in map {
            if name == "placement" {
                next.placement = value.as_str().unwrap_or(&value.to_string()).parse()?;
            } else if let Some(index) = name.strip_prefix("weight_a").and_then(|i| i.parse::<usize>().ok()) {
                if index >= MAX_AGENTS {
                    return Err(LabError::range(name, value, format!("an agent below {MAX_AGENTS}")));
                }
                let weight = value.as_f64().ok_or_else(|| LabError::range(name, value, "a number"))?;
                if next.weights.len() <= index {
                    next.weights.resize(index + 1, 1.0);
                }
                next.weights[index] = weight;
            } else if INTEGERS.iter().any(|(n, ..)| n == name) {
                let whole = value.as_u64().or_else(|| {
                    value.as_f64().filter(|x| x.fract() == 0.0 && (0.0..=1e9).contains(x)).map(|x| x as u64)
                });
                next.set(name, whole.ok_or_else(|| LabError::range(name, value, "a whole number"))?);
            } else {
                let known = INTEGERS.iter().map(|(n, ..)| *n).chain(["placement", "weight_a0 ..."]);
                let known = known.collect::<Vec<_>>().join(", ");
                return Err(LabError::UnknownParameter { name: name.clone(), known });
            }
        }
        Ok(next)
    }

    /// Parameters from names and values; what is not named has its default.
    pub fn from_map(map: &BTreeMap<String, Value>) -> Result<Self, LabError> {
        Self::default().updated(map)
    }

    /// The search space of the seven parameters as the `parameters` of `POST /v1/studies`: name, type, bounds, scale and
    /// the current value. `weighted` is not among the choices of `placement`: see [`Parameters::weight_space`].
    pub fn space(&self) -> Value {
        let mut list: Vec<Value> = INTEGERS
            .iter()
            .map(|(name, low, high, log)| {
                json!({"name": name, "type": "int", "low": low, "high": high, "log": log, "current": self.integer(name)})
            })
            .collect();
        let choices: Vec<_> =
            Placement::ALL.iter().filter(|p| **p != Placement::Weighted).map(|p| p.as_str()).collect();
        let current = if self.placement == Placement::Weighted { Placement::RoundRobin } else { self.placement };
        list.push(json!({"name": "placement", "type": "cat", "choices": choices, "current": current.as_str()}));
        Value::Array(list)
    }

    /// The search space of the load weights of `agents` agents, 0 to 2 each; apply with [`Placement::Weighted`].
    pub fn weight_space(&self, agents: usize) -> Value {
        let weight = |i: usize| self.weights.get(i).copied().unwrap_or(1.0);
        (0..agents)
            .map(|i| json!({"name": format!("weight_a{i}"), "type": "float", "low": 0.0, "high": 2.0, "log": false, "current": weight(i)}))
            .collect()
    }

    fn integer(&self, name: &str) -> u64 {
        match name {
            "workers" => self.workers as u64,
            "batch_size" => self.batch_size as u64,
            "queue_bound" => self.queue_bound as u64,
            "timeout_ms" => self.timeout_ms,
            "retry_limit" => u64::from(self.retry_limit),
            _ => self.cache_size as u64,
        }
    }

    fn set(&mut self, name: &str, value: u64) {
        match name {
            "workers" => self.workers = value as usize,
            "batch_size" => self.batch_size = value as usize,
            "queue_bound" => self.queue_bound = value as usize,
            "timeout_ms" => self.timeout_ms = value,
            "retry_limit" => self.retry_limit = value as u32,
            _ => self.cache_size = value as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_round_trip() {
        let p = Parameters {
            workers: 5,
            batch_size: 7,
            queue_bound: 9,
            timeout_ms: 111,
            retry_limit: 3,
            cache_size: 99,
            placement: Placement::Weighted,
            weights: vec![0.5, 1.0, 2.0],
        };
        assert_eq!(Parameters::from_map(&p.to_map()).unwrap(), p);
        assert_eq!(p.updated(&BTreeMap::new()).unwrap(), p);
        let d = Parameters::default();
        assert_eq!(Parameters::from_map(&d.to_map()).unwrap(), d);
    }

    #[test]
    fn a_tuner_may_send_floats_and_parts() {
        let map = BTreeMap::from([("workers".to_owned(), json!(8.0)), ("placement".to_owned(), json!("hash"))]);
        let p = Parameters::from_map(&map).unwrap();
        assert_eq!((p.workers, p.placement, p.batch_size), (8, Placement::Hash, Parameters::default().batch_size));
    }

    #[test]
    fn bad_values_name_field_value_and_range() {
        let refused = |name: &str, value: Value| {
            Parameters::from_map(&BTreeMap::from([(name.to_owned(), value)]))
                .and_then(|p| p.check(6))
                .unwrap_err()
                .to_string()
        };
        assert_eq!(refused("workers", json!(0)), "workers = 0: expected a whole number from 1 to 16");
        assert!(refused("workers", json!(2.5)).contains("2.5"));
        assert!(refused("placement", json!("random")).contains("least_loaded"));
        assert!(refused("wrokers", json!(2)).contains("expected one of workers"));
        assert!(refused("weight_a9", json!(1.0)).contains("one weight an agent (6)"));
        assert!(refused("weight_a5", json!(-1.0)).contains("weight_a5"));
    }

    #[test]
    fn the_space_holds_the_default_and_every_bound_passes() {
        let d = Parameters::default();
        for p in d.space().as_array().unwrap() {
            let name = p["name"].as_str().unwrap().to_owned();
            let ends = if p["type"] == "cat" {
                p["choices"].as_array().unwrap().clone()
            } else {
                vec![p["low"].clone(), p["high"].clone()]
            };
            assert_eq!(p["current"], d.to_map()[&name]);
            for end in ends {
                d.updated(&BTreeMap::from([(name.clone(), end)])).unwrap().check(6).unwrap();
            }
        }
        assert_eq!(d.weight_space(6).as_array().unwrap().len(), 6);
    }
}
