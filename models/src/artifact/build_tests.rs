use super::*;
use crate::Recipe;
use crate::evaluate::{ReplaySeries, ReplayStatus, replay};
use crate::monitor::{Monitor, MonitorOptions, Observation, StepStatus};
use foreglow_core::signals::Signals;
use foreglow_core::{Labels, MetricBatch, MetricKey, Seed, Timestamp};
use rand::Rng;

const ROWS: usize = 900;
const TRAIN: usize = 600;

struct Host {
    keys: Vec<MetricKey>,
    times: Vec<Timestamp>,
    columns: Vec<Vec<f64>>,
}

/// Three signals of one load, one of them a counter; a gap in train and an excursion in test.
fn host(name: &str) -> Host {
    let mut rng = Seed(7).child(name).rng();
    let mut noise = || (0..12).map(|_| rng.r#gen::<f64>()).sum::<f64>() - 6.0;
    let keys = ["load", "cpu", "requests_total"].map(|n| MetricKey::new(n, Labels::new([("host", name)]))).to_vec();
    let (mut times, mut columns, mut load, mut total) = (Vec::new(), vec![Vec::new(); 3], 0.0, 0.0);
    for i in 0..ROWS {
        load = 0.9 * load + 0.4 * noise();
        total += 60.0 * (10.0 + load);
        let jump = if (800..810).contains(&i) { 30.0 } else { 0.0 };
        let minute = if i < 300 { i } else { i + 20 };
        times.push(Timestamp(1_767_225_600_000 + minute as i64 * 60_000));
        columns[0].push(load + 0.1 * noise());
        columns[1].push(50.0 + 2.0 * load + 0.1 * noise() + jump);
        columns[2].push(total);
    }
    Host { keys, times, columns }
}

impl Host {
    fn series(&self) -> ReplaySeries<'_> {
        ReplaySeries { keys: &self.keys, timestamps: &self.times, columns: &self.columns }
    }

    /// Test rows as a stream of samples.
    fn stream(&self) -> MetricBatch {
        let mut b = MetricBatch { keys: self.keys.clone(), samples: Vec::new() };
        for row in TRAIN..ROWS {
            for c in 0..self.keys.len() {
                b.push(c, self.times[row], self.columns[c][row], row);
            }
        }
        b
    }
}

fn rules() -> Signals {
    Signals::parse("[[signal]]\nname = \"requests\"\nmatch = \"requests_total\"\nas = \"counter_rate\"\n").unwrap()
}

fn recipe() -> Recipe {
    Recipe::parse("[[detectors]]\nkind = \"pca\"\n[[detectors]]\nkind = \"baseline\"\n[forecaster]\nkind = \"naive\"\n")
        .unwrap()
}

fn build(hosts: &[Host], warm: Option<&Artifact>) -> Result<Artifact, crate::ModelError> {
    let (rules, recipe) = (rules(), recipe());
    let groups: Vec<BuildGroup<'_>> =
        hosts.iter().map(|h| BuildGroup { series: h.series(), fit: 0..450, calibrate: 450..TRAIN }).collect();
    let new = NewArtifact {
        name: "hosts",
        recipe: &recipe,
        rules: &rules,
        groups: &groups,
        may_miss: &[],
        selectors: &[],
        step: None,
        data: DataInfo { data: "made".into(), data_sha256: "0".into() },
        seed: Seed(3),
        warm,
    };
    Ok(build_artifact(&new, &|_| {})?.0)
}

#[test]
fn fits_saves_and_goes_on_where_train_ended() {
    let hosts = [host("a"), host("b")];
    let made = build(&hosts, None).unwrap();
    let m = &made.manifest;
    assert_eq!((m.training.rows, m.training.groups, m.step.ms()), (2 * TRAIN, 2, 60_000));
    assert_eq!(m.training.end, hosts[0].times[TRAIN - 1]);
    let names: Vec<String> = m.signals.iter().map(|s| s.key.to_string()).collect();
    assert_eq!(names, ["load", "cpu", "requests"]);
    assert_eq!((m.matches.by.as_slice(), m.matches.required.len()), (["host".to_owned()].as_slice(), 3));
    assert!((m.p_alert[r#"{host="a"}"#] - 1.0 / 1440.0).abs() < 1e-12);
    // Same inputs, same bytes, on any number of threads.
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(|| build(&hosts, None).unwrap());
    assert_eq!(one.manifest, *m);

    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path()).unwrap();
    let id = store.put(&made).unwrap();
    let loaded = store.load("hosts", Some(&id)).unwrap();
    let scores = |a: &Artifact| {
        let mut monitor = a.monitor(MonitorOptions::replay()).unwrap();
        assert_eq!(monitor.group(r#"{host="a"}"#).unwrap().newest, Some(hosts[0].times[TRAIN - 1]));
        let mut out = Vec::new();
        replay(&mut monitor, &hosts[0].series(), TRAIN..ROWS, false, &mut |_, r| out.push(r.clone())).unwrap();
        out
    };
    let rows = scores(&loaded);
    assert_eq!(rows.len(), ROWS - TRAIN);
    assert_eq!(format!("{rows:?}"), format!("{:?}", scores(&made)));
    assert!(rows.iter().all(|r| r.status == ReplayStatus::Step(StepStatus::Scored) && r.score.is_finite()));
    assert!(
        rows[200..203].iter().any(|r| r.is_anomaly),
        "{:?}",
        rows[200..210].iter().map(|r| r.score).collect::<Vec<_>>()
    );
    let cpu = &rows[200].signals[1];
    assert!(cpu.actual > cpu.upper && cpu.score >= 1.0, "{cpu:?}");
    let top = rows[200].signals.iter().max_by(|a, b| a.share.total_cmp(&b.share)).unwrap();
    assert_eq!(top.key.name.as_ref(), "cpu");
    assert!(rows[..190].iter().filter(|r| r.is_anomaly).count() <= 3);
    // Warm: the same signals go on from it.
    let warm = build(&hosts, Some(&made)).unwrap();
    assert_eq!(warm.manifest.signals, m.signals);
}

#[test]
fn live_is_backtest_whatever_the_cuts_and_restarts() {
    let made = build(&[host("a"), host("b")], None).unwrap();
    let stream = host("a").stream();
    let keep = |o: Observation| {
        o.results
            .into_iter()
            .filter(|r| r.status != StepStatus::Pending)
            .map(|r| (r.timestamp, r.score.to_bits(), r.is_anomaly))
            .collect::<Vec<_>>()
    };
    let whole = keep(made.monitor(MonitorOptions::replay()).unwrap().observe(&stream, Timestamp(i64::MAX)));
    assert_eq!(whole.len(), ROWS - TRAIN);
    for cut in [1, 7, 1000] {
        let mut monitor = made.monitor(MonitorOptions::replay()).unwrap();
        let mut parts = Vec::new();
        for (i, samples) in stream.samples.chunks(cut).enumerate() {
            if i * cut >= 300 && (i - 1) * cut < 300 {
                let state = monitor.export();
                monitor = Monitor::new(made.pipeline.clone(), MonitorOptions::replay());
                monitor.import(&state).unwrap();
            }
            let batch = MetricBatch { keys: stream.keys.clone(), samples: samples.to_vec() };
            parts.extend(keep(monitor.observe(&batch, Timestamp(i64::MAX))));
        }
        assert_eq!(parts, whole, "batches of {cut}");
    }
}

#[test]
fn strangers_are_told_apart() {
    let made = build(&[host("a"), host("b")], None).unwrap();
    let mut monitor = made.monitor(MonitorOptions::replay()).unwrap();
    let now = Timestamp(i64::MAX);
    let mut b = MetricBatch { keys: vec![MetricKey::new("disk", Labels::new([("host", "a")]))], samples: Vec::new() };
    b.push(0, host("a").times[TRAIN], 1.0, 0);
    let said = monitor.observe(&b, now);
    assert_eq!(said.refused[0].code, "unknown_signal");
    assert!(said.refused[0].detail.contains("disk") && said.refused[0].detail.contains("hosts"), "{:?}", said.refused);
    // A group that was not there is served by the shared parts and says so.
    let said = monitor.observe(&host("new").stream(), now);
    assert!(said.results.iter().all(|r| r.inherited));
    assert!(monitor.group(r#"{host="new"}"#).unwrap().inherited && !monitor.group(r#"{host="a"}"#).unwrap().inherited);
    // State of another model is refused with both shapes.
    let other = build(&[host("a")], None).unwrap();
    let state = monitor.export_group(r#"{host="a"}"#).unwrap();
    assert!(other.monitor(MonitorOptions::replay()).unwrap().import_group(&state).is_ok(), "the same shape fits");
    let mut narrow = host("a");
    narrow.keys.pop();
    narrow.columns.pop();
    let e = build(&[narrow], None).unwrap().monitor(MonitorOptions::replay()).unwrap().import_group(&state);
    let e = e.unwrap_err().to_string();
    assert!(e.contains("requests") && e.contains("3 signals"), "{e}");
}

#[test]
fn what_cannot_be_fitted_is_named() {
    let fail = |hosts: &[Host]| build(hosts, None).unwrap_err().to_string();
    assert!(fail(&[]).contains("no group"));
    assert!(fail(&[host("a"), host("a")]).contains("two series form it"));
    let mut slow = host("b");
    for (i, t) in slow.times.iter_mut().enumerate() {
        *t = Timestamp(1_767_225_600_000 + i as i64 * 300_000);
    }
    let e = fail(&[host("a"), slow]);
    assert!(e.contains("5m") && e.contains("1m") && e.contains("host=\"b\""), "{e}");
    let mut wrong = host("a");
    for t in &mut wrong.times[500..] {
        *t = t.plus(1_000_000_000_000);
    }
    let e = fail(&[wrong]);
    assert!(e.contains("wrong clock"), "{e}");
    let mut split = host("a");
    split.keys[1] = MetricKey::new("cpu", Labels::new([("host", "z")]));
    assert!(fail(&[split]).contains("2 groups"));
}
