//! The swarm as its users see it. The tests take turns, as each needs the machine for itself, and wait for ticks only.

use foreglow_core::{Labels, MetricKey, Seed, Step, Timestamp};
use foreglow_lab::{
    AgentSample, Event, Fault, FaultKind, LabConfig, LabError, Parameters, Placement, Recording, Scheduled, Swarm,
    Tick, Ticks, record,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Quick steps and a load that does not move.
fn config() -> LabConfig {
    LabConfig {
        step: Step::from_ms(250).expect("it works"),
        day: Duration::from_hours(24),
        seed: Seed(11),
        ..LabConfig::default()
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut v: Vec<f64> = values.filter(|x| !x.is_nan()).collect();
    v.sort_by(f64::total_cmp);
    *v.get(v.len() / 2).unwrap_or(&f64::NAN)
}

fn take(ticks: &mut Ticks, n: usize) -> Vec<Arc<Tick>> {
    (0..n).map(|_| ticks.next_blocking().expect("the swarm runs")).collect()
}

#[test]
fn it_runs_and_stops() {
    let _turn = turn();
    let swarm = Swarm::start(config()).unwrap();
    let mut listener = swarm.ticks();
    let ticks = take(&mut listener, 9);
    for pair in ticks.windows(2) {
        let gap = pair[1].timestamp.ms() - pair[0].timestamp.ms();
        assert!(gap > 0 && gap % 250 == 0 && pair[1].timestamp.ms() % 250 == 0, "{gap}");
    }
    let late = &ticks[3..];
    let m = |f: fn(&Tick) -> f64| median(late.iter().map(|t| f(t)));
    assert!((240.0..960.0).contains(&m(|t| t.swarm.throughput_per_s)), "{}", m(|t| t.swarm.throughput_per_s));
    assert!(m(|t| t.swarm.success_ratio) > 0.95 && m(|t| t.swarm.error_ratio) < 0.05);
    assert!((0.5..400.0).contains(&m(|t| t.swarm.latency_p50_ms)));
    assert!(
        late.iter()
            .all(|t| t.swarm.latency_p50_ms <= t.swarm.latency_p95_ms
                && t.swarm.latency_p95_ms <= t.swarm.latency_p99_ms)
    );
    assert!((0.02..1.5).contains(&m(|t| t.swarm.cpu_ratio)), "{}", m(|t| t.swarm.cpu_ratio));
    assert!(
        m(|t| t.swarm.balance_index) > 0.8 && m(|t| t.swarm.active_agents) == 6.0 && m(|t| t.swarm.recovery_ms) == 0.0
    );
    assert!(m(|t| t.swarm.messages_per_s) > 100.0 && m(|t| t.swarm.sync_ms) > 0.0);
    for a in 0..6 {
        let s = &ticks[8].agents[a];
        assert!(
            s.active && s.agent == a && s.cpu_ratio > 0.0 && s.memory_accounted_bytes > 1e4 && s.network_bytes > 0.0,
            "{s:?}"
        );
    }

    let batch = ticks[8].to_batch();
    let of = |name: &str, labels: &[(&str, &str)]| {
        batch.keys.iter().position(|k| *k == MetricKey::new(name, Labels::new(labels.iter().copied())))
    };
    let total = of("throughput_per_s", &[("service", "swarm")]).unwrap();
    assert_eq!(batch.samples[total].value, ticks[8].swarm.throughput_per_s);
    let one = of("queue_length", &[("service", "swarm"), ("agent", "a3")]).unwrap();
    assert_eq!(
        (batch.samples[one].value, batch.samples[one].timestamp),
        (ticks[8].agents[3].queue_length, ticks[8].timestamp)
    );
    assert!(batch.samples.iter().all(|s| s.value.is_finite()));

    let matrix = swarm.topology().matrix();
    assert!((0..6).all(|i| (0..6).all(|j| (matrix[i][j] > 0) == (i != j))), "{matrix:?}");

    let begin = Instant::now();
    swarm.stop();
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    while listener.next_blocking().is_some() {}
    if let Ok(threads) = std::fs::read_dir("/proc/self/task") {
        let name = |t: std::fs::DirEntry| std::fs::read_to_string(t.path().join("comm")).unwrap_or_default();
        let left: Vec<String> = threads.flatten().map(name).filter(|n| n.starts_with("lab-")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// What a fault did: the medians of a measure before it and while it was active.
struct Effect {
    before: Vec<Arc<Tick>>,
    during: Vec<Arc<Tick>>,
    event: Event,
}

impl Effect {
    fn of(&self, agent: usize, f: fn(&AgentSample) -> f64) -> (f64, f64) {
        let m = |ticks: &[Arc<Tick>]| median(ticks.iter().map(|t| f(&t.agents[agent])));
        (m(&self.before), m(&self.during))
    }

    fn whole(&self, f: fn(&Tick) -> f64) -> (f64, f64) {
        let m = |ticks: &[Arc<Tick>]| median(ticks.iter().map(|t| f(t)));
        (m(&self.before), m(&self.during))
    }
}

/// Watches four ticks, injects, watches until the fault is over. A slow agent finishes little, and first what it had begun
/// before: it is watched for longer, and if it finished nothing until what it was slow with is finished.
fn inject(swarm: &Swarm, ticks: &mut Ticks, kind: FaultKind, agent: Option<usize>) -> Effect {
    let settled = swarm.events().last().map_or(Timestamp(0), |e| e.end.plus(750));
    while ticks.next_blocking().expect("it works").timestamp < settled {}
    let before = take(ticks, 4);
    let duration = Duration::from_millis(if kind == FaultKind::SlowAgent { 4000 } else { 1500 });
    let event = swarm.inject(Fault { kind, agent, duration }).expect("it works");
    let mut during = Vec::new();
    loop {
        let tick = ticks.next_blocking().expect("it works");
        let finished = |t: &Arc<Tick>| agent.is_some_and(|a| t.agents[a].completion_ms.is_finite());
        let waits = kind == FaultKind::SlowAgent && !during.iter().any(finished);
        if tick.timestamp > event.end.plus(if waits { 5000 } else { 0 }) {
            break;
        }
        if tick.timestamp >= event.start.plus(500) {
            during.push(tick);
        }
    }
    assert!(!during.is_empty(), "{event:?}");
    Effect { before, during, event }
}

#[test]
fn every_fault_shows_in_its_measure() {
    let _turn = turn();
    let swarm = Swarm::start(config()).unwrap();
    let mut ticks = swarm.ticks();
    take(&mut ticks, 4);
    let rises = |name: &str, (before, during): (f64, f64), factor: f64, least: f64| {
        assert!(during > before * factor && during > least, "{name}: {before} before, {during} during");
    };

    let e = inject(&swarm, &mut ticks, FaultKind::SlowAgent, Some(0));
    // On a busy machine its long tasks run into their timeout, and what it still finishes is what was quick.
    let (took, done) = (e.of(0, |a| a.completion_ms), e.of(0, |a| a.throughput_per_s));
    let slower = took.1 > 1.6 * took.0 && took.1 > 30.0 && took.1 > 1.5 * e.of(3, |a| a.completion_ms).1;
    let less = done.1 < 0.5 * done.0 && done.1 < 0.5 * e.of(3, |a| a.throughput_per_s).1;
    assert!(slower || less, "slow: {took:?} ms a task, {done:?} tasks a second, before and during");

    let e = inject(&swarm, &mut ticks, FaultKind::MemoryLeak, Some(1));
    rises("leak", e.of(1, |a| a.memory_accounted_bytes), 2.0, 300e3);
    assert_eq!(e.event.agent, Some(1));

    let e = inject(&swarm, &mut ticks, FaultKind::LockContention, Some(2));
    rises("lock", e.whole(|t| t.swarm.lock_wait_ms), 3.0, 4.0);
    rises("lock", e.of(5, |a| a.lock_wait_ms), 3.0, 4.0);

    let e = inject(&swarm, &mut ticks, FaultKind::MessageStorm, Some(3));
    rises("storm", e.of(3, |a| a.network_bytes), 2.0, 1e5);
    rises("storm", e.whole(|t| t.swarm.messages_per_s), 1.3, 1000.0);

    let e = inject(&swarm, &mut ticks, FaultKind::ErrorBurst, Some(4));
    rises("errors", e.of(4, |a| a.error_ratio), 3.0, 0.2);
    let (_, elsewhere) = e.of(0, |a| a.error_ratio);
    assert!(elsewhere < 0.1, "{elsewhere}");

    let e = inject(&swarm, &mut ticks, FaultKind::StuckQueue, Some(5));
    rises("stuck", e.of(5, |a| a.queue_length), 3.0, 6.0);
    let (before, during) = e.of(5, |a| a.throughput_per_s);
    assert!(during < 0.3 * before, "{before} before, {during} during");

    let e = inject(&swarm, &mut ticks, FaultKind::CrashedAgent, Some(1));
    assert_eq!(e.whole(|t| t.swarm.active_agents), (6.0, 5.0));
    assert_eq!(e.of(1, |a| a.throughput_per_s).1, 0.0);
    rises("crash", e.whole(|t| t.swarm.recovery_ms), 1.0, 400.0);
    let refused =
        swarm.inject(Fault { kind: FaultKind::CrashedAgent, agent: Some(9), duration: Duration::from_secs(1) });
    assert!(matches!(refused, Err(LabError::Fault { .. })));
    let back = (0..40).map(|_| ticks.next_blocking().unwrap()).find(|t| t.agents[1].throughput_per_s > 0.0);
    assert_eq!(back.expect("the agent works again within 40 ticks").swarm.active_agents, 6.0);

    let e = inject(&swarm, &mut ticks, FaultKind::LoadSurge, None);
    rises("surge", e.whole(|t| t.swarm.arrival_per_s), 1.5, 600.0);

    let events = swarm.stop();
    assert_eq!(events.iter().map(|e| e.kind).collect::<std::collections::BTreeSet<_>>().len(), 8);
    assert!(events.iter().all(|e| (1400..6000).contains(&(e.end.ms() - e.start.ms()))), "{events:?}");
}

#[test]
fn configure_changes_what_happens() {
    let _turn = turn();
    let poor = Parameters { workers: 1, batch_size: 1, cache_size: 8, ..Parameters::default() };
    let good =
        Parameters { workers: 6, batch_size: 2, cache_size: 600, placement: Placement::Hash, ..Parameters::default() };
    let swarm = Swarm::start(LabConfig { parameters: poor.clone(), ..config() }).unwrap();
    let mut ticks = swarm.ticks();
    let measure = |ticks: &mut Ticks| {
        take(ticks, 4);
        let t = take(ticks, 5);
        let m = |f: fn(&Tick) -> f64| median(t.iter().map(|t| f(t)));
        [
            m(|t| t.swarm.latency_p50_ms),
            m(|t| t.swarm.throughput_per_s),
            m(|t| t.swarm.cache_hit_ratio),
            m(|t| t.swarm.memory_accounted_bytes),
        ]
    };
    let [p50, throughput, hits, memory] = measure(&mut ticks);
    swarm.configure(good.clone()).unwrap();
    assert_eq!(swarm.parameters(), good);
    let better = measure(&mut ticks);
    assert!(better[0] < 0.5 * p50, "{} and {p50}", better[0]);
    assert!(better[1] > 1.1 * throughput, "{} and {throughput}", better[1]);
    assert!(better[2] > hits + 0.2, "{} and {hits}", better[2]);
    assert!(better[3] > 1.5 * memory, "{} and {memory}", better[3]);
    swarm.configure(poor).unwrap();
    assert!(measure(&mut ticks)[0] > 2.0 * better[0]);
    let e = swarm.configure(Parameters { workers: 99, ..Parameters::default() }).unwrap_err();
    assert!(e.to_string().contains("workers = 99"), "{e}");
}

#[test]
fn weights_take_load_off_an_agent() {
    let _turn = turn();
    let weights = vec![0.2, 1.0, 1.0, 1.0, 1.0, 0.0];
    let parameters = Parameters { placement: Placement::Weighted, weights, ..Parameters::default() };
    let swarm = Swarm::start(LabConfig { parameters, ..config() }).unwrap();
    let mut listener = swarm.ticks();
    let ticks = &take(&mut listener, 8)[2..];
    let of = |a: usize| median(ticks.iter().map(|t| t.agents[a].throughput_per_s));
    assert!(of(0) < 0.4 * of(1) && of(5) < 0.1 * of(1), "{} {} {}", of(0), of(1), of(5));
}

#[test]
fn a_recording_is_labelled_and_begins_when_told() {
    let _turn = turn();
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let config = LabConfig { start: Some(start), agents: 3, rate: 100.0, ..config() };
    let fault = Fault { kind: FaultKind::ErrorBurst, agent: Some(1), duration: Duration::from_millis(600) };
    let schedule = [Scheduled { at: Duration::from_secs(1), fault }];
    let mut parts = Vec::new();
    let r = record(config.clone(), &schedule, Duration::from_secs(3), |_, part| {
        parts.push(part);
        true
    })
    .unwrap();
    assert_eq!((r.ticks.len(), parts.last()), (12, Some(&1.0)));
    assert_eq!(r.ticks[0].timestamp, start.plus(250));
    let event = &r.events[0];
    assert!(event.start >= start.plus(1000) && event.end > event.start, "{event:?}");

    let rows = r.rows();
    assert_eq!(rows.len(), 4 * 12);
    assert!(rows.iter().all(|row| row.values.len() == Recording::columns().len()));
    let labelled = |series: &str| {
        rows.iter().filter(|row| row.series_id == series && row.label).map(|row| row.timestamp).collect::<Vec<_>>()
    };
    assert_eq!(labelled("agent-0"), []);
    assert_eq!(labelled("agent-1"), labelled("swarm"));
    let hit = labelled("agent-1");
    assert!(
        (2..=6).contains(&hit.len()) && hit[0] > event.start && hit[0].ms() <= event.start.ms() + 500,
        "{hit:?} {event:?}"
    );

    let late = [Scheduled { at: Duration::from_secs(3), fault }];
    assert!(
        record(config, &late, Duration::from_secs(3), |_, _| true).unwrap_err().to_string().contains("after the end")
    );
}
