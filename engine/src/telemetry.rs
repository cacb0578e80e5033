//! The log, and the engine's own numbers in Prometheus's text format.

use crate::compute::lock;
use crate::config::LogFormat;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tracing_subscriber::EnvFilter;

/// Upper ends of the buckets of request times, in seconds.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Starts the log on standard error: level from `FOREGLOW_LOG` (as `info`, `foreglow_engine=debug`), default `info`.
/// A second call changes nothing.
pub fn init_log(format: LogFormat) {
    let filter = EnvFilter::try_from_env("FOREGLOW_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

#[derive(Debug, Default, Clone)]
struct Requests {
    count: u64,
    seconds: f64,
    buckets: [u64; BUCKETS.len()],
}

/// Counters of one server; they start at 0 with it.
#[derive(Debug, Default)]
pub(crate) struct Telemetry {
    requests: Mutex<BTreeMap<(&'static str, String, u16), Requests>>,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    pub(crate) accepted: AtomicU64,
    pub(crate) steps: AtomicU64,
    pub(crate) anomalies: AtomicU64,
    pub(crate) incidents: AtomicU64,
    pub(crate) busy: AtomicU64,
    pub(crate) reloads: AtomicU64,
    pub(crate) reload_errors: AtomicU64,
    pub(crate) saved_groups: AtomicU64,
    pub(crate) store_errors: AtomicU64,
}

/// What is measured at the moment of asking.
#[derive(Debug, Default, Clone)]
pub(crate) struct Gauges {
    pub(crate) groups: usize,
    pub(crate) queue_used: usize,
    pub(crate) queue_size: usize,
    pub(crate) models: usize,
    pub(crate) sessions: usize,
    pub(crate) streams: usize,
}

/// One sample in Prometheus's text format.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Exposed {
    pub(crate) name: &'static str,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: f64,
}

pub(crate) fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}

impl Telemetry {
    pub(crate) fn request(&self, method: &'static str, route: &str, status: u16, seconds: f64) {
        let mut requests = lock(&self.requests);
        let r = requests.entry((method, route.to_owned(), status)).or_default();
        r.count += 1;
        r.seconds += seconds;
        for (b, top) in r.buckets.iter_mut().zip(BUCKETS) {
            *b += u64::from(seconds <= top);
        }
    }

    pub(crate) fn refuse(&self, code: &'static str, n: usize) {
        *lock(&self.refused).entry(code).or_default() += n as u64;
    }

    /// Everything as text. `scores` are the series named after vmanomaly's convention, sorted by name.
    pub(crate) fn render(&self, gauges: &Gauges, scores: &[Exposed]) -> String {
        let mut out = String::with_capacity(4096 + scores.len() * 100);
        let counters = [
            ("foreglow_samples_accepted_total", "Samples taken.", &self.accepted),
            ("foreglow_steps_scored_total", "Steps of groups that were closed and judged.", &self.steps),
            ("foreglow_anomalous_steps_total", "Steps at or above the alert line.", &self.anomalies),
            ("foreglow_incidents_opened_total", "Incidents opened.", &self.incidents),
            ("foreglow_requests_refused_busy_total", "Requests answered 503 because the queue was full.", &self.busy),
            ("foreglow_registry_reloads_total", "Times the artifacts were loaded anew.", &self.reloads),
            ("foreglow_registry_reload_errors_total", "Artifacts that could not be loaded.", &self.reload_errors),
            ("foreglow_groups_saved_total", "Group states written to the store.", &self.saved_groups),
            ("foreglow_store_errors_total", "Writes that the store refused.", &self.store_errors),
        ];
        for (name, help, counter) in counters {
            head(&mut out, name, help, "counter");
            let _ = writeln!(out, "{name} {}", counter.load(Ordering::Relaxed));
        }
        for (name, help, value) in [
            ("foreglow_groups", "Groups with state in memory.", gauges.groups),
            ("foreglow_queue_used", "Bodies that are read, wait or are worked on.", gauges.queue_used),
            ("foreglow_queue_size", "Bodies allowed at a time.", gauges.queue_size),
            ("foreglow_models_loaded", "Artifacts that are served.", gauges.models),
            ("foreglow_sessions", "Private sessions.", gauges.sessions),
            ("foreglow_streams", "Readers of /v1/stream.", gauges.streams),
        ] {
            head(&mut out, name, help, "gauge");
            let _ = writeln!(out, "{name} {value}");
        }
        head(&mut out, "foreglow_samples_refused_total", "Samples not taken, by reason.", "counter");
        for (code, n) in lock(&self.refused).iter() {
            sample(&mut out, "foreglow_samples_refused_total", &[("code".into(), (*code).into())], *n as f64);
        }
        self.render_requests(&mut out);
        let mut last = "";
        for s in scores {
            if s.name != last {
                head(&mut out, s.name, "Last scored step; see the contract's naming.", "gauge");
                last = s.name;
            }
            sample(&mut out, s.name, &s.labels, s.value);
        }
        out
    }

    fn render_requests(&self, out: &mut String) {
        let name = "foreglow_http_request_duration_seconds";
        head(out, name, "Time to answer, by route and status.", "histogram");
        for ((method, route, status), r) in lock(&self.requests).iter() {
            let labels = |le: Option<String>| {
                let mut l = vec![
                    ("method".to_owned(), (*method).to_owned()),
                    ("route".to_owned(), route.clone()),
                    ("status".to_owned(), status.to_string()),
                ];
                l.extend(le.map(|v| ("le".to_owned(), v)));
                l
            };
            let bucket = format!("{name}_bucket");
            for (top, n) in BUCKETS.iter().zip(r.buckets) {
                sample(out, &bucket, &labels(Some(top.to_string())), n as f64);
            }
            sample(out, &bucket, &labels(Some("+Inf".into())), r.count as f64);
            sample(out, &format!("{name}_sum"), &labels(None), r.seconds);
            sample(out, &format!("{name}_count"), &labels(None), r.count as f64);
        }
    }
}

fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn sample(out: &mut String, name: &str, labels: &[(String, String)], value: f64) {
    out.push_str(name);
    for (i, (n, v)) in labels.iter().enumerate() {
        let _ = write!(out, "{}{n}=\"", if i == 0 { "{" } else { "," });
        for c in v.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                c => out.push(c),
            }
        }
        out.push('"');
    }
    if !labels.is_empty() {
        out.push('}');
    }
    let value = match value {
        v if v.is_nan() => "NaN".to_owned(),
        v if v == f64::INFINITY => "+Inf".to_owned(),
        v if v == f64::NEG_INFINITY => "-Inf".to_owned(),
        v => v.to_string(),
    };
    let _ = writeln!(out, " {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_format() {
        let t = Telemetry::default();
        t.request("POST", "/v1/score", 200, 0.004);
        t.refuse("late", 3);
        add(&t.accepted, 7);
        let scores = [Exposed {
            name: "foreglow_group_score",
            labels: vec![("group".into(), "{host=\"a\"}".into())],
            value: f64::NAN,
        }];
        let text = t.render(&Gauges { groups: 2, ..Gauges::default() }, &scores);
        for line in [
            "foreglow_samples_accepted_total 7",
            "foreglow_groups 2",
            "foreglow_samples_refused_total{code=\"late\"} 3",
            "foreglow_http_request_duration_seconds_bucket{method=\"POST\",route=\"/v1/score\",status=\"200\",le=\"0.0025\"} 0",
            "foreglow_http_request_duration_seconds_bucket{method=\"POST\",route=\"/v1/score\",status=\"200\",le=\"0.005\"} 1",
            "foreglow_group_score{group=\"{host=\\\"a\\\"}\"} NaN",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }
}
