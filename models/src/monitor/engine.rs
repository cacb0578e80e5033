use super::group::{Context, Detail, Group};
use super::intake::Taken;
use super::lane::Lane;
use super::observation::{Observation, Refusal};
use super::route::{Visit, guard, order};
use super::suppress::Suppressions;
use super::{MonitorOptions, refusal};
use crate::pipeline::{Pipeline, RowScore};
use foreglow_core::signals::SignalType;
use foreglow_core::{CounterRate, Labels, MetricBatch, MetricKey, Timestamp};
use std::collections::HashMap;
use std::sync::Arc;

/// Series whose place is remembered at least, see [`Monitor::place`].
const LEAST_PLACES: usize = 4_096;
/// A group is fed live when its samples are at most so much behind the caller's clock: 5 minutes or 5 steps.
const LIVE_MS: i64 = 300_000;
const LIVE_STEPS: i64 = 5;

/// Where a series belongs: its group, its lane there once it has one, and whether it is a counter.
#[derive(Debug, Clone)]
pub(super) struct Place {
    slot: usize,
    lane: Option<usize>,
    /// Fingerprint of its key.
    series: u64,
    signal: MetricKey,
    counter: bool,
}

/// All groups of one pipeline: what arrives is put on each group's grid, scored, learnt from, and watched for incidents.
///
/// Pure and synchronous: the clock is the argument `now`, the same batches give the same answers, no group's result
/// depends on what else is in its batch or on where batches are cut. A step is scored before it is learnt from.
///
/// **Grid.** A sample belongs to the nearest multiple of the step from the group's first sample; within an open step the
/// last value wins. A step closes when every signal it waits for has come, or when a later step of the group opens, or
/// when [`Monitor::tick`] finds it past one step of grace. It waits for the signals that the pipeline requires, and for
/// others while they were there in one of the last 3 steps. What comes behind the newest step is a duplicate (same
/// value), or refused as conflict (other value) or late (no value). Online groups find their step from the first 4
/// instants of a series; what came until then is held and then taken in order, and when samples come regularly at another
/// distance for 17 of them, the group goes on at that step.
///
/// **Replicas.** Series that differ only in labels that the rules drop are one signal: counters' rates add up, gauges are
/// averaged over the series that came.
///
/// **Memory** is bounded by `max_groups` x `max_signals_per_group`; a gap of years costs no more than one of hours.
#[derive(Debug, Clone)]
pub struct Monitor {
    pub(super) pipeline: Arc<Pipeline>,
    options: MonitorOptions,
    pub(super) groups: Vec<Group>,
    pub(super) by_labels: HashMap<Labels, usize>,
    pub(super) by_id: HashMap<String, usize>,
    /// A cache: dropping it changes nothing.
    pub(super) places: HashMap<MetricKey, Place>,
    pub(super) suppressions: Suppressions,
    row: RowScore,
}

/// A group's id: its labels as text, `{}` for none.
pub fn group_id(labels: &Labels) -> String {
    if labels.is_empty() { "{}".to_owned() } else { labels.to_string() }
}

impl Monitor {
    /// A monitor without groups.
    pub fn new(pipeline: Arc<Pipeline>, options: MonitorOptions) -> Self {
        Self {
            pipeline,
            options,
            groups: Vec::new(),
            by_labels: HashMap::new(),
            by_id: HashMap::new(),
            places: HashMap::new(),
            suppressions: Suppressions::default(),
            row: RowScore::default(),
        }
    }

    /// What judges the groups.
    pub fn pipeline(&self) -> &Arc<Pipeline> {
        &self.pipeline
    }

    /// Its bounds.
    pub fn options(&self) -> &MonitorOptions {
        &self.options
    }

    /// Takes a batch, scores every step that closes by it, and learns from it. `now` serves only to refuse the far future
    /// and to know whether a group is fed live.
    pub fn observe(&mut self, batch: &MetricBatch, now: Timestamp) -> Observation {
        self.observe_with(batch, now, Detail::Full)
    }

    /// As [`Monitor::observe`], with a say in which steps list their signals.
    pub(crate) fn observe_with(&mut self, batch: &MetricBatch, now: Timestamp, detail: Detail) -> Observation {
        let mut out = Observation::default();
        let (mut visits, turns, mut places) = self.visits(batch, now, &mut out);
        order(&mut visits);
        let mut from = 0;
        while from < visits.len() {
            let turn = visits[from].turn;
            let to = from + visits[from..].partition_point(|v| v.turn == turn);
            self.visit(turns[turn], &visits[from..to], batch, &mut places, now, detail, &mut out);
            from = to;
        }
        self.remember(batch, places);
        out
    }

    /// What [`Monitor::observe`] would say; nothing is learnt, no incident is kept.
    pub fn preview(&self, batch: &MetricBatch, now: Timestamp) -> Observation {
        let mut slots: Vec<usize> = batch
            .keys
            .iter()
            .filter_map(|k| self.by_labels.get(&self.pipeline.rules().place(k).0.group).copied())
            .collect();
        slots.sort_unstable();
        slots.dedup();
        let mut copy = Self::new(self.pipeline.clone(), self.options);
        copy.suppressions = self.suppressions.clone();
        copy.options.max_groups = self.options.max_groups.saturating_sub(self.groups.len() - slots.len());
        for slot in slots {
            copy.insert(self.groups[slot].clone());
        }
        copy.observe(batch, now)
    }

    /// The end of a replay: closes every open step. Groups whose step is not yet known get it from what they have.
    pub fn flush(&mut self, _now: Timestamp) -> Observation {
        self.each(Detail::Full, Group::flush)
    }

    /// As [`Monitor::flush`], with a say in which steps list their signals.
    pub(crate) fn flush_with(&mut self, detail: Detail) -> Observation {
        self.each(detail, Group::flush)
    }

    /// Notices silence; to be called by live callers now and then, never by replays. In groups that are fed live (the newest
    /// sample came within 5 minutes or 5 steps of `now`), a step past one step of grace closes, and a group that misses as
    /// many whole steps as the incident rule looks at gets status `missing` and an incident of that kind.
    pub fn tick(&mut self, now: Timestamp) -> Observation {
        self.each(Detail::Full, |group, ctx| group.tick(now, ctx))
    }

    pub(super) fn get(&self, id: &str) -> Option<&Group> {
        self.by_id.get(id).map(|&slot| &self.groups[slot])
    }

    pub(super) fn insert(&mut self, group: Group) -> usize {
        let slot = self.groups.len();
        self.by_labels.insert(group.judge.labels.clone(), slot);
        self.by_id.insert(group.judge.id.clone(), slot);
        self.groups.push(group);
        slot
    }

    fn each(&mut self, detail: Detail, mut run: impl FnMut(&mut Group, &mut Context<'_>)) -> Observation {
        let mut out = Observation::default();
        let mut slots: Vec<usize> = (0..self.groups.len()).collect();
        slots.sort_by(|a, b| self.groups[*a].judge.id.cmp(&self.groups[*b].judge.id));
        for slot in slots {
            let mut ctx = Context {
                pipeline: &self.pipeline,
                step: self.options.step,
                suppressions: &self.suppressions,
                detail,
                row: &mut self.row,
                out: &mut out,
            };
            run(&mut self.groups[slot], &mut ctx);
        }
        out
    }

    /// Guards and places every sample: visits, the slot of each turn, and the place of each series.
    fn visits(
        &mut self,
        batch: &MetricBatch,
        now: Timestamp,
        out: &mut Observation,
    ) -> (Vec<Visit>, Vec<usize>, Vec<Option<Place>>) {
        let n = batch.keys.len();
        let mut places: Vec<Option<Place>> = vec![None; n];
        let mut reached = vec![Timestamp(i64::MIN); n];
        let mut turns: Vec<usize> = Vec::new();
        let mut turn_of: HashMap<usize, usize> = HashMap::new();
        let mut visits = Vec::with_capacity(batch.samples.len());
        for (at, sample) in batch.samples.iter().enumerate() {
            let Some(value) = guard(batch, sample, now, &self.options, out) else { continue };
            let series = sample.series as usize;
            if places[series].is_none() {
                match self.place(&batch.keys[series]) {
                    Ok(place) => places[series] = Some(place),
                    Err(_) if sample.value.is_infinite() => continue,
                    Err(detail) => {
                        out.refused.push(Refusal { index: sample.index, code: refusal::TOO_MANY_GROUPS, detail });
                        continue;
                    }
                }
            }
            let Some(place) = &places[series] else { continue };
            reached[series] = reached[series].max(sample.timestamp);
            let turn = *turn_of.entry(place.slot).or_insert_with(|| {
                turns.push(place.slot);
                turns.len() - 1
            });
            visits.push(Visit { turn, reached: reached[series], at, value });
        }
        (visits, turns, places)
    }

    /// Where a series belongs; its group is made when there is none.
    fn place(&mut self, key: &MetricKey) -> Result<Place, String> {
        if let Some(place) = self.places.get(key) {
            return Ok(place.clone());
        }
        let rules = self.pipeline.rules();
        let placement = rules.place(key).0;
        let counter = rules.signal_of(key).is_some_and(|s| s.kind == SignalType::CounterRate);
        let slot = match self.by_labels.get(&placement.group) {
            Some(&slot) => slot,
            None if self.groups.len() >= self.options.max_groups => {
                return Err(format!(
                    "group {} would be number {}, {} are allowed: raise the bound or group by fewer labels",
                    group_id(&placement.group),
                    self.groups.len() + 1,
                    self.options.max_groups
                ));
            }
            None => {
                let id = group_id(&placement.group);
                self.insert(Group::new(id, placement.group, &self.pipeline.clone()))
            }
        };
        Ok(Place { slot, lane: None, series: key.fingerprint(), signal: placement.signal, counter })
    }

    #[expect(clippy::too_many_arguments, reason = "one private step of observe, split for reading")]
    fn visit(
        &mut self,
        slot: usize,
        visits: &[Visit],
        batch: &MetricBatch,
        places: &mut [Option<Place>],
        now: Timestamp,
        detail: Detail,
        out: &mut Observation,
    ) {
        let group = &mut self.groups[slot];
        let mut ctx = Context {
            pipeline: &self.pipeline,
            step: self.options.step,
            suppressions: &self.suppressions,
            detail,
            row: &mut self.row,
            out,
        };
        for visit in visits {
            let sample = batch.samples[visit.at];
            let Some(place) = &mut places[sample.series as usize] else { continue };
            let refused = match lane(group, place, &self.pipeline, &self.options) {
                Ok(lane) => {
                    let taken = Taken { lane, time: sample.timestamp, value: visit.value, index: sample.index };
                    group.take(taken, &mut ctx).err()
                }
                Err(refusal) => Some(refusal),
            };
            match refused {
                // An infinite value was refused before; its step has been told that it is missing.
                _ if sample.value.is_infinite() => {}
                Some((code, detail)) => ctx.out.refused.push(Refusal { index: sample.index, code, detail }),
                None => ctx.out.accepted += 1,
            }
            let reach = group.intake.clock.map_or(0, |c| LIVE_STEPS.saturating_mul(c.step.ms())).max(LIVE_MS);
            group.live = now.ms().saturating_sub(sample.timestamp.ms()) <= reach;
        }
        group.finish(ctx.out);
    }

    /// Keeps the places of a batch for the next; the cache is bounded, so that series that come and go cost nothing.
    fn remember(&mut self, batch: &MetricBatch, places: Vec<Option<Place>>) {
        if self.places.len() > LEAST_PLACES.max(64 * self.groups.len()) {
            self.places.clear();
        }
        for (key, place) in batch.keys.iter().zip(places) {
            if let Some(place) = place.filter(|p| p.lane.is_some())
                && !self.places.contains_key(key)
            {
                self.places.insert(key.clone(), place);
            }
        }
    }
}

/// The lane of a series in its group, made when the pipeline takes whatever comes, or another series feeds its signal.
fn lane(
    group: &mut Group,
    place: &mut Place,
    pipeline: &Pipeline,
    options: &MonitorOptions,
) -> Result<usize, (&'static str, String)> {
    let intake = &mut group.intake;
    if let Some(lane) = place.lane.filter(|l| intake.feeds(*l, place.series)) {
        return Ok(lane);
    }
    let full = |of: usize| {
        let most = options.max_signals_per_group;
        let problem =
            format!("{} would be series {} of group {}, {most} are allowed", place.signal, of + 1, group.judge.id);
        (refusal::TOO_MANY_SIGNALS, problem)
    };
    let there = intake.lanes.len();
    let room = there < options.max_signals_per_group;
    let column = match intake.column(&place.signal) {
        Some(column) => column,
        None if pipeline.signals().is_some() => {
            let known = intake.keys.len();
            return Err((
                refusal::UNKNOWN_SIGNAL,
                format!("{} is none of the {known} signals that model {} was fitted on", place.signal, pipeline.name()),
            ));
        }
        None if !room => return Err(full(there)),
        None => intake.add(place.signal.clone(), false),
    };
    let lane = match intake.lane(column, place.series) {
        Some(lane) => lane,
        None if !room => return Err(full(there)),
        None => intake.add_lane(Lane { column, series: place.series }),
    };
    if place.counter {
        intake.counters[lane].get_or_insert_with(CounterRate::default);
    }
    place.lane = Some(lane);
    Ok(lane)
}
