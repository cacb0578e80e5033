//! One run of a command: in a process group of its own, with a limit of time.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// The longest output that is read; of more only the end is.
const MOST_OUTPUT: u64 = 64 << 20;
/// How often Ctrl-C is looked for.
const GLANCE: Duration = Duration::from_millis(50);
/// What a group gets to clean up between being asked to end and being ended.
const GRACE: Duration = Duration::from_secs(1);

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Job {
    /// Program and arguments.
    pub(crate) words: Vec<String>,
    /// Environment beside our own.
    pub(crate) variables: Vec<(String, String)>,
    /// Standard input; nothing by default.
    pub(crate) input: String,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself, with this code.
    Code(i32),
    /// By a signal that did not come from here.
    Signal(i32),
    /// By us: it took longer than this.
    TimedOut(Duration),
    /// By us: the user asked to stop.
    Stopped,
}

/// What a run left behind.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Finished {
    pub(crate) end: End,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// From start to end.
    pub(crate) seconds: f64,
}

impl Finished {
    /// The last words of the output for an error's text, standard error first; empty when there was none.
    pub(crate) fn last_words(&self) -> String {
        let last = |t: &str| t.lines().rev().map(str::trim).find(|l| !l.is_empty()).map(str::to_owned);
        let Some(line) = last(&self.stderr).or_else(|| last(&self.stdout)) else { return String::new() };
        let cut: String = line.chars().take(200).collect();
        format!("; it said: {cut}")
    }
}

/// Runs `job` for at most `limit`, or until `stop` says so; then the whole group is ended.
///
/// Output goes to nameless files rather than pipes: a server that the command leaves running keeps its end open, and
/// waiting for the end of a pipe would then never end.
///
/// # Errors
/// The program cannot be started, in words.
pub(crate) fn run(job: &Job, limit: Duration, stop: &dyn Fn() -> bool) -> Result<Finished, String> {
    let program = job.words.first().map_or("", String::as_str);
    let file = || tempfile::tempfile().map_err(|e| format!("a temporary file cannot be made: {e}"));
    let (mut stdout, mut stderr) = (file()?, file()?);
    let input = if job.input.is_empty() {
        Stdio::null()
    } else {
        let mut f = file()?;
        let written = f.write_all(job.input.as_bytes()).and_then(|()| f.seek(SeekFrom::Start(0)));
        written.map_err(|e| format!("a temporary file cannot be written: {e}"))?;
        Stdio::from(f)
    };
    let shared = |f: &File| f.try_clone().map(Stdio::from).map_err(|e| format!("a file cannot be shared: {e}"));
    let started = Instant::now();
    let mut child = Command::new(program)
        .args(&job.words[1..])
        .envs(job.variables.iter().map(|(k, v)| (k, v)))
        .stdin(input)
        .stdout(shared(&stdout)?)
        .stderr(shared(&stderr)?)
        .process_group(0)
        .spawn()
        .map_err(|e| format!("`{program}` cannot be started: {e}"))?;
    let group = child.id();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let status = child.wait();
        // Nobody listens any more only when this program ends.
        let _ = tell.send((status, Instant::now()));
    });
    let (end, ended) = wait(group, started, limit, &told, stop)?;
    Ok(Finished {
        end,
        stdout: text(&mut stdout),
        stderr: text(&mut stderr),
        seconds: ended.duration_since(started).as_secs_f64(),
    })
}

type Ended = (std::io::Result<ExitStatus>, Instant);

fn wait(
    group: u32,
    started: Instant,
    limit: Duration,
    told: &Receiver<Ended>,
    stop: &dyn Fn() -> bool,
) -> Result<(End, Instant), String> {
    loop {
        let left = limit.saturating_sub(started.elapsed());
        match told.recv_timeout(left.min(GLANCE)) {
            Ok((status, at)) => {
                let status = status.map_err(|e| format!("the command cannot be waited for: {e}"))?;
                let end = match (status.code(), status.signal()) {
                    (Some(code), _) => End::Code(code),
                    (None, signal) => End::Signal(signal.unwrap_or_default()),
                };
                return Ok((end, at));
            }
            Err(RecvTimeoutError::Disconnected) => return Err("the command was lost".to_owned()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let why = if stop() {
            End::Stopped
        } else if started.elapsed() >= limit {
            End::TimedOut(limit)
        } else {
            continue;
        };
        signal(group, "TERM");
        let gone = told.recv_timeout(GRACE).is_ok();
        // Also when the first process is gone: others of its group may have stayed.
        signal(group, "KILL");
        if !gone {
            let _ = told.recv_timeout(GRACE);
        }
        return Ok((why, Instant::now()));
    }
}

/// Sends a signal to a whole process group. The shell does it: the standard library has no call for it, and ours may not
/// call the system's directly.
fn signal(group: u32, name: &str) {
    let script = format!("kill -s {name} -- -{group}");
    let ran = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).stderr(Stdio::null()).status();
    if let Err(e) = ran {
        tracing::warn!(group, "the command's processes cannot be ended: {e}");
    }
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let length = file.metadata().map_or(0, |m| m.len());
    let read =
        file.seek(SeekFrom::Start(length.saturating_sub(MOST_OUTPUT))).and_then(|_| file.read_to_end(&mut bytes));
    if let Err(e) = read {
        tracing::warn!("the command's output cannot be read: {e}");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Job {
        Job { words: ["sh", "-c", script].map(str::to_owned).to_vec(), ..Job::default() }
    }

    #[test]
    fn ends_are_told_apart() {
        let run = |job: &Job| run(job, Duration::from_secs(20), &|| false).unwrap();
        let f = run(&Job { input: "hello".into(), ..sh("cat; echo no >&2; exit 3") });
        assert_eq!((f.end.clone(), f.stdout.as_str(), f.stderr.as_str()), (End::Code(3), "hello", "no\n"));
        assert_eq!(f.last_words(), "; it said: no");
        assert_eq!(run(&sh("kill -9 $$")).end, End::Signal(9));
        let f = run(&Job { variables: vec![("FOREGLOW_W".into(), "7".into())], ..sh("echo $FOREGLOW_W") });
        assert_eq!(f.stdout, "7\n");
        let e = super::run(&Job { words: vec!["/nowhere/x".into()], ..Job::default() }, GRACE, &|| false).unwrap_err();
        assert!(e.contains("/nowhere/x"), "{e}");
    }

    #[test]
    fn a_server_left_behind_does_not_hold_us_up() {
        let before = Instant::now();
        let f = run(&sh("sleep 600 & echo $!"), Duration::from_mins(1), &|| false).unwrap();
        assert!(f.end == End::Code(0) && before.elapsed() < Duration::from_secs(30));
        let pid = f.stdout.trim();
        assert!(alive(pid), "only a run that is cut short takes its children along");
        Command::new("kill").arg(pid).status().unwrap();
    }

    #[test]
    fn a_run_that_takes_too_long_takes_its_children_along() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let script = format!("trap '' TERM; sleep 600 & echo $! > {}; wait; sleep 600", pid.display());
        let f = run(&sh(&script), Duration::from_millis(300), &|| false).unwrap();
        assert_eq!(f.end, End::TimedOut(Duration::from_millis(300)));
        let pid = std::fs::read_to_string(pid).unwrap();
        assert!(gone(pid.trim()), "the child outlived its group");
        let f = run(&sh("sleep 600"), Duration::from_mins(10), &|| true).unwrap();
        assert_eq!(f.end, End::Stopped);
    }

    fn alive(pid: &str) -> bool {
        // A zombie waits for nobody: it is gone.
        let out = Command::new("ps").args(["-o", "stat=", "-p", pid]).output().unwrap();
        let state = String::from_utf8_lossy(&out.stdout).trim().to_owned();
        !state.is_empty() && !state.starts_with('Z')
    }

    /// The signal was sent; the system takes a moment to carry it out.
    fn gone(pid: &str) -> bool {
        (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            !alive(pid)
        })
    }
}
