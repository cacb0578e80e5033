//! The pipeline: scaling, detectors, calibration and combination. It is what an artifact stores and a monitor runs.
//!
//! [`Pipeline`] is immutable and shared; what changes from row to row is a group's [`ScoreState`].

mod calibration;
mod codec;
mod fit;
mod fitted;
mod group_fit;
mod members;
mod online;
mod row;
mod rules;
mod scaling;
mod state;

pub use fit::{FitProgress, GroupHistory, PipelineFit, fit_pipeline};
pub use row::{RowScore, SignalRow};
pub use state::ScoreState;

use crate::ModelError;
use crate::detect::BaselineShape;
use crate::forecast::{self, FittedForecaster};
use crate::nn::quiet;
use crate::spec::{IncidentRule, Recipe};
use fitted::Fitted;
use foreglow_core::signals::Signals;
use foreglow_core::{AlertLine, Forecaster, Labels, MetricKey, Row, Seed, Step};
use rules::SignalRule;
use serde::{Deserialize, Serialize};

/// Most past values a signal that a monitor keeps where nothing asks for more: what the automatic choice looks at, so that
/// it forecasts a day of minutes as well as a backtest says. In single precision these are 16 KiB a signal.
const LONGEST_HISTORY: usize = 4096;

/// One column of a fitted pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PipelineSignal {
    /// Name and labels inside the group.
    pub key: MetricKey,
    /// Whether a step waits for it; false: it may miss.
    pub required: bool,
}

/// What judges the rows of all groups: immutable and shared.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    name: String,
    recipe: Recipe,
    rules: Signals,
    /// The rules of `rules.signals`, in order.
    by_rule: Vec<SignalRule>,
    /// `None`: every signal by the online baseline.
    fitted: Option<Fitted>,
    /// Without a fit: a forecaster that needs none.
    local: Option<FittedForecaster>,
}

impl Pipeline {
    /// Without an artifact: every signal is judged by the online seasonal robust baseline. Of the recipe, budget,
    /// incidents and forecaster count.
    pub fn online(rules: Signals, recipe: &Recipe) -> Self {
        let by_rule = rules.signals.iter().map(|s| SignalRule::of(&rules, &s.name)).collect();
        let spec = recipe.forecaster.as_ref().filter(|f| !f.is_global());
        let local = spec.and_then(|f| forecast::fit(f, &[], recipe.season, Seed::default(), &quiet).ok());
        let local = local.map(|f| f.forecaster);
        Self { name: "online".to_owned(), recipe: recipe.clone(), rules, by_rule, fitted: None, local }
    }

    /// Its name; `online` without an artifact.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether nothing was fitted.
    pub fn is_online(&self) -> bool {
        self.fitted.is_none()
    }

    /// The step it was fitted at; `None` = each group's own.
    pub fn step(&self) -> Option<Step> {
        self.fitted.as_ref().map(|f| f.step)
    }

    /// The columns of a row; `None` = whatever comes.
    pub fn signals(&self) -> Option<&[PipelineSignal]> {
        self.fitted.as_ref().map(|f| &f.signals[..])
    }

    /// What is watched and judged together.
    pub fn rules(&self) -> &Signals {
        &self.rules
    }

    /// When incidents open and resolve.
    pub fn incidents(&self) -> IncidentRule {
        self.recipe.incidents
    }

    /// The members of the ensemble, as a row's `members` are ordered.
    pub fn member_names(&self) -> Vec<String> {
        match &self.fitted {
            Some(f) => f.members.iter().map(|m| m.name.clone()).collect(),
            None => vec!["baseline".to_owned()],
        }
    }

    /// Whether the group was fitted; others get the shared parts.
    pub fn knows(&self, group: &Labels) -> bool {
        self.fitted.as_ref().is_some_and(|f| f.groups.contains_key(group))
    }

    /// The groups that were fitted.
    pub fn groups(&self) -> impl Iterator<Item = &Labels> {
        self.fitted.iter().flat_map(|f| f.groups.keys())
    }

    /// The alert line of a group at a step; fixed when the artifact was made.
    pub fn alert_line(&self, group: &Labels, step: Step) -> AlertLine {
        match self.fitted.as_ref().and_then(|f| f.groups.get(group)) {
            Some(parts) => parts.line,
            None => rules::line_of(&self.rules, self.recipe.budget, group, self.step().unwrap_or(step)),
        }
    }

    /// The forecaster of the artifact; without one, the recipe's if it needs no fit.
    pub fn forecaster(&self) -> Option<&FittedForecaster> {
        match &self.fitted {
            Some(f) => f.forecaster.as_ref(),
            None => self.local.as_ref(),
        }
    }

    /// How many past values a signal a monitor keeps for forecasts.
    pub fn history_len(&self, step: Step) -> usize {
        // The automatic choice takes what is there, the others say what they need.
        let asked = match self.forecaster() {
            Some(FittedForecaster::AutoLocal(_)) | None => 0,
            Some(f) => f.context(),
        };
        (14 * step.per_day()).clamp(256, LONGEST_HISTORY).max(asked)
    }

    /// The state of a group that has seen nothing. A fitted pipeline has its own number of signals.
    pub fn new_state(&self, group: &Labels, signals: usize, step: Step) -> ScoreState {
        let baseline = BaselineShape::new(step);
        let line = -self.alert_line(group, step).p_alert().ln();
        let (signals, numbers) = match &self.fitted {
            Some(f) => (f.signals.len(), fitted::start(&f.members, f.parts(group), &baseline, f.signals.len())),
            None => (signals, online::start(&baseline, signals)),
        };
        ScoreState { numbers, signals, step, line, baseline }
    }

    /// A saved state: its numbers, of a group with so many signals at this step.
    ///
    /// # Errors
    /// [`ModelError::Artifact`] when the state is another pipeline's.
    pub fn restore_state(
        &self,
        group: &Labels,
        signals: usize,
        step: Step,
        numbers: Vec<f64>,
    ) -> Result<ScoreState, ModelError> {
        let mut state = self.new_state(group, signals, step);
        if state.numbers.len() != numbers.len() {
            return Err(ModelError::artifact(
                format!("state of group {group}"),
                format!(
                    "{} numbers where pipeline {} has {}; it belongs to another pipeline",
                    numbers.len(),
                    self.name,
                    state.numbers.len()
                ),
            ));
        }
        state.numbers = numbers;
        Ok(state)
    }

    /// Appends signals to a group's state; only a pipeline without fitted columns can.
    pub fn grow(&self, state: &mut ScoreState, signals: usize) {
        if self.is_online() && signals > state.signals {
            online::grow(&state.baseline, &mut state.numbers, signals);
            state.signals = signals;
        }
    }

    /// Tells which signal a column is, so that its rule in `signals.toml` is followed; needed once a column (and after
    /// [`Pipeline::restore_state`], as the file may have changed) where [`Pipeline::signals`] is `None`.
    pub fn bind(&self, state: &mut ScoreState, column: usize, key: &MetricKey) {
        if self.is_online() {
            online::bind(&self.rules, state, column, &key.name);
        }
    }

    /// Scores a row with what was known before it, then learns from it. `group` is the one the state was made for.
    /// Allocates nothing after the first row.
    pub fn score(&self, group: &Labels, state: &mut ScoreState, row: &Row<'_>, out: &mut RowScore) {
        match &self.fitted {
            Some(f) => f.pass(group).score(state, row, out),
            None => online::score(&self.by_rule, state, row, out),
        }
    }
}

#[cfg(test)]
#[path = "online_tests.rs"]
mod online_tests;

#[cfg(test)]
#[path = "fit_tests.rs"]
mod fit_tests;
