use super::candle::CandleStep;
use super::case::{Case, INPUTS, numbers};
use super::clock::{Clock, median};
use super::torch::Torch;
use anyhow::{Result, ensure};
use foreglow_models::kernel::{DenseBuffers, DenseLayer, DenseStack, RecurrentStep};
use std::fmt::Write;

/// Steps before the states are compared.
const PROOF: usize = 5;
/// Series-steps or windows a round.
const WORK: usize = 100_000;
/// Widths of the autoencoder.
const SIZES: [usize; 5] = [64, 32, 8, 32, 64];

/// Microseconds of CPU time a row, and the ratios of the others.
struct Figures {
    ours: Vec<f64>,
    torch: Vec<f64>,
    candle: Vec<f64>,
}

fn line(out: &mut String, what: &str, mut f: Figures) -> Result<()> {
    let or_dash = |v: &mut Vec<f64>| if v.is_empty() { "-".into() } else { format!("{:.2}", median(v)) };
    let (torch, candle) = (or_dash(&mut f.torch), or_dash(&mut f.candle));
    writeln!(out, "| {what} | {:.2} | {torch} | {candle} |", 1.0 / median(&mut f.ours))?;
    Ok(())
}

fn near(what: &str, ours: &[f32], theirs: &[f64]) -> Result<()> {
    ensure!(ours.len() == theirs.len(), "{what}: {} answers here, {} there", ours.len(), theirs.len());
    let far = ours.iter().zip(theirs).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
    ensure!(far < 2e-5, "{what}: answers differ by {far}");
    Ok(())
}

/// Microseconds of CPU time a row of `rows * repeats` rows.
fn time(rows: usize, repeats: usize, mut step: impl FnMut() -> Result<()>) -> Result<f64> {
    let from = Clock::now()?;
    for _ in 0..repeats {
        step()?;
    }
    Ok(from.elapsed()?.cpu / (rows * repeats) as f64 * 1e6)
}

/// An LSTM step of 32 units with kept state.
fn step(mut torch: Option<&mut Torch>, rows: usize, rounds: usize) -> Result<Figures> {
    let case = Case { hidden: 32, layers: 1, batch: rows, steps: 1 };
    let flat = numbers(1, case.shape().weights(), 1.0 / 32f64.sqrt());
    let x = numbers(3, rows * INPUTS, 1.0);
    let stepper = RecurrentStep::new(case.shape(), &flat);
    let mut state = stepper.state(rows);
    let mut candle = CandleStep::new(&case, &flat, &x, rows)?;
    for _ in 0..PROOF {
        stepper.step(&x, &mut state);
        candle.step()?;
    }
    let ours: Vec<f32> = (0..rows).flat_map(|r| state.top(r).to_vec()).collect();
    near("candle", &ours, &candle.states()?.iter().map(|v| f64::from(*v)).collect::<Vec<_>>())?;
    if let Some(t) = &mut torch {
        t.prepare(&format!("score {rows}"))?;
        let picked: Vec<f32> = ours.iter().copied().step_by(97).collect();
        near("torch", &picked, &t.run(PROOF)?.1)?;
    }
    let repeats = WORK / rows;
    let mut f = Figures { ours: Vec::new(), torch: Vec::new(), candle: Vec::new() };
    for _ in 0..rounds {
        let a = time(rows, repeats, || {
            stepper.step(&x, &mut state);
            Ok(())
        })?;
        f.ours.push(a);
        f.candle.push(time(rows, repeats.div_ceil(10), || candle.step())? / a);
        if let Some(t) = &mut torch {
            f.torch.push(t.run(repeats)?.0.cpu / (rows * repeats) as f64 * 1e6 / a);
        }
    }
    Ok(f)
}

/// The autoencoder with the mean square error of each window.
fn dense(mut torch: Option<&mut Torch>, rows: usize, rounds: usize) -> Result<Figures> {
    let count: usize = SIZES.windows(2).map(|p| p[0] * p[1] + p[1]).sum();
    let (flat, x) = (numbers(5, count, 0.3), numbers(6, rows * SIZES[0], 1.0));
    let mut at = 0;
    let mut take = |n: usize| {
        at += n;
        &flat[at - n..at]
    };
    let layers: Vec<DenseLayer<'_>> = (0..4)
        .map(|l| {
            let weights = take(SIZES[l] * SIZES[l + 1]);
            DenseLayer { weights, bias: take(SIZES[l + 1]), curved: l % 2 == 0 }
        })
        .collect();
    let stack = DenseStack::new(SIZES[0], &layers);
    let (mut buffers, mut errors) = (DenseBuffers::default(), vec![0.0f32; rows]);
    let mut run = |errors: &mut [f32]| {
        stack.run(&x, &mut buffers, |first, y, stride| {
            let windows = x[first * 64..].as_chunks::<64>().0;
            for (r, (e, window)) in errors[first..].iter_mut().zip(windows).enumerate().take(y.len() / stride) {
                let mut sums = [0.0f32; 8];
                for (k, (a, b)) in y[r * stride..][..64].iter().zip(window).enumerate() {
                    sums[k % 8] += (a - b) * (a - b);
                }
                *e = sums.iter().sum::<f32>() / 64.0;
            }
        });
    };
    run(&mut errors);
    if let Some(t) = &mut torch {
        t.prepare(&format!("dense {rows}"))?;
        let picked: Vec<f32> = errors.iter().copied().step_by(7).collect();
        near("torch", &picked, &t.run(1)?.1)?;
    }
    let repeats = WORK / rows;
    let mut f = Figures { ours: Vec::new(), torch: Vec::new(), candle: Vec::new() };
    for _ in 0..rounds {
        let a = time(rows, repeats, || {
            run(&mut errors);
            Ok(())
        })?;
        f.ours.push(a);
        if let Some(t) = &mut torch {
            f.torch.push(t.run(repeats)?.0.cpu / (rows * repeats) as f64 * 1e6 / a);
        }
    }
    Ok(f)
}

/// The table of scoring on one thread.
pub(crate) fn table(mut torch: Option<&mut Torch>, rounds: usize) -> Result<String> {
    let mut out = String::new();
    writeln!(out, "\nScoring, CPU time\n\n| work, rows | million rows/s/core | torch / ours | candle / ours |")?;
    writeln!(out, "|---|---|---|---|")?;
    for rows in [1_000, 10_000] {
        line(&mut out, &format!("LSTM step, 32 units, kept state, {rows}"), step(torch.as_deref_mut(), rows, rounds)?)?;
    }
    for rows in [1_000, 10_000] {
        let figures = dense(torch.as_deref_mut(), rows, rounds)?;
        line(&mut out, &format!("autoencoder 64-32-8-32-64, {rows}"), figures)?;
    }
    Ok(out)
}
