//! The recurrent kernels beside PyTorch and candle on the same work, in one alternated run.
//!
//! ```text
//! cargo run --release -p foreglow-bench --bin peers -- --torch PYTHON [--threads 1,2] [--rounds 5] [--only 0,8,20]
//! ```
//!
//! PYTHON is an interpreter that can import torch and numpy. Without it, candle alone is compared. Every program starts
//! from the same weights and data; its answer is asserted equal before anything is timed. A round runs one program after
//! the other; a figure is the median over rounds of process CPU time a step (wall time for two threads and more), a ratio
//! the median over rounds of the ratio inside a round.

mod candle;
mod case;
mod clock;
mod ours;
mod score;
mod torch;
mod train;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use foreglow_models::kernel::{KernelPath, multiply_adds};
use std::path::PathBuf;

/// Compares the recurrent kernels with PyTorch and candle.
#[derive(Parser)]
struct Arguments {
    /// A Python interpreter that can import torch and numpy.
    #[arg(long)]
    torch: Option<PathBuf>,
    /// Thread counts.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    threads: Vec<usize>,
    /// Rounds of alternation.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Numbers of the cases to run; all without.
    #[arg(long, value_delimiter = ',')]
    only: Vec<usize>,
}

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.rounds > 0, "--rounds 0: at least one is needed");
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers/torch_peer.py");
    let mut torch = arguments.torch.as_ref().map(|python| torch::Torch::start(python, &script)).transpose()?;
    let path = KernelPath::detect();
    println!("kernel path {}; {}", path.name(), torch.as_ref().map_or("no torch", |t| t.about()));
    for threads in &arguments.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(*threads).build().context("building a thread pool")?;
        pool.install(|| -> Result<()> {
            let peak = peak(path)?;
            println!("\n{threads} thread(s), multiply-add peak of one core {:.1} GFLOP/s\n", peak / 1e9);
            if let Some(torch) = &mut torch {
                torch.threads(*threads)?;
            }
            print!("{}", train::grid(torch.as_mut(), *threads, arguments.rounds, &arguments.only, peak)?);
            if *threads == 1 {
                print!("{}", score::table(torch.as_mut(), arguments.rounds)?);
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Best rate of a loop of multiply-adds by the wall, floating-point operations a second: the scheduler's own count moves
/// too coarsely for so short a loop.
fn peak(path: KernelPath) -> Result<f64> {
    let mut best: f64 = 0.0;
    for _ in 0..11 {
        let from = clock::Clock::now()?;
        let operations = multiply_adds(path, 1_000_000);
        best = best.max(operations / from.elapsed()?.wall);
    }
    Ok(best)
}
