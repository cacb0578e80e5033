//! The LSTM: gradient steps of training, one forecast, and those of many series together.

use criterion::{Criterion, Throughput};
use foreglow_core::{History, Seed, Step, Timestamp};
use foreglow_models::forecast::TrainSeries;
use foreglow_models::nn::{LstmNet, LstmParams, quiet};
use std::hint::black_box;

const DAY: usize = 24;
const STEPS: usize = 10;

/// A daily wave with a little noise.
fn wave(n: usize) -> Vec<f64> {
    (0..n)
        .map(|i| {
            let noise = (Seed(3).nth(i as u64).0 >> 11) as f64 / (1u64 << 53) as f64;
            100.0 + 20.0 * (std::f64::consts::TAU * i as f64 / DAY as f64).sin() + noise
        })
        .collect()
}

fn bench(c: &mut Criterion) {
    let values = wave(2_000);
    let step = Step::from_ms(3_600_000).expect("an hour is positive");
    let start = Timestamp(1_767_225_600_000);
    let series = [TrainSeries { values: &values, start, step }];
    let params = LstmParams { steps: STEPS, ..LstmParams::default() };
    let train = || LstmNet::train(&series, Some(DAY), &params, Seed(1), &quiet).expect("the series is long enough");
    let expected = train();

    let mut group = c.benchmark_group("lstm");
    group.sample_size(10);
    group.throughput(Throughput::Elements((STEPS * params.batch) as u64));
    group.bench_function("train_10_steps_of_128_windows", |b| {
        b.iter(|| {
            let fit = train();
            assert_eq!(fit.net, expected.net, "the same seed gives the same weights");
        });
    });
    let history = History { values: &values, last: start.plus(1_999 * step.ms()), step };
    let forecast = expected.net.quantiles(&history, DAY);
    group.throughput(Throughput::Elements(DAY as u64));
    group.bench_function("forecast_24_steps", |b| {
        b.iter(|| {
            let answer = expected.net.quantiles(black_box(&history), DAY);
            assert_eq!(answer, forecast);
        });
    });
    let many: Vec<History<'_>> = (0..1_000).map(|i| History { values: &values[i..], ..history }).collect();
    let one_by_one: Vec<_> = many.iter().map(|h| expected.net.quantiles(h, DAY)).collect();
    group.throughput(Throughput::Elements(many.len() as u64));
    group.bench_function("forecast_1000_series_one_by_one", |b| {
        b.iter(|| many.iter().map(|h| expected.net.quantiles(black_box(h), DAY)).collect::<Vec<_>>());
    });
    group.bench_function("forecast_1000_series_together", |b| {
        b.iter(|| assert_eq!(expected.net.quantiles_many(black_box(&many), DAY), one_by_one));
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    bench(&mut criterion);
    criterion.final_summary();
}
