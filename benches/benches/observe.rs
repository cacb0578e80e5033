//! `Monitor::observe`, the heart: one step of a fleet, by the online baseline and by a fitted artifact.

use criterion::{BatchSize, Criterion, Throughput};
use foreglow_bench::data::{Fleet, START, STEP_MS};
use foreglow_core::Timestamp;
use foreglow_core::signals::Signals;
use foreglow_models::monitor::{Monitor, MonitorOptions, StepStatus};
use foreglow_models::pipeline::Pipeline;
use foreglow_models::spec::Recipe;
use std::sync::Arc;

/// Times one step after another from `first` on.
fn time(c: &mut Criterion, name: &str, fleet: Fleet, mut monitor: Monitor, first: usize) {
    let mut group = c.benchmark_group("observe");
    group.throughput(Throughput::Elements(fleet.values() as u64));
    let mut step = first;
    group.bench_function(name, |b| {
        b.iter_batched(
            || {
                step += 1;
                (fleet.batch(step), Timestamp(START + step as i64 * STEP_MS))
            },
            |(batch, now)| {
                let seen = monitor.observe(&batch, now);
                assert_eq!((seen.accepted, seen.refused.len(), seen.results.len()), (fleet.values(), 0, fleet.hosts));
                assert!(seen.results.iter().all(|r| r.status == StepStatus::Scored && r.score.is_finite()));
                seen
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn bench(c: &mut Criterion) {
    let fleet = Fleet { hosts: 100, metrics: 10 };
    let mut online =
        Monitor::new(Arc::new(Pipeline::online(Signals::default(), &Recipe::default())), MonitorOptions::replay());
    for step in 0..600 {
        online.observe(&fleet.batch(step), Timestamp(START + step as i64 * STEP_MS));
    }
    time(c, "online_1000_values", fleet, online, 600);

    let fleet = Fleet { hosts: 26, metrics: 38 };
    let rows = 720;
    let artifact = fleet.artifact(rows).expect("the fleet can be fitted");
    let fitted = artifact.monitor(MonitorOptions::replay()).expect("the artifact has a start state");
    time(c, "fitted_988_values", fleet, fitted, rows);
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    bench(&mut criterion);
    criterion.final_summary();
}
