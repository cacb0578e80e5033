use crate::ModelError;
use foreglow_core::{DAY_MS, Step};
use std::ops::Range;

/// Share of a series that default windows cover.
const TEST_SHARE: f64 = 0.1;
/// Default windows are no more than this.
const MOST_WINDOWS: usize = 20;

/// Unchecked plan of a rolling-origin evaluation: windows of `horizon` steps that count back from the last row.
///
/// Window `k` (0 = the last) covers rows `n - horizon - k step .. n - k step`; everything before it is its past. `split`
/// plays no part, and with the default step windows do not overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollingPlan {
    /// Steps ahead, 1 or more.
    pub horizon: usize,
    /// How many windows, 1 or more; `None` = as many as GIFT-Eval takes, see [`gift_windows`].
    pub windows: Option<usize>,
    /// Rows between neighbouring cutoffs, 1 or more; `None` = the horizon.
    pub step: Option<usize>,
}

impl RollingPlan {
    /// Checks the fields; `rows` is the length of the shortest series, which decides the default number of windows.
    ///
    /// # Errors
    /// [`ModelError::Parameter`] naming the field.
    pub fn check(self, rows: usize) -> Result<RollingWindows, ModelError> {
        let positive = |field: &str, v: usize| {
            if v == 0 { Err(ModelError::parameter(field, v, "1 or more")) } else { Ok(v) }
        };
        let horizon = positive("horizon", self.horizon)?;
        let windows = positive("windows", self.windows.unwrap_or_else(|| gift_windows(rows, horizon)))?;
        let step = positive("step", self.step.unwrap_or(horizon))?;
        Ok(RollingWindows { horizon, windows, step })
    }

    /// How many windows lie inside `rows` rows.
    pub fn inside(self, rows: usize) -> usize {
        let step = self.step.unwrap_or(self.horizon).max(1);
        rows.checked_sub(self.horizon).map_or(0, |room| room / step + 1)
    }
}

/// A checked [`RollingPlan`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollingWindows {
    /// Steps ahead.
    pub horizon: usize,
    /// Windows a series.
    pub windows: usize,
    /// Rows between neighbouring cutoffs.
    pub step: usize,
}

impl RollingWindows {
    /// The rows of each window of a series of `rows` rows, earliest first, each with its number counted from the
    /// earliest of the plan. Windows that would leave no past at all are left out.
    pub fn of(&self, rows: usize) -> Vec<(usize, Range<usize>)> {
        (0..self.windows)
            .rev()
            .filter_map(|back| {
                let end = rows.checked_sub(back.checked_mul(self.step)?)?;
                let start = end.checked_sub(self.horizon)?;
                (start > 0).then_some((self.windows - 1 - back, start..end))
            })
            .collect()
    }
}

/// How many windows GIFT-Eval takes: `ceil(0.1 rows / horizon)`, 1 to 20 (Aksu et al. 2024, arXiv 2410.10393).
pub fn gift_windows(rows: usize, horizon: usize) -> usize {
    ((TEST_SHARE * rows as f64 / horizon.max(1) as f64).ceil() as usize).clamp(1, MOST_WINDOWS)
}

/// The season that evaluations of forecasts scale by where nobody names one: an hour for steps under a minute, a day for
/// steps under a day, else none, and none either where the step does not divide it. These are GluonTS's values, which the
/// published tables use: 360 for 10 s, 1440 for 1 min, 96 for 15 min, 24 for 1 h, 1 for 1 d.
pub fn calendar_season(step: Step) -> usize {
    let cycle = match step.ms() {
        ms if ms < 60_000 => 3_600_000,
        ms if ms < DAY_MS => DAY_MS,
        _ => return 1,
    };
    if cycle % step.ms() == 0 { (cycle / step.ms()) as usize } else { 1 }
}

/// The windows of the long-term forecasting protocol (Zhou et al. 2021, doi:10.1609/aaai.v35i12.17325): every run of
/// `horizon` rows that lies inside `test`, stride 1, the last ones included. The past of a window is all rows before it.
pub fn ltsf_windows(test: Range<usize>, horizon: usize) -> impl Iterator<Item = Range<usize>> {
    let last = (test.end + 1).saturating_sub(horizon);
    (test.start..last.max(test.start)).map(move |start| start..start + horizon)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plan(horizon: usize, windows: Option<usize>, step: Option<usize>) -> RollingPlan {
        RollingPlan { horizon, windows, step }
    }

    #[test]
    fn published_protocols() {
        // bizitobs_application short, medium, long; ETTm1 at 15 minutes short, medium, long.
        for (rows, horizon, want) in
            [(8834, 60, 15), (8834, 600, 2), (8834, 900, 1), (69_680, 48, 20), (69_680, 480, 15), (69_680, 720, 10)]
        {
            assert_eq!(plan(horizon, None, None).check(rows).unwrap().windows, want, "{rows} {horizon}");
        }
        for (step, season) in [("10s", 360), ("1m", 1440), ("15m", 96), ("1h", 24), ("1d", 1), ("7m", 1)] {
            assert_eq!(calendar_season(step.parse().unwrap()), season, "{step}");
        }
        // ETTh1 at 96: 2785 windows, the last of which ends with the test rows.
        let all: Vec<_> = ltsf_windows(11_520..14_400, 96).collect();
        assert_eq!((all.len(), all[0].clone(), all[2784].clone()), (2785, 11_520..11_616, 14_304..14_400));
        assert_eq!(ltsf_windows(5..8, 4).count(), 0);
    }

    #[test]
    fn short_series_lose_their_earliest_windows() {
        let w = plan(4, Some(3), None).check(100).unwrap();
        assert_eq!(w.of(12), [(1, 4..8), (2, 8..12)]);
        assert_eq!(w.of(4), []);
        assert_eq!(w.of(0), []);
    }

    #[test]
    fn windows_inside_rows() {
        let p = plan(4, None, None);
        assert_eq!([0, 3, 4, 7, 8, 12].map(|rows| p.inside(rows)), [0, 0, 1, 1, 2, 3]);
        assert_eq!(plan(4, None, Some(1)).inside(7), 4);
    }

    #[test]
    fn fields_are_checked() {
        for bad in [plan(0, None, None), plan(1, Some(0), None), plan(1, None, Some(0))] {
            assert!(bad.check(10).is_err());
        }
    }

    proptest! {
        #[test]
        fn windows_end_with_the_data(rows in 0usize..400, horizon in 1usize..30, windows in 1usize..20, step in 1usize..30) {
            let of = plan(horizon, Some(windows), Some(step)).check(rows).unwrap().of(rows);
            prop_assert!(of.iter().all(|(_, r)| r.len() == horizon && r.start > 0 && r.end <= rows));
            prop_assert!(of.windows(2).all(|w| w[1].1.start - w[0].1.start == step && w[1].0 == w[0].0 + 1));
            if let Some((number, last)) = of.last() {
                prop_assert_eq!((*number, last.end), (windows - 1, rows));
            }
        }
    }
}
