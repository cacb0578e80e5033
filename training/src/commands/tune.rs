use crate::backtest::write_text;
use crate::tune::{Emit, Outcome, Session, StudyFile, emit, report};
use crate::{Answer, Context, TrainError};
use std::path::{Path, PathBuf};

/// Options of `tune`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  foreglow-train tune --study study.toml -- ./bench.sh {workers} {batch}

study.toml, for a script that prints {\"tps\": 812.5} or any other JSON object:
  objective = { metric = \"tps\", goal = \"max\" }
  [[parameters]]
  name = \"workers\"
  type = \"int\"
  low = 1
  high = 64
  log = true
  current = 8
  [[parameters]]
  name = \"batch\"
  type = \"int\"
  low = 1
  high = 256
  log = true
  current = 16

training/configs/studies/commented.toml has every field with its default; space = \"postgresql\", \"jvm\" or \"nginx\"
brings its parameters.
The command also finds each value in FOREGLOW_<NAME>, and in FOREGLOW_TUNE_TRIAL, _RUN, _ROUND and _PARAMETERS where it stands.
What is recommended, or might be, is first measured in turn with the current configuration; run.confirm says in how many rounds.
Every finished trial is in the journal before the next begins: the same command again goes on after Ctrl-C or a crash.
After kill -9 a run that was under way goes on by itself: see that it is gone before starting again.")]
pub struct TuneArgs {
    /// The study, a TOML file: objective with goal, parameters, how to run and read the command.
    #[arg(long, value_name = "FILE")]
    study: PathBuf,
    /// Where trials are kept; by default beside the study, named after it (study.journal).
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Print only what applies the recommendation, in this form.
    #[arg(long, value_name = "FORM", value_enum)]
    emit: Option<Emit>,
    /// With --emit: write it to this file, and print the report.
    #[arg(long, value_name = "FILE", requires = "emit")]
    out: Option<PathBuf>,
    /// What to run: program and arguments, {name} standing for a parameter's value.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs `tune`.
///
/// # Errors
/// [`TrainError::Config`] and [`TrainError::Usage`] for the study file and the command, [`TrainError::Interrupted`] with
/// the best so far after Ctrl-C, [`TrainError::Data`] when the current configuration cannot be measured or put back.
pub fn tune(args: &TuneArgs, context: &Context) -> Result<Answer, TrainError> {
    let file = StudyFile::read(&args.study)?;
    if args.emit == Some(Emit::Kubectl) {
        emit::Target::of(&file.entity).map_err(|problem| TrainError::Config { path: args.study.clone(), problem })?;
    }
    let journal = args.journal.clone().unwrap_or_else(|| args.study.with_extension("journal"));
    let session = Session::open(&file, &args.command, &journal).map_err(|e| at(e, &args.study))?;
    let outcome = session.run(context)?;
    let verdict = match &outcome.verdict {
        Some(verdict) if !outcome.interrupted => verdict,
        _ => return Err(TrainError::Interrupted(so_far(&outcome))),
    };
    let advice = &verdict.advice;
    let answer = report::answer(&outcome, verdict)?;
    let emitted = args.emit.map(|kind| emit::advice(kind, advice, &outcome.study)).transpose();
    let emitted = emitted.map_err(TrainError::Data)?;
    if let (Some(text), Some(out)) = (&emitted, &args.out) {
        write_text(out, text)?;
    }
    if let Some(reason) = &outcome.not_restored {
        return Err(TrainError::Data(format!(
            "the study ended, but the configuration from before could not be put back: {reason}. Put it back by hand; the \
             same command again prints the result"
        )));
    }
    match (emitted, &args.out) {
        (Some(text), None) => {
            let json = if args.emit == Some(Emit::Json) { serde_json::to_value(advice)? } else { text.clone().into() };
            Ok(Answer { json, text })
        }
        _ => Ok(answer),
    }
}

/// A fault of the study with the file's name.
fn at(e: TrainError, study: &Path) -> TrainError {
    match e {
        TrainError::Search(e) => TrainError::Config { path: study.to_owned(), problem: e.to_string() },
        other => other,
    }
}

fn so_far(outcome: &Outcome) -> String {
    let study = &outcome.study;
    let budget = study.spec().budget.map_or_else(String::new, |b| format!(" of {}", b.trials));
    let best = report::incumbent(study)
        .map_or_else(|| "none was measured".to_owned(), |b| format!("the best so far is {}", b.describe(study)));
    let back = outcome
        .not_restored
        .as_ref()
        .map_or_else(String::new, |reason| format!("; the configuration from before could not be put back: {reason}"));
    let confirming = outcome.verdict.as_ref().and_then(|v| v.confirmation.as_ref());
    let known = confirming.map_or_else(String::new, |c| format!("; nothing is confirmed yet: {}", c.why));
    format!(
        "{}{budget} trials are in {}; {best}{known}; the same command again goes on{back}",
        study.trials().len(),
        outcome.journal.display()
    )
}
