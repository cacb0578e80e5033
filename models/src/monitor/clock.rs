use foreglow_core::{Step, Timestamp};

/// Distinct instants of one signal from which the step of its group is found.
pub(super) const DETECT_FROM: usize = 4;
/// Durations that clocks are set to, largest first, milliseconds; a found step snaps to the largest whose multiple lies
/// within [`SNAP`] of it.
const NICE: [i64; 11] = [86_400_000, 3_600_000, 60_000, 30_000, 15_000, 10_000, 5_000, 1_000, 500, 100, 10];
/// Share of the step by which it may move: scrape clocks wobble by less.
const SNAP: f64 = 0.01;
/// The step of a group of which only one instant is known.
const FALLBACK: i64 = 60_000;

/// Where a group's steps lie: multiples of `step` from `anchor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clock {
    pub(super) anchor: Timestamp,
    pub(super) step: Step,
}

impl Clock {
    /// From the first instants of each signal of a group, in any order; `None` when there is none. The signal with the most
    /// instants counts (of several the one with the shortest step): the sources of a group may each keep their own second.
    pub(super) fn detect(signals: &[Vec<Timestamp>]) -> Option<Self> {
        let anchor = *signals.iter().flatten().min()?;
        let best = signals
            .iter()
            .filter_map(|times| {
                let mut sorted = times.clone();
                sorted.sort_unstable();
                sorted.dedup();
                Some((std::cmp::Reverse(sorted.len()), Step::detect(&sorted)?.ms()))
            })
            .min();
        Some(Self { anchor, step: Step::from_ms(best.map_or(FALLBACK, |(_, ms)| snapped(ms))).ok()? })
    }

    /// Index of the step that a sample belongs to: the nearest multiple.
    pub(super) fn index(self, t: Timestamp) -> i64 {
        self.step.nearest(self.anchor, t)
    }

    /// The instant of a step.
    pub(super) fn time(self, index: i64) -> Timestamp {
        self.anchor.plus(index.saturating_mul(self.step.ms()))
    }
}

/// A step as it is set on clocks, where it is nearly one.
pub(super) fn snapped(ms: i64) -> i64 {
    NICE.into_iter()
        .map(|unit| (ms + unit / 2) / unit * unit)
        .find(|&r| r > 0 && (r - ms).abs() as f64 <= SNAP * ms as f64)
        .unwrap_or(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_snap_to_what_clocks_are_set_to() {
        for (given, want) in [
            (60_000, 60_000),
            (59_998, 60_000),
            (300_000, 300_000),
            (3_599_000, 3_600_000),
            (86_400_000, 86_400_000),
            (15_003, 15_000),
            (1_234, 1_230),
            (7, 7),
            (1, 1),
            (90_000, 90_000),
        ] {
            assert_eq!(snapped(given), want, "{given}");
        }
    }

    #[test]
    fn wobble_repeats_and_one_outage_do_not_mislead() {
        let t = |v: &[i64]| v.iter().map(|x| Timestamp(1_700_000_000_000 + x)).collect::<Vec<_>>();
        let c = Clock::detect(&[t(&[10_020, 0, 20_001, 30_000, 0])]).unwrap();
        assert_eq!((c.anchor.ms(), c.step.ms()), (1_700_000_000_000, 10_000));
        let c = Clock::detect(&[t(&[0, 60_000, 7_200_000, 7_260_000])]).unwrap();
        assert_eq!(c.step.ms(), 60_000);
        // Two sources, one a little later than the other, one of them slower.
        let c = Clock::detect(&[t(&[0, 10_000, 20_000, 30_000]), t(&[250, 30_250])]).unwrap();
        assert_eq!(c.step.ms(), 10_000);
        assert_eq!(Clock::detect(&[t(&[5])]).unwrap().step.ms(), 60_000);
        assert!(Clock::detect(&[]).is_none());
    }
}
