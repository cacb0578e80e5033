use foreglow_core::stats::median;
use serde::{Deserialize, Serialize};

/// Milliseconds a day.
const DAY_MS: f64 = 86_400_000.0;

/// Measures of alerts against labelled events.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EventMeasures {
    /// Labelled events (runs of labelled rows).
    pub events: usize,
    /// Labelled events with at least one alerting row.
    pub found: usize,
    /// Alerts (runs of alerting rows).
    pub alerts: usize,
    /// Alerts that touch no labelled row.
    pub false_alerts: usize,
    /// `found / (found + false_alerts)`; absent when there was no alert.
    pub precision: Option<f64>,
    /// `found / events`; absent when there was no event.
    pub recall: Option<f64>,
    /// Harmonic mean of the two; 0 when nothing was found, absent when there was no event.
    pub f1: Option<f64>,
    /// Median time from the start of a found event to its first alerting row, milliseconds.
    pub median_delay_ms: Option<f64>,
    /// False alerts a day of unlabelled rows.
    pub false_alerts_per_day: f64,
}

/// Runs of `true`, as inclusive row ranges.
pub fn segments(flags: &[bool]) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    let mut start = None;
    for (i, &flag) in flags.iter().enumerate() {
        match (flag, start) {
            (true, None) => start = Some(i),
            (false, Some(s)) => {
                out.push((s, i - 1));
                start = None;
            }
            _ => {}
        }
    }
    if let Some(s) = start {
        out.push((s, flags.len() - 1));
    }
    out
}

/// Event-wise measures at the alert line, by the rule of Hundman et al. (2018, doi:10.1145/3219819.3219845): an event is
/// found when any row inside it alerts; several alerts inside one event count once; an alert is false when it touches no
/// event. Nothing is point-adjusted: a long event weighs as much as a short one.
///
/// `alerts` are rows above the alert line (or in an open incident), `labels` the truth, `step_ms` the distance of rows.
/// An alert that starts before an event and reaches into it finds it with delay 0. The longer slice is cut.
pub fn event_measures(alerts: &[bool], labels: &[bool], step_ms: f64) -> EventMeasures {
    let n = alerts.len().min(labels.len());
    let (alerts, labels) = (&alerts[..n], &labels[..n]);
    let events = segments(labels);
    let raised = segments(alerts);
    let delays: Vec<f64> = events
        .iter()
        .filter_map(|&(s, e)| alerts[s..=e].iter().position(|a| *a))
        .map(|rows| rows as f64 * step_ms)
        .collect();
    let found = delays.len();
    let false_alerts = raised.iter().filter(|&&(s, e)| !labels[s..=e].iter().any(|l| *l)).count();
    let precision = (!raised.is_empty()).then(|| found as f64 / (found + false_alerts) as f64);
    let recall = (!events.is_empty()).then(|| found as f64 / events.len() as f64);
    let f1 = recall.map(|r| match precision {
        Some(p) if p + r > 0.0 => 2.0 * p * r / (p + r),
        _ => 0.0,
    });
    let quiet_days = labels.iter().filter(|l| !**l).count() as f64 * step_ms / DAY_MS;
    EventMeasures {
        events: events.len(),
        found,
        alerts: raised.len(),
        false_alerts,
        precision,
        recall,
        f1,
        median_delay_ms: (found > 0).then(|| median(&delays)),
        false_alerts_per_day: if quiet_days > 0.0 { false_alerts as f64 / quiet_days } else { 0.0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn flags(text: &str) -> Vec<bool> {
        text.bytes().map(|b| b == b'#').collect()
    }

    #[test]
    fn counts_by_hand() {
        let labels = flags("..####....##...#....");
        let alerts = flags("...#.#..#...##..#..#");
        // Found: the first event after one row. The second is missed: its alert comes a row too late.
        let m = event_measures(&alerts, &labels, 60_000.0);
        assert_eq!((m.events, m.found, m.alerts, m.false_alerts), (3, 1, 6, 4));
        assert_eq!(m.precision, Some(0.2));
        assert_eq!(m.recall, Some(1.0 / 3.0));
        assert!((m.f1.expect("events") - 0.25).abs() < 1e-12);
        assert_eq!(m.median_delay_ms, Some(60_000.0));
        assert!((m.false_alerts_per_day - 4.0 / (13.0 / 1440.0)).abs() < 1e-9);
    }

    #[test]
    fn empty_cases() {
        let m = event_measures(&flags("...."), &flags(".##."), 1000.0);
        assert_eq!((m.precision, m.recall, m.f1), (None, Some(0.0), Some(0.0)));
        let m = event_measures(&flags("#..."), &flags("...."), 1000.0);
        assert_eq!((m.precision, m.recall, m.f1), (Some(0.0), None, None));
        assert_eq!(event_measures(&[], &[], 1000.0).alerts, 0);
    }

    proptest! {
        #[test]
        fn segments_rebuild_the_flags(flags in prop::collection::vec(any::<bool>(), 0..80)) {
            let mut again = vec![false; flags.len()];
            let runs = segments(&flags);
            for &(s, e) in &runs {
                again[s..=e].fill(true);
            }
            prop_assert_eq!(again, flags);
            prop_assert!(runs.windows(2).all(|w| w[0].1 + 1 < w[1].0));
        }

        #[test]
        fn truth_as_alert_is_perfect(labels in prop::collection::vec(any::<bool>(), 1..80)) {
            let m = event_measures(&labels, &labels, 1000.0);
            prop_assert_eq!(m.false_alerts, 0);
            prop_assert!(m.f1.is_none_or(|f| f == 1.0));
        }
    }
}
