use crate::{Scratch, csv};
use foreglow_core::Labels;
use foreglow_datasets::{Column, Dataset, Fractions, OpenOptions, Split, TimeUnit, write_parquet};
use std::fmt::Write;

const T: i64 = 1_767_225_600_000;

#[test]
fn wide_csv_with_usual_names() {
    let t = &csv("time,cpu,mem\n2026-01-01T00:00:00Z,0.5,1e308\n2026-01-01 00:01:00,,NaN\n", &OpenOptions::default())
        .unwrap()[0];
    assert_eq!(
        (t.id.as_str(), t.labels.clone(), t.metrics.clone()),
        ("data", Labels::default(), vec!["cpu".into(), "mem".into()])
    );
    assert_eq!(t.timestamps[1].ms(), T + 60_000);
    assert_eq!((t.columns[0][0], t.columns[1][0]), (0.5, 1e308));
    assert!(t.columns[0][1].is_nan() && t.columns[1][1].is_nan());
}

#[test]
fn nixtla_columns_are_recognised() {
    let text = format!("unique_id,ds,y\nb,{T},1\na,{T},2\nb,{},3\n", T + 1000);
    let all = csv(&text, &OpenOptions::default()).unwrap();
    assert_eq!(all.iter().map(|t| t.id.as_str()).collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(all[0].columns, [[1.0, 3.0]]);
    assert_eq!(all[0].keys()[0].to_string(), "y{series=\"b\"}");
    let one = csv(&text, &OpenOptions { series: Some("a*".into()), ..OpenOptions::default() }).unwrap();
    assert_eq!(one.len(), 1);
}

#[test]
fn label_columns_tell_series_apart() {
    let text = format!("ts,host,az,cpu\n{T},x,1,1\n{T},y,1,2\n{T},x,2,3\n");
    let o = OpenOptions { label_columns: vec!["host".into(), "az".into()], ..OpenOptions::default() };
    let all = csv(&text, &o).unwrap();
    assert_eq!(all.iter().map(|t| t.id.as_str()).collect::<Vec<_>>(), ["x/1", "y/1", "x/2"]);
    assert_eq!(all[2].keys()[0].to_string(), "cpu{az=\"2\",host=\"x\"}");
    let e = csv(&text, &OpenOptions::default()).unwrap_err().to_string();
    assert!(e.contains("row 1") && e.contains("\"host\"") && e.contains("label column"), "{e}");
}

#[test]
fn long_tables_are_pivoted_and_repeats_stay() {
    let text = format!(
        "timestamp,series,metric,value\n{T},s,cpu,1\n{T},s,mem,2\n{T},s,cpu,3\n{},s,mem,4\n{T},r,cpu,5\n",
        T + 1000
    );
    let all = csv(&text, &OpenOptions::default()).unwrap();
    assert_eq!(all[0].metrics, ["cpu", "mem"]);
    assert_eq!(all[0].timestamps.iter().map(|t| t.ms() - T).collect::<Vec<_>>(), [0, 0, 1000]);
    assert_eq!(
        (all[0].columns[0][0], all[0].columns[0][1], all[0].columns[1][0], all[0].columns[1][2]),
        (1.0, 3.0, 2.0, 4.0)
    );
    assert!(all[0].columns[0][2].is_nan() && all[0].columns[1][1].is_nan());
    assert_eq!(all[0].quality().duplicate_timestamps, 1);
    assert_eq!(all[1].columns[0], [5.0]);
}

#[test]
fn truth_and_split_columns_are_used() {
    let text = format!("timestamp,v,label,split\n{T},1,0,train\n{},2,1,test\n{},3,,test\n", T + 1, T + 2);
    let t = &csv(&text, &OpenOptions::default()).unwrap()[0];
    assert_eq!(t.metrics, ["v"]);
    assert_eq!(t.label, [Some(false), Some(true), None]);
    assert_eq!(t.split, [Split::Train, Split::Test, Split::Test]);
    // A column called label that holds measurements is a metric.
    let t = &csv(&format!("timestamp,label\n{T},0.5\n"), &OpenOptions::default()).unwrap()[0];
    assert_eq!(t.metrics, ["label"]);
}

#[test]
fn splits_default_to_70_10_20_by_time() {
    let mut text = String::from("timestamp,v\n");
    for i in 0..10 {
        writeln!(text, "{},{i}", T + i * 1000).unwrap();
    }
    let t = &csv(&text, &OpenOptions::default()).unwrap()[0];
    let count = |s| t.split.iter().filter(|x| **x == s).count();
    assert_eq!((count(Split::Train), count(Split::Val), count(Split::Test)), (7, 1, 2));
    let o = OpenOptions { fractions: Fractions { train: 0.5, val: 0.0 }, ..OpenOptions::default() };
    assert_eq!(csv(&text, &o).unwrap()[0].split[5], Split::Test);
}

#[test]
fn selections_must_exist() {
    let text = format!("timestamp,a,b\n{T},1,x\n");
    let o = |m: &[&str]| OpenOptions {
        metrics: Some(m.iter().map(|s| (*s).to_owned()).collect()),
        ..OpenOptions::default()
    };
    assert_eq!(csv(&text, &o(&["a"])).unwrap()[0].metrics, ["a"], "text in a column that is not selected does no harm");
    assert!(csv(&text, &o(&["c"])).unwrap_err().to_string().contains("no metric"));
    assert!(csv(&text, &o(&["a", "a"])).unwrap_err().to_string().contains("each metric once"));
    assert!(csv(&text, &o(&[])).is_err());
    let o = OpenOptions { timestamp: Some("when".into()), ..OpenOptions::default() };
    assert!(csv(&text, &o).unwrap_err().to_string().contains("\"when\"; the columns are: timestamp, a, b"));
    let o = OpenOptions { series: Some("zz*".into()), metrics: Some(vec!["a".into()]), ..OpenOptions::default() };
    assert!(csv(&text, &o).unwrap_err().to_string().contains("zz*"));
    let o = OpenOptions { series: Some("[".into()), ..OpenOptions::default() };
    assert!(csv(&text, &o).is_err());
}

#[test]
fn parquet_files_of_other_programs() {
    let s = Scratch::new();
    let path = s.dir.path().join("x.parquet");
    write_parquet(
        &path,
        vec![
            ("when".into(), Column::TimestampMs(vec![T, T + 5])),
            ("unique_id".into(), Column::Str(vec!["a".into(), "b".into()])),
            ("i".into(), Column::I64(vec![1, 2])),
            ("f".into(), Column::F32(vec![0.5, f32::INFINITY])),
            ("b".into(), Column::Bool(vec![true, false])),
            ("o".into(), Column::OptF64(vec![None, Some(2.5)])),
        ],
    )
    .unwrap();
    let set = Dataset::open(&path, &OpenOptions::default()).unwrap();
    assert_eq!(set.metrics, ["i", "f", "b", "o"]);
    let b = set.load_series("b", None).unwrap();
    assert_eq!((b.columns[0][0], b.columns[2][0], b.columns[3][0], b.timestamps[0].ms()), (2.0, 0.0, 2.5, T + 5));
    assert!(b.columns[1][0].is_nan());
    assert_eq!((b.infinite_values, set.load_series("a", None).unwrap().infinite_values), (1, 0));
    assert_eq!(set.load_series("b", Some(&["o".into(), "i".into()])).unwrap().columns, [[2.5], [2.0]]);
}

#[test]
fn integer_times_need_their_unit() {
    let s = Scratch::new();
    let path = s.dir.path().join("x.parquet");
    write_parquet(&path, vec![("ts".into(), Column::I64(vec![1_767_225_600])), ("v".into(), Column::I8(vec![1]))])
        .unwrap();
    let e = Dataset::open(&path, &OpenOptions::default()).unwrap_err().to_string();
    assert!(e.contains("did you send seconds?") && e.contains("row 1"), "{e}");
    let o = OpenOptions { time_unit: TimeUnit::Seconds, ..OpenOptions::default() };
    assert_eq!(Dataset::open(&path, &o).unwrap().series[0].start.unwrap().ms(), T);
}
