use super::candle::Candle;
use super::case::{Case, cases};
use super::clock::{Clock, Spent, median};
use super::ours::{Bare, Hooked};
use super::torch::Torch;
use anyhow::{Result, ensure};
use std::fmt::Write;

/// Steps before anything is timed, after which all losses must agree.
const PROOF: usize = 3;

/// Times `repeats` steps.
fn time(repeats: usize, mut step: impl FnMut() -> Result<f64>) -> Result<Spent> {
    let from = Clock::now()?;
    for _ in 0..repeats {
        let loss = step()?;
        ensure!(loss.is_finite(), "the loss is {loss}");
    }
    from.elapsed()
}

/// The loss after [`PROOF`] steps.
fn proof(mut step: impl FnMut() -> Result<f64>) -> Result<f64> {
    let mut loss = f64::NAN;
    for _ in 0..PROOF {
        loss = step()?;
    }
    Ok(loss)
}

/// Milliseconds a step of ours, and for each other program how many times as long it takes.
struct Figures {
    bare: f64,
    hooked: f64,
    torch: f64,
    hooked_torch: f64,
    candle: f64,
}

fn measure(case: Case, torch: Option<&mut Torch>, threads: usize, rounds: usize) -> Result<Figures> {
    let (mut bare, mut hooked, mut candle) = (Bare::new(case), Hooked::new(case)?, Candle::new(case)?);
    let expected = proof(|| Ok(bare.step()))?;
    let agrees = |who: &str, loss: f64| {
        ensure!((loss - expected).abs() <= 2e-5 * expected, "{case:?}: loss {expected} here, {loss} by {who}");
        Ok(())
    };
    agrees("the hook", proof(|| hooked.step())?)?;
    agrees("candle", proof(|| candle.step())?)?;
    let mut torch = torch;
    if let Some(t) = &mut torch {
        t.prepare(&format!("train {} {} {} {}", case.hidden, case.layers, case.batch, case.steps))?;
        agrees("torch", t.run(PROOF)?.1[0])?;
    }
    let repeats = case.repeats();
    let (mut ours, mut hooks, mut torches, mut hook_torches) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut candles = Vec::new();
    for round in 0..rounds {
        let figure = |spent: Spent| spent.figure(threads) / repeats as f64 * 1e3;
        let a = figure(time(repeats, || Ok(bare.step()))?);
        let b = figure(time(repeats, || hooked.step())?);
        ours.push(a);
        hooks.push(b);
        if let Some(t) = &mut torch {
            let c = figure(t.run(repeats)?.0);
            torches.push(c / a);
            hook_torches.push(c / b);
        }
        // A step of candle takes as long as many of the others'.
        if round % 2 == 0 {
            candles.push(time(1, || candle.step())?.figure(threads) * 1e3 / a);
        }
    }
    let or_nan = |v: &mut [f64]| if v.is_empty() { f64::NAN } else { median(v) };
    Ok(Figures {
        bare: or_nan(&mut ours),
        hooked: or_nan(&mut hooks),
        torch: or_nan(&mut torches),
        hooked_torch: or_nan(&mut hook_torches),
        candle: or_nan(&mut candles),
    })
}

/// The table of the training grid; `peak` is the multiply-add rate of one core.
pub(crate) fn grid(
    mut torch: Option<&mut Torch>,
    threads: usize,
    rounds: usize,
    only: &[usize],
    peak: f64,
) -> Result<String> {
    let mut out = String::new();
    writeln!(out, "Training step, {} time", if threads == 1 { "CPU" } else { "wall" })?;
    writeln!(
        out,
        "\n| case: hidden, layers, batch, steps | bare ms | hook ms | torch / bare | torch / hook | candle / bare | GFLOP/s | % of peak |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|---|")?;
    let (mut torches, mut hooks, mut candles, mut shares) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (i, case) in cases().into_iter().enumerate().filter(|(i, _)| only.is_empty() || only.contains(i)) {
        let f = measure(case, torch.as_deref_mut(), threads, rounds)?;
        let rate = case.shape().flops(case.batch, case.steps) / (f.bare * 1e-3);
        let share = 100.0 * rate / (peak * threads as f64);
        writeln!(
            out,
            "| {i}: {}, {}, {}, {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.1} | {:.1} | {share:.0} |",
            case.hidden,
            case.layers,
            case.batch,
            case.steps,
            f.bare,
            f.hooked,
            f.torch,
            f.hooked_torch,
            f.candle,
            rate / 1e9
        )?;
        torches.push(f.torch);
        hooks.push(f.hooked_torch);
        candles.push(f.candle);
        if case.hidden >= 64 {
            shares.push(share);
        }
    }
    let worst = torches.iter().copied().fold(f64::INFINITY, f64::min);
    writeln!(
        out,
        "\ntorch / bare: median {:.2}, worst {worst:.2}; torch / hook: median {:.2}; candle / bare: median {:.1}; \
         share of peak at hidden >= 64: median {:.0} %",
        median(&mut torches),
        median(&mut hooks),
        median(&mut candles),
        if shares.is_empty() { f64::NAN } else { median(&mut shares) }
    )?;
    Ok(out)
}
