use foreglow_datasets::{SyntheticSpec, generate, write_tidy};
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a run of the program left behind.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// The answer of a run that must have worked, as JSON.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}", self.err);
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }

    /// The error of a run that must have failed: one paragraph, no panic.
    pub(crate) fn error(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "{} {}", self.out, self.err);
        assert!(!self.err.contains("panicked") && !self.err.contains("RUST_BACKTRACE"), "{}", self.err);
        assert!(self.err.contains("error: "), "{}", self.err);
        &self.err
    }
}

/// Runs the program; arguments are split at blanks, so paths come as `{}` in order.
pub(crate) fn train(arguments: &str, paths: &[&Path]) -> Ran {
    train_with_input(arguments, paths, "")
}

/// The same with text on standard input.
pub(crate) fn train_with_input(arguments: &str, paths: &[&Path], input: &str) -> Ran {
    let mut paths = paths.iter();
    let arguments: Vec<String> = arguments
        .split_whitespace()
        .map(|a| if a == "{}" { paths.next().expect("a path").display().to_string() } else { a.to_owned() })
        .collect();
    let mut child = Command::new(env!("CARGO_BIN_EXE_foreglow-train"))
        .args(&arguments)
        .env("FOREGLOW_LOG", "error")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // A program that ends without reading closes the pipe; that is its right.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let out = child.wait_with_output().expect("the program ends");
    Ran {
        code: out.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&out.stdout).into_owned(),
        err: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}

/// A small generated dataset: 3 series of 4 metrics, 10 days at 30 minutes, one anomaly each.
pub(crate) fn small(dir: &Path) -> PathBuf {
    let spec = SyntheticSpec {
        name: "small".into(),
        series: 3,
        metrics: 4,
        groups: 2,
        days: 10.0,
        step: "30m".parse().expect("a step"),
        events: 1,
        ..SyntheticSpec::default()
    };
    let path = dir.join("small");
    write_tidy(&path, &generate(&spec.check().expect("sound"))).expect("written");
    path
}

/// A dataset of the shared development data, which lies beside the repository; `None` (and a word) where it does not,
/// except under CI, where it must.
#[expect(clippy::print_stderr, reason = "says which test is skipped")]
pub(crate) fn shared(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("FOREGLOW_DATA").map(PathBuf::from).or_else(|| {
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|a| a.join("shared/data")).find(|p| p.is_dir())
    });
    let path = root.map(|r| r.join(name)).filter(|p| p.exists());
    if path.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{name} is missing; set FOREGLOW_DATA");
        eprintln!("skipped: {name} is not here");
    }
    path
}
