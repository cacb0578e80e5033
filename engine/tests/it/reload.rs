use crate::server::{START, STEP, Server, points, usual, usual_rows};
use foreglow_core::signals::Signals;
use foreglow_core::{Labels, MetricKey, Seed, Timestamp};
use foreglow_models::artifact::{Artifact, BuildGroup, DataInfo, NewArtifact, Store, build_artifact};
use foreglow_models::evaluate::ReplaySeries;
use foreglow_models::spec::Recipe;
use std::collections::BTreeSet;
use std::path::Path;

const ROWS: i64 = 800;

/// An artifact over the first 800 steps of hosts a and b.
fn fitted(seed: u64) -> Artifact {
    fitted_by(&Signals::default(), seed)
}

/// The same with rules of its own.
fn fitted_by(rules: &Signals, seed: u64) -> Artifact {
    let recipe = Recipe::parse("[[detectors]]\nkind = \"pca\"\n[forecaster]\nkind = \"naive\"").unwrap();
    let times: Vec<Timestamp> = (0..ROWS).map(|i| Timestamp(START + i * STEP)).collect();
    let hosts = ["a", "b"];
    let keys: Vec<Vec<MetricKey>> =
        hosts.iter().map(|h| ["cpu", "mem"].map(|n| MetricKey::new(n, Labels::new([("host", *h)]))).to_vec()).collect();
    let columns: Vec<Vec<Vec<f64>>> = hosts
        .iter()
        .map(|h| {
            let rows: Vec<(f64, f64)> = (0..ROWS).map(|i| usual(h, i)).collect();
            vec![rows.iter().map(|r| r.0).collect(), rows.iter().map(|r| r.1).collect()]
        })
        .collect();
    let groups: Vec<BuildGroup<'_>> = keys
        .iter()
        .zip(&columns)
        .map(|(keys, columns)| BuildGroup {
            series: ReplaySeries { keys, timestamps: &times, columns },
            fit: 0..600,
            calibrate: 600..ROWS as usize,
        })
        .collect();
    let new = NewArtifact {
        name: "hosts",
        recipe: &recipe,
        rules,
        groups: &groups,
        may_miss: &[],
        selectors: &[],
        step: None,
        data: DataInfo::default(),
        seed: Seed(seed),
        warm: None,
    };
    build_artifact(&new, &|_| ()).unwrap().0
}

fn registry(dir: &Path) -> Store {
    Store::create(&dir.join("registry")).unwrap()
}

async fn with_registry(dir: &Path) -> Server {
    let folder = dir.join("registry");
    Server::start(dir, |c| c.registry = Some(folder)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn artifacts_are_swapped_without_a_lost_request() {
    let dir = tempfile::tempdir().unwrap();
    let store = registry(dir.path());
    let first = format!("hosts/{}", store.put(&fitted(1)).unwrap());
    let s = with_registry(dir.path()).await;
    let v = s.posted("/v1/score", &points(&usual_rows("a", ROWS..ROWS + 2))).await;
    assert_eq!(v["results"][0]["model"].as_str(), Some(first.as_str()), "{v}");
    assert_eq!(v["results"][0]["status"], "scored", "it goes on where the fit ended");

    // Host c was not there at fit time: the shared parts serve it, and say so.
    let v = s.posted("/v1/score", &points(&usual_rows("c", ROWS..ROWS + 2))).await;
    assert_eq!(
        (v["results"][0]["model"].as_str(), v["results"][0]["inherited"].as_bool()),
        (Some(first.as_str()), Some(true))
    );
    let other = serde_json::json!({"points": [{"timestamp": START, "labels": {"pod": "x"}, "values": {"q": 1.0}}]});
    assert_eq!(s.posted("/v1/score", &other).await["results"][0]["model"], "online");

    let second_id = store.put(&fitted(2)).unwrap();
    let second = format!("hosts/{second_id}");
    assert_ne!(first, second);
    let swap = async {
        store.promote("hosts", &second_id).unwrap();
        let v = s.posted("/v1/models/reload", &serde_json::json!({})).await;
        assert!(v["version"].as_u64().unwrap() >= 2, "{v}");
    };
    let load = async {
        let mut models = BTreeSet::new();
        for i in 0..60 {
            let at = ROWS + 10 + i;
            let v = s.posted("/v1/score", &points(&usual_rows("b", at..at + 1))).await;
            for r in v["results"].as_array().unwrap() {
                models.insert(r["model"].as_str().unwrap().to_owned());
            }
            assert_eq!(v["accepted"], 2, "{v}");
        }
        models
    };
    let ((), models) = tokio::join!(swap, load);
    assert!(models.iter().all(|m| *m == first || *m == second), "{models:?}");
    let v = s.posted("/v1/score", &points(&usual_rows("b", ROWS + 100..ROWS + 102))).await;
    assert_eq!(v["results"][0]["model"].as_str(), Some(second.as_str()));
    let group = s.get("/v1/groups/%7Bhost%3D%22b%22%7D").await;
    assert_eq!(group["model"].as_str(), Some(second.as_str()));
    assert!(group["reason"].as_str().unwrap().contains("fitted on this group"), "{group}");
    assert!(group["runners_up"].as_array().unwrap().iter().any(|r| r["model"] == "online"));
    let models = s.get("/v1/models").await;
    let served: Vec<&str> = models["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|m| m["served"] == true)
        .map(|m| m["model"].as_str().unwrap())
        .collect();
    assert_eq!(served, [second.as_str(), "online"]);
    s.stop().await;
}

/// A host that an artifact with rules of its own does not know sends its metrics one after the other: once they are all there,
/// all of them go to the artifact.
#[tokio::test]
async fn an_unknown_group_that_comes_in_parts_is_whole_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let rules = Signals::parse("[[group]]\nby = [\"host\"]\n").unwrap();
    registry(dir.path()).put(&fitted_by(&rules, 1)).unwrap();
    let s = with_registry(dir.path()).await;
    let cpu = |i: i64| serde_json::json!({"timestamp": START + i * STEP, "labels": {"host": "z"}, "values": {"cpu": usual("z", i).0}});
    s.posted("/v1/score", &points(&[cpu(0)])).await;
    for i in 1..8 {
        let v = s.posted("/v1/score", &points(&usual_rows("z", i..i + 1))).await;
        let models: Vec<&str> = v["results"].as_array().unwrap().iter().map(|r| r["model"].as_str().unwrap()).collect();
        assert!(models.iter().all(|m| m.starts_with("hosts/")), "{v}");
        let last = &v["results"][0];
        if last["status"] == "scored" {
            let signals = last["signals"].as_array().unwrap();
            assert!(signals.iter().all(|s| s["actual"].is_number()), "{v}");
        }
    }
    let groups = s.get("/v1/groups").await;
    let of_z: Vec<&serde_json::Value> =
        groups["items"].as_array().unwrap().iter().filter(|g| g["labels"]["host"] == "z").collect();
    assert!(of_z.len() == 1 && of_z[0]["status"] == "scored", "{groups}");
    s.stop().await;
}

/// What a dry run is told about a group that an artifact would take over: nothing moves for that.
#[tokio::test]
async fn a_dry_run_moves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    registry(dir.path()).put(&fitted(1)).unwrap();
    let s = with_registry(dir.path()).await;
    let cpu = |steps: std::ops::Range<i64>| {
        let row = |i| {
            let at = START + i * STEP;
            serde_json::json!({"timestamp": at, "labels": {"host": "z"}, "values": {"cpu": usual("z", i).0}})
        };
        points(&steps.map(row).collect::<Vec<_>>())
    };
    s.posted("/v1/score", &cpu(0..200)).await;
    let of_z = async || {
        let groups = s.get("/v1/groups").await;
        groups["items"].as_array().unwrap().iter().find(|g| g["labels"]["host"] == "z").cloned()
    };
    let before = of_z().await;
    let tried = s.posted("/v1/score?dry_run=true", &points(&usual_rows("z", 200..202))).await;
    assert!(tried["results"][0]["model"].as_str().unwrap().starts_with("hosts/"), "{tried}");
    assert!(before.is_some() && of_z().await == before);
    let after = s.posted("/v1/score", &cpu(200..202)).await;
    assert_eq!(
        (after["results"][0]["status"].as_str(), after["results"][0]["model"].as_str()),
        (Some("scored"), Some("online"))
    );
    s.stop().await;
}

/// An artifact with rules of its own takes groups over from the online baseline, whole: one that stayed behind would get
/// nothing any more, and be raised as silent.
#[tokio::test]
async fn no_group_stays_behind_with_the_online_baseline() {
    let dir = tempfile::tempdir().unwrap();
    let store = registry(dir.path());
    let s = with_registry(dir.path()).await;
    s.posted("/v1/score", &points(&usual_rows("a", ROWS - 10..ROWS))).await;
    assert_eq!(s.get("/v1/groups").await["items"][0]["model"], "online");
    let rules = Signals::parse("[[group]]\nby = [\"host\"]\n").unwrap();
    let model = format!("hosts/{}", store.put(&fitted_by(&rules, 1)).unwrap());
    s.posted("/v1/models/reload", &serde_json::json!({})).await;
    s.posted("/v1/score", &points(&usual_rows("a", ROWS..ROWS + 2))).await;
    let of_a = |groups: serde_json::Value| -> Vec<String> {
        let items = groups["items"].as_array().unwrap().clone();
        let mine = items.iter().filter(|g| g["labels"]["host"] == "a");
        mine.map(|g| g["model"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(of_a(s.get("/v1/groups").await), [model.as_str()]);
    s.stop().await;
    let s = with_registry(dir.path()).await;
    assert_eq!(of_a(s.get("/v1/groups").await), [model.as_str()], "its saved state is gone too");
    s.stop().await;
}

#[tokio::test]
async fn a_damaged_artifact_is_named_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = registry(dir.path());
    let id = store.put(&fitted(1)).unwrap();
    let weights = dir.path().join("registry/hosts").join(&id).join("weights.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let s = with_registry(dir.path()).await;
    let models = s.get("/v1/models").await;
    let error = models["items"][0]["error"].as_str().unwrap();
    assert!(error.contains("weights.safetensors") && error.contains("damaged"), "{error}");
    let ready = s.get("/readyz").await;
    assert!(ready.to_string().contains("does not load"), "{ready}");
    let v = s.posted("/v1/score", &points(&usual_rows("a", 0..2))).await;
    assert_eq!(v["results"][0]["model"], "online");
    s.stop().await;
}

/// A promoted artifact that does not load leaves the one before it in service, and says so.
#[tokio::test]
async fn a_damaged_successor_takes_nothing_down() {
    let dir = tempfile::tempdir().unwrap();
    let store = registry(dir.path());
    let first = format!("hosts/{}", store.put(&fitted(1)).unwrap());
    let s = with_registry(dir.path()).await;
    assert_eq!(s.get("/v1/models").await["items"][0]["model"].as_str(), Some(first.as_str()));
    let second = store.put(&fitted(2)).unwrap();
    store.promote("hosts", &second).unwrap();
    std::fs::write(dir.path().join("registry/hosts").join(&second).join("weights.safetensors"), b"cut").unwrap();
    s.posted("/v1/models/reload", &serde_json::json!({})).await;
    let v = s.posted("/v1/score", &points(&usual_rows("a", ROWS..ROWS + 2))).await;
    assert_eq!(v["results"][0]["model"].as_str(), Some(first.as_str()), "{v}");
    let models = s.get("/v1/models").await;
    let broken = models["items"].as_array().unwrap().iter().find(|m| m["error"].is_string()).unwrap();
    assert_eq!(broken["model"], format!("hosts/{second}"));
    assert!(broken["error"].as_str().unwrap().ends_with(&format!("{first} goes on being served")), "{broken}");
    s.stop().await;
}

/// What a model raised ends with the model: its successor sees for itself.
#[tokio::test]
async fn incidents_of_a_retired_model_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = registry(dir.path());
    store.put(&fitted(1)).unwrap();
    let s = with_registry(dir.path()).await;
    // One of the signals comes no more.
    let alone: Vec<_> = (ROWS..ROWS + 8)
        .map(|i| serde_json::json!({"timestamp": START + i * STEP, "labels": {"host": "a"}, "values": {"cpu": usual("a", i).0}}))
        .collect();
    s.posted("/v1/score", &points(&alone)).await;
    let open = s.get("/v1/incidents?state=open").await;
    assert_eq!(open["items"].as_array().unwrap().len(), 1, "{open}");
    let id = store.put(&fitted(2)).unwrap();
    store.promote("hosts", &id).unwrap();
    s.posted("/v1/models/reload", &serde_json::json!({})).await;
    let ended = s.get("/v1/incidents").await["items"][0].clone();
    assert_eq!((ended["state"].as_str(), &ended["id"]), (Some("resolved"), &open["items"][0]["id"]));
    assert!(ended["resolved_at"].as_i64() >= ended["opened_at"].as_i64(), "{ended}");
    s.stop().await;
}

#[tokio::test]
async fn the_wrong_metrics_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    registry(dir.path()).put(&fitted(1)).unwrap();
    let s = with_registry(dir.path()).await;
    s.posted("/v1/score", &points(&usual_rows("a", ROWS..ROWS + 1))).await;
    let body = serde_json::json!({"points": [{"timestamp": START + (ROWS + 1) * STEP, "labels": {"host": "a"},
        "values": {"disk": 1.0}}]});
    let v = s.posted("/v1/score", &body).await;
    assert_eq!(v["refused"][0]["code"], "unknown_signal", "{v}");
    s.stop().await;
}

#[tokio::test]
async fn fitted_scores_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    registry(dir.path()).put(&fitted(1)).unwrap();
    let rows = usual_rows("a", ROWS..ROWS + 60);
    let s = with_registry(dir.path()).await;
    // The same rows in a session: from the start state as well, and left alone.
    let whole = s.posted("/v1/score?session=whole", &points(&rows)).await;
    let mut cut = s.posted("/v1/score", &points(&rows[..31])).await["results"].as_array().unwrap().clone();
    s.stop().await;
    let s = with_registry(dir.path()).await;
    cut.extend(s.posted("/v1/score", &points(&rows[31..])).await["results"].as_array().unwrap().clone());
    assert_eq!(whole["results"].as_array().unwrap(), &cut);
    s.stop().await;
}
