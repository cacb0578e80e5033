//! What is to be recommended and what runs now, measured in turn once the trials are spent.

use super::Study;
use crate::recommend::{Confirmation, Recommendation, Round, RoundFailure, recommended_first};
use crate::trial::{Source, Trial, TrialState};
use crate::{AdviceOptions, Assignment, assignment_key};
use serde::{Deserialize, Serialize};

/// The place of a trial among those that compare a recommendation with what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// The round, from 0.
    pub round: usize,
    /// Whether it runs the recommended configuration.
    pub recommended: bool,
}

/// A recommendation that is being measured in turn, or was.
pub(crate) struct Confirming {
    /// What the trials before it recommend or hope for, with what the model expects.
    pub(crate) recommendation: Recommendation,
    current: Assignment,
    /// Whole rounds.
    rounds: Vec<Round>,
    /// The turn that is next; `None` while one is being measured.
    next: Option<Turn>,
}

impl Confirming {
    /// What the rounds so far say.
    pub(crate) fn said(&self, study: &Study, planned: usize) -> Option<Confirmation> {
        Confirmation::of(study, &self.recommendation, &self.rounds, planned)
    }
}

impl Study {
    /// How many suggestions searched: all but those that compare.
    pub fn searched(&self) -> usize {
        self.trials.iter().filter(|t| t.source == Source::Suggested && t.turn.is_none()).count()
    }

    /// Whether the budget holds no more trials to search with.
    pub fn is_spent(&self) -> bool {
        self.spec.budget.is_some_and(|b| self.searched() >= b.trials)
    }

    /// Whether the spent trials are followed by rounds that are not over.
    pub fn is_confirming(&self) -> bool {
        self.is_spent() && self.next_turn().is_some()
    }

    /// The study as it was before it compared: a recommendation must not move while it is compared.
    fn before_turns(&self) -> Self {
        let trials = self.trials.iter().filter(|t| t.turn.is_none()).cloned().collect();
        Self { spec: self.spec.clone(), space: self.space.clone(), trials }
    }

    /// What the spent trials make worth measuring in turn with what runs; the reason where that is nothing.
    pub(crate) fn confirming(&self, options: &AdviceOptions) -> Result<Confirming, String> {
        let recommendation = self.before_turns().worth_confirming(options)?;
        let current = self.space.current().ok_or("the current configuration is not known")?;
        let keys = [assignment_key(&current), assignment_key(&recommendation.parameters)];
        let is_of_it = |t: &&Trial, turn: Turn| assignment_key(&t.parameters) == keys[usize::from(turn.recommended)];
        let mut rounds = Vec::new();
        let mut open = None;
        for pair in self.pairs() {
            if pair.iter().any(|(turn, t)| !is_of_it(t, *turn)) {
                continue;
            }
            open = None;
            match self.round(&pair) {
                Some(round) => rounds.push(round),
                None => open = Some(pair),
            }
        }
        let n = rounds.len();
        let next = match open.as_deref() {
            None => Some(Turn { round: n, recommended: recommended_first(self.spec.seed, n) }),
            Some([(turn, t)]) if t.state != TrialState::Pending => {
                Some(Turn { round: turn.round, recommended: !turn.recommended })
            }
            Some(_) => None,
        };
        Ok(Confirming { recommendation, current, rounds, next })
    }

    /// The trials of each round since the last one that searched, in order.
    fn pairs(&self) -> Vec<Vec<(Turn, &Trial)>> {
        let searched = |t: &Trial| t.source == Source::Suggested && t.turn.is_none();
        let since = self.trials.iter().rposition(searched).map_or(0, |i| i + 1);
        let mut pairs: Vec<Vec<(Turn, &Trial)>> = Vec::new();
        for t in &self.trials[since..] {
            let Some(turn) = t.turn.filter(|_| !t.was_stopped()) else { continue };
            let other = Turn { recommended: !turn.recommended, ..turn };
            match pairs.last_mut() {
                Some(pair) if pair.len() == 1 && pair[0].0 == other && pair[0].1.measurement.is_some() => {
                    pair.push((turn, t));
                }
                _ => pairs.push(vec![(turn, t)]),
            }
        }
        pairs
    }

    /// A whole round; `None` while it goes on.
    fn round(&self, pair: &[(Turn, &Trial)]) -> Option<Round> {
        let mut round = Round { recommended_first: pair.first()?.0.recommended, ..Round::default() };
        for (turn, t) in pair {
            if let Some(m) = &t.measurement {
                let runs = round.side_mut(turn.recommended);
                runs.insert(self.spec.objective.metric.clone(), vec![m.value]);
                runs.extend(m.metrics.iter().map(|(n, v)| (n.clone(), vec![v.value])));
            } else if let TrialState::Failed { reason } | TrialState::Unsafe { reason } = &t.state {
                round.failed = Some(RoundFailure { recommended: turn.recommended, reason: reason.clone() });
            } else {
                return None;
            }
        }
        (pair.len() == 2 || round.failed.is_some()).then_some(round)
    }

    /// The configuration to measure next in turn, and why; `None` when that is over, or nothing is to be confirmed.
    pub(super) fn next_turn(&self) -> Option<(Turn, Assignment, String)> {
        let planned = self.spec.confirm.filter(|n| *n > 0)?;
        let c = self.confirming(&AdviceOptions::default()).ok()?;
        let planned = c.said(self, planned).filter(|s| !s.is_over())?.planned;
        let turn = c.next?;
        let (parameters, name) =
            if turn.recommended { (c.recommendation.parameters, "recommended") } else { (c.current, "current") };
        let why = format!(
            "round {} of {planned}: the {name} configuration, to measure what is recommended in turn with what runs",
            turn.round + 1
        );
        Some((turn, parameters, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recommend::ConfirmVerdict;
    use crate::{
        Advice, Aggregate, Goal, Measurement, Objective, ParameterSpec, SearchError, SpaceSpec, StudySpec, TrialBudget,
        Value,
    };

    fn study(confirm: Option<usize>) -> Study {
        let space = SpaceSpec(vec![ParameterSpec::int("workers", 1, 32).current(4)]);
        let objective = Objective { metric: "p95".into(), aggregate: Aggregate::Mean, goal: Goal::Min };
        let spec = StudySpec::new("s", space, objective);
        StudySpec { budget: Some(TrialBudget { trials: 12 }), confirm, ..spec }.check().unwrap()
    }

    fn workers(a: &Assignment) -> f64 {
        a.get("workers").and_then(Value::as_number).unwrap()
    }

    /// Runs until the budget is spent; a trial's value is that of `f`, which knows its place.
    fn run(s: &mut Study, f: &dyn Fn(&Trial) -> f64) -> usize {
        let mut n = 0;
        loop {
            let t = match s.ask() {
                Ok(t) => t.clone(),
                Err(SearchError::Budget { .. }) => return n,
                Err(e) => panic!("{e}"),
            };
            // A saved study goes on.
            *s = Study::from_json(&s.to_json().unwrap()).unwrap();
            s.tell(t.id, Measurement::of(f(&t))).unwrap();
            n += 1;
        }
    }

    fn valley(t: &Trial) -> f64 {
        100.0 + (workers(&t.parameters) - 20.0).powi(2) / 4.0 + 0.3 * ((t.id * 7919) % 13) as f64 / 13.0
    }

    #[test]
    fn what_holds_in_turn_is_promised_as_it_was_measured() {
        let mut s = study(Some(4));
        assert_eq!(run(&mut s, &valley), 12 + 8);
        let turns: Vec<Turn> = s.trials().iter().filter_map(|t| t.turn).collect();
        assert_eq!(turns.iter().map(|t| t.round).collect::<Vec<_>>(), [0, 0, 1, 1, 2, 2, 3, 3]);
        assert!(turns.chunks(2).all(|pair| pair[0].recommended != pair[1].recommended));
        assert!(s.trials()[12].why.contains("round 1 of 4"), "{}", s.trials()[12].why);
        let Advice::Change(r) = s.recommend(&AdviceOptions::default()) else { panic!("something is better") };
        let c = r.confirmation.clone().unwrap();
        assert_eq!((c.verdict, c.rounds, c.measured[0].relative), (ConfirmVerdict::Confirmed, 4, r.effect[0].relative));
        assert_eq!((s.searched(), s.is_spent()), (12, true));
        s.extend(Some(3));
        assert!(!s.is_spent() && s.ask().unwrap().turn.is_none(), "a resumed study searches again");
    }

    #[test]
    fn what_was_the_machine_and_not_the_configuration_is_refused() {
        let mut s = study(Some(4));
        // It gets faster all the time, whatever is configured.
        run(&mut s, &|t| 100.0 - 3.0 * (t.id.min(11) as f64) + 0.3 * ((t.id * 7919) % 13) as f64 / 13.0);
        match s.recommend(&AdviceOptions::default()) {
            Advice::None { none_because } => assert!(!none_because.is_empty()),
            Advice::Change(r) => panic!("{:?}", r.confirmation),
        }
    }

    /// What `workers` do, by so little that twelve noisy trials cannot be sure of it.
    fn faint(t: &Trial) -> f64 {
        valley(t) / 20.0 + 95.0 + 5.0 * ((t.id * 7919) % 13) as f64 / 13.0
    }

    #[test]
    fn rounds_settle_what_the_trials_leave_open() {
        let never_sure = |s: &Study| {
            let Advice::None { none_because } = s.recommend(&AdviceOptions::default()) else { panic!("too sure") };
            none_because
        };
        let trials = |confirm| {
            let mut s = study(confirm);
            while s.searched() < 12 {
                let t = s.ask().unwrap().clone();
                s.tell(t.id, Measurement::of(faint(&t))).unwrap();
            }
            s
        };
        never_sure(&trials(None));
        // In the rounds the noise is small: what was only hoped for is confirmed.
        let mut s = trials(Some(6));
        let why = never_sure(&s);
        assert!(why.contains("may be none") && why.contains("0 of 6 rounds"), "{why}");
        assert_eq!(run(&mut s, &|t| 95.0 + valley(t) / 20.0), 12);
        let Advice::Change(r) = s.recommend(&AdviceOptions::default()) else { panic!("it is better") };
        assert_eq!(r.confirmation.unwrap().verdict, ConfirmVerdict::Confirmed);
        // And where it is nothing, nothing is promised.
        let mut s = trials(Some(6));
        run(&mut s, &|t| 100.0 + ((t.id * 7919) % 13) as f64);
        let why = never_sure(&s);
        assert!(why.contains("over 12 rounds"), "what looks better and is not goes on to 12: {why}");
    }

    #[test]
    fn a_failure_of_the_recommended_one_ends_it_and_one_turn_is_measured_at_a_time() {
        let mut s = study(Some(4));
        for _ in 0..12 {
            let t = s.ask().unwrap().clone();
            s.tell(t.id, Measurement::of(valley(&t))).unwrap();
        }
        let t = s.suggest("a").unwrap().clone();
        assert!(t.turn.is_some() && s.suggest("a").unwrap().id == t.id);
        assert!(matches!(s.suggest("b"), Err(SearchError::Budget { .. })), "one turn at a time");
        let open = s.recommend(&AdviceOptions::default());
        let Advice::Change(r) = open else { panic!("not refused yet") };
        assert!(r.evidence.unverified && r.confirmation.unwrap().verdict == ConfirmVerdict::Open);
        let mut t = t;
        while !t.turn.unwrap().recommended {
            s.tell(t.id, Measurement::of(valley(&t))).unwrap();
            t = s.ask().unwrap().clone();
        }
        s.fail(t.id, "did not start").unwrap();
        assert!(matches!(s.ask(), Err(SearchError::Budget { .. })));
        let Advice::None { none_because } = s.recommend(&AdviceOptions::default()) else { panic!("it cannot run") };
        assert!(none_because.contains("did not start"), "{none_because}");
    }

    #[test]
    fn a_stopped_turn_is_asked_again() {
        let mut s = study(Some(4));
        for _ in 0..12 {
            let t = s.ask().unwrap().clone();
            s.tell(t.id, Measurement::of(valley(&t))).unwrap();
        }
        for _ in 0..3 {
            let t = s.ask().unwrap().clone();
            s.stop_trial(t.id, "redeployed").unwrap();
        }
        assert_eq!(run(&mut s, &valley), 8, "four rounds, as if nothing had been stopped");
        let Advice::Change(r) = s.recommend(&AdviceOptions::default()) else { panic!("it is better") };
        assert_eq!(r.confirmation.unwrap().verdict, ConfirmVerdict::Confirmed);
    }

    #[test]
    fn rounds_need_a_budget_and_freedom_to_try() {
        let bad = |s: StudySpec| s.check().unwrap_err().to_string();
        let spec = study(Some(4)).spec().clone();
        assert!(bad(StudySpec { budget: None, ..spec.clone() }).contains("needs a `budget`"));
        let guard_rails = vec![crate::GuardRail::at_most("errors", crate::Bound::TimesBaseline(1.2))];
        assert!(bad(StudySpec { mode: crate::Mode::Canary, guard_rails, ..spec }).contains("is for the modes"));
    }

    #[test]
    fn without_rounds_nothing_changes() {
        let mut s = study(None);
        assert_eq!(run(&mut s, &valley), 12);
        let Advice::Change(r) = s.recommend(&AdviceOptions::default()) else { panic!("something is better") };
        assert!(r.confirmation.is_none());
    }
}
