use super::{SafetySpec, Study, TriggerSpec};
use crate::designers::DesignerKind;
use crate::{GuardRail, Objective, SearchError, SpaceSpec};
use foreglow_core::Seed;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many trials a study may suggest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrialBudget {
    /// The number of suggested trials; observed ones do not count.
    pub trials: usize,
}

/// What is tuned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Parameters of the thing itself.
    #[default]
    Configuration,
    /// Who does how much of the work: load weights of agents, numbers of instances.
    Allocation,
}

impl Kind {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What a study is allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Learns from what runs; neither suggests nor recommends.
    Observe,
    /// Suggests on request and recommends.
    #[default]
    Recommend,
    /// Suggests only what keeps every guard-rail at the confidence of [`SafetySpec`], one change at a time, on a part of
    /// the system; recommends.
    Canary,
    /// As `canary`, and trials and recommendations are made to run without asking, through a hook that the user owns.
    Auto,
}

impl Mode {
    /// Whether suggestions must be safe.
    pub fn is_careful(self) -> bool {
        matches!(self, Self::Canary | Self::Auto)
    }
}

/// A study as users write it; unchecked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudySpec {
    /// Its name.
    pub name: String,
    /// What is tuned: labels such as `{"service": "a"}`.
    #[serde(default)]
    pub entity: BTreeMap<String, String>,
    /// Configuration (default) or allocation of work.
    #[serde(default, skip_serializing_if = "Kind::is_default")]
    pub kind: Kind,
    /// The search space.
    pub parameters: SpaceSpec,
    /// Rules between parameters that every suggestion keeps, such as `"min_conn < max_conn"`. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// What to make small or large.
    pub objective: Objective,
    /// Further objectives; `nsga2` searches the best compromises of all of them ([`Study::pareto`]). Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Objective>,
    /// What must not break. Default none.
    #[serde(default)]
    pub guard_rails: Vec<GuardRail>,
    /// The metric that is the load; recorded with each trial as context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// Who proposes. Default `auto`.
    #[serde(default)]
    pub designer: DesignerKind,
    /// How many suggestions. Default no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<TrialBudget>,
    /// What the study may do. Default `recommend`.
    #[serde(default)]
    pub mode: Mode,
    /// What opens the study, and resumes it when its trials are spent; watched by a server. Default nothing.
    #[serde(default, skip_serializing_if = "TriggerSpec::is_default")]
    pub triggers: TriggerSpec,
    /// What holds changes back.
    #[serde(default, skip_serializing_if = "SafetySpec::is_default")]
    pub safety: SafetySpec,
    /// After how many trials the current configuration is measured again, to see drift; 0 never. Default 10 when the
    /// current configuration is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remeasure_every: Option<usize>,
    /// In how many rounds, once the budget is spent, what is to be recommended (or the best guess, where the trials are not
    /// sure) and what runs are suggested in turn: then the promise is what that gave, or there is none; what looks like an
    /// improvement and is still open goes on to 12. Default none, 4 to 12 are usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<usize>,
    /// The seed of every draw. Default 1.
    #[serde(default)]
    pub seed: Seed,
}

impl StudySpec {
    /// A study with defaults: designer `auto`, no guard-rails, no budget, seed 1.
    pub fn new(name: &str, parameters: SpaceSpec, objective: Objective) -> Self {
        Self {
            name: name.to_owned(),
            entity: BTreeMap::new(),
            kind: Kind::Configuration,
            parameters,
            rules: Vec::new(),
            objective,
            also: Vec::new(),
            guard_rails: Vec::new(),
            workload: None,
            designer: DesignerKind::Auto,
            budget: None,
            mode: Mode::Recommend,
            triggers: TriggerSpec::default(),
            safety: SafetySpec::default(),
            remeasure_every: None,
            confirm: None,
            seed: Seed::default(),
        }
    }

    /// Checks all fields and makes a study without trials.
    ///
    /// # Errors
    /// [`SearchError`] naming the field or parameter.
    pub fn check(self) -> Result<Study, SearchError> {
        let bad = |field, problem: &str| Err(SearchError::Study { field, problem: problem.to_owned() });
        if self.name.trim().is_empty() {
            return bad("name", "is empty");
        }
        if self.objective.metric.trim().is_empty() {
            return bad("objective", "`metric` has no name");
        }
        if self.budget.is_some_and(|b| b.trials == 0) {
            return bad("budget", "0 trials: give at least 1");
        }
        if self.confirm.is_some_and(|n| n > 0) && self.budget.is_none() {
            return bad("confirm", "needs a `budget`: what is recommended is compared once its trials are spent");
        }
        if self.confirm.is_some_and(|n| n > 0) && self.mode.is_careful() {
            return bad(
                "confirm",
                "is for the modes `observe` and `recommend`: `canary` and `auto` try nothing that may break",
            );
        }
        for o in &self.also {
            if o.metric.trim().is_empty() || o.metric == self.objective.metric {
                return bad("also", "an objective has no name, or is the main one");
            }
        }
        for g in &self.guard_rails {
            g.check()?;
        }
        self.safety.check()?;
        self.triggers.check(self.workload.is_some())?;
        if self.mode.is_careful() && self.guard_rails.is_empty() {
            return bad("guard_rails", "are needed in the modes `canary` and `auto`: say what must not break");
        }
        let space = self.parameters.clone().check()?.with_rules(&self.rules)?;
        match space.current() {
            Some(c) => {
                space.canonical(&c)?;
            }
            None if self.mode.is_careful() => {
                return bad(
                    "parameters",
                    "need `current` values in the modes `canary` and `auto`: safety counts from them",
                );
            }
            None => {}
        }
        Ok(Study::new(self, space))
    }
}
