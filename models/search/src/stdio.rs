//! The ask/tell protocol of `foreglow-train search --stdio` as a state machine: a line in, a line out.
//!
//! ```text
//! {"op":"start","space":[{"name":"x","type":"float","low":0,"high":1}],"budget":40,"seed":1}  ->  {"ok":true}
//! {"op":"ask"}                                ->  {"x":{"x":0.4},"id":0,"why":"..."}
//! {"op":"tell","id":0,"y":3.2,"se":0.1}       ->  {"ok":true}
//! {"op":"tell","x":{"x":0.1},"state":"failed"}->  {"ok":true}
//! {"op":"recommend"}                          ->  {"x":{...},"predicted":{"mean":..,"sd":..},"id":..,"trials":..}
//! {"op":"stop"}                               ->  {"ok":true}
//! ```
//!
//! Smaller is better. What cannot be done is answered `{"ok":false,"error":"..."}`, and the state stays as it was.

use crate::surrogate::Measured;
use crate::trial::{Measurement, TrialState};
use crate::{
    Aggregate, Assignment, DesignerKind, Goal, Objective, Prediction, SearchError, SpaceSpec, Study, StudySpec,
    Surrogate, TrialBudget, assignment_key,
};
use foreglow_core::Seed;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const METRIC: &str = "y";

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
enum Request {
    Start {
        space: SpaceSpec,
        #[serde(default)]
        rules: Vec<String>,
        #[serde(default)]
        budget: Option<usize>,
        #[serde(default)]
        seed: Seed,
    },
    Ask,
    Tell {
        #[serde(default)]
        id: Option<u64>,
        #[serde(default)]
        x: Option<Assignment>,
        #[serde(default)]
        y: Option<f64>,
        #[serde(default)]
        se: Option<f64>,
        #[serde(default)]
        state: Told,
        #[serde(default)]
        reason: Option<String>,
    },
    Recommend,
    Stop,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Told {
    #[default]
    Ok,
    Failed,
    Unsafe,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Reply {
    Ok {
        ok: bool,
    },
    Error {
        ok: bool,
        error: String,
    },
    Suggestion {
        x: Assignment,
        id: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        predicted: Option<Prediction>,
        why: String,
    },
    Recommendation {
        x: Assignment,
        #[serde(skip_serializing_if = "Option::is_none")]
        predicted: Option<Prediction>,
        /// The trial that measured it.
        id: u64,
        trials: usize,
    },
}

/// One conversation.
#[derive(Debug, Clone)]
pub struct Stdio {
    designer: DesignerKind,
    study: Option<Study>,
    line: u64,
    stopped: bool,
}

impl Stdio {
    /// A conversation in which `designer` proposes.
    pub fn new(designer: DesignerKind) -> Self {
        Self { designer, study: None, line: 0, stopped: false }
    }

    /// Whether the other side said stop.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// The study, once started.
    pub fn study(&self) -> Option<&Study> {
        self.study.as_ref()
    }

    /// The answer to one line, without a line end. Empty lines get an error like any other malformed one.
    pub fn answer(&mut self, line: &str) -> String {
        self.line += 1;
        let reply =
            self.handle(line).unwrap_or_else(|e| Reply::Error { ok: false, error: format!("line {}: {e}", self.line) });
        serde_json::to_string(&reply)
            .unwrap_or_else(|e| format!(r#"{{"ok":false,"error":"the answer cannot be written: {e}"}}"#))
    }

    fn bad(&self, problem: impl Into<String>) -> SearchError {
        SearchError::Line { line: self.line, problem: problem.into() }
    }

    fn started(&mut self) -> Result<&mut Study, SearchError> {
        let line = self.line;
        self.study.as_mut().ok_or_else(|| SearchError::Line {
            line,
            problem: "nothing is started: send {\"op\":\"start\",\"space\":[...]} first".to_owned(),
        })
    }

    fn handle(&mut self, line: &str) -> Result<Reply, SearchError> {
        if self.stopped {
            return Err(self.bad("the conversation was stopped"));
        }
        let request: Request = serde_json::from_str(line)
            .map_err(|e| self.bad(format!("{e}; `op` is one of start, ask, tell, recommend, stop")))?;
        match request {
            Request::Start { space, rules, budget, seed } => {
                let objective = Objective { metric: METRIC.to_owned(), aggregate: Aggregate::Mean, goal: Goal::Min };
                let spec = StudySpec {
                    designer: self.designer,
                    rules,
                    budget: budget.map(|trials| TrialBudget { trials }),
                    seed,
                    ..StudySpec::new("stdio", space, objective)
                };
                self.study = Some(spec.check()?);
            }
            Request::Ask => {
                let t = self.started()?.ask()?;
                return Ok(Reply::Suggestion {
                    x: t.parameters.clone(),
                    id: t.id,
                    predicted: t.predicted,
                    why: t.why.clone(),
                });
            }
            Request::Tell { id, x, y, se, state, reason } => {
                let measured = match (state, y) {
                    (Told::Ok, None) => return Err(self.bad("`y` is missing: a failure says \"state\":\"failed\"")),
                    (Told::Failed, Some(_)) => return Err(self.bad("a failure carries no `y`: leave it out")),
                    (_, y) => y.map(|value| Measurement { value, se, replicates: 1, metrics: BTreeMap::new() }),
                };
                self.tell(id, x, measured, state, &reason.unwrap_or_else(|| "reported by the caller".to_owned()))?;
            }
            Request::Recommend => return self.recommend(),
            Request::Stop => self.stopped = true,
        }
        Ok(Reply::Ok { ok: true })
    }

    fn tell(
        &mut self,
        id: Option<u64>,
        x: Option<Assignment>,
        measured: Option<Measurement>,
        state: Told,
        reason: &str,
    ) -> Result<(), SearchError> {
        let missing = self.bad("give `id` of a suggestion or `x`, the parameters that ran");
        let study = self.started()?;
        let id = match (id, x) {
            (None, None) => return Err(missing),
            (Some(id), None) => id,
            (Some(id), Some(x)) => {
                if state == Told::Ok
                    && let Some(m) = measured
                {
                    study.tell_applied(id, &x, m)?;
                    return Ok(());
                }
                id
            }
            (None, Some(x)) => {
                let key = assignment_key(&study.space().canonical(&x)?);
                let waiting = study
                    .trials()
                    .iter()
                    .find(|t| t.state == TrialState::Pending && assignment_key(&t.parameters) == key)
                    .map(|t| t.id);
                match (waiting, state) {
                    (Some(id), _) => id,
                    (None, Told::Unsafe) => {
                        study.add_unsafe(&x, measured, reason)?;
                        return Ok(());
                    }
                    (None, _) => {
                        study.add(&x, measured, BTreeMap::new(), Vec::new())?;
                        return Ok(());
                    }
                }
            }
        };
        match (state, measured) {
            (Told::Unsafe, m) => study.mark_unsafe(id, reason, m)?,
            (_, Some(m)) => study.tell(id, m)?,
            (_, None) => study.fail(id, reason)?,
        };
        Ok(())
    }

    /// The measured configuration of the best posterior mean.
    fn recommend(&mut self) -> Result<Reply, SearchError> {
        let none = self.bad("nothing was measured yet: tell a result first");
        let study = self.started()?;
        let (id, predicted) = study.best_by_posterior().ok_or(none)?;
        let t = study.trial(id)?;
        let trials = study.view().losses().len();
        Ok(Reply::Recommendation { x: t.parameters.clone(), predicted, id, trials })
    }
}

impl Study {
    /// The completed trial whose configuration is best by the model and its own measurements together, with the model's
    /// prediction; the best measured one, without a prediction, while fewer than 8 trials are usable. This is what to apply
    /// under noise: the best of many noisy values was also the luckiest, and the model alone is too smooth.
    pub fn best_by_posterior(&self) -> Option<(u64, Option<Prediction>)> {
        let ask = self.view();
        let safe = ask.safe_losses();
        let model = if ask.losses().len() < 8 { None } else { Surrogate::marginal(&ask, &ask.objective.metric).ok() };
        let sign = ask.objective.goal.sign();
        let mut repeats: BTreeMap<String, (&Assignment, Vec<Measured>)> = BTreeMap::new();
        for t in safe.iter().map(|s| &ask.trials[s.0]) {
            let m = t.usable().map(|m| Measured { value: m.value, se: m.se.unwrap_or(0.0) });
            repeats.entry(assignment_key(&t.parameters)).or_insert_with(|| (&t.parameters, Vec::new())).1.extend(m);
        }
        let (keys, configurations): (Vec<String>, Vec<_>) = repeats.into_iter().unzip();
        let levels: BTreeMap<String, f64> = match &model {
            Some(m) => keys.into_iter().zip(m.levels_of_measured(&configurations)).collect(),
            None => BTreeMap::new(),
        };
        let scored = safe.iter().map(|&(i, loss)| {
            let a = &ask.trials[i].parameters;
            let level = levels.get(&assignment_key(a)).map(|level| sign * level);
            (level.unwrap_or(loss), i, model.as_ref().map(|m| m.predict(a)))
        });
        scored.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, i, p)| (ask.trials[i].id, p))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value as Json;

    fn say(s: &mut Stdio, line: &str) -> Json {
        serde_json::from_str(&s.answer(line)).unwrap()
    }

    #[test]
    fn a_whole_conversation() {
        let mut s = Stdio::new(DesignerKind::Bayes);
        let start = r#"{"op":"start","space":[{"name":"x","type":"float","low":0,"high":1},
            {"name":"m","type":"cat","choices":["a","b"]},{"name":"k","type":"int","low":1,"high":9,"log":true}],
            "budget":30,"seed":4}"#
            .replace('\n', "");
        assert_eq!(say(&mut s, &start)["ok"], true);
        for n in 0..20 {
            let a = say(&mut s, r#"{"op":"ask"}"#);
            assert_eq!(a["id"], n);
            let (x, k) = (a["x"]["x"].as_f64().unwrap(), a["x"]["k"].as_f64().unwrap());
            let y = (x - 0.3).powi(2) + if a["x"]["m"] == "b" { 0.0 } else { 0.5 } + 0.02 * (k - 4.0).abs();
            let tell = if n == 3 {
                r#"{"op":"tell","id":3,"state":"failed"}"#.to_owned()
            } else if n == 4 {
                format!(r#"{{"op":"tell","x":{},"y":{y}}}"#, a["x"])
            } else {
                format!(r#"{{"op":"tell","id":{n},"y":{y},"se":0.001}}"#)
            };
            assert_eq!(say(&mut s, &tell)["ok"], true, "{tell}");
        }
        assert_eq!(say(&mut s, r#"{"op":"tell","x":{"x":0.9,"m":"a","k":1},"y":2.0}"#)["ok"], true);
        assert_eq!(s.study().unwrap().trials().len(), 21, "a result told by x ends the suggestion it belongs to");
        let r = say(&mut s, r#"{"op":"recommend"}"#);
        assert_eq!(r["x"]["m"], "b");
        assert!((r["x"]["x"].as_f64().unwrap() - 0.3).abs() < 0.15, "{r}");
        assert!(r["predicted"]["sd"].as_f64().unwrap() > 0.0);
        assert_eq!(say(&mut s, r#"{"op":"stop"}"#)["ok"], true);
        assert!(s.stopped());
    }

    #[test]
    fn mistakes_are_answered_and_change_nothing() {
        let mut s = Stdio::new(DesignerKind::Random);
        let error = |s: &mut Stdio, line: &str| {
            let a = say(s, line);
            assert_eq!(a["ok"], false, "{line}");
            a["error"].as_str().unwrap().to_owned()
        };
        assert!(error(&mut s, r#"{"op":"ask"}"#).contains("start"));
        assert!(error(&mut s, "{").contains("line 2"));
        assert!(error(&mut s, r#"{"op":"fly"}"#).contains("recommend"));
        let start = r#"{"op":"start","space":[{"name":"x","type":"float","low":0,"high":1}],"budget":1}"#;
        say(&mut s, start);
        assert!(error(&mut s, r#"{"op":"recommend"}"#).contains("nothing was measured"));
        assert!(error(&mut s, r#"{"op":"tell","y":1.0}"#).contains("`id`"));
        say(&mut s, r#"{"op":"ask"}"#);
        assert!(error(&mut s, r#"{"op":"tell","id":0}"#).contains("`y` is missing"));
        assert!(error(&mut s, r#"{"op":"tell","id":0,"y":1,"state":"failed"}"#).contains("no `y`"));
        assert!(error(&mut s, r#"{"op":"tell","id":7,"y":1}"#).contains("does not exist"));
        assert!(error(&mut s, r#"{"op":"tell","x":{"x":4.0},"y":1}"#).contains("[0, 1]"));
        assert!(error(&mut s, r#"{"op":"ask"}"#).contains("budget"));
        assert_eq!(s.study().unwrap().trials().len(), 1);
    }
}
