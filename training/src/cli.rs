use crate::commands::{
    self, BacktestArgs, DatasetsCommand, FitArgs, InspectArgs, PromoteArgs, RecipeCommand, RollbackArgs, SearchArgs,
    TuneArgs,
};
use crate::{Answer, Context, Format, TrainError};

/// Fit, judge and search models of metrics, offline.
#[derive(Debug, clap::Parser)]
#[command(name = "foreglow-train", version, propagate_version = true, subcommand_required = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 the work failed, 2 usage or configuration.\nLog level: FOREGLOW_LOG=debug."
)]
pub struct Cli {
    /// Tables for people, or one JSON value for programs.
    #[arg(long, global = true, value_enum, default_value_t)]
    pub format: Format,
    /// Threads for the work; all cores by default. The result does not depend on it.
    #[arg(long, global = true, value_name = "N")]
    pub threads: Option<usize>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Fit an artifact (detectors and forecaster) on a dataset and put it into a registry.
    Fit(Box<FitArgs>),
    /// Judge detectors, forecasters or designers on recorded data.
    Backtest(Box<BacktestArgs>),
    /// Search the hyper-parameters of a recipe, or propose values to any program over standard input and output.
    Search(Box<SearchArgs>),
    /// Run a command with proposed values, read its metrics, and recommend what to change.
    Tune(Box<TuneArgs>),
    /// Show an artifact, or list a registry.
    Inspect(InspectArgs),
    /// Make an artifact the one that is served.
    Promote(Box<PromoteArgs>),
    /// Go back to the artifact that was served before.
    Rollback(RollbackArgs),
    /// Explain recipes.
    #[command(subcommand)]
    Recipe(RecipeCommand),
    /// List, describe, check, fetch, generate and record datasets.
    #[command(subcommand)]
    Datasets(Box<DatasetsCommand>),
}

impl Cli {
    /// Whether it answers line by line to what it reads.
    pub fn is_conversation(&self) -> bool {
        matches!(&self.command, Command::Search(args) if args.is_conversation())
    }
}

/// Runs a command.
///
/// # Errors
/// [`TrainError`], whose `exit_code` says whether the work or the usage failed.
pub fn run(cli: Cli, context: &Context) -> Result<Answer, TrainError> {
    let work = || match cli.command {
        Command::Fit(args) => commands::fit(&args, context),
        Command::Inspect(args) => commands::inspect(&args),
        Command::Promote(args) => commands::promote(&args, context),
        Command::Rollback(args) => commands::rollback(&args),
        Command::Recipe(command) => commands::recipe(&command),
        Command::Backtest(args) => commands::backtest(&args, context),
        Command::Search(args) => commands::search(&args, context),
        Command::Tune(args) => commands::tune(&args, context),
        Command::Datasets(command) => commands::datasets(&command, context),
    };
    match cli.threads {
        None => work(),
        Some(0) => Err(TrainError::Usage("--threads 0: expected 1 or more".into())),
        Some(n) => rayon::ThreadPoolBuilder::new()
            .num_threads(n)
            .build()
            .map_err(|e| TrainError::Usage(format!("--threads {n}: {e}")))?
            .install(work),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn options_are_consistent_and_every_command_has_an_example() {
        let cli = super::Cli::command();
        cli.clone().debug_assert();
        let mut open = vec![cli];
        while let Some(c) = open.pop() {
            if c.has_subcommands() {
                open.extend(c.get_subcommands().cloned());
            } else {
                let help = c.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("foreglow-train"), "{} has no example", c.get_name());
            }
        }
    }
}
