mod forecast;
mod tuning;

use super::DataArgs;
use crate::{Answer, Context, TrainError};
use foreglow_core::Seed;
use std::path::PathBuf;

/// What is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Task {
    /// Forecasters on rolling windows.
    Forecast,
    /// Designers on a table of measured configurations.
    Tuning,
}

/// How it is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ProtocolArg {
    /// Forecast: every window of the test rows at stride 1, z-scored by train; writes the report only.
    Ltsf,
}

/// Options of `backtest`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  foreglow-train backtest --task forecast --data ../shared/data/m4_hourly --horizon 48 --windows 1 --out out/m4
  foreglow-train backtest --task forecast --data ../shared/data/ett_1 --series ETTh1 --protocol ltsf --horizon 96 --out out/ltsf
  foreglow-train backtest --task tuning --data ../shared/data/tuning/llvm.csv --goal PERF-:min --designer bayes,random \\
      --budget 50 --seeds 5 --out out/llvm")]
pub struct BacktestArgs {
    /// What is judged.
    #[arg(long, value_enum)]
    task: Task,
    #[command(flatten)]
    data: DataArgs,
    /// The folder for report and tables; made if it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The models, a TOML file; without it the recommended ones. For anomaly and forecast.
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// How it is judged.
    #[arg(long, value_enum)]
    protocol: Option<ProtocolArg>,
    /// The seed of fits and draws; tuning runs take seeds of their own.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    forecast: forecast::ForecastArgs,
    #[command(flatten)]
    tuning: tuning::TuningArgs,
}

/// Runs `backtest`.
///
/// # Errors
/// [`TrainError::Usage`] for options of another task, and as the task.
pub fn backtest(args: &BacktestArgs, context: &Context) -> Result<Answer, TrainError> {
    let seed = Seed(args.seed.unwrap_or(Seed::default().0));
    let refuse = |task: &str, given: Option<&str>| match given {
        Some(option) => Err(TrainError::Usage(format!("{option} means nothing to --task {task}: leave it out"))),
        None => Ok(()),
    };
    match args.task {
        Task::Forecast => {
            refuse("forecast", args.tuning.given())?;
            match args.protocol {
                None => forecast::run(args, seed, context, false),
                Some(ProtocolArg::Ltsf) => forecast::run(args, seed, context, true),
            }
        }
        Task::Tuning => {
            let own = args.protocol.map(|_| "--protocol").or(args.recipe.as_ref().map(|_| "--recipe"));
            let own = own.or(args.seed.map(|_| "--seed")).or(args.data.given_beside_path());
            refuse("tuning", own.or(args.forecast.given()))?;
            tuning::run(args, context)
        }
    }
}
