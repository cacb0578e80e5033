//! `foreglow-bench`: times the whole server on this machine and writes a result folder.

mod machine;
mod measure;
mod server;

use anyhow::{Context, Result};
use clap::Parser;
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Times POST /v1/score, the start, the memory of a series and a recommendation.
///
/// Build it and the server in release first: cargo build --release -p foreglow-engine -p foreglow-bench
#[derive(Debug, Parser)]
#[command(version, after_help = "Example: target/release/foreglow-bench --out benches/results")]
struct Options {
    /// What to time; all of it by default.
    #[arg(value_enum)]
    what: Vec<What>,
    /// Write a folder DATE-MACHINE with results.json here.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The server program; by default the one beside this program.
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
    /// Seconds of scoring.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// POST /v1/score with a fitted artifact of 38 metrics, batches of about 1,000 values.
    Score,
    /// From the start of the process to the first 200 of /readyz.
    Start,
    /// Resident memory a series of the online baseline.
    Memory,
    /// A recommendation from 60 trials.
    Recommend,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // With standard error closed there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<()> {
    let server = match &options.server {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("foreglow-serve"),
    };
    anyhow::ensure!(server.exists(), "{} is missing: cargo build --release -p foreglow-engine", server.display());
    let wanted = |w| options.what.is_empty() || options.what.contains(&w);
    let mut results = Map::new();
    let mut out = std::io::stdout();
    let mut add = |name: &str, value: Value| -> Result<()> {
        writeln!(out, "{name:<12} {value}")?;
        results.insert(name.to_owned(), value);
        Ok(())
    };
    if wanted(What::Start) {
        add("start", measure::start(&server).await?)?;
    }
    if wanted(What::Memory) {
        add("memory", measure::memory(&server).await?)?;
    }
    if wanted(What::Recommend) {
        add("recommend", measure::recommend()?)?;
    }
    if wanted(What::Score) {
        add("score", measure::score(&server, options.seconds).await?)?;
    }
    if let Some(dir) = &options.out {
        let about = machine::about();
        let folder = dir.join(format!("{}-{}", about.date, about.name));
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let command = std::env::args().collect::<Vec<_>>().join(" ");
        let all = json!({"machine": about, "command": command, "results": results});
        let file = folder.join("results.json");
        std::fs::write(&file, serde_json::to_string_pretty(&all)? + "\n")
            .with_context(|| file.display().to_string())?;
        writeln!(out, "written to {}", file.display())?;
    }
    Ok(())
}
