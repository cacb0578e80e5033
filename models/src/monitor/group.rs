//! One group: its intake, the state of its models, what it said, and its alarm.

use super::incident::Watch;
use super::intake::{Closed, Intake, Taken, Verdict};
use super::kind::absent;
use super::observation::{GroupInfo, Observation, SignalHistory, SignalScore, StepResult, StepStatus};
use super::past::Past;
use super::presence::{LEAST_WAIT_MS, Presence, REMOVED};
use super::recent::{Recent, Recorded};
use super::suppress::Suppressions;
use crate::pipeline::{Pipeline, RowScore, ScoreState};
use foreglow_core::{AlertLine, Labels, MetricKey, Row, Step, Timestamp};
use std::collections::BTreeSet;
use std::f64::consts::LN_10;

/// Which steps list their signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// All of them.
    Full,
    /// Those at or above the alert line.
    Anomalous,
}

/// What a group needs to judge a step, and where it says so.
pub(super) struct Context<'a> {
    pub(super) pipeline: &'a Pipeline,
    /// The configured step of online groups.
    pub(super) step: Option<Step>,
    pub(super) suppressions: &'a Suppressions,
    pub(super) detail: Detail,
    /// Reused from row to row.
    pub(super) row: &'a mut RowScore,
    pub(super) out: &'a mut Observation,
}

/// The state of the models, made when the step is known.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scorer {
    pub(super) state: ScoreState,
    pub(super) history: Past,
    pub(super) line: AlertLine,
}

/// What the group last said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Last {
    pub(super) status: StepStatus,
    pub(super) score: f64,
    pub(super) ready_at: Option<Timestamp>,
}

/// From when on a group is listened to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Listening {
    /// From the first tick on.
    Resumed,
    /// From this instant on.
    Since(Timestamp),
}

/// Silence shorter than this is the way that samples take, not the group: a busy sender or a slow network holds up steps
/// of a quarter of a second for longer than any rule over a few of them would allow. Milliseconds.
pub(super) const LEAST_SILENCE_MS: i64 = 5_000;

/// One group: where its samples come in, and who judges what closes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Group {
    pub(super) intake: Intake,
    pub(super) judge: Judge,
    /// Fed close to the caller's clock, so that silence can be told from a replay.
    pub(super) live: bool,
    /// Silence counts from here: whoever saved this state was not listening until it was taken up again.
    pub(super) listening: Listening,
    touched: bool,
}

/// The judging half of a group.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Judge {
    pub(super) id: String,
    pub(super) labels: Labels,
    pub(super) inherited: bool,
    pub(super) scorer: Option<Scorer>,
    pub(super) watch: Watch,
    /// By column.
    pub(super) presence: Vec<Presence>,
    pub(super) last: Last,
    pub(super) silent: bool,
    /// Changed since the monitor was last asked.
    pub(super) dirty: bool,
    /// Steps of this batch whose recorded score was given again.
    repeated: BTreeSet<i64>,
    /// Whether the running stretch went on in this batch.
    raised: bool,
}

impl Group {
    pub(super) fn new(id: String, labels: Labels, pipeline: &Pipeline) -> Self {
        let known: Vec<(MetricKey, bool)> =
            pipeline.signals().unwrap_or_default().iter().map(|s| (s.key.clone(), s.required)).collect();
        let judge = Judge {
            id,
            inherited: !pipeline.is_online() && !pipeline.knows(&labels),
            labels,
            scorer: None,
            watch: Watch::default(),
            presence: Vec::new(),
            last: Last { status: StepStatus::Pending, score: f64::NAN, ready_at: None },
            silent: false,
            dirty: true,
            repeated: BTreeSet::new(),
            raised: false,
        };
        let listening = Listening::Since(Timestamp(i64::MIN));
        Self { intake: Intake::new(&known), judge, live: false, listening, touched: false }
    }

    /// Takes one sample and says what closed by it. A refusal is the caller's to note.
    pub(super) fn take(&mut self, sample: Taken, ctx: &mut Context<'_>) -> Result<(), (&'static str, String)> {
        let step = ctx.pipeline.step().or(ctx.step);
        let Self { intake, judge, .. } = self;
        let mut verdict = intake.take(sample, step, &mut |recent, closed| judge.judge(recent, closed, ctx));
        if step.is_none()
            && let Some(pace) = intake.pace()
        {
            let counts = verdict == Verdict::Accepted;
            self.restep(pace, sample.time, ctx);
            let Self { intake, judge, .. } = self;
            if !counts {
                // On the old grid its step was closed.
                verdict = intake.take(sample, step, &mut |recent, closed| judge.judge(recent, closed, ctx));
            }
        }
        self.touched = true;
        match verdict {
            Verdict::Duplicate(said) => {
                if let Some(clock) = self.intake.clock {
                    self.judge.repeat(clock.time(said.index), said, ctx.out);
                }
            }
            Verdict::Accepted => self.judge.dirty = true,
            Verdict::Refused(code, detail) => {
                self.judge.dirty = true;
                return Err((code, detail));
            }
        }
        Ok(())
    }

    /// The end of a batch: names what stays open and what is above the line.
    pub(super) fn finish(&mut self, out: &mut Observation) {
        let judge = &mut self.judge;
        if std::mem::take(&mut self.touched) {
            let mut waiting: Vec<Timestamp> = self.intake.held.iter().map(|h| h.time).collect();
            waiting.sort_unstable();
            waiting.dedup();
            waiting.extend(self.intake.open_time());
            for t in waiting {
                let mut pending = StepResult::silent(&judge.id, t, StepStatus::Pending, judge.inherited);
                pending.ready_at = judge.last.ready_at;
                out.results.push(pending);
            }
        }
        if std::mem::take(&mut judge.raised) {
            out.findings.extend(judge.watch.finding(&judge.id));
        }
        judge.repeated.clear();
    }

    /// Closes whatever is open.
    pub(super) fn flush(&mut self, ctx: &mut Context<'_>) {
        let Self { intake, judge, .. } = self;
        intake.flush(&mut |recent, closed| judge.judge(recent, closed, ctx));
        self.finish(ctx.out);
    }

    /// Silence by the caller's clock: closes a step that is past its grace, and raises what has been quiet for as many
    /// steps as the incident rule looks at, and for [`LEAST_SILENCE_MS`].
    pub(super) fn tick(&mut self, now: Timestamp, ctx: &mut Context<'_>) {
        let Self { intake, judge, live, listening, .. } = self;
        let since = match *listening {
            Listening::Since(t) => t,
            Listening::Resumed => now,
        };
        *listening = Listening::Since(since);
        let Some(clock) = intake.clock.filter(|_| *live) else { return };
        let step = clock.step.ms();
        if intake.open_time().is_some_and(|t| now >= t.plus(2 * step)) {
            intake.close(&mut |recent, closed| judge.judge(recent, closed, ctx));
        }
        let Some(newest) = intake.newest_time().filter(|_| intake.open.is_none()) else { return };
        // One step to come in, one of grace.
        let missing = now.ms().saturating_sub(newest.ms()) / step - 1;
        let heard_nothing = now.ms().saturating_sub(newest.max(since).ms());
        let enough = (ctx.pipeline.incidents().of as i64 + 1).saturating_mul(step).max(LEAST_SILENCE_MS);
        if heard_nothing >= enough {
            judge.fall_silent(&intake.keys, newest.plus(missing * step), ctx);
        }
        // As a signal that was removed: see [`Presence`].
        let removed = enough.saturating_mul(i64::from(REMOVED)).max(LEAST_WAIT_MS);
        if judge.silent && heard_nothing >= removed && judge.watch.incident_id().is_some() {
            judge.watch.give_up(&judge.id, newest.plus(missing * step), &mut ctx.out.incidents);
            judge.dirty = true;
        }
        self.finish(ctx.out);
    }

    pub(super) fn info(&self) -> GroupInfo {
        GroupInfo {
            id: self.judge.id.clone(),
            labels: self.judge.labels.clone(),
            signals: self.intake.keys.clone(),
            step: self.intake.clock.map(|c| c.step),
            newest: self.intake.newest_time(),
            ready_at: self.judge.last.ready_at,
            status: if self.judge.silent { StepStatus::Missing } else { self.judge.last.status },
            score: self.judge.last.score,
            inherited: self.judge.inherited,
            incident: self.judge.watch.incident_id().map(str::to_owned),
        }
    }

    pub(super) fn history(&self, signal: &MetricKey) -> Option<SignalHistory> {
        let values = self.judge.scorer.as_ref()?.history.series(self.intake.column(signal)?).collect();
        Some(SignalHistory { values, last: self.intake.newest_time()?, step: self.intake.clock?.step })
    }

    pub(super) fn bytes(&self) -> usize {
        let models = self.judge.scorer.as_ref().map_or(0, |s| s.state.numbers.capacity() * 8 + s.history.bytes());
        let presence = self.judge.presence.capacity() * size_of::<Presence>();
        size_of::<Self>() + self.judge.id.capacity() + self.intake.bytes() + presence + models
    }
}

impl Judge {
    fn judge(&mut self, recent: &mut Recent, closed: &Closed<'_>, ctx: &mut Context<'_>) {
        let keys = closed.keys;
        let pipeline = ctx.pipeline;
        let scorer = self.scorer.get_or_insert_with(|| Scorer::new(pipeline, &self.labels, keys.len(), closed.step));
        scorer.grow(pipeline, keys);
        let row = Row { time: closed.time, values: closed.values, gap: closed.gap };
        pipeline.score(&self.labels, &mut scorer.state, &row, ctx.row);
        scorer.history.push_missing(closed.gap);
        scorer.history.push(closed.values);

        let said = &*ctx.row;
        let mut result = StepResult::silent(&self.id, closed.time, StepStatus::Scored, self.inherited);
        say(&mut result, scorer.line, said.neg_ln_p);
        let suppressed = ctx.suppressions.reason(&self.labels, keys, closed.time).is_some();
        result.status = if closed.values.iter().all(|v| v.is_nan()) {
            StepStatus::Missing
        } else if said.ready_in > 0 && (said.neg_ln_p.is_nan() || result.score < 1.0) {
            // A limit that is reached is told from the first step on; nothing else has an opinion yet.
            StepStatus::WarmingUp
        } else if suppressed {
            StepStatus::Suppressed
        } else {
            StepStatus::Scored
        };
        result.is_anomaly = result.status == StepStatus::Scored && result.score >= 1.0;
        if said.ready_in > 0 {
            result.ready_at = Some(closed.time.plus((said.ready_in as i64).saturating_mul(closed.step.ms())));
        }
        result.members = said.members.iter().map(|m| scorer.line.score(*m)).collect();
        if ctx.detail == Detail::Full || result.is_anomaly {
            result.signals = signals(keys, closed.values, said, scorer.line);
        }
        recent.say(said.neg_ln_p, result.is_anomaly);
        let gone = self.presence(closed, pipeline.incidents().of);
        self.watch.hold(self.presence.iter().any(|p| p.is_gone()));
        self.raised |= self.watch.step(pipeline.incidents(), &result, closed.gap, &mut ctx.out.incidents);
        let quiet = |c: usize| ctx.suppressions.reason(&self.labels, &keys[c..=c], closed.time).is_some();
        let (kept_back, told): (Vec<usize>, Vec<usize>) = gone.into_iter().partition(|c| quiet(*c));
        for c in kept_back {
            self.presence[c].keep_back();
        }
        let missed = absent(told.into_iter().map(|c| (&keys[c], said.signals[c].expected)));
        if !missed.is_empty() {
            self.watch.absence(pipeline.incidents(), &self.id, closed.time, missed, &mut ctx.out.incidents);
            self.raised = true;
        }
        self.last = Last { status: result.status, score: result.score, ready_at: result.ready_at };
        self.silent = false;
        self.dirty = true;
        ctx.out.results.push(result);
    }

    /// Columns of which it shows at this step that they come no more.
    fn presence(&mut self, closed: &Closed<'_>, of: usize) -> Vec<usize> {
        self.presence.resize(closed.values.len(), Presence::default());
        let steps = self.presence.iter_mut().zip(closed.values).enumerate();
        steps.filter_map(|(c, (p, v))| p.step(!v.is_nan(), of, closed.step).then_some(c)).collect()
    }

    /// A step that was closed before is delivered again.
    fn repeat(&mut self, time: Timestamp, said: Recorded, out: &mut Observation) {
        let Some(scorer) = self.scorer.as_ref().filter(|_| self.repeated.insert(said.index)) else { return };
        let mut result = StepResult::silent(&self.id, time, StepStatus::Duplicate, self.inherited);
        say(&mut result, scorer.line, said.neg_ln_p);
        result.is_anomaly = said.anomalous;
        out.results.push(result);
    }

    fn fall_silent(&mut self, keys: &[MetricKey], time: Timestamp, ctx: &mut Context<'_>) {
        // What is still silent when a suppression ends is told then.
        let suppressed = ctx.suppressions.reason(&self.labels, keys, time).is_some();
        if self.silent || self.last.status == StepStatus::WarmingUp || suppressed {
            return;
        }
        self.silent = true;
        self.dirty = true;
        ctx.out.results.push(StepResult::silent(&self.id, time, StepStatus::Missing, self.inherited));
        self.watch.silence(ctx.pipeline.incidents(), &self.id, time, &mut ctx.out.incidents);
        self.raised = true;
    }
}

impl Scorer {
    pub(super) fn new(pipeline: &Pipeline, group: &Labels, signals: usize, step: Step) -> Self {
        // An online state starts empty and grows, so that every column is bound to its rule once.
        let start = if pipeline.is_online() { 0 } else { signals };
        Self {
            state: pipeline.new_state(group, start, step),
            history: Past::new(start, pipeline.history_len(step)),
            line: pipeline.alert_line(group, step),
        }
    }

    pub(super) fn grow(&mut self, pipeline: &Pipeline, keys: &[MetricKey]) {
        let from = self.state.signals();
        if from < keys.len() {
            pipeline.grow(&mut self.state, keys.len());
            for (column, key) in keys.iter().enumerate().skip(from) {
                pipeline.bind(&mut self.state, column, key);
            }
            self.history.grow(keys.len());
        }
    }
}

fn say(result: &mut StepResult, line: AlertLine, neg_ln_p: f64) {
    result.score = line.score(neg_ln_p);
    result.surprise = neg_ln_p / LN_10;
    result.p_value = (-neg_ln_p).exp().max(foreglow_core::P_FLOOR);
    if neg_ln_p.is_nan() {
        result.p_value = f64::NAN;
    }
}

fn signals(keys: &[MetricKey], values: &[f64], said: &RowScore, line: AlertLine) -> Vec<SignalScore> {
    keys.iter()
        .zip(values)
        .zip(&said.signals)
        .map(|((key, actual), s)| SignalScore {
            key: key.clone(),
            actual: *actual,
            expected: s.expected,
            lower: s.lower,
            upper: s.upper,
            score: line.score(s.neg_ln_p),
            share: s.share,
        })
        .collect()
}
