use super::PipelineSignal;
use super::calibration::{Calibration, HeldOut, NO_MEAN, combined, mean_present, running_mean};
use super::members::{Member, Role};
use super::row::RowScore;
use super::rules::{SignalRule, Verdict, to_shares, top_three};
use super::scaling::Scaling;
use super::state::ScoreState;
use crate::calibrate::RunningTail;
use crate::detect::{BaselineShape, FittedDetector};
use crate::forecast::FittedForecaster;
use foreglow_core::{AlertLine, Detector, Labels, Row, Scope, Step};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What one group has of its own (or shares): scaling, detectors, calibration, alert line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GroupParts {
    pub(super) scaling: Scaling,
    /// One a detector of the recipe; `None` where the pipeline runs it itself or the group has too little for it.
    pub(super) detectors: Vec<Option<Arc<FittedDetector>>>,
    pub(super) calibration: Arc<Calibration>,
    pub(super) line: AlertLine,
}

/// The fitted half of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fitted {
    pub(super) step: Step,
    pub(super) signals: Vec<PipelineSignal>,
    pub(super) rules: Vec<SignalRule>,
    pub(super) members: Vec<Member>,
    pub(super) groups: BTreeMap<Labels, GroupParts>,
    /// What groups get that were not there.
    pub(super) shared: GroupParts,
    pub(super) forecaster: Option<FittedForecaster>,
}

/// Running means in the state: one a persistence member.
fn means_len(members: &[Member]) -> usize {
    members.iter().filter(|m| m.is_persistence()).count()
}

/// Length of the state before baselines and detectors: the running means, then the running tail of what all say.
fn head_len(members: &[Member]) -> usize {
    means_len(members) + RunningTail::LEN
}

/// The numbers of a group that has seen nothing.
pub(super) fn start(members: &[Member], parts: &GroupParts, baseline: &BaselineShape, signals: usize) -> Vec<f64> {
    let detectors: usize = parts.detectors.iter().flatten().map(|d| d.state_len()).sum();
    let head = head_len(members);
    let mut numbers = vec![0.0; head + signals * baseline.len() + detectors];
    let means = means_len(members);
    numbers[..means].fill(NO_MEAN);
    RunningTail::reset_exponential(&mut numbers[means..head]);
    let (blocks, mut rest) = numbers[head..].split_at_mut(signals * baseline.len());
    for b in blocks.chunks_exact_mut(baseline.len()) {
        baseline.reset(b);
    }
    for d in parts.detectors.iter().flatten() {
        let (own, more) = rest.split_at_mut(d.state_len());
        d.reset(own);
        rest = more;
    }
    numbers
}

/// `-ln p` of the fixed map, corrected by how such values were spread lately: a system that changes slowly leaves the slice
/// that the map was learnt on, and who says "one in a thousand" every ten minutes has to be believed less. At first the
/// correction is none.
///
/// Chosen on faults injected into later train rows: it brings false alarms into the budget. Correcting each member as well
/// cost the ranking there.
fn recalibrated(state: &mut [f64], neg_ln_p: f64) -> f64 {
    let mut tail = RunningTail::new(state);
    let said = tail.neg_ln_p(neg_ln_p);
    tail.learn(neg_ln_p);
    said
}

/// What the first half of scoring a row leaves: verdicts, and whether anything counts.
struct Verdicts {
    any_counts: bool,
    any_limit: bool,
}

/// One pass over the members of a row. `visit(member, raw score of the group or of each signal)` is called for each
/// member but persistence.
pub(super) struct Pass<'a> {
    pub(super) members: &'a [Member],
    pub(super) rules: &'a [SignalRule],
    pub(super) parts: &'a GroupParts,
}

impl Pass<'_> {
    /// Guards and scales the row, asks the baselines (expected values and bands, their `-ln p` into `out.signals`), then
    /// each detector. Everything learns from the row.
    fn run(
        &self,
        numbers: &mut [f64],
        baseline: &BaselineShape,
        row: &Row<'_>,
        out: &mut RowScore,
        mut visit: impl FnMut(usize, &mut RowScore),
    ) -> Verdicts {
        let n = self.rules.len().min(row.values.len());
        out.prepare(self.members.len(), self.rules.len());
        let (blocks, mut rest) = numbers[head_len(self.members)..].split_at_mut(self.rules.len() * baseline.len());
        let mut verdicts = Verdicts { any_counts: false, any_limit: false };
        let mut ready_in = usize::MAX;
        let (mut blocks, mut values) = (blocks.chunks_exact_mut(baseline.len()), row.values.iter());
        for i in 0..n {
            let (Some(block), Some(x)) = (blocks.next(), values.next()) else { break };
            let x = self.rules[i].sensible(*x);
            let said = baseline.step(block, row.time, row.gap, x, self.rules[i].worse);
            ready_in = ready_in.min(said.ready_in);
            let verdict = self.rules[i].judge(x, said.expected);
            verdicts.any_counts |= verdict.counts;
            verdicts.any_limit |= verdict.at_limit;
            out.work.counts[i] = verdict.counts;
            out.work.limits[i] = verdict.at_limit;
            let signal = &mut out.signals[i];
            (signal.expected, signal.lower, signal.upper) = (said.expected, said.lower, said.upper);
            signal.neg_ln_p = said.neg_ln_p;
            out.work.values[i] = x;
            out.work.scaled[i] = self.parts.scaling.apply(i, x);
        }
        out.work.scaled[n..].fill(f64::NAN);
        out.work.values[n..].fill(f64::NAN);
        out.ready_in = if ready_in == usize::MAX { 0 } else { ready_in };
        // Detectors in the order of the recipe, as their state lies.
        for (at, d) in self.parts.detectors.iter().enumerate() {
            let Some(d) = d else { continue };
            let (own, more) = std::mem::take(&mut rest).split_at_mut(d.state_len());
            rest = more;
            let mut raw = std::mem::take(&mut out.work.raw);
            raw.clear();
            let scaled = Row { values: &out.work.scaled, ..*row };
            d.step(own, &scaled, &mut raw);
            out.work.raw = raw;
            if let Some(m) = self.members.iter().position(|m| m.role == Role::Detector(at)) {
                visit(m, out);
            }
        }
        if let Some(m) = self.members.iter().position(|m| m.role == Role::Baseline) {
            out.work.raw.clear();
            for (r, s) in out.work.raw.signals.iter_mut().zip(&out.signals) {
                *r = s.neg_ln_p;
            }
            visit(m, out);
        }
        verdicts
    }

    /// What members say of a row of the calibration slice: raw scores and band ratios appended to `held`.
    pub(super) fn collect(
        &self,
        numbers: &mut [f64],
        baseline: &BaselineShape,
        row: &Row<'_>,
        out: &mut RowScore,
        held: Option<&mut HeldOut>,
    ) {
        let Some(held) = held else {
            self.run(numbers, baseline, row, out, |_, _| {});
            return;
        };
        let before = held.rows;
        self.run(numbers, baseline, row, out, |m, out| match self.members[m].scope {
            Scope::Group => held.raw[m].push(out.work.raw.group),
            Scope::Signal => held.raw[m].extend(&out.work.raw.signals),
        });
        held.rows = before + 1;
        // A member that this group lacks has no opinion.
        for (m, raw) in self.members.iter().zip(&mut held.raw) {
            let width = if m.scope == Scope::Signal { held.signals } else { 1 };
            raw.resize(held.rows * width, f64::NAN);
        }
        held.ratios.extend(out.signals.iter().zip(&out.work.values).map(|(s, x)| {
            let half = s.upper - s.expected;
            if half > 0.0 { (x - s.expected).abs() / half } else { f64::NAN }
        }));
    }

    /// Scores a row, then learns from it.
    pub(super) fn score(&self, state: &mut ScoreState, row: &Row<'_>, out: &mut RowScore) {
        let (line, baseline) = (state.line, state.baseline);
        let maps = &self.parts.calibration;
        let verdicts = self.run(&mut state.numbers, &baseline, row, out, |m, out| {
            let own = &maps.members[m];
            let work = &mut out.work;
            match self.members[m].scope {
                Scope::Signal => {
                    // Raw scores give way to -ln p; a signal that does not count says nothing unusual.
                    work.top.clear();
                    let blame = match self.members[m].role {
                        Role::Detector(at) => self.parts.detectors[at].as_ref().and_then(|d| d.blame()),
                        _ => None,
                    };
                    let mut total = 0.0;
                    for (i, raw) in work.raw.signals.iter_mut().enumerate() {
                        let p = own.signals[i].neg_ln_p(*raw);
                        let heard = if p.is_nan() || work.counts[i] { p } else { 0.0 };
                        if !p.is_nan() {
                            work.top.push(heard);
                            // Where residuals smear over signals they say little of the one at hand.
                            if blame.is_none() {
                                work.signal_p[i] += p;
                                work.signal_n[i] += 1.0;
                            }
                        }
                        // From here on the signal's part in the member's score.
                        *raw = match blame {
                            Some(factors) if heard > 0.0 => *raw * *raw * factors[i],
                            None if heard > 0.0 => heard * heard,
                            _ => 0.0,
                        };
                        total += *raw;
                    }
                    let p = own.group.neg_ln_p(top_three(&mut work.top));
                    out.members[m] = p;
                    if total > 0.0 && total.is_finite() && p > 0.0 {
                        for (e, part) in work.evidence.iter_mut().zip(&work.raw.signals) {
                            *e += p * part / total;
                        }
                    }
                }
                Scope::Group => {
                    let p = own.group.neg_ln_p(work.raw.group);
                    out.members[m] = p;
                    let counted = |i: usize, v: f64| if work.counts[i] && v > 0.0 { v } else { 0.0 };
                    let total: f64 = work.raw.signals.iter().enumerate().map(|(i, v)| counted(i, *v)).sum();
                    if total > 0.0 && total.is_finite() && p > 0.0 {
                        for (i, v) in work.raw.signals.iter().enumerate() {
                            work.evidence[i] += p * counted(i, *v) / total;
                        }
                    }
                }
            }
        });
        let (means, tail) = state.numbers.split_at_mut(means_len(self.members));
        let plain = mean_present(out.members.iter().copied());
        let mut head = 0;
        for (m, member) in self.members.iter().enumerate() {
            let Role::Persistence { steps, .. } = member.role else { continue };
            let mean = &mut means[head];
            head += 1;
            *mean = running_mean(*mean, plain, steps);
            if !plain.is_nan() {
                out.members[m] = maps.members[m].group.neg_ln_p(*mean);
            }
        }
        let p = recalibrated(tail, maps.combined.neg_ln_p(combined(self.members, |m| out.members[m])));
        out.neg_ln_p = if verdicts.any_limit && p.is_nan() {
            line
        } else {
            SignalRule::hold_group(verdicts.any_counts, verdicts.any_limit, p, line)
        };
        if !out.neg_ln_p.is_nan() {
            out.ready_in = 0;
        }
        self.explain(line, out);
    }

    /// Signals' own scores, bands and shares.
    fn explain(&self, line: f64, out: &mut RowScore) {
        let work = &mut out.work;
        for (i, s) in out.signals.iter_mut().enumerate() {
            let own = if work.signal_n[i] > 0.0 { work.signal_p[i] / work.signal_n[i] } else { s.neg_ln_p };
            let verdict = Verdict { counts: work.counts[i], at_limit: work.limits[i] };
            s.neg_ln_p = if work.values[i].is_nan() { f64::NAN } else { SignalRule::hold(verdict, own, line) };
            let factor = self.parts.calibration.bands[i];
            s.lower = s.expected - (s.expected - s.lower) * factor;
            s.upper = s.expected + (s.upper - s.expected) * factor;
            if work.limits[i] {
                work.evidence[i] += line;
            }
        }
        let values = &work.values;
        to_shares(&mut work.evidence, |i| !values[i].is_nan());
        for (s, share) in out.signals.iter_mut().zip(&work.evidence) {
            s.share = *share;
        }
    }
}

impl Fitted {
    pub(super) fn parts(&self, group: &Labels) -> &GroupParts {
        self.groups.get(group).unwrap_or(&self.shared)
    }

    pub(super) fn pass<'a>(&'a self, group: &Labels) -> Pass<'a> {
        Pass { members: &self.members, rules: &self.rules, parts: self.parts(group) }
    }
}
