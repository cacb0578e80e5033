//! The README's first command: a real small swarm runs on this machine; the server learns what is normal, watches, finds
//! faults, forecasts, and tunes, through HTTP only.

mod client;
mod draw;
mod forecast;
mod learn;
mod measure;
mod plan;
mod player;
mod server;
mod summary;
mod tune;
mod watch;

use crate::client::Client;
use crate::draw::{Pen, number};
use crate::player::Player;
use crate::server::Server;
use crate::summary::{Quantiles, Summary};
use anyhow::{Context, Result};
use clap::Parser;
use foreglow_core::stats::quantile;
use foreglow_lab::Swarm;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Runs a small swarm on this machine and shows what the server says about it: anomalies, forecasts, recommendations.
///
/// Takes about four minutes; then it goes on serving until Ctrl-C, or ends with --once.
#[derive(Debug, Parser)]
#[command(version, after_help = "Example: cargo demo --once --summary summary.json")]
struct Options {
    /// End after the last part instead of going on until Ctrl-C.
    #[arg(long)]
    once: bool,
    /// Write what happened to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
    /// Seed of the swarm's arrivals, the fit and the search.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let pen = Pen::new();
    let mut summary = Summary { seed: options.seed, ..Summary::default() };
    let result = tokio::select! {
        r = story(&options, pen, &mut summary) => r,
        _ = tokio::signal::ctrl_c() => { pen.say("interrupted"); Ok(()) }
    };
    // What happened until an error or an interruption is worth having too.
    let written = options.summary.as_deref().map_or(Ok(()), |path| write(path, &summary));
    match result.and(written) {
        Ok(()) if summary.complete || !options.once => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn write(path: &Path, summary: &Summary) -> Result<()> {
    let text = serde_json::to_string_pretty(summary)?;
    std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
}

async fn story(options: &Options, pen: Pen, summary: &mut Summary) -> Result<()> {
    let begin = Instant::now();
    pen.title("foreglow demo: six agents on this machine, watched over HTTP");

    pen.heading(1, "Serve");
    let server = Server::start().await?;
    pen.item("server", &format!("{} ready after {:.0} ms", server.url, server.ready_after.as_secs_f64() * 1e3));
    let config = plan::lab(options.seed);
    pen.item("swarm", &format!("{} tasks/s on average, a day's load in {} s", config.rate, config.day.as_secs()));
    let mut player = Player::new(Client::new(&server.url)?, Swarm::start(config)?);

    pen.heading(2, "Learn what normal is");
    summary.learned = learn::learn(&mut player, &server, pen, options.seed).await?;

    pen.heading(3, "Watch, while two things go wrong");
    watch::watch(&mut player, pen, summary).await?;

    pen.heading(4, "Forecast the load of the next day");
    summary.forecast = Some(forecast::forecast(&mut player, pen).await?);

    pen.heading(5, "Tune");
    summary.tuning = Some(tune::tune(&mut player, pen, options.seed).await?);

    let times: Vec<f64> = player.answered_in.iter().map(|d| d.as_secs_f64() * 1e3).collect();
    let q = |q| quantile(&times, q);
    summary.score_ms = Quantiles { p50: q(0.5), p95: q(0.95), max: q(1.0) };
    summary.refused = player.refused;
    summary.seconds = begin.elapsed().as_secs_f64();
    summary.complete = true;
    pen.heading(6, "In short");
    let found = summary.faults.iter().filter(|f| f.found).count();
    let tuned = summary.tuning.as_ref().and_then(|t| t.measured).map_or_else(
        || "nothing recommended".to_owned(),
        |e| format!("p95 {} [{} to {}]", draw::percent(e.mean), draw::percent(e.i95[0]), draw::percent(e.i95[1])),
    );
    pen.item("faults found", &format!("{found} of {}, {} false", summary.faults.len(), summary.false_alarms));
    pen.item("tuning", &tuned);
    pen.item(
        "a tick of 98 values",
        &format!("answered in {} ms (median), {} ms (p95)", number(q(0.5)), number(q(0.95))),
    );
    pen.item("all of it", &format!("{:.0} s", summary.seconds));

    if !options.once {
        serve(&mut player, &server, options, pen, summary).await?;
    }
    server.stop().await
}

/// The swarm and the server go on until Ctrl-C.
async fn serve(player: &mut Player, server: &Server, options: &Options, pen: Pen, summary: &Summary) -> Result<()> {
    if let Some(path) = &options.summary {
        write(path, summary)?;
    }
    pen.heading(7, "Going on until Ctrl-C");
    for path in ["/v1/groups", "/v1/incidents", "/v1/recommendations", "/metrics"] {
        pen.say(&format!("curl {}{path}", server.url));
    }
    loop {
        for incident in player.step().await? {
            let score = number(incident.peak_score);
            pen.say(&format!("{}  incident in {}: score {score}", watch::clock(incident.opened_at), incident.group));
        }
    }
}
