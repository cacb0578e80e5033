//! The work that is timed: a fleet of hosts with metrics that follow a wave.

use foreglow_core::signals::Signals;
use foreglow_core::{Labels, MetricBatch, MetricKey, Seed, Step, Timestamp};
use foreglow_models::ModelError;
use foreglow_models::artifact::{Artifact, BuildGroup, DataInfo, NewArtifact, build_artifact};
use foreglow_models::evaluate::ReplaySeries;
use foreglow_models::spec::Recipe;
use std::f64::consts::TAU;
use std::fmt::Write;

/// The first instant.
pub const START: i64 = 1_767_225_600_000;
/// The distance of steps.
pub const STEP_MS: i64 = 60_000;
/// Steps of the wave.
const DAY: usize = 144;

/// Hosts with metrics.
#[derive(Debug, Clone, Copy)]
pub struct Fleet {
    /// How many hosts.
    pub hosts: usize,
    /// How many metrics each has.
    pub metrics: usize,
}

impl Fleet {
    /// Values of one step.
    pub fn values(self) -> usize {
        self.hosts * self.metrics
    }

    /// One value: a wave that all metrics of a host share, each with its own level, phase and noise.
    pub fn value(self, host: usize, metric: usize, step: usize) -> f64 {
        let u = (Seed(7).nth((host * 64 + metric) as u64).nth(step as u64).0 >> 11) as f64 / (1u64 << 53) as f64;
        let turn = TAU * (step as f64 / DAY as f64 + host as f64 / 13.0);
        10.0 * (1 + metric % 5) as f64 + (1.0 + metric as f64 / 10.0) * turn.sin() + 0.5 * (u - 0.5)
    }

    /// The key of a series.
    pub fn key(host: usize, metric: usize) -> MetricKey {
        MetricKey::new(format!("m{metric:02}"), Labels::new([("host", &format!("h{host:04}"))]))
    }

    /// One step of every host, as it would be observed.
    pub fn batch(self, step: usize) -> MetricBatch {
        let mut batch = MetricBatch::default();
        let time = Timestamp(START + step as i64 * STEP_MS);
        for host in 0..self.hosts {
            for metric in 0..self.metrics {
                let series = batch.keys.len();
                batch.keys.push(Self::key(host, metric));
                batch.push(series, time, self.value(host, metric, step), series);
            }
        }
        batch
    }

    /// The same as the body of `POST /v1/score`, by row.
    pub fn rows(self, step: usize) -> String {
        let time = START + step as i64 * STEP_MS;
        let points: Vec<String> = (0..self.hosts)
            .map(|host| {
                let mut values = String::new();
                for metric in 0..self.metrics {
                    // Writing to a string does not fail.
                    let _ = write!(
                        values,
                        "{}\"m{metric:02}\":{}",
                        if metric > 0 { "," } else { "" },
                        self.value(host, metric, step)
                    );
                }
                format!(r#"{{"timestamp":{time},"labels":{{"host":"h{host:04}"}},"values":{{{values}}}}}"#)
            })
            .collect();
        format!(r#"{{"points":[{}]}}"#, points.join(","))
    }

    /// The same by column.
    pub fn columns(self, step: usize) -> String {
        let time = START + step as i64 * STEP_MS;
        let series: Vec<String> = (0..self.hosts)
            .flat_map(|host| (0..self.metrics).map(move |metric| (host, metric)))
            .map(|(host, metric)| {
                let value = self.value(host, metric, step);
                format!(
                    r#"{{"labels":{{"__name__":"m{metric:02}","host":"h{host:04}"}},"timestamps":[{time}],"values":[{value}]}}"#
                )
            })
            .collect();
        format!(r#"{{"series":[{}]}}"#, series.join(","))
    }

    /// An artifact by the recommended recipe, fitted on the first `rows` steps of every host.
    ///
    /// # Errors
    /// Whatever the fit says.
    pub fn artifact(self, rows: usize) -> Result<Artifact, ModelError> {
        let times: Vec<Timestamp> = (0..rows).map(|s| Timestamp(START + s as i64 * STEP_MS)).collect();
        let keys: Vec<Vec<MetricKey>> =
            (0..self.hosts).map(|h| (0..self.metrics).map(|m| Self::key(h, m)).collect()).collect();
        let columns: Vec<Vec<Vec<f64>>> = (0..self.hosts)
            .map(|h| (0..self.metrics).map(|m| (0..rows).map(|s| self.value(h, m, s)).collect()).collect())
            .collect();
        let groups: Vec<BuildGroup<'_>> = keys
            .iter()
            .zip(&columns)
            .map(|(keys, columns)| BuildGroup {
                series: ReplaySeries { keys, timestamps: &times, columns },
                fit: 0..rows * 4 / 5,
                calibrate: rows * 4 / 5..rows,
            })
            .collect();
        let new = NewArtifact {
            name: "fleet",
            recipe: &Recipe::default(),
            rules: &Signals::default(),
            groups: &groups,
            may_miss: &[],
            selectors: &[],
            step: Some(Step::from_ms(STEP_MS)?),
            data: DataInfo { data: "made".to_owned(), ..DataInfo::default() },
            seed: Seed(1),
            warm: None,
        };
        Ok(build_artifact(&new, &|_| {})?.0)
    }
}
