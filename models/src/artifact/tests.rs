use super::*;
use crate::monitor::{Monitor, MonitorOptions};
use crate::pipeline::{Pipeline, PipelineSignal};
use crate::spec::Recipe;
use foreglow_core::signals::Signals;
use foreglow_core::{Labels, MetricBatch, MetricKey, Seed, Selector, Timestamp};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn artifact(name: &str, seed: u64) -> Artifact {
    let pipeline = Arc::new(Pipeline::online(Signals::default(), &Recipe::default()));
    let mut monitor = Monitor::new(pipeline.clone(), MonitorOptions::replay());
    let key = MetricKey::new("cpu", Labels::new([("host", "a")]));
    for i in 0..20 {
        let mut b = MetricBatch { keys: vec![key.clone()], samples: Vec::new() };
        b.push(0, Timestamp(1_767_225_600_000 + i * 60_000), i as f64, 0);
        monitor.observe(&b, Timestamp(i64::MAX));
    }
    let manifest = Manifest {
        schema_version: SCHEMA.into(),
        id: String::new(),
        name: name.into(),
        kind: "pipeline".into(),
        recipe: Recipe::default(),
        matches: MatchSpec::default(),
        signals: vec![PipelineSignal { key: MetricKey::new("cpu", Labels::default()), required: true }],
        step: "1m".parse().unwrap(),
        seed: Seed(seed),
        training: TrainingInfo {
            start: Timestamp(0),
            end: Timestamp(1),
            rows: 20,
            groups: 1,
            data: "test".into(),
            data_sha256: String::new(),
        },
        calibration_epoch: 1,
        p_alert: BTreeMap::from([(r#"{host="a"}"#.to_owned(), 1.0 / 1440.0)]),
        backtest: None,
        kernel: "portable".into(),
        files: BTreeMap::new(),
        created_by: "test".into(),
    };
    Artifact { manifest, pipeline, start: monitor.export(), optimizer: TensorMap::default() }.sealed().unwrap()
}

fn all_files(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for e in fs::read_dir(dir).unwrap() {
        let p = e.unwrap().path();
        if p.is_dir() { out.extend(all_files(&p)) } else { out.push(p) }
    }
    out.sort();
    out
}

#[test]
fn what_is_put_is_loaded_and_starts_where_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(&dir.path().join("registry")).unwrap();
    let a = artifact("web", 1);
    let id = store.put(&a).unwrap();
    assert_eq!(id, a.manifest.id);
    let back = store.load("web", None).unwrap();
    assert_eq!(back.manifest, a.manifest);
    assert_eq!((&back.start, &*back.pipeline), (&a.start, &*a.pipeline));
    let monitor = back.monitor(MonitorOptions::replay()).unwrap();
    assert_eq!(monitor.export(), a.start);
    assert_eq!(store.put(&a).unwrap(), id, "the same content is the same artifact");
    assert_eq!(store.list().unwrap().len(), 1);
    let inside = |p: &PathBuf| p.strip_prefix(dir.path()).unwrap().to_string_lossy().into_owned();
    assert!(all_files(dir.path()).iter().all(|p| !inside(p).contains("/.")), "no draft is left");
    let b = a.clone().with_backtest(serde_json::json!({"vus_pr": 0.5})).unwrap();
    assert_ne!(b.manifest.id, id);
    assert_eq!(store.load("web", Some(&store.put(&b).unwrap())).unwrap().manifest.backtest, b.manifest.backtest);
}

#[test]
fn current_moves_forward_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path()).unwrap();
    assert!(store.load("web", None).unwrap_err().to_string().contains("fit one"));
    let ids: Vec<String> = (1..4).map(|s| store.put(&artifact("web", s)).unwrap()).collect();
    let current = || store.current("web").unwrap().unwrap();
    assert_eq!(current(), ids[0], "the first one serves until another is promoted");
    let print = store.fingerprint().unwrap();
    store.promote("web", &ids[2]).unwrap();
    store.promote("web", &ids[2]).unwrap();
    store.promote("web", &ids[1]).unwrap();
    assert_ne!(store.fingerprint().unwrap(), print);
    assert_eq!(store.rollback("web").unwrap(), ids[2]);
    assert_eq!(store.rollback("web").unwrap(), ids[0]);
    assert_eq!(current(), ids[0]);
    assert_eq!(store.fingerprint().unwrap(), print);
    assert!(store.rollback("web").unwrap_err().to_string().contains("no former artifact"));
    assert!(store.promote("web", "0123456789abcdef").is_err());
    assert!(store.promote("../web", &ids[0]).is_err());
    // Going back passes over what is damaged.
    store.promote("web", &ids[1]).unwrap();
    store.promote("web", &ids[2]).unwrap();
    fs::remove_file(dir.path().join("web").join(&ids[1]).join("weights.safetensors")).unwrap();
    assert_eq!(store.rollback("web").unwrap(), ids[0]);
}

#[test]
fn texts_resolve_to_artifacts() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path()).unwrap();
    assert!(store.resolve("x").unwrap_err().to_string().contains("nothing"));
    let a = store.put(&artifact("web", 1)).unwrap();
    let b = store.put(&artifact("web", 2)).unwrap();
    let whole = |id: &str| ("web".to_owned(), id.to_owned());
    for text in ["web", "web/current", &a, &a[..8], &format!("web/{}", &a[..8])] {
        assert_eq!(store.resolve(text).unwrap(), whole(&a), "{text}");
    }
    assert_eq!(store.resolve(&b).unwrap(), whole(&b));
    let e = store.resolve("web/zz").unwrap_err().to_string();
    assert!(e.contains(&a) && e.contains(&b), "{e}");
    assert!(store.resolve("web/").is_err() && store.resolve("").is_err());
}

#[test]
fn one_wrong_byte_anywhere_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path()).unwrap();
    let id = store.put(&artifact("web", 1)).unwrap();
    let other = store.put(&artifact("web", 2)).unwrap();
    for path in all_files(&dir.path().join("web").join(&id)) {
        let good = fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let stride = (good.len() / 40).max(1);
        for at in (0..good.len()).step_by(stride).chain([good.len() - 1]) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            let e = store.load("web", Some(&id)).unwrap_err().to_string();
            assert!(e.contains(&name) && (e.contains("again") || e.contains("newer program")), "byte {at}: {e}");
        }
        fs::write(&path, &good[..good.len() / 2]).unwrap();
        assert!(store.load("web", Some(&id)).is_err());
        let listed = store.list().unwrap();
        assert_eq!(listed.len(), 2);
        assert!(listed.iter().any(|l| l.id == other && l.manifest.is_ok()));
        fs::write(&path, &good).unwrap();
    }
    store.load("web", Some(&id)).unwrap();
    // Putting it again mends it.
    fs::write(dir.path().join("web").join(&id).join("start.safetensors"), b"x").unwrap();
    store.put(&artifact("web", 1)).unwrap();
    store.load("web", Some(&id)).unwrap();
}

#[test]
fn an_unknown_major_version_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path()).unwrap();
    let id = store.put(&artifact("web", 1)).unwrap();
    let path = dir.path().join("web").join(&id).join("manifest.json");
    let text = fs::read_to_string(&path).unwrap().replace("\"1.0\"", "\"2.0\"");
    fs::write(&path, text).unwrap();
    let e = store.load("web", None).unwrap_err().to_string();
    assert!(e.contains("2.0") && e.contains("newer program") && e.contains(&id), "{e}");
    fs::write(dir.path().join("web").join("aliases.json"), r#"{"version":7,"current":null,"previous":[]}"#).unwrap();
    assert!(store.load("web", None).unwrap_err().to_string().contains("version 7"));
    assert!(!store.list().unwrap()[0].current);
}

#[test]
fn the_most_specific_artifact_serves() {
    let mut plain = artifact("plain", 1).manifest;
    plain.p_alert.clear();
    plain.matches = MatchSpec {
        selectors: Vec::new(),
        by: vec!["host".into()],
        required: vec![MetricKey::new("cpu", Labels::default())],
        may_miss: Vec::new(),
    };
    let mut web = plain.clone();
    web.matches.selectors = vec![r#"{host=~"web.*"}"#.parse::<Selector>().unwrap()];
    let mut newer = plain.clone();
    newer.training.end = Timestamp(2);
    let mut fitted = plain.clone();
    fitted.p_alert.insert(r#"{host="db-1"}"#.into(), 0.001);
    let mut more = plain.clone();
    more.matches.required.push(MetricKey::new("mem", Labels::default()));
    let all = [&plain, &web, &newer, &fitted, &more];
    let candidates: Vec<Candidate<'_>> =
        all.iter().enumerate().map(|(i, m)| Candidate { manifest: m, current: i == 0 }).collect();
    let ranking = |host: &str, names: &[&str]| {
        let signals: Vec<MetricKey> = names.iter().map(|n| MetricKey::new(n, Labels::default())).collect();
        choose(&candidates, &Labels::new([("host", host)]), &signals)
    };
    let order = |r: &[Ranked]| r.iter().filter(|r| r.serves).map(|r| r.index).collect::<Vec<_>>();
    assert_eq!(order(&ranking("web-1", &["cpu", "io"])), [1, 0, 2, 3]);
    let db = ranking("db-1", &["cpu"]);
    assert_eq!(order(&db), [3, 0, 2]);
    assert!(db[0].reason.contains("fitted on this group"), "{db:?}");
    let reasons: Vec<&str> = db.iter().filter(|r| !r.serves).map(|r| r.reason.as_str()).collect();
    assert!(
        reasons.iter().any(|r| r.contains("web")) && reasons.iter().any(|r| r.contains("signal mem")),
        "{reasons:?}"
    );
    let no = choose(&candidates, &Labels::new([("pod", "x")]), &[]);
    assert!(no.iter().all(|r| !r.serves && !r.reason.is_empty()));
}
