//! Search of a recipe's hyper-parameters by the same studies that serving uses. Rows of the test split are never seen.

use crate::backtest::forecast::Validation;
use crate::{Context, TrainError};
use foreglow_core::Seed;
use foreglow_datasets::Dataset;
use foreglow_models::forecast::ForecasterSpec;
use foreglow_models::spec::Recipe;
use foreglow_search::{
    Aggregate, Assignment, DesignerKind, Goal, Measurement, Objective, ParameterSpec, SpaceSpec, Study, StudySpec,
    TrialBudget, Value,
};
use serde_json::Value as Json;

/// How to search.
#[derive(Debug, Clone)]
pub struct HyperOptions {
    /// Where it begins; what the space does not name stays as it is.
    pub recipe: Recipe,
    /// What may be varied, by path in the recipe (`forecaster.penalty`); `None` = [`default_space`].
    pub space: Option<SpaceSpec>,
    /// Who proposes.
    pub designer: DesignerKind,
    /// Trials.
    pub budget: usize,
    /// The seed of study and fits.
    pub seed: Seed,
    /// Steps ahead of a validation window; `None` = a season, 1 to 48.
    pub horizon: Option<usize>,
    /// Validation windows at most.
    pub windows: usize,
}

/// What a search found.
#[derive(Debug, Clone)]
pub struct HyperOutcome {
    /// All trials.
    pub study: Study,
    /// The recipe with the best posterior mean.
    pub recipe: Recipe,
    /// The number of that trial and its value as measured: mean scaled quantile loss, smaller is better.
    pub best: (u64, f64),
    /// The value of the recipe as it was.
    pub before: f64,
    /// Whether the whole budget was spent.
    pub complete: bool,
}

/// The parameters of a forecaster that are worth a search, with ranges; `None` for kinds that have none.
pub fn default_space(forecaster: &ForecasterSpec) -> Option<SpaceSpec> {
    let name = |n: &str| format!("forecaster.{n}");
    Some(SpaceSpec(match forecaster {
        ForecasterSpec::RidgeLags(p) => vec![
            ParameterSpec::int(&name("lags"), 1, 64).log().current(p.lags.clamp(1, 64) as i64),
            ParameterSpec::float(&name("penalty"), 1e-5, 10.0).log().current(p.penalty.clamp(1e-5, 10.0)),
        ],
        ForecasterSpec::AutoLocal(p) => vec![
            ParameterSpec::int(&name("lags"), 1, 48).log().current(p.lags.clamp(1, 48) as i64),
            ParameterSpec::int(&name("origins"), 2, 24).current(p.origins.clamp(2, 24) as i64),
        ],
        ForecasterSpec::Ensemble(p) => vec![
            ParameterSpec::int(&name("lags"), 1, 48).log().current(p.lags.clamp(1, 48) as i64),
            ParameterSpec::int(&name("origins"), 2, 24).current(p.origins.clamp(2, 24) as i64),
        ],
        ForecasterSpec::Lstm(p) => vec![
            ParameterSpec::int(&name("hidden"), 8, 128).log().current(p.hidden.clamp(8, 128) as i64),
            ParameterSpec::float(&name("learning_rate"), 3e-4, 2e-2).log().current(p.learning_rate.clamp(3e-4, 2e-2)),
            ParameterSpec::float(&name("dropout"), 0.0, 0.5).current(p.dropout.clamp(0.0, 0.5)),
            ParameterSpec::float(&name("weight_decay"), 1e-4, 0.3).log().current(p.weight_decay.clamp(1e-4, 0.3)),
        ],
        _ => return None,
    }))
}

/// Searches the recipe's forecaster: the objective is the mean scaled quantile loss over rolling windows in the validation
/// rows (or, without any, the last 20 % of train), models fitted on what lies before them.
///
/// # Errors
/// [`TrainError::Usage`] when the recipe has nothing to search, [`TrainError::Data`] without rows to validate on, and
/// [`TrainError::Search`] for a space that is not sound.
pub fn search(data: &Dataset, options: &HyperOptions, context: &Context) -> Result<HyperOutcome, TrainError> {
    let Some(forecaster) = &options.recipe.forecaster else {
        return Err(TrainError::Usage("the recipe has no [forecaster]: add the one whose parameters to search".into()));
    };
    let space = options.space.clone().or_else(|| default_space(forecaster)).ok_or_else(|| {
        TrainError::Usage(format!(
            "a {} forecaster has no parameters to search: take ridge_lags, auto_local, lstm or ensemble, or name some with --space",
            forecaster.kind()
        ))
    })?;
    let base = serde_json::to_value(&options.recipe)?;
    for p in &space.0 {
        if pointer(&base, &p.name).is_none() {
            return Err(TrainError::Usage(format!(
                "--space: {:?} is no field of the recipe; `recipe explain` lists them",
                p.name
            )));
        }
    }
    let validation = Validation::new(data, options.recipe.season, options.horizon, options.windows, context)?;
    let objective = Objective { metric: "sql".into(), aggregate: Aggregate::Mean, goal: Goal::Min };
    let mut study = StudySpec {
        designer: options.designer,
        budget: Some(TrialBudget { trials: options.budget }),
        seed: options.seed,
        ..StudySpec::new("hyper-parameters", space, objective)
    }
    .check()?;
    let before = validation.loss(forecaster, options.seed)?;
    let progress = context.progress("searching", options.budget);
    let mut done = 0;
    while done < options.budget && !context.stopped() {
        let trial = study.ask()?;
        let (id, parameters) = (trial.id, trial.parameters.clone());
        let value = with(&base, &parameters)
            .and_then(|r| r.forecaster.ok_or_else(|| "no forecaster is left".to_owned()))
            .and_then(|f| validation.loss(&f, options.seed).map_err(|e| e.to_string()));
        match value {
            Ok(v) if v.is_finite() => study.tell(id, Measurement::of(v))?,
            Ok(v) => study.fail(id, &format!("the loss is {v}"))?,
            Err(reason) => study.fail(id, &reason)?,
        };
        done += 1;
        progress.set(done, options.budget, "");
    }
    let Some((id, _)) = study.best_by_posterior() else {
        return Err(TrainError::Data(
            "no trial could be measured; the first failure: ".to_owned() + &first_failure(&study),
        ));
    };
    let trial = study.trial(id)?;
    let measured = trial.usable().map_or(f64::NAN, |m| m.value);
    let recipe = with(&base, &trial.parameters).map_err(TrainError::Data)?;
    Ok(HyperOutcome { recipe, best: (id, measured), before, complete: done == options.budget, study })
}

fn first_failure(study: &Study) -> String {
    let failed = |t: &foreglow_search::Trial| match &t.state {
        foreglow_search::TrialState::Failed { reason } => Some(reason.clone()),
        _ => None,
    };
    study.trials().iter().find_map(failed).unwrap_or_else(|| "there was none".into())
}

/// The place of a dotted path (`detectors[0].clip`) in a recipe.
fn pointer(recipe: &Json, path: &str) -> Option<String> {
    let pointer = format!("/{}", path.replace(['.', '['], "/").replace(']', ""));
    recipe.pointer(&pointer).is_some().then_some(pointer)
}

/// The recipe with some values replaced, checked.
fn with(base: &Json, parameters: &Assignment) -> Result<Recipe, String> {
    let mut json = base.clone();
    for (name, value) in parameters {
        let place = pointer(base, name).and_then(|p| json.pointer_mut(&p)).ok_or_else(|| format!("no field {name}"))?;
        *place = match value {
            Value::Bool(v) => (*v).into(),
            Value::Int(v) => (*v).into(),
            // A whole number stands in a whole-number field, whatever the parameter's type.
            Value::Float(v) if place.is_u64() && v.fract() == 0.0 => (*v as i64).into(),
            Value::Float(v) => (*v).into(),
            Value::Text(v) => v.clone().into(),
        };
    }
    let recipe: Recipe = serde_json::from_value(json).map_err(|e| e.to_string())?;
    recipe.check().map_err(|e| e.to_string())?;
    Ok(recipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_placed_by_path() {
        let recipe = Recipe::parse("[forecaster]\nkind = \"ridge_lags\"\n").unwrap();
        let base = serde_json::to_value(&recipe).unwrap();
        let a = Assignment::from([
            ("forecaster.lags".to_owned(), Value::Float(12.0)),
            ("forecaster.penalty".to_owned(), Value::Float(0.5)),
        ]);
        let Some(ForecasterSpec::RidgeLags(p)) = with(&base, &a).unwrap().forecaster else { panic!("the kind stays") };
        assert_eq!((p.lags, p.penalty), (12, 0.5));
        assert!(with(&base, &Assignment::from([("forecaster.lags".to_owned(), Value::Int(0))])).is_err());
        assert!(pointer(&base, "forecaster.colour").is_none() && pointer(&base, "detectors[0].kind").is_some());
        for spec in crate::backtest::forecast::all_models() {
            if let Some(space) = default_space(&spec) {
                let base = serde_json::to_value(Recipe { forecaster: Some(spec), ..Recipe::default() }).unwrap();
                assert!(space.0.iter().all(|p| pointer(&base, &p.name).is_some()));
                assert!(space.check().is_ok_and(|s| s.current().is_some()));
            }
        }
    }
}
