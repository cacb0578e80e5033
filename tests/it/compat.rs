//! An artifact that was fitted by the first version loads and says what it said, whatever has changed since.

use foreglow_datasets::{Column, read_parquet};
use foreglow_tests::testkit::train;
use std::collections::BTreeMap;
use std::path::Path;

/// What kernel paths may differ by.
const PATHS: f64 = 1e-4;

fn numbers(file: &Path) -> BTreeMap<String, Vec<Option<f64>>> {
    let columns = read_parquet(file).unwrap().into_iter();
    columns.filter_map(|(name, c)| if let Column::OptF64(v) = c { Some((name, v)) } else { None }).collect()
}

#[test]
fn the_first_artifact_says_what_it_said() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat/artifact-v1");
    let out = tempfile::tempdir().unwrap();
    let path = |p: &Path| p.to_str().unwrap().to_owned();
    let (data, registry, now) = (path(&folder.join("data")), path(&folder.join("registry")), path(out.path()));
    let choice = ["--data", &data, "--registry", &registry, "--artifact", "compat", "--out", &now];
    train(&[&["backtest", "--task", "anomaly"][..], &choice[..]].concat()).unwrap();
    let (then, now) = (numbers(&folder.join("scores.parquet")), numbers(&out.path().join("scores.parquet")));
    for (name, then) in &then {
        let now = now.get(name).unwrap_or_else(|| panic!("{name} is no longer told"));
        assert_eq!(then.len(), now.len(), "{name}");
        for (row, (a, b)) in then.iter().zip(now).enumerate() {
            let same = match (a, b) {
                (Some(a), Some(b)) => (a - b).abs() <= PATHS * a.abs().max(1.0),
                _ => a.is_none() == b.is_none(),
            };
            assert!(same, "{name}, row {row}: {a:?} then, {b:?} now");
        }
    }
    for member in ["baseline", "pca", "autoencoder", "cluster", "neighbours", "residual", "amplitude", "shift"] {
        assert!(then[member].iter().any(Option::is_some), "{member} said nothing");
    }
    assert!(then["score"].iter().flatten().any(|s| *s >= 1.0), "nothing was above the line");
}
