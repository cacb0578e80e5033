use super::super::objective::{LstmObjective, kernels};
use super::*;
use crate::forecast::TrainSeries;
use crate::nn::tape::Tape;
use crate::nn::train::{Objective, quiet};
use foreglow_core::{Step, Timestamp};
use rand::Rng;
use std::f64::consts::TAU;

fn step() -> Step {
    "1h".parse().unwrap()
}

fn series(values: &[f64]) -> TrainSeries<'_> {
    TrainSeries { values, start: Timestamp(1_767_225_600_000), step: step() }
}

fn history(values: &[f64]) -> History<'_> {
    History { values, last: Timestamp(1_767_225_600_000 + (values.len() as i64 - 1) * 3_600_000), step: step() }
}

/// A noisy day whose amplitude changes from series to series: seasonal naive carries the noise of one day into the next.
fn noisy_days(n: usize, seed: u64) -> Vec<f64> {
    let mut rng = Seed(seed).rng();
    let (size, level) = (rng.gen_range(1.0..50.0), rng.gen_range(-100.0..100.0));
    (0..n)
        .map(|i| {
            let noise: f64 = (0..4).map(|_| rng.gen_range(-0.5..0.5)).sum();
            level + size * ((TAU * i as f64 / 24.0).sin() + 0.5 * noise)
        })
        .collect()
}

fn small() -> LstmParams {
    LstmParams {
        hidden: 16,
        horizon_block: 12,
        context: 72,
        patches: 12,
        steps: 200,
        batch: 64,
        ..LstmParams::default()
    }
}

fn trained(data: &[Vec<f64>], params: &LstmParams) -> LstmFit {
    let all: Vec<TrainSeries<'_>> = data.iter().map(|v| series(v)).collect();
    LstmNet::train(&all, Some(24), params, Seed(5), &quiet).unwrap()
}

fn in_pool<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

#[test]
fn beats_seasonal_naive_on_noisy_days() {
    let data: Vec<Vec<f64>> = (0..12).map(|s| noisy_days(400, s)).collect();
    let fit = trained(&data, &small());
    let losses = &fit.report.history;
    assert!(losses[losses.len() - 1].train_loss < 0.9 * losses[0].train_loss);
    let (mut ours, mut naive, mut inside, mut count) = (0.0, 0.0, 0, 0);
    for s in 100..110 {
        let values = noisy_days(240 + 24, s);
        let (past, future) = values.split_at(240);
        let q = fit.net.quantiles(&history(past), 24);
        let unit = past.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        for (k, y) in future.iter().enumerate() {
            assert!(q[k].windows(2).all(|w| w[0] <= w[1]), "{:?}", q[k]);
            ours += (q[k][MEDIAN] - y).abs() / unit;
            naive += (past[240 - 24 + k] - y).abs() / unit;
            inside += usize::from(q[k][2] <= *y && *y <= q[k][10]);
            count += 1;
        }
    }
    assert!(ours < 0.88 * naive, "{ours} {naive}");
    let cover = inside as f64 / count as f64;
    assert!((0.65..0.95).contains(&cover), "80 % band covers {cover}");
}

#[test]
fn scoring_equals_candle_and_ignores_what_is_out_of_reach() {
    let data = vec![noisy_days(300, 1), noisy_days(300, 2)];
    let net = trained(&data, &LstmParams { steps: 12, ..small() }).net;
    let all: Vec<TrainSeries<'_>> = data.iter().map(|v| series(v)).collect();
    let sampler = Sampler::new(&all, net.shape, &[]).unwrap();
    let objective = LstmObjective {
        shape: net.shape,
        layout: net.layout.clone(),
        sampler,
        batch: 8,
        dropout: 0.0,
        seed: Seed(1),
        kernels: kernels(&net.shape),
    };
    let examples: Vec<_> = (0..8).filter_map(|i| objective.sampler.draw(Seed(3), i)).collect();
    let tape = Tape::new(&net.layout, &net.weights).unwrap();
    let theirs: Vec<f32> = objective.forward(&tape, &examples, None).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let windows: Vec<_> = examples.iter().map(|e| &e.window).collect();
    let ours: Vec<f32> = net.blocks(&windows).into_iter().flatten().collect();
    assert_eq!(ours.len(), theirs.len());
    for (a, b) in ours.iter().zip(&theirs) {
        assert!((a - b).abs() < 1e-5 * (1.0 + b.abs()), "{a} {b}");
    }
    let mut longer = vec![1e9; 500];
    longer.extend_from_slice(&data[0]);
    let cut = &data[0][data[0].len() - net.shape.reach()..];
    assert_eq!(net.quantiles(&history(&longer), 30), net.quantiles(&History { values: cut, ..history(&longer) }, 30));
}

#[test]
fn gradient_agrees_with_differences() {
    let data = [noisy_days(200, 1)];
    let all: Vec<TrainSeries<'_>> = data.iter().map(|v| series(v)).collect();
    let params = LstmParams { hidden: 6, horizon_block: 5, context: 30, patches: 5, ..small() };
    let shape = LstmShape::choose(&params, 200, Some(24), step());
    let layout = shape.layout();
    let mut weights = layout.draw(Seed(2));
    shape.prepare(&layout, &mut weights);
    let sampler = Sampler::new(&all, shape, &[]).unwrap();
    let kernels = kernels(&shape);
    let layout_of = layout.clone();
    let objective =
        LstmObjective { shape, layout: layout_of, sampler, batch: 16, dropout: 0.3, seed: Seed(1), kernels };
    let mut gradient = vec![0.0; weights.len()];
    objective.gradient(&weights, 0, &mut gradient).unwrap();
    // Along the gradient the loss rises by its squared norm.
    let norm: f64 = gradient.iter().map(|g| f64::from(*g).powi(2)).sum();
    let h = 1e-3 / norm.sqrt();
    let at = |sign: f64| {
        let moved: Vec<f32> = weights.iter().zip(&gradient).map(|(w, g)| w + (sign * h) as f32 * g).collect();
        objective.gradient(&moved, 0, &mut vec![0.0; weights.len()]).unwrap()
    };
    let slope = (at(1.0) - at(-1.0)) / (2.0 * h);
    assert!((slope / norm - 1.0).abs() < 0.02, "{slope} {norm}");
}

#[test]
fn same_bytes_on_one_and_two_threads() {
    let data = vec![noisy_days(300, 1), noisy_days(300, 2)];
    let params = LstmParams { hidden: 64, batch: 150, steps: 6, patches: 24, ..small() };
    let (a, b) = (in_pool(1, || trained(&data, &params)), in_pool(2, || trained(&data, &params)));
    assert_eq!(a.net, b.net);
    assert_eq!(a.optimizer, b.optimizer);
}

#[test]
fn saves_and_goes_on() {
    let data = vec![noisy_days(300, 1), noisy_days(300, 2)];
    let fit = trained(&data, &LstmParams { steps: 20, ..small() });
    let mut map = TensorMap::default();
    fit.net.save(&mut map, "f/");
    fit.optimizer.save(&mut map, "f/");
    let map = TensorMap::decode("t", &map.encode().unwrap()).unwrap();
    let net = LstmNet::load(&map, "f/").unwrap();
    assert_eq!(net, fit.net);
    let state = OptimizerState::load(&map, "f/").unwrap();
    let all: Vec<TrainSeries<'_>> = data.iter().map(|v| series(v)).collect();
    let params = LstmParams { steps: 40, ..small() };
    let more = net.continue_training(Some(&state), &all, &[200, 200], &params, Seed(6), &quiet).unwrap();
    assert!(more.report.best_loss <= fit.report.best_loss);
    // A third of the 40 steps asked for.
    assert_eq!(more.optimizer.step, 20 + 14);
    let e = LstmNet::load(&TensorMap::default(), "f/").unwrap_err().to_string();
    assert!(e.contains("missing"), "{e}");
}

#[test]
fn hard_histories() {
    let mut gaps = noisy_days(400, 1);
    for v in gaps.iter_mut().step_by(7) {
        *v = f64::NAN;
    }
    let data = [gaps.clone(), vec![3.0; 400], vec![f64::NAN; 400], noisy_days(400, 3), vec![1.0; 4]];
    let net = trained(&data, &LstmParams { steps: 20, ..small() }).net;
    let wild: Vec<f64> = (0..200).map(|i| if i % 3 == 0 { 1e308 } else { -1e308 }).collect();
    let tiny: Vec<f64> = (0..200).map(|i| if i % 3 == 0 { 1e-310 } else { 0.0 }).collect();
    for values in [&gaps[..], &wild, &tiny, &[], &[1.0], &[1.0, 2.0], &[f64::INFINITY, 2.0, f64::NAN, 5.0], &gaps[..30]]
    {
        for row in net.quantiles(&history(values), 40) {
            assert!(row.iter().all(|v| v.is_finite()), "{row:?}");
            assert!(row.windows(2).all(|w| w[0] <= w[1]), "{row:?}");
        }
    }
    assert_eq!(net.quantiles(&history(&[7.0; 200]), 30), vec![[7.0; LEVELS]; 30]);
    assert_eq!(net.quantiles(&history(&[f64::NAN; 200]), 2), vec![[0.0; LEVELS]; 2]);
    assert_eq!(net.flags(&history(&[7.0; 20])), ["constant", "short_history"]);
    assert_eq!(net.flags(&history(&gaps)), ["gaps"]);
    assert_eq!(net.flags(&history(&[])), ["no_history", "short_history"]);
    let constant = [vec![3.0; 400]];
    let all: Vec<TrainSeries<'_>> = constant.iter().map(|v| series(v)).collect();
    let e = LstmNet::train(&all, Some(24), &small(), Seed(1), &quiet).map(|_| ()).unwrap_err().to_string();
    assert!(e.contains("no series"), "{e}");
    assert!(LstmNet::train(&[], None, &small(), Seed(1), &quiet).is_err());
    let wrong = LstmParams { patches: 1, ..small() };
    assert!(wrong.check().unwrap_err().to_string().contains("lstm.patches = 1"));
}

#[test]
fn many_series_together_are_each_alone_to_the_bit() {
    let data: Vec<Vec<f64>> = (0..4).map(|s| noisy_days(200, s)).collect();
    let net = trained(&data, &LstmParams { steps: 5, ..small() }).net;
    let mut pasts: Vec<Vec<f64>> = (0..150).map(|s| noisy_days(60 + 2 * s as usize, s)).collect();
    pasts[3] = vec![];
    pasts[4] = vec![7.0; 100];
    pasts[5] = vec![f64::NAN; 30];
    pasts[6].iter_mut().step_by(3).for_each(|v| *v = f64::NAN);
    pasts[70].truncate(2);
    let histories: Vec<History<'_>> = pasts.iter().map(|p| history(p)).collect();
    // Two and a half blocks: the later ones go on from the medians before them.
    let alone: Vec<_> = histories.iter().map(|h| net.quantiles(h, 30)).collect();
    for threads in [1, 2] {
        assert!(in_pool(threads, || net.quantiles_many(&histories, 30)) == alone);
    }
    assert!(net.quantiles_many(&histories, 0).iter().all(Vec::is_empty) && net.quantiles_many(&[], 3).is_empty());
}
