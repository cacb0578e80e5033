use crate::queue::{Refusal, Task, lock};
use crate::shared::{Failure, Shared};
use crate::work::Work;
use crate::{LabConfig, Parameters, Placement};
use foreglow_core::Timestamp;
use rand::distributions::Distribution;
use rand::{Rng, RngCore};
use rand_distr::{Exp1, Zipf};
use std::sync::atomic::Ordering;

/// How many records there are; their popularity falls as a power of their rank.
const RECORDS: u64 = 2000;
const POPULARITY: f64 = 0.9;
/// The load surge multiplies the arrival rate by this.
const SURGE: f64 = 2.2;
/// Arrivals that the machine itself held up for longer than this are taken out of the plan: a machine that stood still
/// does not owe a burst.
const MAX_LAG_US: u64 = 500_000;
/// How long an agent whose queue was found closed is left alone.
const AVOID_US: u64 = 1_000_000;

/// The thread that lets tasks arrive, in an open loop, and places them.
pub(crate) fn dispatch(shared: &Shared) {
    let mut plan = Plan::new(&shared.config, shared.clock.epoch);
    let mut router = Router::new(shared.boards.len());
    let surging = || shared.surge.load(Ordering::Relaxed);
    let mut next = plan.gap(0, surging());
    while !shared.stopping.load(Ordering::Relaxed) {
        if let Some(task) = shared.retries.wait(&shared.clock, next, &shared.stopping) {
            place(shared, &mut router, task);
        }
        let now = shared.clock.now();
        if now > next + MAX_LAG_US {
            next = now;
        }
        while next <= now && !shared.stopping.load(Ordering::Relaxed) {
            shared.arrivals.fetch_add(1, Ordering::Relaxed);
            place(shared, &mut router, plan.task(next));
            next += plan.gap(next, surging()).max(1);
        }
    }
}

/// The arrivals: a Poisson process whose rate follows the day, records by popularity, three kinds of work.
struct Plan<'a> {
    config: &'a LabConfig,
    epoch: Timestamp,
    gaps: Box<dyn RngCore>,
    tasks: Box<dyn RngCore>,
    popularity: Zipf<f64>,
}

impl<'a> Plan<'a> {
    fn new(config: &'a LabConfig, epoch: Timestamp) -> Self {
        Self {
            config,
            epoch,
            gaps: Box::new(config.seed.child("arrivals").rng()),
            tasks: Box::new(config.seed.child("tasks").rng()),
            popularity: Zipf::new(RECORDS, POPULARITY).expect("constants are in range"),
        }
    }

    /// Microseconds from an arrival at `at` to the next. The rate is taken as constant between two arrivals, which are
    /// thousands of times closer together than the day is long.
    fn gap(&mut self, at: u64, surging: bool) -> u64 {
        let rate = self.config.rate_at(self.epoch.plus((at / 1000) as i64)) * if surging { SURGE } else { 1.0 };
        let unit: f64 = Exp1.sample(&mut self.gaps);
        (unit / rate * 1e6) as u64
    }

    fn task(&mut self, arrived: u64) -> Task {
        let work = match self.tasks.gen_range(0..10) {
            0..4 => Work::Hash,
            4..7 => Work::Compress,
            _ => Work::Sort,
        };
        let key = self.popularity.sample(&mut self.tasks) as u64;
        Task { key, work, nonce: self.tasks.next_u64(), arrived, deadline: u64::MAX, retries: 0, last: None }
    }
}

/// Places a task, or fails the attempt when the chosen agent refuses it.
fn place(shared: &Shared, router: &mut Router, mut task: Task) {
    let parameters = shared.parameters.borrow().clone();
    let now = shared.clock.now();
    let agent = router.choose(shared, &parameters, &task, now);
    let board = &shared.boards[agent];
    for late in board.queue.expire(now) {
        shared.fail(agent, late, Failure::Timeout);
    }
    task.deadline = now + parameters.timeout_ms * 1000;
    let length = board.queue.len() as u64;
    {
        let mut w = lock(&board.window);
        w.seen_length += length;
        w.pushes += 1;
    }
    match board.queue.push(task, parameters.queue_bound) {
        Ok(()) => {}
        Err(Refusal::Full(task)) => shared.fail(agent, task, Failure::Refused),
        Err(Refusal::Closed(task)) => {
            board.avoid_until.store(now + AVOID_US, Ordering::Relaxed);
            shared.fail(agent, task, Failure::Refused);
        }
    }
}

/// Mixes the bits of a key (the finaliser of splitmix64: Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195).
pub(crate) fn mix(key: u64) -> u64 {
    let mut z = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

struct Router {
    turn: usize,
    credit: Vec<f64>,
}

impl Router {
    fn new(agents: usize) -> Self {
        Self { turn: 0, credit: vec![0.0; agents] }
    }

    /// The agent for `task`: by the policy, among those that are not avoided and were not tried last. When that leaves
    /// none, among all.
    fn choose(&mut self, shared: &Shared, parameters: &Parameters, task: &Task, now: u64) -> usize {
        let n = shared.boards.len();
        let fit: Vec<bool> = (0..n)
            .map(|i| shared.boards[i].avoid_until.load(Ordering::Relaxed) <= now && task.last != Some(i))
            .collect();
        let fit = if fit.contains(&true) { fit } else { vec![true; n] };
        let load = |i: usize| shared.boards[i].load();
        self.pick(parameters, task.key, &fit, load)
    }

    fn pick(&mut self, parameters: &Parameters, key: u64, fit: &[bool], load: impl Fn(usize) -> usize) -> usize {
        let n = fit.len();
        let from = |start: usize| (0..n).map(move |k| (start + k) % n).filter(|i| fit[*i]);
        let chosen = match parameters.placement {
            Placement::RoundRobin => from(self.turn).next(),
            Placement::LeastLoaded => from(self.turn).min_by_key(|i| load(*i)),
            Placement::Hash => from((mix(key) % n as u64) as usize).next(),
            Placement::Weighted => {
                let weight = |i: usize| parameters.weights.get(i).copied().unwrap_or(1.0);
                let total: f64 = from(0).map(weight).sum();
                if total > 0.0 {
                    from(0).for_each(|i| self.credit[i] += weight(i));
                    let best =
                        from(0).filter(|i| weight(*i) > 0.0).max_by(|a, b| self.credit[*a].total_cmp(&self.credit[*b]));
                    if let Some(best) = best {
                        self.credit[best] -= total;
                    }
                    best
                } else {
                    // Only agents of weight 0 are left: better those than none.
                    from(self.turn).next()
                }
            }
        };
        let chosen = chosen.unwrap_or(self.turn % n);
        self.turn = match parameters.placement {
            Placement::RoundRobin => (chosen + 1) % n,
            _ => (self.turn + 1) % n,
        };
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreglow_core::Seed;

    fn picks(parameters: &Parameters, fit: &[bool], times: u64) -> Vec<usize> {
        let mut r = Router::new(fit.len());
        let mut count = vec![0; fit.len()];
        for key in 0..times {
            count[r.pick(parameters, key, fit, |i| if i == 1 { 0 } else { 5 })] += 1;
        }
        count
    }

    #[test]
    fn policies_choose_as_they_say() {
        let with =
            |placement, weights: &[f64]| Parameters { placement, weights: weights.to_vec(), ..Parameters::default() };
        assert_eq!(picks(&with(Placement::RoundRobin, &[]), &[true, true, true], 300), [100, 100, 100]);
        assert_eq!(picks(&with(Placement::RoundRobin, &[]), &[true, false, true], 300), [150, 0, 150]);
        assert_eq!(picks(&with(Placement::LeastLoaded, &[]), &[true, true, true], 300), [0, 300, 0]);
        assert_eq!(picks(&with(Placement::Weighted, &[1.0, 0.0, 2.0]), &[true, true, true], 300), [100, 0, 200]);
        assert_eq!(picks(&with(Placement::Weighted, &[]), &[true, true, true], 300), [100, 100, 100]);
        assert_eq!(
            picks(&with(Placement::Weighted, &[1.0, 0.0, 0.0]), &[false, true, true], 300).iter().sum::<usize>(),
            300
        );
        let hashed = picks(&with(Placement::Hash, &[]), &[true, true, true], 3000);
        assert!(hashed.iter().all(|c| (850..1150).contains(c)), "{hashed:?}");
        let mut r = Router::new(3);
        let p = with(Placement::Hash, &[]);
        let first = r.pick(&p, 42, &[true; 3], |_| 0);
        assert_eq!(first, r.pick(&p, 42, &[true; 3], |_| 0));
    }

    #[test]
    fn arrivals_repeat_with_the_seed_and_keep_their_rate() {
        let plan = |seed, surging| {
            let config = LabConfig { seed: Seed(seed), ..LabConfig::default() };
            let mut plan = Plan::new(&config, Timestamp(0));
            let (mut at, mut tasks) = (0, Vec::new());
            while at < 120_000_000 {
                tasks.push(plan.task(at));
                at += plan.gap(at, surging);
            }
            tasks
        };
        let (a, b) = (plan(5, false), plan(5, true));
        assert_eq!(a, plan(5, false));
        assert_ne!(a[..100], plan(6, false)[..100]);
        // One day of 64,800 expected arrivals: the standard deviation is 255.
        assert!((a.len() as f64 - 64_800.0).abs() < 1500.0, "{}", a.len());
        assert!((b.len() as f64 / a.len() as f64 - SURGE).abs() < 0.1);
        let popular = a.iter().filter(|t| t.key <= 20).count() as f64 / a.len() as f64;
        assert!((0.2..0.6).contains(&popular), "{popular}");
    }
}
