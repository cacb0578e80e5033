//! What holds for any stream: cuts, restarts and neighbours change nothing, damage is an error.

use super::tests::{at, batch, monitor, warm, wave};
use super::*;
use foreglow_core::MetricBatch;
use proptest::prelude::*;

/// What a stream of rows gives, cut into batches of `size` rows, with a restart before row `restart`.
fn run(stream: &MetricBatch, size: usize, restart: usize) -> (Vec<String>, Vec<String>, usize) {
    let mut m = monitor();
    let (mut results, mut incidents, mut refused) = (Vec::new(), Vec::new(), 0);
    let mut note = |o: Observation| {
        results.extend(o.results.iter().filter(|r| r.status != StepStatus::Pending).map(|r| {
            let bits: Vec<u64> = r.signals.iter().map(|s| s.expected.to_bits()).collect();
            format!("{} {} {:?} {:x} {bits:?}", r.group, r.timestamp, r.status, r.score.to_bits())
        }));
        incidents.extend(o.incidents.iter().map(|e| format!("{e:?}")));
        refused += o.refused.len();
    };
    for (i, rows) in stream.samples.chunks(size).enumerate() {
        if i * size <= restart && restart < (i + 1) * size {
            let state = m.export();
            m = monitor();
            m.import(&state).unwrap();
        }
        note(m.observe(&MetricBatch { keys: stream.keys.clone(), samples: rows.to_vec() }, at(0)));
    }
    note(m.flush(at(0)));
    results.sort();
    (results, incidents, refused)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn damaged_state_is_an_error_never_a_panic(places in prop::collection::vec((0usize..20_000, any::<u8>()), 1..6)) {
        let mut bytes = warm().export_group(r#"{host="a"}"#).unwrap();
        for (at, byte) in places {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let mut m = monitor();
        if m.import_group(&bytes).is_ok() {
            // Numbers may have changed; what they are is no matter of shape.
            m.observe(&batch(&[("cpu", "a", at(300), 10.0), ("mem", "a", at(300), 10.0)]), at(300));
        }
    }

    #[test]
    fn cuts_and_restarts_change_nothing(
        rows in prop::collection::vec((0i64..4, 0u8..20, 0u8..40), 60..260),
        size in 1usize..50,
        restart in 0usize..200,
    ) {
        let mut samples = Vec::new();
        let mut t = 0;
        for (i, (ahead, gone, wild)) in rows.iter().enumerate() {
            // Mostly one step on; now and then the same instant again, or a gap.
            t += if *gone == 0 { *ahead } else { 1 };
            let v = match wild { 0 => 1e308, 1 => f64::NAN, 2..=4 => 90.0, _ => wave(i as i64, "cpu") };
            samples.push(("cpu", "a", at(t), v));
            if *gone != 1 { samples.push(("mem", "a", at(t), wave(i as i64, "mem"))); }
            samples.push(("cpu", "b", at(t), wave(i as i64, "b")));
        }
        let stream = batch(&samples);
        let whole = run(&stream, samples.len(), 0);
        for cut in [1, 7, size] {
            let parts = run(&stream, cut, restart);
            prop_assert_eq!(&parts.0, &whole.0);
            prop_assert_eq!(parts.2, whole.2);
            // Incidents of different groups may interleave.
            let (mut a, mut b) = (parts.1, whole.1.clone());
            a.sort();
            b.sort();
            prop_assert_eq!(a, b);
        }
    }

    #[test]
    fn other_groups_do_not_matter(rows in prop::collection::vec((0usize..3, 0u8..30), 50..200)) {
        let mut all = Vec::new();
        for (i, (host, wild)) in rows.iter().enumerate() {
            let host = ["a", "b", "c"][*host];
            let v = if *wild == 0 { 77.0 } else { wave(i as i64, host) };
            all.push(("cpu", host, at(i as i64 / 3), v));
        }
        let only: Vec<_> = all.iter().copied().filter(|s| s.1 == "a").collect();
        let of_a = |o: Observation| {
            o.results.into_iter().filter(|r| r.group.contains("\"a\"")).map(|r| format!("{r:?}")).collect::<Vec<_>>()
        };
        prop_assert_eq!(of_a(monitor().observe(&batch(&all), at(0))), of_a(monitor().observe(&batch(&only), at(0))));
    }
}
