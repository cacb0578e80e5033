//! From samples to closed rows: one group's grid, its open step, and what it remembers of the closed ones.

use super::clock::{Clock, DETECT_FROM, snapped};
use super::lane::{Lane, NOBODY};
use super::pace::Faster;
use super::recent::{Recent, Recorded};
use super::refusal;
use foreglow_core::{CounterRate, MetricKey, Step, Timestamp};
use std::collections::HashMap;

/// Closed steps without a sample after which an optional signal is no longer waited for.
const PATIENCE: u8 = 3;

/// A sample that passed the guards that need no group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Taken {
    pub(super) lane: usize,
    pub(super) time: Timestamp,
    pub(super) value: f64,
    pub(super) index: u32,
}

/// A closed step. Values are signals in the order of columns, counters as rates, NaN = missing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Closed<'a> {
    /// The signals so far.
    pub(super) keys: &'a [MetricKey],
    pub(super) time: Timestamp,
    pub(super) step: Step,
    /// Whole steps missing since the closed step before.
    pub(super) gap: usize,
    pub(super) values: &'a [f64],
}

/// Who judges closed steps; what it says is recorded with them.
pub(super) type OnClose<'a> = &'a mut dyn FnMut(&mut Recent, &Closed<'_>);

/// What became of a sample.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    /// It counts in its step.
    Accepted,
    /// It was there before; what was said of its step.
    Duplicate(Recorded),
    /// It cannot be taken.
    Refused(&'static str, String),
}

/// What waits until the step is known, or the open step.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OpenStep {
    pub(super) index: i64,
    /// Signals that are waited for and have not come.
    pub(super) left: usize,
    /// Whether any signal was waited for; else only a later step closes it.
    pub(super) waits: bool,
}

/// One group's way from samples to closed rows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Intake {
    /// The signals; fixed when a fitted pipeline knows them, else as they come.
    pub(super) keys: Vec<MetricKey>,
    columns: HashMap<MetricKey, usize>,
    /// Signals that every step waits for.
    pub(super) always: Vec<bool>,
    /// The series that feed them, at least one a signal; what follows is by lane where nothing else is said.
    pub(super) lanes: Vec<Lane>,
    /// Closed steps since a lane's last sample.
    pub(super) quiet: Vec<u8>,
    pub(super) counters: Vec<Option<CounterRate>>,
    /// `None` while the step is being found.
    pub(super) clock: Option<Clock>,
    /// What came before the step was known.
    pub(super) held: Vec<Taken>,
    pub(super) open: Option<OpenStep>,
    pub(super) values: Vec<f64>,
    pub(super) times: Vec<Timestamp>,
    pub(super) came: Vec<bool>,
    /// The newest closed step.
    pub(super) newest: Option<i64>,
    pub(super) recent: Recent,
    /// Samples that come faster than the step.
    pub(super) faster: Faster,
    /// Of the step that closes: values with counters as rates, and the same by signal.
    pub(super) raw: Vec<f64>,
    pub(super) rates: Vec<f64>,
}

impl Intake {
    /// A group that has seen nothing. `signals` are known ahead with whether each step waits for them.
    pub(super) fn new(signals: &[(MetricKey, bool)]) -> Self {
        let mut intake = Self {
            keys: Vec::new(),
            columns: HashMap::new(),
            always: Vec::new(),
            lanes: Vec::new(),
            quiet: Vec::new(),
            counters: Vec::new(),
            clock: None,
            held: Vec::new(),
            open: None,
            values: Vec::new(),
            times: Vec::new(),
            came: Vec::new(),
            newest: None,
            recent: Recent::new(0),
            faster: Faster::default(),
            raw: Vec::new(),
            rates: Vec::new(),
        };
        for (key, always) in signals {
            intake.add(key.clone(), *always);
        }
        intake
    }

    /// The column of a signal.
    pub(super) fn column(&self, key: &MetricKey) -> Option<usize> {
        self.columns.get(key).copied()
    }

    /// Appends a signal, with a lane for the first series that feeds it.
    pub(super) fn add(&mut self, key: MetricKey, always: bool) -> usize {
        let column = self.keys.len();
        self.columns.insert(key.clone(), column);
        self.keys.push(key);
        self.always.push(always);
        self.rates.push(f64::NAN);
        self.add_lane(Lane { column, series: NOBODY });
        column
    }

    /// Appends a lane.
    pub(super) fn add_lane(&mut self, lane: Lane) -> usize {
        self.lanes.push(lane);
        // Known ahead but never seen: not waited for unless required. One that comes now is marked when it does.
        self.quiet.push(PATIENCE);
        self.counters.push(None);
        self.values.push(f64::NAN);
        self.times.push(Timestamp(0));
        self.came.push(false);
        self.raw.push(f64::NAN);
        self.recent.grow(self.lanes.len());
        self.lanes.len() - 1
    }

    /// Whether a step waits for a lane: while it was there lately, and of a signal that every step waits for at least one.
    fn waited(&self, lane: usize) -> bool {
        let column = self.lanes[lane].column;
        let fed = |l: usize| self.lanes[l].column == column;
        self.quiet[lane] < PATIENCE
            || (self.always[column]
                && !(0..lane).any(fed)
                && !(lane + 1..self.lanes.len()).any(|l| fed(l) && self.quiet[l] < PATIENCE))
    }

    /// Takes one sample; every step that closes is handed to `on_close`, in order. `step` is the step where it is known.
    pub(super) fn take(&mut self, sample: Taken, step: Option<Step>, on_close: OnClose<'_>) -> Verdict {
        if self.clock.is_none() {
            let Some(step) = step else { return self.hold(sample, on_close) };
            self.clock = Some(Clock { anchor: sample.time, step });
        }
        self.place(sample, on_close)
    }

    /// Closes whatever is open.
    pub(super) fn flush(&mut self, on_close: OnClose<'_>) {
        self.start(on_close);
        self.close(on_close);
    }

    /// The instant of the open step, with the clock known.
    pub(super) fn open_time(&self) -> Option<Timestamp> {
        Some(self.clock?.time(self.open.as_ref()?.index))
    }

    /// The instant of the newest closed step.
    pub(super) fn newest_time(&self) -> Option<Timestamp> {
        Some(self.clock?.time(self.newest?))
    }

    /// Bytes on the heap, keys not counted twice (their text is shared with the pipeline or the caller's maps).
    pub(super) fn bytes(&self) -> usize {
        let column = size_of::<MetricKey>() * 2 + size_of::<usize>() + 8 + size_of::<bool>() + size_of::<f64>();
        let lane = size_of::<Lane>() + 2 + size_of::<Option<CounterRate>>() + 3 * size_of::<f64>();
        let text: usize = self.keys.iter().map(|k| k.name.len() + 32 * k.labels.len()).sum();
        self.keys.capacity() * column
            + self.lanes.capacity() * lane
            + text
            + self.held.capacity() * size_of::<Taken>()
            + self.recent.bytes()
    }

    /// The step at which samples come by now, where that is another one than was found at first: scrapes were set to another
    /// interval, and on the old grid every row would stand alone among gaps, or most samples would be refused.
    pub(super) fn pace(&self) -> Option<Step> {
        let clock = self.clock?;
        if let Some(ms) = self.faster.pace(clock.step) {
            return Step::from_ms(snapped(ms)).ok();
        }
        Step::from_ms(snapped(self.recent.pace()?.saturating_mul(clock.step.ms()))).ok()
    }

    /// Goes on at another step from `t`, the instant of the newest sample. The open step, or else the newest, is number 0.
    pub(super) fn restep(&mut self, step: Step, t: Timestamp) {
        let Some(old) = self.clock else { return };
        let clock = Clock { anchor: t, step };
        let behind = self.open.is_some() || self.faster.pace(old.step).is_some();
        if let Some(open) = &mut self.open {
            open.index = 0;
        }
        self.newest = self.newest.map(|n| clock.index(old.time(n)).min(if behind { -1 } else { 0 }));
        if let Some(n) = self.newest {
            self.recent.restart(n);
        }
        self.faster = Faster::default();
        self.clock = Some(clock);
    }

    fn hold(&mut self, sample: Taken, on_close: OnClose<'_>) -> Verdict {
        // Whatever came while the step was being found is expected of the first step as well.
        self.quiet[sample.lane] = 0;
        if let Some(old) = self.held.iter_mut().find(|h| h.lane == sample.lane && h.time == sample.time) {
            *old = sample;
            return Verdict::Accepted;
        }
        self.held.push(sample);
        if self.held.iter().filter(|h| h.lane == sample.lane).count() >= DETECT_FROM {
            self.start(on_close);
        }
        Verdict::Accepted
    }

    /// Finds the step and takes what was held, in the order of time.
    fn start(&mut self, on_close: OnClose<'_>) {
        if self.clock.is_some() {
            return;
        }
        let mut held = std::mem::take(&mut self.held);
        let mut times = vec![Vec::new(); self.lanes.len()];
        for h in &held {
            times[h.lane].push(h.time);
        }
        self.clock = Clock::detect(&times);
        held.sort_by_key(|h| h.time);
        for sample in held {
            // Nothing is refused here: samples of one step that met are in the order of time, the last wins.
            self.place(sample, on_close);
        }
    }

    fn place(&mut self, sample: Taken, on_close: OnClose<'_>) -> Verdict {
        let Some(clock) = self.clock else { return Verdict::Accepted };
        self.faster.note(sample.lane, sample.time);
        let index = clock.index(sample.time);
        let open = self.open.as_ref().map(|o| o.index);
        if open.or(self.newest).is_some_and(|i| index < i) || (open.is_none() && self.newest == Some(index)) {
            return self.behind(index, sample);
        }
        if open != Some(index) {
            self.close(on_close);
            self.open(index);
        }
        let s = sample.lane;
        let first = !std::mem::replace(&mut self.came[s], true);
        self.values[s] = sample.value;
        self.times[s] = sample.time;
        if first
            && self.waited(s)
            && let Some(open) = &mut self.open
        {
            open.left = open.left.saturating_sub(1);
        }
        if self.open.as_ref().is_some_and(|o| o.waits && o.left == 0) {
            self.close(on_close);
        }
        Verdict::Accepted
    }

    /// A sample behind the newest step.
    fn behind(&mut self, index: i64, sample: Taken) -> Verdict {
        let s = sample.lane;
        let name = &self.keys[self.lanes[s].column];
        let newest = self.open_time().or_else(|| self.newest_time()).unwrap_or(sample.time);
        let recorded = self.recent.find(index, s);
        if self.open.is_none() && self.newest == Some(index) && recorded.is_some_and(|(sent, _)| !sent.is_nan()) {
            self.faster.begin(s, self.times[s], sample.time);
        }
        match recorded {
            Some((sent, said)) if sent == sample.value || (sent.is_nan() && sample.value.is_nan()) => {
                Verdict::Duplicate(said)
            }
            Some((sent, _)) if !sent.is_nan() => Verdict::Refused(
                refusal::CONFLICT,
                format!("{name} at {} is closed with {sent}; {} came too late to change it", sample.time, sample.value),
            ),
            _ => {
                if self.open.is_none() && self.newest == Some(index) {
                    // A signal that comes after the others of its step: the next step waits for it.
                    self.quiet[s] = 0;
                }
                Verdict::Refused(
                    refusal::LATE,
                    format!("{name} at {} lies behind the group's newest step {newest}", sample.time),
                )
            }
        }
    }

    fn open(&mut self, index: i64) {
        let left = (0..self.lanes.len()).filter(|&s| self.waited(s)).count();
        self.open = Some(OpenStep { index, left, waits: left > 0 });
    }

    pub(super) fn close(&mut self, on_close: OnClose<'_>) {
        let (Some(clock), Some(open)) = (self.clock, self.open.take()) else { return };
        for s in 0..self.lanes.len() {
            self.raw[s] = match &mut self.counters[s] {
                Some(counter) if self.came[s] => counter.observe(self.times[s], self.values[s]),
                Some(_) => f64::NAN,
                None => self.values[s],
            };
            self.quiet[s] = if self.came[s] { 0 } else { self.quiet[s].saturating_add(1) };
        }
        self.combine();
        let gap = self.newest.map_or(0, |n| (open.index - n - 1).max(0) as usize);
        self.newest = Some(open.index);
        self.recent.push(open.index, &self.values);
        let closed =
            Closed { keys: &self.keys, time: clock.time(open.index), step: clock.step, gap, values: &self.rates };
        on_close(&mut self.recent, &closed);
        self.values.fill(f64::NAN);
        self.came.fill(false);
    }
}
