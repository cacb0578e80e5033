use super::super::dense_objective::forward_by_candle;
use super::super::train::quiet;
use super::*;
use rand::Rng;

/// Rows of 8 signals driven by two hidden factors.
fn rows(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = Seed(seed).rng();
    (0..n)
        .flat_map(|_| {
            let (a, b): (f32, f32) = (rng.gen_range(-1.5..1.5), rng.gen_range(-1.5..1.5));
            [a, b, a + b, a - b, 0.5 * a * b, a, -b, 0.3 * a]
        })
        .collect()
}

fn small() -> AutoencoderParams {
    AutoencoderParams { epochs: 30, batch: 64, ..AutoencoderParams::default() }
}

fn error(model: &Autoencoder, rows: &[f32]) -> f32 {
    let (mut out, mut s) = (vec![0.0; 8], model.scratch());
    let mut sum = 0.0;
    for r in rows.chunks(8) {
        model.reconstruct(r, &mut out, &mut s);
        sum += r.iter().zip(&out).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
    }
    sum / rows.len() as f32
}

fn in_pool<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

#[test]
fn learns_and_tells_strange_rows() {
    let train = rows(1500, 1);
    let fit = Autoencoder::train(&train, 8, &small(), Seed(3), &quiet).unwrap();
    let first = fit.report.history[0].validation_loss;
    assert!(fit.report.best_loss < 0.5 * first, "{} of {first}", fit.report.best_loss);
    let fresh = rows(200, 2);
    let normal = error(&fit.model, &fresh);
    let mut broken = fresh;
    for r in broken.chunks_mut(8) {
        r[2] = -r[2] + 1.0;
    }
    assert!(normal < 0.12, "{normal}");
    assert!(error(&fit.model, &broken) > 4.0 * normal);
}

#[test]
fn scoring_equals_candle_and_ignores_neighbours() {
    let train = rows(200, 1);
    let params = AutoencoderParams { epochs: 2, hidden: vec![12, 7], ..small() };
    let model = Autoencoder::train(&train, 8, &params, Seed(3), &quiet).unwrap().model;
    let (mut out, mut s) = (vec![0.0; 8], model.scratch());
    for r in train.chunks(8).take(50) {
        model.reconstruct(r, &mut out, &mut s);
        for (a, b) in out.iter().zip(forward_by_candle(&model.sizes, &model.weights, r)) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }
    let kept = out.clone();
    model.reconstruct(&[f32::NAN, f32::INFINITY, 1e30, 0.0, 0.0, 0.0, 0.0, 0.0], &mut out, &mut s);
    assert!(out.iter().all(|v| v.is_finite()));
    model.reconstruct(&train[49 * 8..50 * 8], &mut out, &mut s);
    assert_eq!(out, kept);
}

#[test]
fn same_bytes_on_one_and_two_threads() {
    let train = rows(600, 1);
    let params = AutoencoderParams { epochs: 4, batch: 256, hidden: vec![128], ..small() };
    let run = || Autoencoder::train(&train, 8, &params, Seed(3), &quiet).unwrap().model;
    let (a, b) = (in_pool(1, run), in_pool(2, run));
    assert_eq!(a, b);
}

#[test]
fn saves_and_goes_on() {
    let mut train = rows(600, 1);
    train[5] = f32::NAN;
    let fit = Autoencoder::train(&train, 8, &AutoencoderParams { epochs: 3, ..small() }, Seed(3), &quiet).unwrap();
    let mut map = TensorMap::default();
    fit.model.save(&mut map, "ae/");
    fit.optimizer.save(&mut map, "ae/");
    let bytes = map.encode().unwrap();
    let map = TensorMap::decode("t", &bytes).unwrap();
    assert_eq!(Autoencoder::load(&map, "ae/").unwrap(), fit.model);
    assert_eq!(OptimizerState::load(&map, "ae/").unwrap(), fit.optimizer);
    let more = fit.model.continue_training(Some(&fit.optimizer), &rows(600, 9), &small(), Seed(4), &quiet).unwrap();
    assert!(more.optimizer.step > fit.optimizer.step);
    assert!(error(&more.model, &rows(100, 5)) < error(&fit.model, &rows(100, 5)));
    assert!(Autoencoder::load(&TensorMap::default(), "ae/").is_err());
}

#[test]
fn refuses_what_it_cannot_use() {
    let train = |r: &[f32], p: &AutoencoderParams| Autoencoder::train(r, 8, p, Seed(1), &quiet).map(|_| ());
    assert!(train(&rows(5, 1), &small()).unwrap_err().to_string().contains("at least 20"));
    assert!(train(&[f32::NAN; 800], &small()).unwrap_err().to_string().contains("missing"));
    assert!(train(&[0.0; 9], &small()).is_err());
    let wrong = AutoencoderParams { hide: 2.0, ..small() };
    assert!(train(&rows(50, 1), &wrong).unwrap_err().to_string().contains("autoencoder.hide = 2"));
    // Constant and wild rows are taken.
    assert!(train(&[1.0; 800], &small()).is_ok());
    assert!(train(&[f32::MAX; 800], &AutoencoderParams { epochs: 1, ..small() }).is_ok());
}
