//! `foreglow-serve`: scores metric batches over HTTP.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program answers on its standard streams")]

use anyhow::Context;
use clap::{Parser, Subcommand};
use foreglow_engine::{Config, Horizon, init_log, run};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::net::TcpListener;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Scores metric batches over HTTP, forecasts, watches incidents and recommends parameters.
///
/// Example: foreglow-serve --registry registry --listen 127.0.0.1:8780
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Configuration (TOML); flags win over it.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Address and port [default: 127.0.0.1:8780].
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Folder of artifacts, as foreglow-train writes it.
    #[arg(long, value_name = "DIR")]
    registry: Option<PathBuf>,
    /// Folder that survives restarts [default: foreglow-state].
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// signals.toml for what no artifact serves.
    #[arg(long, value_name = "FILE")]
    signals: Option<PathBuf>,
    /// How far ahead of the clock samples may be, or off for replays [default: 10m].
    #[arg(long, value_name = "TIME")]
    max_future: Option<Horizon>,
    /// Listen beyond loopback although nobody has to show a token.
    #[arg(long)]
    allow_open: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Checks a configuration and prints it with every default; exit code 2 when it does not hold.
    ///
    /// Example: foreglow-serve check --config foreglow.toml
    Check,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let config = match configuration(&cli) {
        Ok(c) => c,
        Err(e) => return fail(&e, 2),
    };
    if matches!(cli.command, Some(Command::Check)) {
        return match toml::to_string(&config) {
            Ok(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Err(e) => fail(&e.into(), 1),
        };
    }
    init_log(config.log);
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(&e, 1),
    }
}

fn fail(e: &anyhow::Error, code: u8) -> ExitCode {
    // Some errors tell their cause themselves.
    let mut text = String::new();
    for part in e.chain().map(ToString::to_string).filter(|p| !p.is_empty()) {
        if !text.contains(&part) {
            text = if text.is_empty() { part } else { format!("{text}: {part}") };
        }
    }
    eprintln!("foreglow-serve: {text}");
    ExitCode::from(code)
}

fn configuration(cli: &Cli) -> anyhow::Result<Config> {
    let mut config = match &cli.config {
        Some(path) => Config::read(path).with_context(|| path.display().to_string())?,
        None => Config::default(),
    };
    if let Some(listen) = cli.listen {
        config.listen = listen;
    }
    if let Some(state) = &cli.state {
        config.state.clone_from(state);
    }
    if cli.registry.is_some() {
        config.registry.clone_from(&cli.registry);
    }
    if cli.signals.is_some() {
        config.signals.clone_from(&cli.signals);
    }
    if let Some(h) = cli.max_future {
        config.limits.max_future = h;
    }
    config.allow_open |= cli.allow_open;
    config.check()?;
    Ok(config)
}

fn serve(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listen = config.listen;
        let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
        run(listener, config, told_to_stop()).await?;
        Ok(())
    })
}

/// Done at Ctrl-C or SIGTERM.
async fn told_to_stop() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        if let Ok(mut term) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            tokio::select! {
                _ = interrupt => {}
                _ = term.recv() => {}
            }
            return;
        }
    }
    let _ = interrupt.await;
}
