mod anomaly;
mod forecast;
mod tuning;

use super::DataArgs;
use crate::{Answer, Context, TrainError};
use foreglow_core::Seed;
use foreglow_models::artifact::{Artifact, Store};
use foreglow_models::evaluate::report::Protocol;
use std::path::PathBuf;

/// What is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Task {
    /// Detectors: the monitor is replayed over each series.
    Anomaly,
    /// Forecasters on rolling windows.
    Forecast,
    /// Designers on a table of measured configurations.
    Tuning,
}

/// How it is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ProtocolArg {
    /// Anomaly: fitted on train rows, the score of a row uses rows up to it, test rows are judged. The default.
    Causal,
    /// Anomaly: as TSB-AD runs it; every labelled row is scored and judged, the prefix that was fitted on included.
    Tsb,
    /// Forecast: every window of the test rows at stride 1, z-scored by train; writes the report only.
    Ltsf,
}

/// Options of `backtest`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  foreglow-train backtest --task anomaly --data ../shared/data/smd_a --out out/smd
  foreglow-train backtest --task anomaly --data ../shared/data/smd_a --artifact smd_a --registry registry --out out/replay
  foreglow-train backtest --task forecast --data ../shared/data/m4_hourly --horizon 48 --windows 1 --out out/m4
  foreglow-train backtest --task forecast --data ../shared/data/ett_1 --series ETTh1 --protocol ltsf --horizon 96 --out out/ltsf
  foreglow-train backtest --task tuning --data ../shared/data/tuning/llvm.csv --goal PERF-:min --designer bayes,random \\
      --budget 50 --seeds 5 --out out/llvm")]
pub struct BacktestArgs {
    /// What is judged.
    #[arg(long, value_enum)]
    task: Task,
    /// The folder for report and tables; made if it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The models, a TOML file; without it the recommended ones. For anomaly and forecast.
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Judge an artifact of the registry instead of fitting: NAME, NAME/ID or ID. For anomaly and forecast.
    #[arg(long, value_name = "ARTIFACT", requires = "registry", conflicts_with_all = ["recipe", "signals", "prefix"])]
    artifact: Option<String>,
    /// The folder of artifacts.
    #[arg(long, value_name = "DIR", requires = "artifact")]
    registry: Option<PathBuf>,
    /// How it is judged.
    #[arg(long, value_enum)]
    protocol: Option<ProtocolArg>,
    /// The seed of fits and draws; tuning runs take seeds of their own.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    anomaly: anomaly::AnomalyArgs,
    #[command(flatten)]
    forecast: forecast::ForecastArgs,
    #[command(flatten)]
    tuning: tuning::TuningArgs,
}

impl BacktestArgs {
    /// The artifact to judge, with its full name.
    fn artifact(&self) -> Result<Option<(Artifact, String)>, TrainError> {
        let (Some(text), Some(registry)) = (&self.artifact, &self.registry) else { return Ok(None) };
        let store = Store::open(registry)?;
        let (name, id) = store.resolve(text)?;
        Ok(Some((store.load(&name, Some(&id))?, format!("{name}/{id}"))))
    }
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
        Task::Anomaly => {
            refuse("anomaly", args.forecast.given().or(args.tuning.given()))?;
            let protocol = match args.protocol {
                None | Some(ProtocolArg::Causal) => Protocol::Causal,
                Some(ProtocolArg::Tsb) => Protocol::Tsb,
                Some(ProtocolArg::Ltsf) => {
                    return Err(TrainError::Usage("--protocol ltsf belongs to --task forecast".into()));
                }
            };
            anomaly::run(args, protocol, seed, context)
        }
        Task::Forecast => {
            refuse("forecast", args.anomaly.given().or(args.tuning.given()))?;
            match args.protocol {
                None => forecast::run(args, seed, context, false),
                Some(ProtocolArg::Ltsf) => forecast::run(args, seed, context, true),
                Some(_) => {
                    Err(TrainError::Usage("--protocol: --task forecast knows ltsf, or none for rolling windows".into()))
                }
            }
        }
        Task::Tuning => {
            let own = args.protocol.map(|_| "--protocol").or(args.recipe.as_ref().map(|_| "--recipe"));
            let own = own.or(args.artifact.as_ref().map(|_| "--artifact"));
            let own = own.or(args.seed.map(|_| "--seed")).or(args.data.given_beside_path());
            refuse("tuning", own.or(args.anomaly.given()).or(args.forecast.given()))?;
            tuning::run(args, context)
        }
    }
}
