use super::confirm::{ConfirmLine, Verdict};
use super::file::StudyFile;
use super::journal::{Entry, Header, Journal, Line};
use super::measure::{Bench, Candidate, Measured, Purpose, measurement};
use super::noise::Noise;
use super::report::{Columns, incumbent_words};
use crate::{Context, TrainError};
use foreglow_search::space::Parameter;
use foreglow_search::{SearchError, Study, StudySpec, Trial, TrialState, assignment_key};
use std::path::{Path, PathBuf};

/// A study that is run here: specification, journal and commands.
#[derive(Debug)]
pub struct Session {
    pub(super) spec: StudySpec,
    pub(super) study: Study,
    pub(super) lines: Vec<Line>,
    pub(super) confirmed: Vec<ConfirmLine>,
    pub(super) journal: Journal,
    pub(super) bench: Bench,
    pub(super) confirm_rounds: Option<usize>,
    stop_after_failures: usize,
    resumed: usize,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The study with all finished trials.
    pub study: Study,
    /// What to do, and the rounds behind it; `None` when the user asked to stop before.
    pub(crate) verdict: Option<Verdict>,
    /// A note a trial, empty for most.
    pub notes: Vec<String>,
    /// Where the journal lies.
    pub journal: PathBuf,
    /// How many trials were there before.
    pub resumed: usize,
    /// Whether the user asked to stop.
    pub interrupted: bool,
    /// Why it ended before its budget was spent, other than by the user.
    pub ended_because: Option<String>,
    /// Why the current configuration could not be put back.
    pub not_restored: Option<String>,
}

impl Session {
    /// Checks everything and opens the journal: what lies there goes on.
    ///
    /// # Errors
    /// [`TrainError`] naming field, placeholder or line.
    pub fn open(file: &StudyFile, command: &[String], journal: &Path) -> Result<Self, TrainError> {
        let spec = file.spec()?;
        // Checked before a journal is begun.
        let study = spec.clone().check()?;
        let bench = Bench::new(file, command, study.space())?;
        let (journal, held) = Journal::open(journal, &Header::new(file, spec.clone(), command))?;
        let (lines, confirmed) = (held.trials, held.rounds);
        let trials: Vec<Trial> = lines.iter().map(|l| l.trial.clone()).collect();
        let study = Study::restore(spec.clone(), trials)?;
        let (resumed, stop_after_failures) = (lines.len(), file.run.stop_after_failures);
        let confirm_rounds = file.run.confirm;
        Ok(Self { spec, study, lines, confirmed, journal, bench, confirm_rounds, stop_after_failures, resumed })
    }

    /// Runs trials until the budget is spent, the user stops, or too much goes wrong; measures what is to be recommended in
    /// turn with the current configuration; then the latter is put back.
    ///
    /// # Errors
    /// The very first trial fails although it is the current configuration: then the command or the study file is wrong,
    /// and nothing is kept. [`TrainError::Io`] when the journal cannot be written.
    pub fn run(mut self, context: &Context) -> Result<Outcome, TrainError> {
        let current = self.study.space().current();
        if current.is_none() {
            let without: Vec<&str> =
                self.study.space().parameters().iter().filter(|p| p.current().is_none()).map(Parameter::name).collect();
            tracing::warn!(
                "no effect can be promised: `current` is missing for {}; say what runs now",
                without.join(", ")
            );
        }
        let ran = self.trials(context).and_then(|(interrupted, ended_because)| {
            // Without a trial that was cut short while it was measured.
            self.study = Study::restore(self.spec.clone(), self.lines.iter().map(|l| l.trial.clone()).collect())?;
            if interrupted {
                return Ok((None, true, ended_because));
            }
            let (verdict, stopped) = self.confirm(context)?;
            Ok((Some(verdict), stopped, ended_because))
        });
        let not_restored = current.and_then(|c| self.bench.restore(&c).err());
        if let Some(reason) = &not_restored {
            tracing::error!("the current configuration could not be put back: {reason}");
        }
        let (verdict, interrupted, ended_because) = ran?;
        Ok(Outcome {
            study: self.study,
            verdict,
            notes: self.lines.into_iter().map(|l| l.note).collect(),
            journal: self.journal.path().to_owned(),
            resumed: self.resumed,
            interrupted,
            ended_because,
            not_restored,
        })
    }

    fn trials(&mut self, context: &Context) -> Result<(bool, Option<String>), TrainError> {
        let total = self.spec.budget.map_or(usize::MAX, |b| b.trials);
        if self.study.suggested() >= total {
            return Ok((false, None));
        }
        let progress = context.progress("tuning", total);
        let columns = Columns::new(self.study.space(), &self.spec.objective.metric);
        progress.line(&columns.head());
        for line in &self.lines {
            progress.line(&columns.row(&line.trial, &line.note));
        }
        let mut failures = 0;
        loop {
            if context.stopped() {
                return Ok((true, None));
            }
            let (id, parameters) = match self.study.ask() {
                Ok(t) => (t.id, t.parameters.clone()),
                Err(SearchError::Budget { .. }) => return Ok((false, None)),
                // A careful study that broke too much holds itself back: that is an end, not a mistake.
                Err(SearchError::HeldBack { because }) => return Ok((false, Some(because))),
                Err(e) => return Err(e.into()),
            };
            let metric = self.spec.objective.metric.clone();
            let noise = self.noise();
            let best = self.study.best_measured().map(|t| t.id as usize);
            let best = best.and_then(|i| self.lines[i].runs.get(&metric)).cloned().unwrap_or_default();
            let candidate = Candidate {
                id,
                parameters: &parameters,
                study: &self.study,
                noise: &noise,
                best: &best,
                purpose: Purpose::Trial,
            };
            let (done, best_words) = (self.lines.len(), incumbent_words(&self.study).unwrap_or_default());
            let show = |what: &str| progress.set(done, total, &format!("{what}{best_words}"));
            let line = match self.bench.measure(&candidate, context, &show) {
                Measured::Stopped => return Ok((true, None)),
                Measured::Failed { reason } => {
                    failures += 1;
                    if self.lines.is_empty() && self.study.space().current().as_ref() == Some(&parameters) {
                        return Err(TrainError::Data(format!(
                            "the current configuration {} could not be measured: {reason}. Nothing was written: put the \
                             command or the study file right and start again",
                            assignment_key(&parameters)
                        )));
                    }
                    let trial = self.study.fail(id, &reason)?.clone();
                    Line { trial, runs: std::collections::BTreeMap::new(), note: String::new() }
                }
                Measured::Done { runs, note } => {
                    failures = 0;
                    self.done(id, runs, note, &noise)?
                }
            };
            self.journal.append(&Entry::Trial(line.clone()))?;
            progress.line(&columns.row(&line.trial, &line.note));
            self.lines.push(line);
            if failures >= self.stop_after_failures {
                let why = match &self.study.trial(id)?.state {
                    TrialState::Failed { reason } => reason.clone(),
                    _ => String::new(),
                };
                return Ok((false, Some(format!("{failures} trials failed in a row; the last: {why}"))));
            }
        }
    }

    /// What all trials say about the noise of a run.
    pub(super) fn noise(&self) -> Noise {
        let metric = &self.spec.objective.metric;
        let runs = self.lines.iter().filter_map(|l| Some((&l.trial, l.runs.get(metric)?.as_slice())));
        Noise::of(&runs.map(|(t, r)| (assignment_key(&t.parameters), r)).collect::<Vec<_>>())
    }

    fn done(
        &mut self,
        id: u64,
        runs: std::collections::BTreeMap<String, Vec<f64>>,
        note: String,
        noise: &Noise,
    ) -> Result<Line, TrainError> {
        if let Some(load) = &self.spec.workload
            && let Some(v) = runs.get(load)
        {
            let value = foreglow_core::stats::mean(v).into();
            self.study.set_context(id, [(load.clone(), value)].into())?;
        }
        let told = match measurement(&self.spec.objective.metric, &runs, noise) {
            Some(m) => self.study.tell(id, m).map(|_| ()),
            None => self.study.fail(id, "nothing was measured").map(|_| ()),
        };
        if let Err(e) = told {
            // Such as a number too large to compute with: it says so itself.
            self.study.fail(id, &e.to_string())?;
        }
        Ok(Line { trial: self.study.trial(id)?.clone(), runs, note })
    }
}
