//! Whether each signal of a group still comes.

use super::group::LEAST_SILENCE_MS;
use foreglow_core::Step;
use serde::{Deserialize, Serialize};

/// Steps with a value before a signal is missed at all.
const KNOWN: u32 = 30;
/// A gap is unusual when it is longer than so many of the longest before. Gaps of a signal that comes at random are
/// geometric: the longest of n is some ln(n) mean gaps, and the chance that one exceeds three times that is 1/n^3.
const LONGER: u32 = 3;
/// A signal, or a whole group, that stays away for so many gaps that were too long has been removed; nobody waits for it any
/// more.
pub(super) const REMOVED: u32 = 20;
/// But it is waited for at least this long, milliseconds.
pub(super) const LEAST_WAIT_MS: i64 = 24 * 3_600_000;

/// How one signal comes and stays away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "(u32, u32, u32, bool)", into = "(u32, u32, u32, bool)")]
pub(super) struct Presence {
    /// Steps with a value so far.
    seen: u32,
    /// Steps of its group without one, since the last.
    away: u32,
    /// The longest gap so far.
    longest: u32,
    /// Whether it has been told that the signal is gone.
    gone: bool,
}

impl From<(u32, u32, u32, bool)> for Presence {
    fn from((seen, away, longest, gone): (u32, u32, u32, bool)) -> Self {
        Self { seen, away, longest, gone }
    }
}

impl From<Presence> for (u32, u32, u32, bool) {
    fn from(p: Presence) -> Self {
        (p.seen, p.away, p.longest, p.gone)
    }
}

impl Presence {
    /// Whether the signal is gone, and nobody has given it up.
    pub(super) fn is_gone(self) -> bool {
        self.gone
    }

    /// Nobody was told, because nobody wanted to know now: the next step says it again.
    pub(super) fn keep_back(&mut self) {
        self.gone = false;
    }

    /// The same at another step of the group.
    pub(super) fn restep(&mut self, old: Step, new: Step) {
        let there = |n: u32| {
            let steps = i64::from(n).saturating_mul(old.ms()).saturating_add(new.ms() - 1) / new.ms();
            u32::try_from(steps).unwrap_or(u32::MAX)
        };
        (self.away, self.longest) = (there(self.away), there(self.longest));
    }

    /// A closed step of the group. `of`: the steps that the incident rule looks at. Says whether the signal is gone since
    /// this very step.
    pub(super) fn step(&mut self, present: bool, of: usize, step: Step) -> bool {
        let steps = |ms: i64| u32::try_from(ms / step.ms()).unwrap_or(u32::MAX);
        let least = u32::try_from(of).unwrap_or(u32::MAX).max(steps(LEAST_SILENCE_MS));
        let patience = self.longest.saturating_mul(LONGER).saturating_add(least);
        if present {
            // A gap that was told of makes the next one like it usual by degrees only.
            let gap =
                if self.gone { self.away.min(self.longest.saturating_mul(2).saturating_add(1)) } else { self.away };
            let seen = self.seen.saturating_add(1);
            // What came before a signal was known says how it comes as well.
            *self = Self { seen, away: 0, longest: self.longest.max(gap), gone: false };
            return false;
        }
        if self.seen == 0 {
            return false;
        }
        self.away = self.away.saturating_add(1);
        if self.gone {
            if self.away > patience.saturating_mul(REMOVED).max(steps(LEAST_WAIT_MS)) {
                *self = Self::default();
            }
            return false;
        }
        self.gone = self.seen >= KNOWN && self.away > patience;
        self.gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreglow_core::Seed;
    use rand::Rng;

    const MINUTE: i64 = 60_000;

    /// Places at which the signal was told to be gone.
    fn told(p: &mut Presence, steps: impl IntoIterator<Item = bool>, step: i64) -> Vec<usize> {
        let step = Step::from_ms(step).unwrap();
        let all = steps.into_iter().enumerate();
        all.filter_map(|(i, present)| p.step(present, 3, step).then_some(i)).collect()
    }

    #[test]
    fn a_steady_signal_is_missed_soon_and_once() {
        let mut p = Presence::default();
        assert_eq!(told(&mut p, std::iter::repeat_n(true, 40).chain(std::iter::repeat_n(false, 60)), MINUTE), [43]);
        assert!(p.is_gone());
        assert!(told(&mut p, [true], MINUTE).is_empty() && !p.is_gone());
        // The gap of an hour makes one of a step usual, no more.
        assert_eq!(told(&mut p, std::iter::repeat_n(false, 60), MINUTE), [6]);
        let fast = std::iter::repeat_n(true, 40).chain(std::iter::repeat_n(false, 60));
        assert_eq!(told(&mut Presence::default(), fast, 250), [40 + 20], "five seconds of a fast one");
    }

    #[test]
    fn what_comes_at_random_is_waited_for() {
        let mut rng = Seed(5).rng();
        for share in [0.8, 0.3, 0.05] {
            let mut false_alarms = 0;
            for _ in 0..40 {
                let steps: Vec<bool> = (0..3_000).map(|_| rng.r#gen::<f64>() < share).collect();
                false_alarms += told(&mut Presence::default(), steps, MINUTE).len();
            }
            assert!(false_alarms <= 1, "{false_alarms} in 120,000 steps of a signal that comes in {share} of them");
        }
    }

    #[test]
    fn what_was_never_known_or_was_removed_is_not_missed() {
        let mut p = Presence::default();
        let rare = std::iter::repeat_n(true, 20).chain(std::iter::repeat_n(false, 5_000));
        assert!(told(&mut p, rare, MINUTE).is_empty());
        let mut p = Presence::default();
        told(&mut p, std::iter::repeat_n(true, 40).chain(std::iter::repeat_n(false, 1_440)), MINUTE);
        assert!(p.is_gone());
        told(&mut p, [false], MINUTE);
        assert_eq!(p, Presence::default(), "after a day");
    }
}
