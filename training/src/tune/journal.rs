//! The journal: every trial of a study and every round of its confirmation, on disk before the next begins.

use super::confirm::ConfirmLine;
use super::file::{RunSpec, StudyFile};
use super::metrics::MetricSpec;
use crate::TrainError;
use foreglow_search::{StudySpec, Trial};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// How every journal begins.
const BEGINNING: &[u8] = b"{\"version\":\"1\",\"command\":";

/// The first line: what is measured, and how. A journal goes on only with the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Header {
    version: String,
    command: Vec<String>,
    study: StudySpec,
    run: RunSpec,
    metrics: Vec<MetricSpec>,
}

impl Header {
    pub(crate) fn new(file: &StudyFile, study: StudySpec, command: &[String]) -> Self {
        let (run, metrics) = (file.run.clone(), file.metrics.clone());
        Self { version: "1".to_owned(), command: command.to_vec(), study, run, metrics }
    }

    /// The parts that decide what is proposed and measured: more trials or a longer limit may be given later.
    fn essence(&self) -> [(&'static str, serde_json::Result<serde_json::Value>); 4] {
        let free = RunSpec::default();
        let run = RunSpec {
            timeout: free.timeout,
            change_timeout: free.change_timeout,
            stop_after_failures: free.stop_after_failures,
            restore: free.restore,
            confirm: free.confirm,
            ..self.run.clone()
        };
        let study = StudySpec { budget: None, ..self.study.clone() };
        [
            ("the command", serde_json::to_value(&self.command)),
            ("the study", serde_json::to_value(study)),
            ("[run]", serde_json::to_value(run)),
            ("[[metrics]]", serde_json::to_value(&self.metrics)),
        ]
    }
}

/// A line after the first: a finished trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) trial: Trial,
    /// What each counted run gave.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) runs: BTreeMap<String, Vec<f64>>,
    /// What a reader should know, such as that it was cut short.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) note: String,
}

/// What a line after the first is about.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Entry {
    /// A finished trial.
    Trial(Line),
    /// A round of the confirmation: `{"confirm": {...}}`.
    Confirm {
        /// The round.
        confirm: ConfirmLine,
    },
}

impl Entry {
    /// Reads a line; the key `confirm` tells one kind from the other, so that a mistake is named within its kind.
    fn read(text: &str) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Round {
            confirm: ConfirmLine,
        }
        if text.starts_with("{\"confirm\":") {
            return serde_json::from_str(text).map(|Round { confirm }| Self::Confirm { confirm });
        }
        serde_json::from_str(text).map(Self::Trial)
    }
}

/// What a journal held.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Held {
    /// Finished trials.
    pub(crate) trials: Vec<Line>,
    /// Rounds of confirmations.
    pub(crate) rounds: Vec<ConfirmLine>,
}

/// A journal file, locked against a second program.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens or begins the journal of a study; a line that was cut by a crash is taken away, as its trial never counted.
    ///
    /// # Errors
    /// [`TrainError::Io`]; [`TrainError::Config`] when it belongs to another study or command, another program writes it,
    /// or a line cannot be read.
    pub(crate) fn open(path: &Path, header: &Header) -> Result<(Self, Held), TrainError> {
        let io = |action| move |e| TrainError::io(path, action, e);
        let refuse = |problem: String| TrainError::Config { path: path.to_owned(), problem };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io("open the journal"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(refuse(
                    "another run of tune writes this journal: wait for it, or give another --journal".into(),
                ));
            }
            Err(TryLockError::Error(e)) => return Err(TrainError::io(path, "lock the journal", e)),
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io("read the journal"))?;
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        let text = std::str::from_utf8(&bytes[..whole]).map_err(|e| refuse(format!("is no text: {e}")))?;
        let mut lines = text.lines().enumerate();
        let known = lines.next().map(|(_, first)| serde_json::from_str::<Header>(first)).transpose();
        let known = known.map_err(|e| e.to_string()).and_then(|k| match k {
            Some(k) if k.version != "1" => Err(format!("version {}", k.version)),
            None if !BEGINNING.starts_with(&bytes[..bytes.len().min(BEGINNING.len())]) => Err("other text".to_owned()),
            k => Ok(k),
        });
        // Before anything is written: the file may be somebody else's.
        let known = known.map_err(|e| {
            refuse(format!("line 1 is not the head of a journal of this version ({e}): give another --journal"))
        })?;
        if whole < bytes.len() {
            tracing::warn!("{}: its last line was cut short and is left out", path.display());
        }
        // A head alone: no trial came of it, so whatever was put right since then, there is nothing to compare with.
        let known = known.filter(|_| lines.clone().next().is_some());
        let kept = if known.is_some() { whole } else { 0 };
        file.set_len(kept as u64).and_then(|()| file.seek(SeekFrom::End(0))).map_err(io("shorten the journal"))?;
        let mut journal = Self { path: path.to_owned(), file };
        let Some(known) = known else {
            journal.write(header)?;
            // The file's name is on disk only with its folder.
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder).and_then(|f| f.sync_all()).map_err(io("begin the journal"))?;
            return Ok((journal, Held::default()));
        };
        for ((what, was), (_, now)) in known.essence().into_iter().zip(header.essence()) {
            if was? != now? {
                return Err(refuse(format!(
                    "the journal was begun with another value for {what}, and trials of both cannot be compared: give \
                     another --journal, or put it back"
                )));
            }
        }
        let mut held = Held::default();
        for (i, l) in lines {
            match Entry::read(l) {
                Ok(Entry::Trial(line)) => held.trials.push(line),
                Ok(Entry::Confirm { confirm }) => held.rounds.push(confirm),
                Err(e) => {
                    let remedy = "take it and what follows away to go on from there";
                    return Err(refuse(format!("line {} is damaged ({e}): {remedy}", i + 1)));
                }
            }
        }
        Ok((journal, held))
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a line; it is on disk when this returns.
    ///
    /// # Errors
    /// [`TrainError::Io`]
    pub(crate) fn append(&mut self, line: &Entry) -> Result<(), TrainError> {
        self.write(line)
    }

    fn write(&mut self, value: &impl Serialize) -> Result<(), TrainError> {
        let mut text = serde_json::to_string(value)?;
        text.push('\n');
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(|e| TrainError::io(&self.path, "write the journal", e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreglow_search::recommend::Round;
    use foreglow_search::{Measurement, TrialBudget};

    const STUDY: &str = "name = \"s\"\nparameters = [{ name = \"x\", type = \"int\", low = 1, high = 9 }]\n\
                         objective = { metric = \"y\", goal = \"min\" }\n";

    fn header(command: &str, more: &str) -> Header {
        let file = StudyFile::parse(&format!("{more}{STUDY}")).unwrap();
        Header::new(&file, file.spec().unwrap(), &[command.to_owned()])
    }

    fn line() -> Line {
        let mut study = header("run", "").study.check().unwrap();
        study.ask().unwrap();
        let trial = study.tell(0, Measurement::of(0.1 + 0.2)).unwrap().clone();
        Line { trial, runs: [("y".to_owned(), vec![0.1 + 0.2])].into(), note: String::new() }
    }

    #[test]
    fn a_cut_line_is_left_out_and_everything_else_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let (mut journal, lines) = Journal::open(&path, &header("run", "")).unwrap();
        assert_eq!(lines, Held::default());
        let confirm = ConfirmLine {
            n: 0,
            current: line().trial.parameters,
            recommended: line().trial.parameters,
            round: Round { recommended_first: true, current: line().runs, ..Round::default() },
        };
        journal.append(&Entry::Trial(line())).unwrap();
        journal.append(&Entry::Confirm { confirm: confirm.clone() }).unwrap();
        let locked = Journal::open(&path, &header("run", "")).unwrap_err().to_string();
        assert!(locked.contains("another run of tune"), "{locked}");
        drop(journal);
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{whole}{}", &whole[..20])).unwrap();
        let (journal, lines) = Journal::open(&path, &header("run", "")).unwrap();
        assert_eq!(lines, Held { trials: vec![line()], rounds: vec![confirm] }, "floats to the last bit");
        assert_eq!((journal.path(), std::fs::read_to_string(&path).unwrap()), (path.as_path(), whole));
    }

    #[test]
    fn another_study_is_refused_but_more_trials_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let (mut journal, _) = Journal::open(&path, &header("walk", "")).unwrap();
        drop(journal);
        journal = Journal::open(&path, &header("run", "")).unwrap().0;
        journal.append(&Entry::Trial(line())).unwrap();
        drop(journal);
        let bad = |h: &Header| Journal::open(&path, h).unwrap_err().to_string();
        assert!(bad(&header("walk", "")).contains("the command"));
        assert!(bad(&header("run", "seed = 2\n")).contains("the study"));
        assert!(bad(&header("run", "run.repeats = 7\n")).contains("[run]"));
        let mut more = header("run", "run.timeout = \"1s\"\n");
        more.study.budget = Some(TrialBudget { trials: 77 });
        assert!(Journal::open(&path, &more).is_ok());
        std::fs::write(&path, "{}\n").unwrap();
        assert!(bad(&more).contains("line 1"));
        for other in ["my notes", "my notes\nand more", "\n"] {
            std::fs::write(&path, other).unwrap();
            assert!(bad(&more).contains("line 1"));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), other, "another file is left alone");
        }
        std::fs::write(&path, "{\"version\":\"1\",\"comm").unwrap();
        assert!(Journal::open(&path, &more).is_ok(), "a head that was cut short");
        drop(Journal::open(&dir.path().join("k"), &more).unwrap());
        let text = std::fs::read_to_string(dir.path().join("k")).unwrap();
        std::fs::write(&path, format!("{text}nonsense\n")).unwrap();
        assert!(bad(&more).contains("line 2"));
    }
}
