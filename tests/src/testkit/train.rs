use clap::Parser;
use foreglow_training::{Cli, Context, run};
use serde_json::Value;

/// Runs `foreglow-train` with these arguments, in this process, and gives its answer as JSON.
///
/// # Errors
/// Its error as it would be printed, and its exit code.
pub fn train(arguments: &[&str]) -> Result<Value, (String, u8)> {
    let cli = Cli::try_parse_from(std::iter::once("foreglow-train").chain(arguments.iter().copied()))
        .map_err(|e| (e.to_string(), 2))?;
    run(cli, &Context::default()).map(|answer| answer.json).map_err(|e| (e.to_string(), e.exit_code()))
}
