//! The rounds in which a recommended configuration and the current one are measured in turn.

use super::journal::Entry;
use super::measure::{Candidate, Measured, Purpose};
use super::noise::Noise;
use super::report::short;
use super::session::Session;
use crate::{Context, TrainError};
use foreglow_search::recommend::{
    Confirmation, Recommendation, Round, RoundFailure, Runs, recommended_first, rounds_at_most, rounds_needed,
};
use foreglow_search::{Advice, AdviceOptions, Assignment, assignment_key};
use serde::{Deserialize, Serialize};

/// A line of the journal after the trials: a round of the confirmation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ConfirmLine {
    /// Its number, from 0.
    pub(crate) n: usize,
    /// What ran before the study.
    pub(crate) current: Assignment,
    /// What is to be recommended.
    pub(crate) recommended: Assignment,
    /// What was measured.
    pub(crate) round: Round,
}

/// A recommendation, or why there is none, and the rounds behind it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdict {
    /// What to do.
    pub(crate) advice: Advice,
    /// How it was confirmed or refused; `None` when the model had nothing to recommend.
    pub(crate) confirmation: Option<Confirmation>,
    /// The rounds.
    pub(crate) rounds: Vec<Round>,
}

/// The two configurations of a confirmation.
struct Pair<'a> {
    current: &'a Assignment,
    recommended: &'a Assignment,
}

impl Pair<'_> {
    fn is_of(&self, line: &ConfirmLine) -> bool {
        let same = |a: &Assignment, b: &Assignment| assignment_key(a) == assignment_key(b);
        same(&line.current, self.current) && same(&line.recommended, self.recommended)
    }
}

impl Session {
    /// Asks the study for a recommendation and, unless `confirm` is 0, measures it and the current configuration in turn
    /// until it is confirmed or refused; so too what the trials expect to be best where they are not sure enough to recommend
    /// it. Rounds of the journal count when they compared the same two.
    ///
    /// The answer says whether the user asked to stop.
    pub(super) fn confirm(&mut self, context: &Context) -> Result<(Verdict, bool), TrainError> {
        let options = AdviceOptions { trigger: "tune".to_owned(), ..AdviceOptions::default() };
        let advice = match self.confirm_rounds {
            Some(0) => self.study.recommend(&options),
            _ => self.study.worth_confirming(&options).into(),
        };
        let (r, current) = match (advice, self.study.space().current()) {
            (Advice::Change(r), Some(current)) => (*r, current),
            (advice, _) => return Ok((Verdict { advice, confirmation: None, rounds: Vec::new() }, false)),
        };
        let planned = self.planned_rounds(&r);
        if planned == 0 {
            let confirmation = Confirmation::skipped(&r);
            return Ok((Verdict::of(r, confirmation, Vec::new()), false));
        }
        let recommended = r.parameters.clone();
        let pair = Pair { current: &current, recommended: &recommended };
        let mut rounds: Vec<Round> = self
            .confirmed
            .iter()
            .filter(|l| pair.is_of(l))
            .take(rounds_at_most(planned))
            .map(|l| l.round.clone())
            .collect();
        let progress = context.progress("confirming", planned);
        let mut stopped = false;
        loop {
            let so_far = Confirmation::of(&self.study, &r, &rounds, planned);
            if so_far.as_ref().is_none_or(Confirmation::is_over) {
                return Ok((Verdict::of(r, so_far, rounds), false));
            }
            let total = so_far.as_ref().map_or(planned, |c| c.planned);
            let show = |what: &str| progress.set(rounds.len(), total, what);
            stopped |= context.stopped();
            let round = if stopped { None } else { self.round(&pair, rounds.len(), context, &show) };
            let Some(round) = round else { return Ok((Verdict::of(r, so_far, rounds), true)) };
            let line = ConfirmLine {
                n: rounds.len(),
                current: current.clone(),
                recommended: recommended.clone(),
                round: round.clone(),
            };
            self.journal.append(&Entry::Confirm { confirm: line.clone() })?;
            self.confirmed.push(line);
            progress.line(&row(&self.spec.objective.metric, rounds.len(), &round));
            rounds.push(round);
        }
    }

    /// As the study file says; else so many that the promised effect would be seen in the noise of the trials.
    fn planned_rounds(&self, r: &Recommendation) -> usize {
        let effect = r.effect.first().map_or(0.0, |e| e.relative.mean);
        self.confirm_rounds.unwrap_or_else(|| {
            let sd = self.noise().of_difference(self.bench.repeats());
            rounds_needed(effect, sd)
        })
    }

    /// One round; `None` when the user asked to stop: then it does not count.
    fn round(&mut self, pair: &Pair<'_>, n: usize, context: &Context, show: &dyn Fn(&str)) -> Option<Round> {
        let recommended_first = recommended_first(self.spec.seed, n);
        let mut round = Round { recommended_first, ..Round::default() };
        for (place, recommended) in [recommended_first, !recommended_first].into_iter().enumerate() {
            let (parameters, name) =
                if recommended { (pair.recommended, "recommended") } else { (pair.current, "current") };
            let noise = Noise::of(&[]);
            let candidate = Candidate {
                // Numbers go on behind the trials, so that every measurement of a study has its own.
                id: (self.lines.len() + 2 * n + place) as u64,
                parameters,
                study: &self.study,
                noise: &noise,
                best: &[],
                purpose: if recommended { Purpose::Recommended(n + 1) } else { Purpose::Current(n + 1) },
            };
            let show = |what: &str| show(&format!("round {} {name} {what}", n + 1));
            match self.bench.measure(&candidate, context, &show) {
                Measured::Stopped => return None,
                Measured::Failed { reason } => {
                    round.failed = Some(RoundFailure { recommended, reason });
                    break;
                }
                Measured::Done { runs, .. } => *round.side_mut(recommended) = runs,
            }
        }
        Some(round)
    }
}

impl Verdict {
    fn of(r: Recommendation, confirmation: Option<Confirmation>, rounds: Vec<Round>) -> Self {
        let advice = match &confirmation {
            Some(c) => r.confirmed_by(c.clone()),
            None => Advice::Change(Box::new(r)),
        };
        Self { advice, confirmation, rounds }
    }
}

/// A round in one line, for the log and above the bar.
fn row(metric: &str, n: usize, round: &Round) -> String {
    let value = |runs: &Runs| level(runs, metric).map_or("-".to_owned(), short);
    let (a, b) = (value(&round.current), value(&round.recommended));
    let failed = round.failed.as_ref().map_or(String::new(), |f| format!("  failed: {}", f.reason));
    let first = if round.recommended_first { "recommended" } else { "current" };
    format!("round {}: {metric} {a} as it is now, {b} as recommended ({first} first){failed}", n + 1)
}

/// The mean of a metric's runs.
pub(super) fn level(runs: &Runs, metric: &str) -> Option<f64> {
    runs.get(metric).map(|v| foreglow_core::stats::mean(v)).filter(|v| v.is_finite())
}
