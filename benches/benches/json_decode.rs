//! From the body of `POST /v1/score` to a batch: rows and columns.

use criterion::{Criterion, Throughput};
use foreglow_bench::data::Fleet;
use foreglow_engine::decode_batch;
use std::hint::black_box;

fn bench(c: &mut Criterion) {
    let fleet = Fleet { hosts: 100, metrics: 10 };
    let expected = fleet.batch(1);
    let mut group = c.benchmark_group("json_decode");
    group.throughput(Throughput::Elements(fleet.values() as u64));
    for (name, body) in [("rows_1000_values", fleet.rows(1)), ("columns_1000_values", fleet.columns(1))] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let (batch, refused) = decode_batch(black_box(body.as_bytes())).expect("a good body");
                assert_eq!((batch.len(), batch.keys.len(), refused), (expected.len(), expected.keys.len(), 0));
                batch
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
