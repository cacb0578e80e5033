//! One group as bytes and back. Versioned: every version is read, the newest is written.

use super::clock::Clock;
use super::group::{Group, Last, Listening, Scorer};
use super::incident::Watch;
use super::intake::{OpenStep, Taken};
use super::lane::{Lane, NOBODY};
use super::observation::StepStatus;
use super::pace::Faster;
use super::past::Past;
use super::presence::Presence;
use super::recent::{Recent, RecentParts};
use crate::ModelError;
use crate::artifact::TensorMap;
use crate::pipeline::Pipeline;
use foreglow_core::{CounterRate, Labels, MetricKey, Step, Timestamp};
use serde::{Deserialize, Serialize};

/// Everything about a group but its numbers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "version")]
enum Head {
    /// The first layout.
    #[serde(rename = "1")]
    V1(Box<HeadV1>),
}

#[derive(Debug, Serialize, Deserialize)]
struct HeadV1 {
    /// Name of the pipeline that wrote it, for errors only: what must fit is signals and state.
    pipeline: String,
    group: Labels,
    signals: Vec<MetricKey>,
    /// The series that feed them; missing in what was written when there was one a signal.
    #[serde(default)]
    lanes: Vec<Lane>,
    quiet: Vec<u8>,
    counters: Vec<Option<CounterRate>>,
    clock: Option<(Timestamp, Step)>,
    /// Lane, instant, index in its request; values are a tensor.
    held: Vec<(usize, Timestamp, u32)>,
    /// Index, signals still waited for, whether any was.
    open: Option<(i64, usize, bool)>,
    times: Vec<Timestamp>,
    came: Vec<bool>,
    newest: Option<i64>,
    recent: RecentParts,
    #[serde(default)]
    faster: Faster,
    watch: Watch,
    /// Of every signal that has been scored; missing in what was written before it was kept.
    #[serde(default)]
    presence: Vec<Presence>,
    last: (StepStatus, Option<Timestamp>),
    live: bool,
    silent: bool,
}

/// The group as safetensors bytes.
pub(super) fn encode(group: &Group, pipeline: &Pipeline) -> Result<Vec<u8>, ModelError> {
    let (intake, judge) = (&group.intake, &group.judge);
    let (recent, said, sent) = intake.recent.to_parts(intake.lanes.len());
    let head = Head::V1(Box::new(HeadV1 {
        pipeline: pipeline.name().to_owned(),
        group: judge.labels.clone(),
        signals: intake.keys.clone(),
        lanes: intake.lanes.clone(),
        quiet: intake.quiet.clone(),
        counters: intake.counters.clone(),
        clock: intake.clock.map(|c| (c.anchor, c.step)),
        held: intake.held.iter().map(|h| (h.lane, h.time, h.index)).collect(),
        open: intake.open.as_ref().map(|o| (o.index, o.left, o.waits)),
        times: intake.times.clone(),
        came: intake.came.clone(),
        newest: intake.newest,
        recent,
        faster: intake.faster.clone(),
        watch: judge.watch.clone(),
        presence: judge.presence.clone(),
        last: (judge.last.status, judge.last.ready_at),
        live: group.live,
        silent: judge.silent,
    }));
    let mut map = TensorMap::default();
    map.put_u8("head", serde_json::to_vec(&head).map_err(|e| ModelError::artifact("state head", e.to_string()))?);
    let mut put = |name: &str, v: Vec<f64>| map.put_f64(name, &[v.len()], v);
    put("held", intake.held.iter().map(|h| h.value).collect());
    put("open", intake.values.clone());
    put("said", said);
    put("sent", sent);
    put("last", vec![judge.last.score]);
    if let Some(s) = &judge.scorer {
        let signals = s.state.signals();
        put("state", s.state.numbers.clone());
        put("signals", vec![signals as f64]);
        s.history.save(&mut map);
    }
    map.encode()
}

/// A group from [`encode`]'s bytes, for a pipeline of the same shape.
pub(super) fn decode(bytes: &[u8], pipeline: &Pipeline) -> Result<Group, ModelError> {
    let map = TensorMap::decode("group state", bytes)?;
    let Head::V1(head) = serde_json::from_slice(map.u8s("head")?).map_err(|e| {
        ModelError::artifact("group state", format!("{e}; it is damaged, or written by a newer version than this one"))
    })?;
    let id = super::group_id(&head.group);
    let fail = |problem: String| ModelError::artifact(format!("state of group {id}"), problem);
    let n = head.signals.len();
    let one_each = || (0..n).map(|column| Lane { column, series: NOBODY }).collect();
    let lanes: Vec<Lane> = if head.lanes.is_empty() { one_each() } else { head.lanes };
    let m = lanes.len();
    let lengths = [head.quiet.len(), head.counters.len(), head.times.len(), head.came.len()];
    let fed = (0..n).all(|c| lanes.iter().any(|l| l.column == c)) && lanes.iter().all(|l| l.column < n);
    if lengths.iter().any(|l| *l != m) || !fed || head.presence.len() > n || head.held.iter().any(|h| h.0 >= m) {
        return Err(fail("its parts do not fit together; it is damaged".into()));
    }
    let mut group = Group::new(id.clone(), head.group, pipeline);
    check_signals(&group, &head.signals, &head.pipeline, pipeline).map_err(fail)?;
    if pipeline.signals().is_none() {
        for key in head.signals {
            group.intake.add(key, false);
        }
    }
    let (said, sent) = (map.f64s("said")?.1, map.f64s("sent")?.1);
    let intake = &mut group.intake;
    intake.raw.resize(m, f64::NAN);
    intake.lanes = lanes;
    intake.quiet = head.quiet;
    intake.counters = head.counters;
    intake.clock = head.clock.map(|(anchor, step)| Clock { anchor, step });
    let held = map.f64s_of("held", head.held.len())?;
    intake.held = head
        .held
        .into_iter()
        .zip(held)
        .map(|((lane, time, index), value)| Taken { lane, time, value, index })
        .collect();
    intake.open = head.open.map(|(index, left, waits)| OpenStep { index, left, waits });
    intake.values = map.f64s_of("open", m)?;
    intake.times = head.times;
    intake.came = head.came;
    intake.newest = head.newest;
    intake.recent = Recent::from_parts(&head.recent, m, said, sent)
        .ok_or_else(|| fail("its remembered steps do not fit together; it is damaged".into()))?;
    intake.faster = head.faster;
    group.judge.watch = head.watch;
    group.judge.presence = head.presence;
    group.judge.last = Last { status: head.last.0, score: map.f64s_of("last", 1)?[0], ready_at: head.last.1 };
    group.live = head.live;
    group.listening = Listening::Resumed;
    group.judge.silent = head.silent;
    if map.contains("state") {
        let step = group.intake.clock.map(|c| c.step).ok_or_else(|| fail("it has scores but no step".into()))?;
        if pipeline.step().is_some_and(|s| s != step) {
            return Err(fail(format!("its step is {step}, model {} was fitted at another", pipeline.name())));
        }
        let signals = map.f64s_of("signals", 1)?[0];
        if !(signals >= 0.0 && signals <= n as f64) {
            return Err(fail("it has more columns than signals; it is damaged".into()));
        }
        group.judge.scorer = Some(scorer(&group, &map, pipeline, signals as usize, step)?);
    }
    Ok(group)
}

fn check_signals(group: &Group, saved: &[MetricKey], by: &str, pipeline: &Pipeline) -> Result<(), String> {
    if pipeline.signals().is_none() || group.intake.keys == saved {
        return Ok(());
    }
    let known = &group.intake.keys;
    let odd = saved.iter().find(|k| !known.contains(k)).or_else(|| known.iter().find(|k| !saved.contains(k)));
    Err(format!(
        "it was written by model {by} with {} signals, model {} has {}{}: start the group anew",
        saved.len(),
        pipeline.name(),
        known.len(),
        odd.map_or_else(|| " in another order".into(), |k| format!(" ({k} is only in one of them)")),
    ))
}

fn scorer(
    group: &Group,
    map: &TensorMap,
    pipeline: &Pipeline,
    signals: usize,
    step: Step,
) -> Result<Scorer, ModelError> {
    let labels = &group.judge.labels;
    let mut state = pipeline.restore_state(labels, signals, step, map.f64s("state")?.1.to_vec())?;
    for (column, key) in group.intake.keys.iter().take(signals).enumerate() {
        pipeline.bind(&mut state, column, key);
    }
    let history = Past::load(map, signals, pipeline.history_len(step))?;
    Ok(Scorer { state, history, line: pipeline.alert_line(labels, step) })
}
