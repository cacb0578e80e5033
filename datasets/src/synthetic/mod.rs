//! Series with exact labels, from a seed.

mod spec;

pub use spec::{AnomalyKind, CheckedSynthetic, SyntheticSpec};

use crate::{Event, Licence, SeriesTable, Split, TidyData, TidyMeta};
use foreglow_core::{DAY_MS, Labels, Seed, Timestamp};
use rand::Rng;
use rand_distr::StandardNormal;
use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::ops::Range;

/// Generates the dataset: the same specification gives the same values; adding a series or a metric does not change the
/// others' noise. Labels are exact: 1 in exactly the rows of the events (but for [`AnomalyKind::Missing`]), whose affected
/// metrics are listed. Values are single precision.
pub fn generate(spec: &CheckedSynthetic) -> TidyData {
    let s = &spec.0;
    let mut events = Vec::new();
    let series = (0..s.series).map(|i| one(s, i, &mut events)).collect();
    let meta = TidyMeta {
        name: s.name.clone(),
        title: format!("Generated: {} series of {} metrics, {} days", s.series, s.metrics, s.days),
        tasks: vec!["anomaly-multivariate".into(), "forecast-multivariate".into()],
        domain: "generated service metrics with trend, daily and weekly season and correlated groups".into(),
        licence: Licence { id: "CC0-1.0".into(), ..Licence::default() },
        timestamps: "synthetic".into(),
        label_meaning: "1 = inside a generated anomaly; missing stretches are events with label 0".into(),
        split_rule: format!(
            "train {}, val {}, rest test, in the order of time; train and val hold no anomaly",
            s.train, s.val
        ),
        extra: BTreeMap::from([("generator".to_owned(), serde_json::to_value(s).unwrap_or_default())]),
        ..TidyMeta::default()
    };
    TidyData { meta, series, events }
}

fn one(s: &SyntheticSpec, index: usize, events: &mut Vec<Event>) -> SeriesTable {
    let id = format!("entity-{:02}", index + 1);
    let seed = s.seed.child("series").nth(index as u64);
    let n = s.rows();
    let (val, test) = s.cuts();
    let times: Vec<Timestamp> = (0..n).map(|k| s.start.plus(k as i64 * s.step.ms())).collect();
    let metrics: Vec<String> = (0..s.metrics).map(|m| format!("g{}_metric_{:02}", m % s.groups + 1, m + 1)).collect();
    let loads: Vec<Vec<f64>> = (0..s.groups).map(|g| ar1(seed.child("load").nth(g as u64), n, 0.95)).collect();
    let shape = seed.child("shape");
    let mut bases = Vec::with_capacity(s.metrics);
    let mut columns: Vec<Vec<f64>> = (0..s.metrics)
        .map(|m| {
            let group = m % s.groups;
            let mut g = shape.child("group").nth(group as u64).rng();
            let (phase, second) = (g.r#gen::<f64>(), g.gen_range(0.2..0.5));
            let mut r = shape.child("metric").nth(m as u64).rng();
            // Bases over three decades: percentages beside bytes and milliseconds.
            let base = libm::exp10(r.gen_range(0.0..3.0));
            let sign = if r.gen_bool(0.25) { -1.0 } else { 1.0 };
            bases.push(base);
            let noise = ar1(seed.child("noise").nth(m as u64), n, 0.5);
            let (shared, own) = (s.correlation.sqrt(), (1.0 - s.correlation).sqrt());
            times
                .iter()
                .enumerate()
                .map(|(k, t)| {
                    let day = t.ms_of_day() as f64 / DAY_MS as f64 + phase;
                    let season = (libm::sin(TAU * day) + second * libm::sin(2.0 * TAU * day)) / (1.0 + second);
                    let weekend = if t.ms_of_week() >= 5 * DAY_MS { -1.0 } else { 0.0 };
                    let days = (t.ms() - s.start.ms()) as f64 / DAY_MS as f64;
                    let level = 1.0 + s.trend * days + s.daily * season + s.weekly * weekend;
                    base * (level + s.noise * (sign * shared * loads[group][k] + own * noise[k]))
                })
                .collect()
        })
        .collect();

    let mut label = vec![Some(false); n];
    if let Some(width) = (n - test).checked_div(s.events) {
        let mut r = seed.child("events").rng();
        for e in 0..s.events {
            let kind = s.kinds[(e + index) % s.kinds.len()];
            let long = r.gen_range(kind.steps());
            let from = test + e * width + r.gen_range(10..=width - long - 10);
            let rows = from..from + long;
            // A fault touches some metrics of one group.
            let group = r.gen_range(0..s.groups);
            let members: Vec<usize> = (group..s.metrics).step_by(s.groups).collect();
            let hit = r.gen_range(1..=members.len());
            let mut chosen: Vec<usize> = rand::seq::index::sample(&mut r, members.len(), hit).into_vec();
            chosen.sort_unstable();
            for c in &chosen {
                let m = members[*c];
                disturb(kind, &mut columns[m], rows.clone(), s.noise * bases[m], &mut r);
            }
            if kind != AnomalyKind::Missing {
                label[rows.clone()].fill(Some(true));
            }
            events.push(Event {
                series_id: id.clone(),
                start: Some(times[rows.start]),
                end: Some(times[rows.end - 1]),
                kind: Some(kind.name().into()),
                target: Some(id.clone()),
                root_cause: None,
                metrics: chosen.iter().map(|c| metrics[members[*c]].clone()).collect(),
                note: None,
            });
        }
    }
    for v in columns.iter_mut().flatten() {
        *v = f64::from(*v as f32);
    }
    SeriesTable {
        labels: Labels::new([("series", &id)]),
        id,
        timestamps: times,
        split: (0..n)
            .map(|k| {
                if k < val {
                    Split::Train
                } else if k < test {
                    Split::Val
                } else {
                    Split::Test
                }
            })
            .collect(),
        label,
        file_rows: Vec::new(),
        extra_labels: BTreeMap::new(),
        metrics,
        columns,
        infinite_values: 0,
    }
}

fn disturb(kind: AnomalyKind, column: &mut [f64], rows: Range<usize>, spread: f64, r: &mut impl Rng) {
    let sign = if r.gen_bool(0.5) { 1.0 } else { -1.0 };
    match kind {
        AnomalyKind::LevelShift => {
            let by = sign * r.gen_range(5.0..9.0) * spread;
            column[rows].iter_mut().for_each(|v| *v += by);
        }
        AnomalyKind::VarianceBurst => {
            let by = r.gen_range(4.0..7.0) * spread;
            for v in &mut column[rows] {
                *v += by * r.sample::<f64, _>(StandardNormal);
            }
        }
        AnomalyKind::Spike => {
            let by = sign * r.gen_range(8.0..14.0) * spread;
            column[rows].iter_mut().for_each(|v| *v += by);
        }
        AnomalyKind::StuckSensor => {
            let held = column[rows.start - 1];
            column[rows].fill(held);
        }
        AnomalyKind::Missing => column[rows].fill(f64::NAN),
    }
}

/// A stationary AR(1) process of unit variance.
fn ar1(seed: Seed, n: usize, phi: f64) -> Vec<f64> {
    let mut r = seed.rng();
    let scale = (1.0 - phi * phi).sqrt();
    let mut x: f64 = r.sample(StandardNormal);
    (0..n)
        .map(|_| {
            let now = x;
            x = phi * x + scale * r.sample::<f64, _>(StandardNormal);
            now
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_exact() {
        let data = generate(&SyntheticSpec::default().check().unwrap());
        let clean = generate(&SyntheticSpec { events: 0, ..SyntheticSpec::default() }.check().unwrap());
        assert_eq!(data.events.len(), 40);
        for (s, c) in data.series.iter().zip(&clean.series) {
            let mut want = vec![false; s.len()];
            for e in data.events.iter().filter(|e| e.series_id == s.id) {
                let inside = |t: &Timestamp| *t >= e.start.unwrap() && *t <= e.end.unwrap();
                let rows: Vec<usize> = (0..s.len()).filter(|k| inside(&s.timestamps[*k])).collect();
                assert!(rows.iter().all(|k| s.split[*k] == Split::Test));
                for (m, name) in s.metrics.iter().enumerate() {
                    let moved = rows.iter().any(|k| s.columns[m][*k].to_bits() != c.columns[m][*k].to_bits());
                    assert_eq!(moved, e.metrics.contains(name), "{} {name} {:?}", s.id, e.kind);
                }
                if e.kind.as_deref() != Some("missing") {
                    for k in &rows {
                        want[*k] = true;
                    }
                }
            }
            for k in 0..s.len() {
                assert_eq!(s.label[k], Some(want[k]));
                let missing = s.row(k).any(f64::is_nan);
                let same = s.row(k).zip(c.row(k)).all(|(a, b)| a == b);
                assert!(same || want[k] || missing, "row {k} of {} changed without a label", s.id);
            }
        }
    }

    #[test]
    fn groups_are_correlated_and_seasons_are_there() {
        let spec = SyntheticSpec {
            events: 0,
            daily: 0.0,
            weekly: 0.0,
            trend: 0.0,
            correlation: 0.9,
            ..SyntheticSpec::default()
        };
        let t = &generate(&spec.check().unwrap()).series[0];
        let r = |a: usize, b: usize| foreglow_core::stats::correlation(&t.columns[a], &t.columns[b]).abs();
        assert!(r(0, 2) > 0.7, "same group: {}", r(0, 2));
        assert!(r(0, 1) < 0.5, "other group: {}", r(0, 1));
        let spec = SyntheticSpec { events: 0, noise: 0.001, ..SyntheticSpec::default() };
        let t = &generate(&spec.check().unwrap()).series[0];
        let day = 288;
        let d: f64 = (0..day).map(|k| (t.columns[0][k] - t.columns[0][k + day]).abs()).sum();
        let half: f64 = (0..day).map(|k| (t.columns[0][k] - t.columns[0][k + day / 2]).abs()).sum();
        assert!(d * 3.0 < half, "a day repeats, half a day does not: {d} {half}");
    }

    #[test]
    fn more_series_change_nothing() {
        let few = generate(&SyntheticSpec { series: 1, ..SyntheticSpec::default() }.check().unwrap());
        let many = generate(&SyntheticSpec { series: 3, ..SyntheticSpec::default() }.check().unwrap());
        let bits = |s: &SeriesTable| s.columns.iter().flatten().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&few.series[0]), bits(&many.series[0]));
    }
}
