use foreglow_core::{Labels, MetricBatch, MetricKey, Timestamp};

/// The label `service` of every series.
const SERVICE: &str = "swarm";

/// One agent in one step. Rates are per second of the time that really passed; NaN means that there was nothing to
/// measure (no task ended, no lock was taken).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AgentSample {
    /// Which agent, from 0.
    pub agent: usize,
    /// Whether it is running.
    pub active: bool,
    /// Mean time from taking a task to its end, of tasks that succeeded.
    pub completion_ms: f64,
    /// Tasks that succeeded out of those that ended for good here.
    pub success_ratio: f64,
    /// CPU time of the agent's thread out of one core's time: on Linux the scheduler's account of the thread (`schedstat`,
    /// or `stat` in steps of 10 ms where the kernel lacks it), elsewhere the wall time spent inside work.
    pub cpu_ratio: f64,
    /// Bytes the agent accounts for: cached records, buffers of its workers, waiting tasks, leaks. Not the process's size.
    pub memory_accounted_bytes: f64,
    /// Bytes sent to and received from other agents, scaled to one whole step.
    pub network_bytes: f64,
    /// Median time from a task's arrival in the swarm to its end, waiting and earlier attempts included; successes and
    /// final timeouts.
    pub latency_p50_ms: f64,
    /// 95th percentile of the same.
    pub latency_p95_ms: f64,
    /// 99th percentile of the same.
    pub latency_p99_ms: f64,
    /// Attempts that failed (timeout, refusal, loss, wrong result) out of all that ended here.
    pub error_ratio: f64,
    /// Tasks that succeeded, a second.
    pub throughput_per_s: f64,
    /// Mean number of waiting tasks that an arriving task found, which for Poisson arrivals is the mean over time
    /// (Wolff 1982, doi:10.1287/opre.30.2.223).
    pub queue_length: f64,
    /// Mean wait for the lock that all agents share.
    pub lock_wait_ms: f64,
    /// Records found in the cache out of those looked up.
    pub cache_hit_ratio: f64,
}

/// Names of the agents' metrics, in the order of [`AgentSample::values`].
pub const AGENT_METRICS: [&str; 13] = [
    "completion_ms",
    "success_ratio",
    "cpu_ratio",
    "memory_accounted_bytes",
    "network_bytes",
    "latency_p50_ms",
    "latency_p95_ms",
    "latency_p99_ms",
    "error_ratio",
    "throughput_per_s",
    "queue_length",
    "lock_wait_ms",
    "cache_hit_ratio",
];

impl AgentSample {
    /// The values in the order of [`AGENT_METRICS`].
    pub fn values(&self) -> [f64; AGENT_METRICS.len()] {
        [
            self.completion_ms,
            self.success_ratio,
            self.cpu_ratio,
            self.memory_accounted_bytes,
            self.network_bytes,
            self.latency_p50_ms,
            self.latency_p95_ms,
            self.latency_p99_ms,
            self.error_ratio,
            self.throughput_per_s,
            self.queue_length,
            self.lock_wait_ms,
            self.cache_hit_ratio,
        ]
    }
}

/// The swarm as a whole in one step. What an agent has too is the same measure over all tasks, or the sum over agents.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SwarmSample {
    /// Mean time from taking a task to its end.
    pub completion_ms: f64,
    /// Tasks that succeeded out of those that ended for good.
    pub success_ratio: f64,
    /// CPU of all agents, in cores.
    pub cpu_ratio: f64,
    /// Accounted bytes of all agents.
    pub memory_accounted_bytes: f64,
    /// Bytes between agents, each counted once, scaled to one whole step.
    pub network_bytes: f64,
    /// Median latency over all tasks.
    pub latency_p50_ms: f64,
    /// 95th percentile.
    pub latency_p95_ms: f64,
    /// 99th percentile.
    pub latency_p99_ms: f64,
    /// Failed attempts out of all.
    pub error_ratio: f64,
    /// Total output: tasks that succeeded, a second.
    pub throughput_per_s: f64,
    /// Sum of the agents' queue lengths.
    pub queue_length: f64,
    /// Mean wait for the shared lock.
    pub lock_wait_ms: f64,
    /// Cache hits over all agents.
    pub cache_hit_ratio: f64,
    /// Tasks that arrived, a second: the load.
    pub arrival_per_s: f64,
    /// Mean time of an agent's sync round: read the shared chain, tell every peer, hear every answer.
    pub sync_ms: f64,
    /// Jain's fairness index of the agents' output, `(sum x)^2 / (n sum x^2)`: 1 is even, 1/n is all on one (Jain, Chiu
    /// and Hawe 1984, DEC-TR-301).
    pub balance_index: f64,
    /// Messages between agents, a second.
    pub messages_per_s: f64,
    /// Agents that run.
    pub active_agents: f64,
    /// Output for each running agent, a second.
    pub output_per_agent_per_s: f64,
    /// Time since the loss of an agent that has not yet completed a task again (the longest, where several are lost);
    /// in the step in which it does, the whole recovery time; otherwise 0.
    pub recovery_ms: f64,
}

/// Names of the swarm's metrics, in the order of [`SwarmSample::values`]; the first thirteen are those of agents.
pub const SWARM_METRICS: [&str; 20] = [
    "completion_ms",
    "success_ratio",
    "cpu_ratio",
    "memory_accounted_bytes",
    "network_bytes",
    "latency_p50_ms",
    "latency_p95_ms",
    "latency_p99_ms",
    "error_ratio",
    "throughput_per_s",
    "queue_length",
    "lock_wait_ms",
    "cache_hit_ratio",
    "arrival_per_s",
    "sync_ms",
    "balance_index",
    "messages_per_s",
    "active_agents",
    "output_per_agent_per_s",
    "recovery_ms",
];

impl SwarmSample {
    /// The values in the order of [`SWARM_METRICS`].
    pub fn values(&self) -> [f64; SWARM_METRICS.len()] {
        [
            self.completion_ms,
            self.success_ratio,
            self.cpu_ratio,
            self.memory_accounted_bytes,
            self.network_bytes,
            self.latency_p50_ms,
            self.latency_p95_ms,
            self.latency_p99_ms,
            self.error_ratio,
            self.throughput_per_s,
            self.queue_length,
            self.lock_wait_ms,
            self.cache_hit_ratio,
            self.arrival_per_s,
            self.sync_ms,
            self.balance_index,
            self.messages_per_s,
            self.active_agents,
            self.output_per_agent_per_s,
            self.recovery_ms,
        ]
    }
}

/// All measures of one step, which ends at `timestamp`.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// The end of the step: a multiple of it since the epoch.
    pub timestamp: Timestamp,
    /// One sample an agent, in order.
    pub agents: Vec<AgentSample>,
    /// The whole.
    pub swarm: SwarmSample,
}

impl Tick {
    /// The tick as a batch: agents' series are labelled `{service="swarm", agent="a0"}`, the swarm's `{service="swarm"}`.
    /// What was not measured (NaN) is left out.
    pub fn to_batch(&self) -> MetricBatch {
        let mut batch = MetricBatch::default();
        for sample in &self.agents {
            let labels = Labels::new([("service", SERVICE), ("agent", &format!("a{}", sample.agent))]);
            self.append(&mut batch, &labels, &AGENT_METRICS, &sample.values());
        }
        self.append(&mut batch, &Labels::new([("service", SERVICE)]), &SWARM_METRICS, &self.swarm.values());
        batch
    }

    fn append(&self, batch: &mut MetricBatch, labels: &Labels, names: &[&str], values: &[f64]) {
        for (name, value) in names.iter().zip(values).filter(|(_, v)| !v.is_nan()) {
            let series = batch.keys.len();
            batch.keys.push(MetricKey::new(name, labels.clone()));
            batch.push(series, self.timestamp, *value, series);
        }
    }
}

/// The `q`-quantile of ascending values, by linear interpolation between order statistics; NaN for none.
pub(crate) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = q * last as f64;
    let (low, high) = (sorted[at as usize], sorted[(at as usize + 1).min(last)]);
    low + (high - low) * at.fract()
}

/// Jain's fairness index; 1 when there is no output at all.
pub(crate) fn fairness(output: &[f64]) -> f64 {
    let squares: f64 = output.iter().map(|x| x * x).sum();
    if squares == 0.0 { 1.0 } else { output.iter().sum::<f64>().powi(2) / (output.len() as f64 * squares) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures() {
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.5), 2.5);
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
        assert!(quantile(&[], 0.5).is_nan());
        assert_eq!(fairness(&[3.0, 3.0, 3.0]), 1.0);
        assert_eq!(fairness(&[3.0, 0.0, 0.0]), 1.0 / 3.0);
        assert_eq!(fairness(&[0.0, 0.0]), 1.0);
    }
}
