//! `foreglow-train`: fits models, backtests them, searches parameters, keeps datasets.

use clap::Parser;
use foreglow_training::{Cli, Context, run};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let terminal = std::io::stderr().is_terminal();
    let level = if terminal { "warn" } else { "info" };
    let filter = EnvFilter::try_from_env("FOREGLOW_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal).init();
    let stop = Arc::new(AtomicBool::new(false));
    // The first Ctrl-C asks to end, a second one ends at once.
    let hook = |signal| {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
    };
    // A conversation has nothing to keep, and waits for its input: there Ctrl-C ends at once.
    let signals = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM];
    for signal in signals.into_iter().filter(|_| !cli.is_conversation()) {
        if let Err(e) = hook(signal) {
            tracing::warn!("signals cannot be handled, Ctrl-C ends without keeping anything: {e}");
        }
    }
    let context = Context::new(stop, terminal);
    let format = cli.format;
    let fail = |e: &dyn std::fmt::Display, code: u8| {
        // With standard error closed too there is nobody left to tell.
        let _ = writeln!(std::io::stderr(), "error: {e}");
        ExitCode::from(code)
    };
    let answer = match run(cli, &context) {
        Ok(answer) => answer,
        Err(e) => return fail(&e, e.exit_code()),
    };
    let mut out = std::io::stdout().lock();
    match out.write_all(answer.render(format).as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads from us may have seen enough (`| head`): no error of ours.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(e) => fail(&format!("standard output: {e}"), 1),
    }
}
