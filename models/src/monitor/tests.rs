use super::*;
use crate::pipeline::Pipeline;
use crate::spec::Recipe;
use foreglow_core::signals::Signals;
use foreglow_core::{FindingKind, IncidentState, Labels, MetricBatch, MetricKey, Seed, Selector, TimeRange, Timestamp};
use rand::Rng;
use std::sync::Arc;

const MINUTE: i64 = 60_000;

pub(super) fn at(minute: i64) -> Timestamp {
    Timestamp(1_767_225_600_000 + minute * MINUTE)
}

fn key(name: &str, host: &str) -> MetricKey {
    MetricKey::new(name, Labels::new([("host", host)]))
}

fn online(rules: &str) -> Arc<Pipeline> {
    Arc::new(Pipeline::online(Signals::parse(rules).unwrap(), &Recipe::default()))
}

pub(super) fn monitor() -> Monitor {
    Monitor::new(online(""), MonitorOptions::replay())
}

/// A batch of (name, host, instant, value).
pub(super) fn batch(samples: &[(&str, &str, Timestamp, f64)]) -> MetricBatch {
    let mut b = MetricBatch::default();
    for (i, (name, host, t, v)) in samples.iter().enumerate() {
        let k = key(name, host);
        let series = b.keys.iter().position(|x| *x == k).unwrap_or_else(|| {
            b.keys.push(k);
            b.keys.len() - 1
        });
        b.push(series, *t, *v, i);
    }
    b
}

pub(super) fn wave(minute: i64, host: &str) -> f64 {
    let mut rng = Seed(minute as u64).child(host).rng();
    10.0 + (minute as f64 / 30.0).sin() + rng.r#gen::<f64>()
}

/// A host with two signals, warmed up, at `at(200)`.
pub(super) fn warm() -> Monitor {
    let mut m = monitor();
    for i in 0..200 {
        let rows = [("cpu", "a", at(i), wave(i, "cpu")), ("mem", "a", at(i), wave(i, "mem"))];
        m.observe(&batch(&rows), at(i));
    }
    assert_eq!(m.group(r#"{host="a"}"#).unwrap().status, StepStatus::Scored);
    m
}

fn statuses(o: &Observation) -> Vec<(i64, StepStatus)> {
    o.results.iter().map(|r| ((r.timestamp.ms() - at(0).ms()) / MINUTE, r.status)).collect()
}

fn codes(o: &Observation) -> Vec<(u32, &'static str)> {
    o.refused.iter().map(|r| (r.index, r.code)).collect()
}

#[test]
fn a_new_group_waits_for_its_step_then_warms_up_then_scores() {
    let mut m = monitor();
    for i in 0..3 {
        let o = m.observe(&batch(&[("cpu", "a", at(i), 1.0)]), at(i));
        assert_eq!(o.results.len(), i as usize + 1);
        assert!(o.results.iter().all(|r| r.status == StepStatus::Pending));
        assert_eq!(m.group(r#"{host="a"}"#).unwrap().step, None);
    }
    let o = m.observe(&batch(&[("cpu", "a", at(3), 1.0)]), at(3));
    assert_eq!(statuses(&o), (0..4).map(|i| (i, StepStatus::WarmingUp)).collect::<Vec<_>>());
    let info = m.group(r#"{host="a"}"#).unwrap();
    assert_eq!(info.step.unwrap().ms(), MINUTE);
    let ready = info.ready_at.unwrap();
    let mut i = 4;
    while m.group(r#"{host="a"}"#).unwrap().status == StepStatus::WarmingUp {
        m.observe(&batch(&[("cpu", "a", at(i), 1.0)]), at(i));
        i += 1;
        assert!(i < 1000);
    }
    assert!((at(i - 1).ms() - ready.ms()).abs() <= 2 * MINUTE, "announced {ready}, was {}", at(i - 1));
}

#[test]
fn steps_close_when_all_came_or_a_later_one_opens() {
    let mut m = warm();
    let o = m.observe(&batch(&[("cpu", "a", at(200), 10.0)]), at(200));
    assert_eq!(statuses(&o), [(200, StepStatus::Pending)]);
    let o = m.observe(&batch(&[("mem", "a", at(200), 10.0)]), at(200));
    assert_eq!(statuses(&o), [(200, StepStatus::Scored)]);
    assert_eq!((o.results[0].signals.len(), o.results[0].members.len()), (2, 1));
    // mem is missing: the later step closes this one.
    m.observe(&batch(&[("cpu", "a", at(201), 10.0)]), at(201));
    let o = m.observe(&batch(&[("cpu", "a", at(202), 10.0)]), at(202));
    assert_eq!(statuses(&o), [(201, StepStatus::Scored), (202, StepStatus::Pending)]);
    assert!(o.results[0].signals[1].actual.is_nan());
    // A signal that stays away is not waited for for long.
    for i in 203..206 {
        m.observe(&batch(&[("cpu", "a", at(i), 10.0)]), at(i));
    }
    let o = m.observe(&batch(&[("cpu", "a", at(206), 10.0)]), at(206));
    assert_eq!(statuses(&o), [(206, StepStatus::Scored)]);
}

#[test]
fn a_signal_that_comes_after_the_others_is_waited_for_from_the_next_step() {
    let mut m = warm();
    let row = |i| batch(&[("cpu", "a", at(i), 10.0), ("mem", "a", at(i), 10.0), ("new", "a", at(i), 1.0)]);
    let o = m.observe(&row(200), at(200));
    assert_eq!(codes(&o), [(2, "late")]);
    let o = m.observe(&row(201), at(201));
    assert!(o.refused.is_empty() && o.results[0].signals.len() == 3, "{o:?}");
    assert_eq!(o.results[0].signals[2].actual, 1.0);
}

#[test]
fn duplicates_conflicts_and_late_samples() {
    let mut m = warm();
    let row = batch(&[("cpu", "a", at(200), 50.0), ("mem", "a", at(200), 11.0)]);
    let first = m.observe(&row, at(200));
    let before = m.export_group(r#"{host="a"}"#).unwrap();
    let again = m.observe(&row, at(200));
    assert_eq!(statuses(&again), [(200, StepStatus::Duplicate)]);
    assert_eq!((again.accepted, again.results[0].score.to_bits()), (2, first.results[0].score.to_bits()));
    assert_eq!(again.results[0].is_anomaly, first.results[0].is_anomaly);
    assert_eq!(m.export_group(r#"{host="a"}"#).unwrap(), before, "nothing is learnt");
    let o = m.observe(&batch(&[("cpu", "a", at(200), 51.0), ("cpu", "a", at(20), 1.0)]), at(200));
    assert_eq!(codes(&o), [(0, "conflict"), (1, "late")]);
    assert!(o.refused[0].detail.contains("50") && o.refused[0].detail.contains("51"), "{:?}", o.refused);
    // Within an open step the last value wins.
    let o = m.observe(
        &batch(&[("cpu", "a", at(201), 1.0), ("cpu", "a", at(201), 12.0), ("mem", "a", at(201), 9.0)]),
        at(201),
    );
    assert_eq!((o.refused.len(), o.results[0].signals[0].actual), (0, 12.0));
}

#[test]
fn guards_name_the_sample_and_let_the_rest_through() {
    let options = MonitorOptions {
        max_groups: 2,
        max_signals_per_group: 2,
        max_future: Some(MINUTE),
        ..MonitorOptions::default()
    };
    let mut m = Monitor::new(online(""), options);
    let rows = [
        ("cpu", "a", at(0), 1.0),
        ("cpu", "a", at(9), 1.0),
        ("cpu", "b", at(0), f64::INFINITY),
        ("cpu", "c", at(0), 1.0),
        ("mem", "a", at(0), 1e308),
        ("io", "a", at(0), 1.0),
        ("cpu", "a", Timestamp(i64::MAX), 1.0),
        ("cpu", "a", Timestamp(i64::MIN), 1.0),
        ("cpu", "b", at(1), f64::NAN),
    ];
    let o = m.observe(&batch(&rows), at(0));
    let mut got = codes(&o);
    got.sort_unstable();
    assert_eq!(
        got,
        [
            (1, "future"),
            (2, "not_finite"),
            (3, "too_many_groups"),
            (5, "too_many_signals"),
            (6, "out_of_range"),
            (7, "out_of_range")
        ]
    );
    assert_eq!(o.accepted, 3);
    let mut b = MetricBatch::default();
    b.keys.push(MetricKey::new("x", Labels::new((0..1000).map(|i| (format!("l{i}"), "v")))));
    b.push(0, at(0), 1.0, 0);
    b.push(9, at(0), 1.0, 1);
    assert_eq!(codes(&m.observe(&b, at(0))), [(0, "too_many_labels")]);
}

#[test]
fn gaps_of_any_length_cost_nothing() {
    let mut m = warm();
    let far = Timestamp(at(0).ms() * 4);
    let o = m.observe(&batch(&[("cpu", "a", far, 10.0), ("mem", "a", far, 10.0)]), far);
    assert_eq!(o.results.len(), 1);
    let id = r#"{host="a"}"#;
    let h = m.history(id, &MetricKey::new("cpu", Labels::default())).unwrap();
    assert_eq!(h.values.iter().filter(|v| v.is_finite()).count(), 1);
    assert!(h.values.last().unwrap().is_finite() && h.last == o.results[0].timestamp);
    let mut m = warm();
    m.observe(&batch(&[("cpu", "a", at(203), 10.0), ("mem", "a", at(203), 10.0)]), at(203));
    let h = m.history(id, &MetricKey::new("mem", Labels::default())).unwrap();
    assert_eq!(h.values.len(), 204);
    assert!(h.values[200..203].iter().all(|v| v.is_nan()));
}

#[test]
fn counters_become_rates_and_resets_do_no_harm() {
    let rules = "[[signal]]\nname = \"requests\"\nmatch = \"requests_total\"\nas = \"counter_rate\"\n";
    let mut m = Monitor::new(online(rules), MonitorOptions::replay());
    let mut total = 1000.0;
    for i in 0..10 {
        total = if i == 6 { 30.0 } else { total + 120.0 };
        m.observe(&batch(&[("requests_total", "a", at(i), total)]), at(i));
    }
    let h = m.history(r#"{host="a"}"#, &MetricKey::new("requests", Labels::default())).unwrap();
    assert!(h.values[0].is_nan());
    assert_eq!(h.values[1..], [2.0, 2.0, 2.0, 2.0, 2.0, 0.5, 2.0, 2.0, 2.0]);
    let again = m.observe(&batch(&[("requests_total", "a", at(9), total)]), at(9));
    assert_eq!(statuses(&again), [(9, StepStatus::Duplicate)], "duplicates are told by what was sent");
}

#[test]
fn columns_of_one_request_are_taken_row_by_row() {
    let rows: Vec<_> = (0..40).map(|i| ("cpu", "a", at(i), wave(i, "cpu"))).collect();
    let cols: Vec<_> = rows.iter().copied().chain((0..40).map(|i| ("mem", "a", at(i), wave(i, "mem")))).collect();
    let o = monitor().observe(&batch(&cols), at(0));
    assert!(o.refused.is_empty());
    assert_eq!(o.results.len(), 40);
    assert!(o.results.iter().all(|r| r.signals.iter().all(|s| !s.actual.is_nan())));
}

#[test]
fn sources_may_each_keep_their_own_second() {
    let mut m = monitor();
    let mut scored = 0;
    for i in 0..20 {
        let o = m.observe(&batch(&[("cpu", "a", at(i), 1.0)]), at(i));
        scored += o.results.iter().filter(|r| r.status == StepStatus::WarmingUp).count();
        let o = m.observe(&batch(&[("mem", "a", at(i).plus(4_000), 1.0)]), at(i));
        scored += o.results.iter().filter(|r| r.status == StepStatus::WarmingUp).count();
        assert!(o.refused.is_empty());
    }
    assert_eq!((m.groups()[0].step.unwrap().ms(), scored), (MINUTE, 20));
}

#[test]
fn an_excursion_becomes_an_incident_and_ends() {
    let mut m = warm();
    let mut events = Vec::new();
    for i in 200..220 {
        let cpu = if (203..206).contains(&i) { 80.0 * 100f64.powi(i as i32 - 203) } else { wave(i, "cpu") };
        let o = m.observe(&batch(&[("cpu", "a", at(i), cpu), ("mem", "a", at(i), wave(i, "mem"))]), at(i));
        for f in &o.findings {
            assert_eq!(f.contributors[0].key.name.as_ref(), "cpu");
        }
        events.extend(o.incidents);
    }
    assert!(matches!(events[0], IncidentEvent::Opened(_)), "{events:?}");
    assert_eq!(events[0].incident().opened_at, at(204));
    let last = events.last().unwrap().incident();
    assert_eq!((last.state, last.finding.kind), (IncidentState::Resolved, FindingKind::Spike));
    assert_eq!((last.finding.start, last.id.clone()), (at(203), events[0].incident().id.clone()));
    assert!(m.incidents_open().is_empty());
}

#[test]
fn suppressed_ranges_are_scored_and_raise_nothing() {
    let mut m = warm();
    let selector: Selector = r#"{host="a"}"#.parse().unwrap();
    m.suppress(&selector, TimeRange { start: at(200), end: at(203) }, "maintenance");
    for i in 200..203 {
        let o = m.observe(&batch(&[("cpu", "a", at(i), 90.0), ("mem", "a", at(i), 90.0)]), at(i));
        assert_eq!(o.results[0].status, StepStatus::Suppressed);
        assert!(!o.results[0].is_anomaly && o.incidents.is_empty() && o.findings.is_empty());
        assert!(i > 200 || o.results[0].score >= 1.0);
    }
}

#[test]
fn a_preview_leaves_no_trace() {
    let mut m = warm();
    let b = batch(&[("cpu", "a", at(200), 90.0), ("mem", "a", at(200), 9.0), ("cpu", "new", at(0), 1.0)]);
    let before = m.export();
    let said = m.preview(&b, at(200));
    assert_eq!(m.export(), before);
    assert_eq!(format!("{said:?}"), format!("{:?}", m.observe(&b, at(200))));
}

#[test]
fn silence_is_noticed_in_live_groups_only() {
    let mut m = warm();
    assert!(m.tick(at(201)).results.is_empty());
    let o = m.tick(at(204));
    assert_eq!(o.results[0].status, StepStatus::Missing);
    assert_eq!(o.incidents[0].incident().finding.kind, FindingKind::Missing);
    assert!(m.tick(at(205)).results.is_empty(), "said once");
    assert_eq!(m.group(r#"{host="a"}"#).unwrap().status, StepStatus::Missing);
    let mut gone = m.clone();
    assert!(gone.tick(at(199 + 1439)).incidents.is_empty());
    assert!(matches!(gone.tick(at(199 + 1440)).incidents[..], [IncidentEvent::Resolved(_)]), "a day: it was removed");
    assert!(gone.tick(at(199 + 1441)) == Observation::default());
    let o = m.observe(&batch(&[("cpu", "a", at(206), 10.0), ("mem", "a", at(206), 10.0)]), at(206));
    assert!(matches!(o.incidents[..], [IncidentEvent::Resolved(_)]));
    // A partial step past its grace closes.
    m.observe(&batch(&[("cpu", "a", at(207), 10.0)]), at(207));
    assert_eq!(statuses(&m.tick(at(209))), [(207, StepStatus::Scored)]);
    // A replay of old data is not live.
    m.observe(&batch(&[("cpu", "a", at(208), 10.0), ("mem", "a", at(208), 10.0)]), at(10_000));
    assert_eq!(m.tick(at(20_000)), Observation::default());
}

/// The others go on: only the one that stays away is missed.
#[test]
fn a_signal_that_vanishes_is_an_incident_until_it_is_back() {
    let mut m = warm();
    let mut events = Vec::new();
    let mut kinds = Vec::new();
    for i in 200..240 {
        let mut sent = vec![("cpu", "a", at(i), wave(i, "cpu"))];
        if !(205..230).contains(&i) {
            sent.push(("mem", "a", at(i), wave(i, "mem")));
        }
        let o = m.observe(&batch(&sent), at(i));
        assert!(o.results.iter().all(|r| !r.is_anomaly), "scores are of what came");
        kinds.extend(o.findings.iter().map(|f| f.kind));
        events.extend(o.incidents);
        if i == 215 {
            let bytes = m.export_group(r#"{host="a"}"#).unwrap();
            m = monitor();
            m.import_group(&bytes).unwrap();
        }
    }
    let [IncidentEvent::Opened(opened), IncidentEvent::Resolved(resolved)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((opened.opened_at, opened.finding.kind), (at(208), FindingKind::Missing));
    assert_eq!(kinds, [FindingKind::Missing]);
    let [mem] = &opened.finding.contributors[..] else { panic!("{opened:?}") };
    assert_eq!((mem.key.name.as_ref(), mem.share, mem.actual), ("mem", 1.0, None));
    assert!(mem.expected.is_some());
    // Nobody waits for it any more: its first value comes too late for its step.
    assert_eq!((resolved.finding.end, resolved.resolved_at), (at(230), Some(at(233))));
}

/// What goes away in a maintenance and is not back at its end is told then.
#[test]
fn an_absence_outlasts_its_suppression() {
    let mut m = warm();
    let selector: Selector = r#"{host="a"}"#.parse().unwrap();
    m.suppress(&selector, TimeRange { start: at(200), end: at(220) }, "maintenance");
    let mut opened = Vec::new();
    for i in 200..225 {
        let o = m.observe(&batch(&[("cpu", "a", at(i), wave(i, "cpu"))]), at(i));
        opened.extend(o.incidents.iter().map(|e| e.incident().opened_at));
    }
    assert_eq!(opened, [at(220)]);
    let mut m = warm();
    m.suppress(&selector, TimeRange { start: at(200), end: at(220) }, "maintenance");
    assert!(m.tick(at(204)).incidents.is_empty() && m.tick(at(219)).results.is_empty());
    assert_eq!(m.tick(at(222)).incidents[0].incident().finding.kind, FindingKind::Missing);
}

/// Nobody listened while the state lay in a file: silence counts from the first tick after.
#[test]
fn a_restart_is_no_silence() {
    let mut m = warm();
    let id = r#"{host="a"}"#;
    let bytes = m.export_group(id).unwrap();
    m.import_group(&bytes).unwrap();
    assert!(m.tick(at(230)).incidents.is_empty(), "the server was away");
    assert!(m.tick(at(233)).incidents.is_empty());
    assert_eq!(m.tick(at(234)).incidents[0].incident().finding.kind, FindingKind::Missing);
}

#[test]
fn state_of_another_shape_is_refused() {
    let mut m = warm();
    let bytes = m.export_group(r#"{host="a"}"#).unwrap();
    let mut other = monitor();
    assert_eq!(other.import_group(&bytes).unwrap(), r#"{host="a"}"#);
    assert_eq!(other.export_group(r#"{host="a"}"#).unwrap(), bytes);
    for cut in [0, 10, bytes.len() / 2, bytes.len() - 1] {
        assert!(other.import_group(&bytes[..cut]).is_err());
    }
    let mut newer = bytes.clone();
    let at = bytes.windows(13).position(|w| w == br#""version":"1""#).unwrap();
    newer[at + 11] = b'9';
    let e = other.import_group(&newer).unwrap_err().to_string();
    assert!(e.contains("newer version"), "{e}");
    assert_eq!(m.take_dirty(), [r#"{host="a"}"#]);
    assert!(m.take_dirty().is_empty());
    assert!(m.remove_group(r#"{host="a"}"#) && m.is_empty() && !m.remove_group("x"));
}

#[test]
fn an_online_series_stays_small() {
    let mut m = monitor();
    for i in 0..6000 {
        m.observe(&batch(&[("cpu", "a", at(i), wave(i, "cpu"))]), at(i));
    }
    let bytes = m.bytes_of(r#"{host="a"}"#).unwrap();
    // Two thirds of it is what forecasts are made from: nearly three days of minutes.
    assert!(bytes <= 25 * 1024, "{bytes} bytes");
    assert!(bytes > 16 * 1024);
}
