//! VUS-PR over a long series: the measure that every backtest computes for every series and baseline.

use criterion::{BenchmarkId, Criterion, Throughput};
use foreglow_core::Seed;
use foreglow_models::evaluate::vus;
use std::hint::black_box;

/// `n` rows with a labelled stretch of 50 in every 1,000; the score is the label under uniform noise.
fn series(n: usize) -> (Vec<f64>, Vec<bool>) {
    let labels: Vec<bool> = (0..n).map(|i| i % 1000 >= 950).collect();
    let scores = labels
        .iter()
        .enumerate()
        .map(|(i, l)| (Seed(7).nth(i as u64).0 >> 11) as f64 / (1u64 << 53) as f64 + 0.5 * f64::from(u8::from(*l)))
        .collect();
    (scores, labels)
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("vus_pr");
    group.sample_size(10);
    for n in [1_000usize, 28_000] {
        let (scores, labels) = series(n);
        let expected = vus(&scores, &labels, 100);
        assert!(expected.is_some_and(|(pr, _)| pr > 0.2 && pr < 0.9), "{expected:?}");
        group.throughput(Throughput::Elements(n as u64));
        group.bench_with_input(BenchmarkId::from_parameter(n), &n, |b, _| {
            b.iter(|| {
                let answer = vus(black_box(&scores), black_box(&labels), 100);
                assert_eq!(answer, expected);
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    bench(&mut criterion);
    criterion.final_summary();
}
