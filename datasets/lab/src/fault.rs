use crate::LabError;
use foreglow_core::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What can be made to go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The agent does each piece of work four times and stalls 25 ms after each task, as under a CPU quota.
    SlowAgent,
    /// The agent's thread ends: queue, cache, connections and work in hand are lost. It restarts, cold, at the fault's end.
    CrashedAgent,
    /// The agent allocates half a mebibyte a second and keeps it until the fault ends.
    MemoryLeak,
    /// The agent takes the lock that all share for 25 ms at a time, again and again.
    LockContention,
    /// The agent sends each of its peers a message of 4 KiB every 10 ms.
    MessageStorm,
    /// The agent corrupts two of five records, which the check after the work notices.
    ErrorBurst,
    /// Tasks arrive at the whole swarm 2.2 times as fast.
    LoadSurge,
    /// The agent's workers stop taking tasks from its queue.
    StuckQueue,
}

impl FaultKind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::SlowAgent,
        Self::CrashedAgent,
        Self::MemoryLeak,
        Self::LockContention,
        Self::MessageStorm,
        Self::ErrorBurst,
        Self::LoadSurge,
        Self::StuckQueue,
    ];

    /// The name in `snake_case`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SlowAgent => "slow_agent",
            Self::CrashedAgent => "crashed_agent",
            Self::MemoryLeak => "memory_leak",
            Self::LockContention => "lock_contention",
            Self::MessageStorm => "message_storm",
            Self::ErrorBurst => "error_burst",
            Self::LoadSurge => "load_surge",
            Self::StuckQueue => "stuck_queue",
        }
    }

    /// Whether every agent shows it, whoever causes it: lock contention, message storm and load surge.
    pub fn is_global(self) -> bool {
        matches!(self, Self::LockContention | Self::MessageStorm | Self::LoadSurge)
    }

    /// Whether it needs an agent: all but the load surge.
    pub fn needs_agent(self) -> bool {
        self != Self::LoadSurge
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for FaultKind {
    type Err = LabError;

    fn from_str(text: &str) -> Result<Self, LabError> {
        Self::ALL.into_iter().find(|k| k.as_str() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            LabError::range("fault", format!("{text:?}"), format!("one of {known}"))
        })
    }
}

/// A fault to inject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// The agent that causes it; `None` only for [`FaultKind::LoadSurge`].
    pub agent: Option<usize>,
    /// How long, 100 ms to 1 hour.
    pub duration: Duration,
}

impl Fault {
    /// Refuses a missing, superfluous or unknown agent and a duration out of range.
    pub fn check(&self, agents: usize) -> Result<(), LabError> {
        let fail = |problem: String| Err(LabError::Fault { kind: self.kind.to_string(), problem });
        match self.agent {
            Some(a) if !self.kind.needs_agent() => {
                fail(format!("agent {a} given, but it concerns the whole swarm: give none"))
            }
            None if self.kind.needs_agent() => fail(format!("needs an agent, 0 to {}", agents - 1)),
            Some(a) if a >= agents => fail(format!("agent {a} does not exist: expected 0 to {}", agents - 1)),
            _ if !(Duration::from_millis(100)..=Duration::from_hours(1)).contains(&self.duration) => {
                fail(format!("lasts {:?}: expected 100ms to 1 hour", self.duration))
            }
            _ => Ok(()),
        }
    }
}

/// A fault that was injected: the label of the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What went wrong.
    pub kind: FaultKind,
    /// The agent that caused it.
    pub agent: Option<usize>,
    /// When it began.
    pub start: Timestamp,
    /// When it ended; while it is active, when it will end.
    pub end: Timestamp,
}

impl Event {
    /// Whether agent `agent` shows the fault: it is the cause, or the kind concerns all.
    pub fn affects(&self, agent: usize) -> bool {
        self.kind.is_global() || self.agent == Some(agent)
    }

    /// Whether the fault was active in the step that ends at `tick` and is `step_ms` long.
    pub fn overlaps(&self, tick: Timestamp, step_ms: i64) -> bool {
        self.start < tick && self.end > tick.plus(-step_ms)
    }
}

/// The faults of one agent that are active now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flags(u16);

impl Flags {
    pub(crate) fn has(self, kind: FaultKind) -> bool {
        self.0 & Self::bit(kind) != 0
    }

    pub(crate) fn set(&mut self, kind: FaultKind, on: bool) {
        if on {
            self.0 |= Self::bit(kind);
        } else {
            self.0 &= !Self::bit(kind);
        }
    }

    fn bit(kind: FaultKind) -> u16 {
        1 << kind as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for k in FaultKind::ALL {
            assert_eq!(k.as_str().parse::<FaultKind>().unwrap(), k);
        }
        assert!("fire".parse::<FaultKind>().unwrap_err().to_string().contains("stuck_queue"));
    }

    #[test]
    fn faults_are_checked() {
        let f = |kind, agent, ms| Fault { kind, agent, duration: Duration::from_millis(ms) }.check(6);
        assert!(f(FaultKind::SlowAgent, Some(5), 1000).is_ok());
        assert!(f(FaultKind::LoadSurge, None, 1000).is_ok());
        let e = f(FaultKind::SlowAgent, Some(6), 1000).unwrap_err().to_string();
        assert_eq!(e, "fault slow_agent: agent 6 does not exist: expected 0 to 5");
        assert!(f(FaultKind::SlowAgent, None, 1000).is_err());
        assert!(f(FaultKind::LoadSurge, Some(0), 1000).is_err());
        assert!(f(FaultKind::ErrorBurst, Some(0), 10).is_err());
    }

    #[test]
    fn flags_are_independent() {
        let mut flags = Flags::default();
        for k in FaultKind::ALL {
            flags.set(k, true);
        }
        flags.set(FaultKind::MemoryLeak, false);
        assert!(!flags.has(FaultKind::MemoryLeak));
        assert!(flags.has(FaultKind::SlowAgent) && flags.has(FaultKind::StuckQueue));
    }
}
