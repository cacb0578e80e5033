use super::row::RowScore;
use super::rules::{SignalRule, to_shares, top_three};
use super::state::ScoreState;
use crate::calibrate::RunningTail;
use crate::detect::BaselineShape;
use foreglow_core::Row;
use foreglow_core::signals::Signals;

/// Numbers of state before the signals' own: the tail of the group's score.
const HEAD: usize = RunningTail::LEN;

/// Length of one signal's state: which rule it has (0 = none, else its place + 1), then the baseline's.
fn block(shape: &BaselineShape) -> usize {
    1 + shape.len()
}

/// How many numbers a group of `signals` needs.
pub(super) fn state_len(shape: &BaselineShape, signals: usize) -> usize {
    HEAD + signals * block(shape)
}

/// The numbers of a group that has seen nothing.
pub(super) fn start(shape: &BaselineShape, signals: usize) -> Vec<f64> {
    let mut numbers = vec![0.0; HEAD];
    RunningTail::reset_mean_of_three(&mut numbers);
    grow(shape, &mut numbers, signals);
    numbers
}

/// Appends signals.
pub(super) fn grow(shape: &BaselineShape, numbers: &mut Vec<f64>, signals: usize) {
    let from = numbers.len();
    numbers.resize(state_len(shape, signals).max(from), 0.0);
    for s in numbers[from..].chunks_exact_mut(block(shape)) {
        shape.reset(&mut s[1..]);
    }
}

/// Remembers which rule a signal has.
pub(super) fn bind(rules: &Signals, state: &mut ScoreState, signal: usize, name: &str) {
    let at = rules.signals.iter().position(|s| s.name == name).map_or(0, |i| i + 1);
    let place = HEAD + signal * block(&state.baseline);
    if let Some(v) = state.numbers.get_mut(place) {
        *v = at as f64;
    }
}

/// Scores a row by the baseline of each signal, then learns from it: the group's raw score is the mean of its three
/// largest `-ln p`, calibrated by its own running tail; of a single signal it is that signal's `-ln p`.
pub(super) fn score(rules: &[SignalRule], state: &mut ScoreState, row: &Row<'_>, out: &mut RowScore) {
    let n = state.signals.min(row.values.len());
    out.prepare(1, n);
    let shape = state.baseline;
    let (head, blocks) = state.numbers.split_at_mut(HEAD);
    let (mut any_counts, mut any_limit, mut ready_in) = (false, false, usize::MAX);
    out.work.top.clear();
    for (i, s) in blocks.chunks_exact_mut(block(&shape)).take(n).enumerate() {
        let rule =
            if s[0] >= 1.0 { rules.get(s[0] as usize - 1).copied().unwrap_or_default() } else { SignalRule::default() };
        let x = rule.sensible(row.values[i]);
        out.work.values[i] = x;
        let said = shape.step(&mut s[1..], row.time, row.gap, x, rule.worse);
        ready_in = ready_in.min(said.ready_in);
        let verdict = rule.judge(x, said.expected);
        any_counts |= verdict.counts;
        any_limit |= verdict.at_limit;
        let held = SignalRule::hold(verdict, said.neg_ln_p, state.line);
        let signal = &mut out.signals[i];
        (signal.expected, signal.lower, signal.upper) = (said.expected, said.lower, said.upper);
        signal.neg_ln_p = held;
        if !held.is_nan() {
            let heard = if verdict.counts { held } else { 0.0 };
            out.work.top.push(heard);
            out.work.evidence[i] = heard * heard;
        }
    }
    out.ready_in = if n == 0 { 0 } else { ready_in };
    let raw = top_three(&mut out.work.top);
    let mut tail = RunningTail::new(head);
    // One signal is calibrated already; the mean of several is not.
    let p = if n == 1 { raw } else { tail.neg_ln_p(raw) };
    tail.learn(raw);
    out.neg_ln_p =
        if any_limit && p.is_nan() { state.line } else { SignalRule::hold_group(any_counts, any_limit, p, state.line) };
    out.members[0] = out.neg_ln_p;
    let values = &out.work.values;
    to_shares(&mut out.work.evidence, |i| !values[i].is_nan());
    for (s, share) in out.signals.iter_mut().zip(&out.work.evidence) {
        s.share = *share;
    }
}
