use crate::same;
use foreglow_datasets::{Dataset, OpenOptions, Split, check, describe, find, local, read_tuning_table};
use std::path::PathBuf;

/// The development data beside the repository; absent: a message and nothing to do, but a failure under CI=true.
#[expect(clippy::print_stderr, reason = "says which test is skipped")]
fn shared() -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    if root.join("index.json").is_file() {
        return Some(root);
    }
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{} is missing, and CI=true", root.display());
    eprintln!("skipped: {} is not there", root.display());
    None
}

#[test]
fn all_sets_are_as_their_manifests_say() {
    let Some(root) = shared() else { return };
    let sets = local(&root).unwrap();
    assert_eq!(sets.len(), 13);
    for (path, manifest) in sets {
        let report = check(&path, &OpenOptions::default()).unwrap();
        assert!(report.is_sound(), "{report}");
        assert_eq!(
            (report.rows, report.series, report.events),
            (manifest.n_rows, manifest.n_series, manifest.n_events)
        );
        assert!(describe(&manifest).contains(&manifest.licence.id));
        assert_eq!(find(&manifest.name).unwrap().licence, manifest.licence.id);
        let all = Dataset::open(&path, &OpenOptions::default()).unwrap().load_all(None).unwrap();
        assert_eq!(all.iter().map(foreglow_datasets::SeriesTable::len).sum::<usize>(), manifest.n_rows);
    }
}

#[test]
fn one_machine_reads_like_all() {
    let Some(root) = shared() else { return };
    let o = OpenOptions {
        series: Some("machine-1-*".into()),
        metrics: Some(vec!["m06_mem_u".into(), "m01_cpu_r".into()]),
        ..OpenOptions::default()
    };
    let set = Dataset::open(&root.join("smd_a"), &o).unwrap();
    assert!(set.series.len() > 1 && set.series.iter().all(|s| s.id.starts_with("machine-1-")));
    let all = set.load_all(None).unwrap();
    let one = set.load_series("machine-1-5", None).unwrap();
    let twin = all.iter().find(|t| t.id == "machine-1-5").unwrap();
    assert!(same(&one.columns, &twin.columns));
    assert_eq!(one.metrics, ["m06_mem_u", "m01_cpu_r"]);
    assert_eq!(one.keys()[1].to_string(), "m01_cpu_r{series=\"machine-1-5\"}");
    assert!(one.split.iter().zip(&one.label).all(|(s, l)| (*s == Split::Train) == l.is_none()));
    let events = set.events().unwrap();
    assert!(
        !events.is_empty() && events.iter().all(|e| e.series_id.starts_with("machine-1-") && !e.metrics.is_empty())
    );
}

#[test]
fn extra_labels_and_mixed_entities() {
    let Some(root) = shared() else { return };
    let nab = Dataset::open(&root.join("nab_cloud"), &OpenOptions::default()).unwrap();
    let t = nab.load_series("realAWSCloudwatch/ec2_cpu_utilization_24ae8d", None).unwrap();
    assert_eq!(t.extra_labels["label_point"].iter().filter(|l| **l == Some(true)).count(), 2);
    let nezha = Dataset::open(&root.join("nezha_a"), &OpenOptions::default()).unwrap();
    let front = nezha.load_series("2022-08-22/front", None).unwrap();
    assert_eq!((front.metrics.len(), front.without_empty_metrics().metrics.len()), (24, 5));
}

#[test]
fn tuning_tables() {
    let Some(root) = shared() else { return };
    for (file, rows, parameters, objectives) in [
        ("storm_wc.csv", 2880, 6, 2),
        ("llvm.csv", 1024, 10, 1),
        ("x264_env0.csv", 2047, 16, 1),
        ("x264_env18.csv", 2047, 16, 1),
    ] {
        let t = read_tuning_table(&root.join("tuning").join(file)).unwrap();
        assert_eq!(
            (t.rows.len(), t.parameters().count(), t.objectives().count()),
            (rows, parameters, objectives),
            "{file}"
        );
        assert!(t.suspicions.is_empty(), "{file}: {:?}", t.suspicions);
    }
}
