use crate::kit::{small, train};
use foreglow_datasets::{Dataset, OpenOptions, Split};

#[test]
fn list_describe_check() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = small(dir.path());
    let list = train("--format json datasets list --root {}", &[dir.path()]).json();
    assert_eq!(list["local"][0]["name"], "small");
    assert!(list["catalogue"].as_array().is_some_and(|c| c.len() > 20));
    let said = train("datasets describe {}", &[&path]);
    assert!(said.code == 0 && said.out.contains("small: Generated"), "{}", said.out);
    assert!(train("datasets describe nab/grok_asg_anomaly", &[]).out.contains("realAWSCloudwatch"));
    assert!(train("datasets describe nowhere", &[]).error(2).contains("nowhere"));
    assert_eq!(train("--format json datasets check --data {}", &[&path]).json()["series"], 3);

    let data = path.join("data.parquet");
    let mut bytes = std::fs::read(&data).expect("read");
    let middle = bytes.len() / 3;
    bytes[middle] ^= 0x55;
    std::fs::write(&data, bytes).expect("written");
    train("datasets check --data {}", &[&path]).error(1);
}

#[test]
fn generate_is_seeded_and_checked() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = |name: &str| dir.path().join(name);
    for (name, seed) in [("a", 7), ("b", 7), ("c", 8)] {
        let args =
            format!("datasets generate --out {{}} --name set --series 2 --metrics 1 --days 6 --events 2 --seed {seed}");
        assert_eq!(train(&args, &[&out(name)]).code, 0);
    }
    let bytes = |name: &str| std::fs::read(out(name).join("data.parquet")).expect("read");
    assert!(bytes("a") == bytes("b") && bytes("a") != bytes("c"));
    assert!(train("datasets generate --out {} --days 0", &[&out("d")]).error(2).contains("days"));
    assert!(!out("d").exists());
}

#[test]
fn fetch_refuses_what_it_cannot_verify() {
    let dir = tempfile::tempdir().expect("a folder");
    assert!(train("datasets fetch smd_a --into {}", &[dir.path()]).error(2).contains("no plain file"));
    assert!(train("datasets fetch ett/h1 --into {}", &[dir.path()]).error(2).contains("--sha256"));
}

#[test]
fn a_recording_has_labels_splits_and_events() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("swarm");
    let args = "--format json datasets record --out {} --minutes 0.1 --step 250ms --day 1h --rate 60 \
                --fault slow_agent:1:4s:1s";
    let answer = train(args, &[&out]).json();
    assert_eq!(answer["series"], 7);
    let set = Dataset::open(&out, &OpenOptions::default()).expect("a dataset");
    assert_eq!(train("datasets check --data {}", &[&out]).code, 0);
    let agent = set.load_series("agent-1", None).expect("there");
    assert_eq!(agent.len(), 24);
    let first = agent.label.iter().position(|l| *l == Some(true)).expect("a labelled row");
    assert!(agent.split[..first].iter().all(|s| *s == Split::Train || *s == Split::Val));
    assert!(agent.split[first..].iter().all(|s| *s == Split::Test));
    let other = set.load_series("agent-0", None).expect("there");
    assert!(other.label.iter().all(|l| *l == Some(false)));
    let events = set.events().expect("read");
    let shown: Vec<&str> = events.iter().map(|e| e.series_id.as_str()).collect();
    assert_eq!(shown, ["agent-1", "swarm"]);
    assert_eq!((events[1].root_cause.as_deref(), events[1].kind.as_deref()), (Some("agent-1"), Some("slow_agent")));
    assert!(train("datasets record --out {} --fault slow_agent:9:1s:1s", &[&out]).error(1).contains("agent 9"));
    assert_eq!(train("datasets record --out {} --fault slow_agent", &[&out]).code, 2);
}

#[test]
#[cfg(unix)]
fn an_interrupted_recording_keeps_what_it_has() {
    use std::io::{BufRead, BufReader, Read};
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("swarm");
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_foreglow-train"))
        .args(["datasets", "record", "--minutes", "60", "--step", "250ms", "--rate", "30", "--out"])
        .arg(&out)
        .env("FOREGLOW_LOG", "info")
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut log = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    log.read_line(&mut line).expect("a line");
    assert!(line.contains("recording"), "{line}");
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(kill.success());
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
    log.read_to_string(&mut line).expect("text");
    assert!(line.contains("error: interrupted") && !line.contains("panicked"), "{line}");
    assert!(!Dataset::open(&out, &OpenOptions::default()).expect("a dataset").series.is_empty());
}
