use crate::{Scratch, same};
use foreglow_core::{Labels, Seed, Timestamp};
use foreglow_datasets::{
    Column, Dataset, Event, OpenOptions, SeriesTable, Split, SyntheticSpec, TidyBuilder, TidyData, TidyMeta, check,
    generate, read_parquet, write_parquet, write_tidy,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![3 => -1e6f64..1e6, 1 => Just(f64::NAN), 1 => Just(1e308), 1 => Just(0.5), 1 => Just(-0.0)]
}

fn series(metrics: usize) -> impl Strategy<Value = Vec<SeriesTable>> {
    let row = (
        0i64..2_000_000_000_000,
        0u8..4,
        proptest::option::of(any::<bool>()),
        proptest::collection::vec(value(), metrics),
    );
    proptest::collection::vec(proptest::collection::vec(row, 0..30), 1..5).prop_map(move |all| {
        all.into_iter()
            .enumerate()
            .map(|(i, rows)| {
                let id = format!("s/{i} \"é\"");
                SeriesTable {
                    labels: Labels::new([("series", &id)]),
                    id,
                    timestamps: rows.iter().map(|r| Timestamp(r.0)).collect(),
                    split: rows
                        .iter()
                        .map(|r| [Split::Train, Split::Val, Split::Test, Split::Unused][r.1 as usize])
                        .collect(),
                    label: rows.iter().map(|r| r.2).collect(),
                    file_rows: Vec::new(),
                    extra_labels: BTreeMap::from([(
                        "label_point".to_owned(),
                        rows.iter().map(|r| r.2.map(|b| !b)).collect(),
                    )]),
                    metrics: (0..metrics).map(|m| format!("m {m}|x")).collect(),
                    columns: (0..metrics).map(|m| rows.iter().map(|r| r.3[m]).collect()).collect(),
                    infinite_values: 0,
                }
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn tidy_sets_come_back(series in (1usize..4).prop_flat_map(series)) {
        let s = Scratch::new();
        let dir = s.dir.path().join("set");
        let events = vec![
            Event { series_id: series[0].id.clone(), start: Some(Timestamp(5)), kind: Some("k".into()),
                    metrics: vec!["m 0|x".into()], ..Event::default() },
            Event { series_id: series[0].id.clone(), start: Some(Timestamp(7)), end: Some(Timestamp(9)),
                    note: Some("two\nlines".into()), ..Event::default() },
        ];
        let data = TidyData { meta: TidyMeta { name: "x".into(), ..TidyMeta::default() }, series, events };
        let manifest = write_tidy(&dir, &data).unwrap();
        let set = Dataset::open(&dir, &OpenOptions::default()).unwrap();
        prop_assert_eq!(&*set.manifest.clone().unwrap(), &manifest);
        prop_assert_eq!(set.events().unwrap(), data.events.clone());
        let all = set.load_all(None).unwrap();
        for (a, b) in all.iter().zip(&data.series) {
            prop_assert!(same(&a.columns, &b.columns));
            let strip = |t: &SeriesTable| SeriesTable { columns: vec![], ..t.clone() };
            prop_assert_eq!(strip(a), strip(b));
            let one = set.load_series(&a.id, None).unwrap();
            prop_assert!(same(&one.columns, &a.columns) && one.timestamps == a.timestamps && one.label == a.label);
        }
        // Written again, the same bytes.
        let again = s.dir.path().join("again");
        write_tidy(&again, &data).unwrap();
        for f in ["data.parquet", "events.parquet", "manifest.json"] {
            prop_assert_eq!(std::fs::read(dir.join(f)).unwrap(), std::fs::read(again.join(f)).unwrap());
        }
    }

    #[test]
    fn report_tables_come_back(rows in proptest::collection::vec((".{0,6}", any::<i64>(), proptest::option::of(-1e9f64..1e9), any::<bool>()), 0..50)) {
        let s = Scratch::new();
        let path = s.dir.path().join("r.parquet");
        let columns = vec![
            ("text".to_owned(), Column::Str(rows.iter().map(|r| r.0.clone()).collect())),
            ("i".to_owned(), Column::I64(rows.iter().map(|r| r.1).collect())),
            ("o".to_owned(), Column::OptF64(rows.iter().map(|r| r.2).collect())),
            ("b".to_owned(), Column::Bool(rows.iter().map(|r| r.3).collect())),
            ("l".to_owned(), Column::ListStr(rows.iter().map(|r| vec![r.0.clone(); usize::from(r.3)]).collect())),
        ];
        write_parquet(&path, columns.clone()).unwrap();
        prop_assert_eq!(read_parquet(&path).unwrap(), columns);
    }
}

#[test]
fn report_tables_must_fit() {
    let s = Scratch::new();
    let path = s.dir.path().join("r.parquet");
    let c = |n: usize| Column::F64(vec![f64::NAN; n]);
    assert!(write_parquet(&path, vec![("a".into(), c(2)), ("b".into(), c(3))]).is_err());
    assert!(write_parquet(&path, vec![("a".into(), c(2)), ("a".into(), c(2))]).is_err());
    assert_eq!(std::fs::read_dir(s.dir.path()).unwrap().count(), 0, "nothing half-written stays");
    assert!(write_parquet(&s.dir.path().join("none/r.parquet"), vec![("a".into(), c(2))]).is_err());
}

#[test]
fn the_builder_groups_rows() {
    let mut b = TidyBuilder::new(TidyMeta::default(), vec!["x".into()]);
    b.push_row("b", Timestamp(1), Split::Train, None, &[1.0]).unwrap();
    b.push_row("a", Timestamp(1), Split::Train, Some(true), &[2.0]).unwrap();
    b.push_row("b", Timestamp(2), Split::Test, None, &[f64::NAN]).unwrap();
    assert!(b.push_row("b", Timestamp(2), Split::Test, None, &[1.0, 2.0]).is_err());
    let data = b.finish();
    assert_eq!(data.series.iter().map(|s| (s.id.as_str(), s.len())).collect::<Vec<_>>(), [("b", 2), ("a", 1)]);
}

#[test]
fn writing_refuses_what_could_not_be_read() {
    let good = generate(&SyntheticSpec { series: 2, ..SyntheticSpec::default() }.check().unwrap());
    let s = Scratch::new();
    let fails = |change: fn(&mut TidyData)| {
        let mut d = good.clone();
        change(&mut d);
        write_tidy(&s.dir.path().join("x"), &d).unwrap_err().to_string()
    };
    assert!(fails(|d| d.series[1].id = d.series[0].id.clone()).contains("series id"));
    assert!(fails(|d| d.series[1].columns[0][3] = f64::INFINITY).contains("infinite"));
    assert!(fails(|d| d.series.iter_mut().for_each(|s| s.metrics[0] = "label".into())).contains("column name"));
    assert!(fails(|d| d.series[1].metrics.swap(0, 1)).contains("metrics of series"));
    assert!(fails(|d| d.series[0].split.clear()).contains("columns of series"));
}

#[test]
fn generated_sets_are_sound_and_repeat_to_the_byte() {
    let s = Scratch::new();
    let write = |name: &str, seed: u64| {
        let spec = SyntheticSpec { seed: Seed(seed), ..SyntheticSpec::default() };
        let dir = s.dir.path().join(name);
        write_tidy(&dir, &generate(&spec.check().unwrap())).unwrap();
        dir
    };
    let (a, b, c) = (write("a", 1), write("b", 1), write("c", 2));
    let bytes = |d: &std::path::Path| std::fs::read(d.join("data.parquet")).unwrap();
    assert_eq!(bytes(&a), bytes(&b));
    assert_ne!(bytes(&a), bytes(&c));
    let report = check(&a, &OpenOptions::default()).unwrap();
    assert!(report.is_sound(), "{report}");
    assert_eq!((report.series, report.events), (4, 40));
}

#[test]
fn one_series_does_not_touch_the_others_row_groups() {
    // Two series of a row group each; the bytes of the second are destroyed, the first still reads.
    let s = Scratch::new();
    let dir = s.dir.path().join("big");
    let table = |id: &str, n: usize| SeriesTable {
        id: id.into(),
        timestamps: (0..n).map(|i| Timestamp(i as i64 * 1000)).collect(),
        split: vec![Split::Train; n],
        label: vec![None; n],
        metrics: vec!["v".into()],
        columns: vec![(0..n).map(|i| (i as f64).sqrt()).collect()],
        ..SeriesTable::default()
    };
    let data = TidyData { series: vec![table("a", 100_000), table("b", 100_000)], ..TidyData::default() };
    let manifest = write_tidy(&dir, &data).unwrap();
    assert_eq!(manifest.series.iter().map(|s| s.row_group).collect::<Vec<_>>(), [0, 1]);
    let path = dir.join("data.parquet");
    let mut bytes = std::fs::read(&path).unwrap();
    let n = bytes.len();
    bytes[n * 55 / 100..n * 95 / 100].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let set = Dataset::open(&dir, &OpenOptions::default()).unwrap();
    assert_eq!(set.load_series("a", None).unwrap().columns, data.series[0].columns);
    assert!(set.load_series("b", None).map_or(true, |t| t.columns != data.series[1].columns));
}
