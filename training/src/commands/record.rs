use super::datasets::written;
use crate::{Answer, Context, TrainError};
use foreglow_core::{Seed, Step, Timestamp};
use foreglow_datasets::{
    CheckedFractions, Event, Fractions, Licence, Split, TidyBuilder, TidyData, TidyMeta, split_by_time, write_tidy,
};
use foreglow_lab::{Fault, FaultKind, LabConfig, Recording, Scheduled};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Options of `datasets record`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  foreglow-train datasets record --out data/swarm_normal --minutes 10
  foreglow-train datasets record --out data/swarm_faults --minutes 15 --fault slow_agent:2:6m:40s --fault load_surge:all:9m:40s")]
pub struct RecordArgs {
    /// The folder to write.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How long to record.
    #[arg(long, value_name = "MINUTES", default_value_t = 10.0)]
    minutes: f64,
    /// Distance of rows, 250ms to 60s.
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    step: Step,
    /// How long a day of the load's shape takes.
    #[arg(long, value_name = "DURATION", default_value = "2m")]
    day: Step,
    /// Agents, 2 to 32.
    #[arg(long, value_name = "N", default_value_t = LabConfig::default().agents)]
    agents: usize,
    /// Tasks a second that arrive at the whole swarm, on average over a day.
    #[arg(long, value_name = "N", default_value_t = LabConfig::default().rate)]
    rate: f64,
    /// A fault to inject, KIND:AGENT:AT:DURATION, such as crashed_agent:3:5m:30s; AGENT is 'all' for load_surge. May be
    /// given several times.
    #[arg(long, value_name = "FAULT")]
    fault: Vec<FaultArg>,
    /// Fixes the arrivals; what is measured is not repeated by it.
    #[arg(long, value_name = "N", default_value_t = Seed::default().0)]
    seed: u64,
}

/// A fault as the command line writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FaultArg(Scheduled);

impl FromStr for FaultArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let [kind, agent, at, duration] = parts[..] else {
            return Err("expected KIND:AGENT:AT:DURATION, such as slow_agent:2:5m:30s".into());
        };
        let kind: FaultKind = kind.parse().map_err(|e| format!("{e}"))?;
        let agent = match agent {
            "all" | "" => None,
            n => Some(n.parse().map_err(|_| format!("agent {n:?}: expected a number, or 'all' for load_surge"))?),
        };
        let length = |t: &str| {
            // A step is positive, the start of a recording is not.
            if matches!(t, "0" | "0s" | "0ms" | "0m") {
                return Ok(Duration::ZERO);
            }
            t.parse::<Step>().map(|s| Duration::from_millis(s.ms() as u64)).map_err(|e| e.to_string())
        };
        Ok(Self(Scheduled { at: length(at)?, fault: Fault { kind, agent, duration: length(duration)? } }))
    }
}

/// Runs `datasets record`.
///
/// # Errors
/// [`TrainError::Lab`] for values out of range or a swarm that fails, [`TrainError::Interrupted`] after Ctrl-C: what was
/// recorded until then is written.
pub(super) fn record(args: &RecordArgs, context: &Context) -> Result<Answer, TrainError> {
    if !(args.minutes > 0.0 && args.minutes <= 24.0 * 60.0) {
        return Err(TrainError::Usage(format!(
            "--minutes {}: expected a number above 0 and at most 1440",
            args.minutes
        )));
    }
    let config = LabConfig {
        seed: Seed(args.seed),
        agents: args.agents,
        step: args.step,
        day: Duration::from_millis(args.day.ms() as u64),
        rate: args.rate,
        ..LabConfig::default()
    };
    let schedule: Vec<Scheduled> = args.fault.iter().map(|f| f.0).collect();
    let duration = Duration::from_secs_f64(args.minutes * 60.0);
    let steps = (duration.as_millis() / args.step.ms() as u128).max(1) as usize;
    let progress = context.progress("recording", steps);
    let mut done = 0;
    let recording = foreglow_lab::record(config, &schedule, duration, |_, _| {
        done += 1;
        progress.set(done, steps, "");
        !context.stopped()
    })?;
    drop(progress);
    if recording.ticks.is_empty() {
        return Err(TrainError::Interrupted("nothing was recorded yet".into()));
    }
    let name = args.out.file_name().map_or_else(|| "swarm".to_owned(), |n| n.to_string_lossy().into_owned());
    let manifest = write_tidy(&args.out, &tidy(&name, &recording)?)?;
    if done < steps {
        return Err(TrainError::Interrupted(format!("{done} of {steps} steps lie in {}", args.out.display())));
    }
    Ok(written(&args.out, &manifest))
}

/// A recording in the tidy layout. Rows before the first fault are train (80 %) and validation; what follows is test.
/// Without a fault the usual shares by time hold.
fn tidy(name: &str, recording: &Recording) -> Result<TidyData, TrainError> {
    let config = &recording.config;
    let faults: Vec<serde_json::Value> = recording
        .events
        .iter()
        .map(|e| json!({"kind": e.kind, "agent": e.agent, "start": e.start.to_string(), "end": e.end.to_string()}))
        .collect();
    let meta = TidyMeta {
        name: name.to_owned(),
        title: format!(
            "A swarm of {} agents on one machine, {} steps of {}",
            config.agents,
            recording.ticks.len(),
            config.step
        ),
        tasks: vec!["anomaly-multivariate".into(), "forecast-multivariate".into(), "root-cause".into()],
        domain: "agents that do real work under an open-loop load; measured on one machine".into(),
        licence: Licence { id: "Apache-2.0 OR MIT".into(), ..Licence::default() },
        timestamps: "real (UTC)".into(),
        label_meaning: "1 = a fault that this series shows was active in the step; the swarm shows every fault".into(),
        split_rule: "before the first fault 80 % train, 20 % val; the rest test; without a fault 70/10/20 by time"
            .into(),
        extra: BTreeMap::from([(
            "recorder".to_owned(),
            json!({"seed": config.seed.0, "agents": config.agents, "rate": config.rate, "step": config.step.to_string(),
                "day_ms": config.day.as_millis() as u64, "parameters": config.parameters, "faults": faults}),
        )]),
        ..TidyMeta::default()
    };
    let times: Vec<Timestamp> = recording.ticks.iter().map(|t| t.timestamp).collect();
    let splits: BTreeMap<Timestamp, Split> = times.iter().copied().zip(splits(recording, &times)?).collect();
    let mut builder = TidyBuilder::new(meta, Recording::columns().iter().map(|c| (*c).to_owned()).collect());
    for row in recording.rows() {
        let split = splits.get(&row.timestamp).copied().unwrap_or(Split::Unused);
        let values: Vec<f64> = row.values.iter().map(|v| f64::from(*v as f32)).collect();
        builder.push_row(&row.series_id, row.timestamp, split, Some(row.label), &values)?;
    }
    for event in &recording.events {
        let cause = event.agent.map(|a| format!("agent-{a}"));
        let shown = (0..config.agents).filter(|a| event.affects(*a)).map(|a| format!("agent-{a}"));
        for series_id in shown.chain(["swarm".to_owned()]) {
            builder.push_event(Event {
                series_id,
                // An event is inclusive and made of rows: the first and last tick whose step it touches.
                start: times.iter().copied().find(|t| event.overlaps(*t, config.step.ms())),
                end: times.iter().copied().rfind(|t| event.overlaps(*t, config.step.ms())),
                kind: Some(event.kind.to_string()),
                target: Some(cause.clone().unwrap_or_else(|| "swarm".into())),
                root_cause: cause.clone(),
                metrics: Vec::new(),
                note: None,
            });
        }
    }
    Ok(builder.finish())
}

fn splits(recording: &Recording, times: &[Timestamp]) -> Result<Vec<Split>, TrainError> {
    let shares =
        |train: f64, val: f64| -> Result<CheckedFractions, TrainError> { Ok(Fractions { train, val }.check()?) };
    let step = recording.config.step.ms();
    let quiet = times.iter().position(|t| recording.events.iter().any(|e| e.overlaps(*t, step)));
    Ok(match quiet {
        None => split_by_time(times, Fractions::default().check()?),
        Some(n) => {
            let mut split = split_by_time(&times[..n], shares(0.8, 0.2)?);
            split.resize(times.len(), Split::Test);
            split
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read() {
        let f: FaultArg = "slow_agent:2:5m:30s".parse().unwrap();
        assert_eq!((f.0.at, f.0.fault.duration), (Duration::from_mins(5), Duration::from_secs(30)));
        assert_eq!((f.0.fault.kind, f.0.fault.agent), (FaultKind::SlowAgent, Some(2)));
        assert_eq!("load_surge:all:0s:1s".parse::<FaultArg>().unwrap().0.at, Duration::ZERO);
        for bad in ["slow_agent", "fire:1:1m:1s", "slow_agent:x:1m:1s", "slow_agent:1:1:1s", "slow_agent:1:1m:long"] {
            assert!(bad.parse::<FaultArg>().is_err(), "{bad}");
        }
    }
}
