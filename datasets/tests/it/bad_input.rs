use crate::{Scratch, csv};
use foreglow_datasets::{Dataset, OpenOptions, SyntheticSpec, check, generate, read_parquet, write_tidy};

const T: i64 = 1_767_225_600_000;

fn refused(text: &str, parts: &[&str]) {
    let e = csv(text, &OpenOptions::default()).expect_err("refused").to_string();
    for part in parts {
        assert!(e.contains(part), "{text:?}: {e}");
    }
}

#[test]
fn csv_cells_are_named() {
    refused(&format!("timestamp,cpu\n{T},1\n{T},high\n"), &["data.csv", "row 2", "\"cpu\"", "\"high\"", "no number"]);
    refused("timestamp,cpu\n2026-13-01,1\n", &["row 1", "\"timestamp\"", "2026-13-01", "RFC 3339"]);
    refused(&format!("timestamp,cpu\n{T},1\n,2\n"), &["row 2", "missing"]);
    refused("timestamp,cpu\n1767225600,1\n", &["did you send seconds?", "time unit"]);
    refused(&format!("timestamp,cpu\n{T},1\n{T}\n"), &["row 2", "1 fields, the header has 2"]);
    refused("", &["no data rows"]);
    refused("timestamp,cpu\n", &["no data rows"]);
    refused("a,b\n1,2\n", &["no timestamp column", "a, b"]);
    refused(&format!("timestamp\n{T}\n"), &["no metric column"]);
    refused(&format!("timestamp,v,split\n{T},1,train\n{T},1,tests\n"), &["row 1", "\"split\"", "train"]);
}

#[test]
fn bytes_that_are_no_text() {
    let s = Scratch::new();
    let path = s.file("x.csv", b"timestamp,v\n1767225600000,\xff\n");
    let e = Dataset::open(&path, &OpenOptions::default()).unwrap_err().to_string();
    assert!(e.contains("UTF-8") && e.contains("line 2"), "{e}");
}

#[test]
fn odd_but_readable_series_are_kept_and_counted() {
    let text = format!("timestamp,v,w\n{},1,\n{T},2,\n{T},inf,\n", T + 1000);
    let t = &csv(&text, &OpenOptions::default()).unwrap()[0];
    assert_eq!(t.timestamps.iter().map(|t| t.ms() - T).collect::<Vec<_>>(), [0, 0, 1000], "sorted");
    assert_eq!(
        (t.column("v").map(|v| v[0]), &t.file_rows, t.in_file_order()),
        (Some(2.0), &vec![1, 2, 0], vec![2, 0, 1])
    );
    let q = t.quality();
    assert_eq!((q.rows, q.duplicate_timestamps, q.non_increasing_steps, q.backward_steps), (3, 1, 2, 1));
    assert_eq!((q.infinite_values, q.empty_metrics, q.missing_values), (1, vec!["w".to_owned()], 4));
    let one = &csv(&format!("timestamp,v\n{T},1\n"), &OpenOptions::default()).unwrap()[0];
    assert_eq!((one.len(), one.step()), (1, None));
}

/// A table newest first, with neighbours swapped, or with its halves swapped is the table in time order.
#[test]
fn the_order_of_a_tables_rows_does_not_matter() {
    let rows: Vec<String> = (0..40).map(|i| format!("{},{i}", T + 60_000 * i)).collect();
    let table = |order: Vec<usize>| {
        let text = order.iter().fold("timestamp,v\n".to_owned(), |t, i| t + &rows[*i] + "\n");
        csv(&text, &OpenOptions::default()).unwrap().remove(0)
    };
    let right = table((0..40).collect());
    assert!(right.file_rows.is_empty());
    for order in [(0..40).rev().collect(), (0..40).map(|i| i ^ 1).collect(), (20..40).chain(0..20).collect::<Vec<_>>()]
    {
        let t = table(order);
        assert_eq!((&t.timestamps, &t.columns, &t.split), (&right.timestamps, &right.columns, &right.split));
        assert_eq!(t.step().map(foreglow_core::Step::ms), Some(60_000));
        assert!(t.quality().backward_steps > 0);
    }
}

#[test]
fn a_row_number_of_pandas_is_no_metric() {
    for name in ["", "Unnamed: 0", "__index_level_0__"] {
        let text = format!("{name},timestamp,v\n0,{T},1\n1,{},2\n", T + 1000);
        let t = &csv(&text, &OpenOptions::default()).unwrap()[0];
        assert_eq!(t.metrics, ["v"], "{name:?}");
    }
}

#[test]
fn paths_that_are_nothing() {
    let s = Scratch::new();
    let open = |p: &std::path::Path| Dataset::open(p, &OpenOptions::default()).unwrap_err().to_string();
    assert!(open(&s.dir.path().join("none")).contains("cannot open"));
    assert!(open(s.dir.path()).contains("without manifest.json"));
    assert!(open(&s.file("x.json", b"{}")).contains("json"));
    assert!(open(&s.file("x.parquet", b"")).contains("truncated"));
    assert!(open(&s.file("y.parquet", &[7; 1000])).contains("truncated"));
}

fn small() -> (Scratch, std::path::PathBuf) {
    let s = Scratch::new();
    let dir = s.dir.path().join("set");
    let spec = SyntheticSpec { series: 2, metrics: 3, days: 6.0, events: 3, ..SyntheticSpec::default() };
    write_tidy(&dir, &generate(&spec.check().expect("sound"))).expect("written");
    (s, dir)
}

#[test]
fn truncated_and_damaged_parquet() {
    let (_s, dir) = small();
    let path = dir.join("data.parquet");
    let whole = std::fs::read(&path).unwrap();
    for keep in [0, 3, 11, 12, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..keep]).unwrap();
        let e = Dataset::open(&dir, &OpenOptions::default()).unwrap_err().to_string();
        assert!(e.contains("data.parquet") && e.contains("truncated or damaged"), "{keep}: {e}");
        assert!(read_parquet(&path).is_err());
    }
    // A cut in the middle with the footer in place: the footer promises more than there is.
    let footer = u32::from_le_bytes(whole[whole.len() - 8..whole.len() - 4].try_into().unwrap()) as usize + 8;
    let mut cut = whole[..100].to_vec();
    cut.extend_from_slice(&whole[whole.len() - footer..]);
    std::fs::write(&path, &cut).unwrap();
    assert!(read_parquet(&path).is_err());
    // Single flipped bytes: an error or other values, never a crash; and `check` notices each.
    for at in (4..whole.len()).step_by(whole.len() / 40) {
        let mut bad = whole.clone();
        bad[at] ^= 0x55;
        std::fs::write(&path, &bad).unwrap();
        if let Ok(set) = Dataset::open(&dir, &OpenOptions::default()) {
            let _ = set.load_all(None);
        }
        assert!(check(&dir, &OpenOptions::default()).map_or(true, |r| !r.is_sound()), "byte {at}");
    }
}

#[test]
fn manifests_that_lie() {
    let (_s, dir) = small();
    let path = dir.join("manifest.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let with = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
        Dataset::open(&dir, &OpenOptions::default()).and_then(|d| d.load_all(None)).unwrap_err().to_string()
    };
    let e = with("\"layout_version\": 1", "\"layout_version\": 7");
    assert!(e.contains("layout_version 7 is unknown"), "{e}");
    assert!(with("\"layout_version\": 1,", "").contains("no layout_version"));
    assert!(with("{", "").contains("no valid JSON"));
    assert!(with("\"rows\":1728", "\"rows\":1727").contains("the manifest's series have"));
    assert!(with("\"id\":\"entity-01\"", "\"id\":\"entity-09\"").contains("belongs to series \"entity-01\""));
    assert!(with("\"id\":\"entity-01\"", "\"id\":\"entity-02\"").contains("listed twice"));
    assert!(with("[\"g1_metric_01\"", "[\"other\"").contains("no column \"other\""));
    // Unknown fields are no lie.
    std::fs::write(&path, text.replacen('{', "{\"later\": {\"x\": 1},", 1)).unwrap();
    let set = Dataset::open(&dir, &OpenOptions::default()).unwrap();
    assert!(set.manifest.as_ref().unwrap().extra.contains_key("later"));
    assert!(check(&dir, &OpenOptions::default()).unwrap().is_sound());
    // What only a check sees.
    let name = "\"anomalous_rows\":";
    for at in [text.find(name).unwrap(), text.rfind(name).unwrap()] {
        let digits = at + name.len() + text[at + name.len()..].find(|c: char| c.is_ascii_digit()).unwrap();
        let mut lie = text.clone();
        lie.insert(digits, '1');
        std::fs::write(&path, lie).unwrap();
        let r = check(&dir, &OpenOptions::default()).unwrap();
        assert!(!r.is_sound() && r.to_string().contains("anomalous_rows"), "{r}");
    }
}
