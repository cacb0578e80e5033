use super::data::ChoiceArgs;
use super::recipe::read_recipe;
use crate::answer::table;
use crate::backtest::write_text;
use crate::hyper::{self, HyperOptions};
use crate::{Answer, Context, TrainError};
use foreglow_core::Seed;
use foreglow_search::stdio::Stdio;
use foreglow_search::{DesignerKind, SpaceSpec, TrialState, assignment_key};
use serde_json::json;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

/// Options of `search`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  foreglow-train search --data metrics.csv --recipe training/configs/ridge.toml --budget 30 --out best.toml
  printf '%s\\n' '{\"op\":\"start\",\"space\":[{\"name\":\"x\",\"type\":\"float\",\"low\":0,\"high\":1}],\"budget\":9}' '{\"op\":\"ask\"}' \\
    | foreglow-train search --stdio --designer bayes")]
pub struct SearchArgs {
    /// Talk to any program: one JSON object a line on standard input (start, ask, tell, recommend, stop), one answer a line.
    #[arg(long, conflicts_with_all = ["data", "recipe", "out"])]
    stdio: bool,
    /// Who proposes: auto, grid, random, sobol, genetic, annealing, bayes, ...
    #[arg(long, value_name = "NAME", default_value = "auto")]
    designer: String,
    /// What to judge a recipe on: a dataset folder, a .parquet file or a .csv file.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// The recipe whose forecaster is searched; without it the recommended one.
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// What may be varied, a TOML file of [[parameters]] tables named by their path in the recipe (forecaster.lags).
    #[arg(long, value_name = "FILE")]
    space: Option<PathBuf>,
    /// Trials.
    #[arg(long, value_name = "N", default_value_t = 30)]
    budget: usize,
    /// Steps ahead of a validation window; by default a season, at most 48.
    #[arg(long, value_name = "STEPS")]
    horizon: Option<usize>,
    /// Validation windows a series, at most.
    #[arg(long, value_name = "N", default_value_t = 6)]
    windows: usize,
    /// The seed.
    #[arg(long, value_name = "N", default_value_t = Seed::default().0)]
    seed: u64,
    /// Write the recipe that was found to this file.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    choice: ChoiceArgs,
}

impl SearchArgs {
    pub(crate) fn is_conversation(&self) -> bool {
        self.stdio
    }
}

/// Runs `search`.
///
/// # Errors
/// [`TrainError::Usage`] for options that do not fit together, [`TrainError::Io`] when standard input or output fails, and
/// as [`hyper::search`].
pub fn search(args: &SearchArgs, context: &Context) -> Result<Answer, TrainError> {
    let designer: DesignerKind = args.designer.parse()?;
    if args.stdio {
        converse(designer, std::io::stdin().lock(), std::io::stdout().lock())?;
        return Ok(Answer::default());
    }
    let Some(data) = &args.data else {
        return Err(TrainError::Usage("search needs --data PATH to judge a recipe on, or --stdio".into()));
    };
    let options = HyperOptions {
        recipe: read_recipe(args.recipe.as_deref())?,
        space: args.space.as_deref().map(read_space).transpose()?,
        designer,
        budget: args.budget,
        seed: Seed(args.seed),
        horizon: args.horizon,
        windows: args.windows,
    };
    let found = hyper::search(&args.choice.open(data)?, &options, context)?;
    let recipe =
        toml::to_string(&found.recipe).map_err(|e| TrainError::Data(format!("the recipe cannot be written: {e}")))?;
    if let Some(out) = &args.out {
        write_text(out, &recipe)?;
    }
    if !found.complete {
        let kept = args.out.as_ref().map_or_else(String::new, |o| format!(", the best so far lies in {}", o.display()));
        return Err(TrainError::Interrupted(format!("{} trials were done{kept}", found.study.trials().len())));
    }
    let trials = found.study.trials();
    let rows = trials.iter().map(|t| {
        let value = match (&t.state, t.usable()) {
            (TrialState::Failed { reason }, _) => format!("failed: {reason}"),
            (_, Some(m)) => format!("{:.5}", m.value),
            _ => "-".into(),
        };
        vec![t.id.to_string(), assignment_key(&t.parameters), value]
    });
    let text = format!(
        "{}\n\nbefore: {:.5}\nbest by posterior: trial {}, measured {:.5}\n\n{recipe}",
        table(&["trial", "parameters", "mean SQL"], 2, rows),
        found.before,
        found.best.0,
        found.best.1
    );
    let value = json!({"before": found.before, "best": {"trial": found.best.0, "value": found.best.1},
        "recipe": found.recipe, "trials": trials});
    Ok(Answer { json: value, text })
}

fn read_space(path: &Path) -> Result<SpaceSpec, TrainError> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        parameters: SpaceSpec,
    }
    let text = std::fs::read_to_string(path).map_err(|e| TrainError::io(path, "read", e))?;
    let file: File = toml::from_str(&text)
        .map_err(|e| TrainError::Config { path: path.to_owned(), problem: e.to_string().trim_end().to_owned() })?;
    Ok(file.parameters)
}

/// Answers line by line until the other side says stop, or has no more to say.
fn converse(designer: DesignerKind, input: impl BufRead, mut output: impl Write) -> Result<(), TrainError> {
    let fail = |action| move |e| TrainError::io(Path::new("search --stdio"), action, e);
    let mut talk = Stdio::new(designer);
    for line in input.lines() {
        let line = line.map_err(fail("read a line"))?;
        let answer = talk.answer(&line);
        writeln!(output, "{answer}").and_then(|()| output.flush()).map_err(fail("write an answer"))?;
        if talk.stopped() {
            break;
        }
    }
    Ok(())
}
