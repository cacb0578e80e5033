use super::*;
use crate::artifact::TensorMap;
use foreglow_core::{Seed, Timestamp};
use rand::Rng;

fn noise(rng: &mut impl Rng) -> f64 {
    (0..12).map(|_| rng.r#gen::<f64>()).sum::<f64>() - 6.0
}

fn start() -> Timestamp {
    "2026-01-05T00:00:00Z".parse().unwrap()
}

/// Runs one group and returns the scores (1 = the alert line).
fn run(pipeline: &Pipeline, step: &str, rows: &[Vec<f64>]) -> Vec<f64> {
    let step: Step = step.parse().unwrap();
    let group = Labels::default();
    let mut state = pipeline.new_state(&group, rows[0].len(), step);
    for c in 0..rows[0].len() {
        pipeline.bind(&mut state, c, &MetricKey::new(format!("s{c}"), Labels::default()));
    }
    let line = pipeline.alert_line(&group, step);
    let mut out = RowScore::default();
    rows.iter()
        .enumerate()
        .map(|(i, values)| {
            let row = Row { time: start().plus(i as i64 * step.ms()), values, gap: 0 };
            pipeline.score(&group, &mut state, &row, &mut out);
            let sum: f64 = out.signals.iter().map(|s| s.share).sum();
            assert!((sum - 1.0).abs() < 1e-9 || values.iter().all(|v| !v.is_finite()), "{sum}");
            line.score(out.neg_ln_p)
        })
        .collect()
}

fn plain() -> Pipeline {
    Pipeline::online(Signals::default(), &Recipe::default())
}

#[test]
fn false_alarms_stay_near_the_budget() {
    let mut rng = Seed(1).rng();
    let rows: Vec<Vec<f64>> = (0..1440 * 20).map(|_| (0..3).map(|_| 10.0 + noise(&mut rng)).collect()).collect();
    let scores = run(&plain(), "1m", &rows);
    assert!(scores[..50].iter().all(|s| s.is_nan()) && scores[80..].iter().all(|s| s.is_finite()));
    let alarms = scores[1440..].iter().filter(|s| **s >= 1.0).count() as f64 / 19.0;
    assert!((0.1..4.0).contains(&alarms), "{alarms} a day, budget 1");
}

#[test]
fn spikes_and_shifts_alert_and_shifts_are_learnt() {
    let mut rng = Seed(2).rng();
    let rows: Vec<Vec<f64>> = (0..3000)
        .map(|i| {
            let shift = if i >= 2000 { 15.0 } else { 0.0 };
            vec![100.0 + noise(&mut rng) + shift, noise(&mut rng)]
        })
        .collect();
    let scores = run(&plain(), "1m", &rows);
    assert!(scores[2000..2003].iter().any(|s| *s >= 1.0), "{:?}", &scores[2000..2003]);
    let mut spike = rows.clone();
    spike[1500][0] += 12.0;
    let with_spike = run(&plain(), "1m", &spike)[1500];
    assert!(with_spike >= 1.0 && scores[1500] < 1.0, "{with_spike} {}", scores[1500]);
    let late = scores[2300..].iter().filter(|s| **s >= 1.0).count();
    assert!(late <= 3, "{late} alarms long after the shift");
}

#[test]
fn equal_spikes_are_not_hidden_by_the_first() {
    let mut rng = Seed(9).rng();
    let mut rows: Vec<Vec<f64>> = (0..160).map(|_| vec![10.0 + noise(&mut rng)]).collect();
    for r in &mut rows[150..153] {
        r[0] = 80.0;
    }
    let scores = run(&plain(), "1m", &rows);
    assert!(scores[150..153].iter().all(|s| *s >= 1.0), "{:?}", &scores[150..153]);
}

#[test]
fn a_daily_peak_is_no_news_after_a_week() {
    let mut rng = Seed(3).rng();
    let per_day = 288;
    let rows: Vec<Vec<f64>> = (0..per_day * 15)
        .map(|i| {
            let peak = if (100..124).contains(&(i % per_day)) { 20.0 } else { 0.0 };
            vec![50.0 + peak + noise(&mut rng)]
        })
        .collect();
    let scores = run(&plain(), "5m", &rows);
    let alarms = |d: usize| scores[d * per_day..(d + 1) * per_day].iter().filter(|s| **s >= 1.0).count();
    let (first, last) = (alarms(1), (12..15).map(alarms).sum::<usize>());
    assert!(last <= 4, "{last} alarms in the last three days, {first} on the second");
    // The same height at another time is news.
    let mut moved = rows;
    for v in &mut moved[14 * per_day + 200..14 * per_day + 210] {
        v[0] += 20.0;
    }
    let scores = run(&plain(), "5m", &moved);
    let news = &scores[14 * per_day + 200..14 * per_day + 210];
    assert!(news.iter().any(|s| *s >= 1.0), "{news:?}");
}

#[test]
fn an_hourly_job_is_no_news_after_half_a_day_and_its_absence_is() {
    let mut rng = Seed(4).rng();
    let rows: Vec<Vec<f64>> = (0..1440 * 2)
        .map(|i| {
            let job = if i % 60 < 6 { 15.0 } else { 0.0 };
            vec![50.0 + job + noise(&mut rng)]
        })
        .collect();
    let scores = run(&plain(), "1m", &rows);
    let late = scores[720..].iter().filter(|s| **s >= 1.0).count();
    assert!(late <= 6, "{late} alarms in a day and a half, budget 1 a day");
    let mut skipped = rows.clone();
    let mut moved = rows;
    for i in 0..6 {
        skipped[2400 + i][0] -= 15.0;
        moved[2430 + i][0] += 15.0;
    }
    assert!(run(&plain(), "1m", &skipped)[2400..2406].iter().any(|s| *s >= 1.0));
    assert!(run(&plain(), "1m", &moved)[2430..2436].iter().any(|s| *s >= 1.0));
}

#[test]
fn constant_wild_and_missing_values() {
    let mut rows = vec![vec![3.0, f64::NAN, 0.0]; 400];
    rows[300] = vec![4.0, f64::NAN, 0.0];
    let scores = run(&plain(), "1m", &rows);
    assert!(scores[300] >= 1.0, "{}", scores[300]);
    assert!(scores[299] < 0.5 && scores[399] < 1.0);
    let mut rng = Seed(5).rng();
    let wild: Vec<Vec<f64>> = (0..600)
        .map(|i| match i % 7 {
            0 => vec![1e308, f64::INFINITY, -1e308],
            1 => vec![-1e308, f64::NEG_INFINITY, 1e308],
            2 => vec![f64::NAN; 3],
            _ => vec![noise(&mut rng), 1e-300, 1e300],
        })
        .collect();
    for (i, s) in run(&plain(), "1m", &wild).iter().enumerate() {
        assert!(s.is_nan() || (s.is_finite() && *s >= 0.0), "row {i}: {s}");
    }
}

#[test]
fn rules_are_followed() {
    let rules = Signals::parse(
        r#"
[[signal]]
name = "s0"
match = "s0"
worse = "up"
limit = 200.0
min_change = { abs = 30.0 }
"#,
    )
    .unwrap();
    let pipeline = Pipeline::online(rules, &Recipe::default());
    let mut rng = Seed(6).rng();
    let mut rows: Vec<Vec<f64>> = (0..500).map(|_| vec![100.0 + noise(&mut rng)]).collect();
    rows[300][0] = 120.0;
    rows[350][0] = 60.0;
    rows[400][0] = 140.0;
    rows[450][0] = 200.0;
    let scores = run(&pipeline, "1m", &rows);
    assert!(scores[300] < 1.0 && scores[350] < 1.0, "{} {}", scores[300], scores[350]);
    assert!(scores[400] >= 1.0 && scores[450] >= 1.0, "{} {}", scores[400], scores[450]);
}

#[test]
fn states_grow_save_and_stay_small() {
    let p = plain();
    let step: Step = "1m".parse().unwrap();
    let group = Labels::default();
    let mut state = p.new_state(&group, 1, step);
    p.grow(&mut state, 3);
    assert_eq!(state, p.new_state(&group, 3, step));
    let bytes = (p.new_state(&group, 101, step).numbers.len() - p.new_state(&group, 100, step).numbers.len()) * 8;
    assert!(bytes <= 5 * 1024, "{bytes} bytes a series, and the past");
    assert_eq!(p.history_len(step), 4096);
    assert_eq!(p.restore_state(&group, 3, step, state.numbers.clone()).unwrap(), state);
    assert!(p.restore_state(&group, 2, step, state.numbers.clone()).is_err());
    let (mut w, mut c) = (TensorMap::default(), TensorMap::default());
    p.save(&mut w, &mut c).unwrap();
    assert_eq!(Pipeline::load(&w, &c).unwrap(), p);
}
