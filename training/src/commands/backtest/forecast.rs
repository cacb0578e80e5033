use super::BacktestArgs;
use crate::answer::{figure, table};
use crate::backtest::forecast::{Contender, ForecastOptions, ForecastOutcome, Refit, all_models};
use crate::backtest::{forecast, ltsf, write_json, write_text};
use crate::commands::recipe::{read_recipe, recipe_name};
use crate::{Answer, Context, TrainError};
use foreglow_core::Seed;
use foreglow_datasets::write_parquet;
use foreglow_models::evaluate::RollingPlan;
use foreglow_models::evaluate::report::{ForecastReport, forecast_html};
use std::path::Path;
use std::str::FromStr;

/// How many windows.
#[derive(Debug, Clone, Copy)]
enum Windows {
    Number(usize),
    WithinTest,
}

impl FromStr for Windows {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "test" => Ok(Self::WithinTest),
            _ => text.parse().map(Self::Number).map_err(|_| format!("{text:?}: expected a whole number, or test")),
        }
    }
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "--task forecast")]
pub(super) struct ForecastArgs {
    /// Steps ahead; needed.
    #[arg(long, value_name = "STEPS")]
    horizon: Option<usize>,
    /// Windows, counted back from the last row; by default a tenth of the shortest series, 1 to 20. `test`: as many as lie
    /// inside each series' test rows, counted back from the last of these.
    #[arg(long, value_name = "N")]
    windows: Option<Windows>,
    /// Rows between neighbouring windows; by default the horizon.
    #[arg(long, value_name = "ROWS")]
    step: Option<usize>,
    /// Steps of a season, for models and for the scale of MASE; by default an hour for steps under a minute, else a day.
    #[arg(long, value_name = "STEPS")]
    season: Option<usize>,
    /// When global models are fitted anew: never (the default), each, or every N windows.
    #[arg(long, value_name = "WHEN")]
    refit: Option<Refit>,
    /// The rows of the report, separated by commas; the first is the subject. By default the recipe's forecaster, then all
    /// others.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    models: Vec<String>,
}

impl ForecastArgs {
    /// The first option that was given.
    pub(super) fn given(&self) -> Option<&'static str> {
        let rolling = self.rolling_only();
        let horizon = self.horizon.map(|_| "--horizon").or(self.season.map(|_| "--season"));
        horizon.or(rolling).or((!self.models.is_empty()).then_some("--models"))
    }

    /// The first option that was given and means nothing to the long-term protocol.
    fn rolling_only(&self) -> Option<&'static str> {
        let windows = self.windows.map(|_| "--windows").or(self.step.map(|_| "--step"));
        windows.or(self.refit.map(|_| "--refit"))
    }
}

/// Runs `backtest --task forecast`.
pub(super) fn run(args: &BacktestArgs, seed: Seed, context: &Context, long_term: bool) -> Result<Answer, TrainError> {
    let f = &args.forecast;
    let Some(horizon) = f.horizon else {
        return Err(TrainError::Usage("--task forecast needs --horizon STEPS, such as --horizon 48".into()));
    };
    if let Some(option) = f.rolling_only().filter(|_| long_term) {
        return Err(TrainError::Usage(format!("{option} means nothing to --protocol ltsf: leave it out")));
    }
    let recipe = read_recipe(args.recipe.as_deref())?;
    let (own, name) = match args.artifact()? {
        None => (recipe.forecaster.map(Contender::Fit), recipe_name(args.recipe.as_deref())),
        Some((artifact, name)) => {
            let Some(forecaster) = artifact.pipeline.forecaster() else {
                return Err(TrainError::Usage(format!("--artifact {name}: it has no forecaster")));
            };
            (Some(Contender::Ready(forecaster.clone(), artifact.manifest.training.end)), name)
        }
    };
    let (windows, within_test) = match f.windows {
        Some(Windows::Number(n)) => (Some(n), false),
        Some(Windows::WithinTest) => (None, true),
        None => (None, false),
    };
    let options = ForecastOptions {
        recipe: name,
        models: chosen(own, &f.models)?,
        plan: RollingPlan { horizon, windows, step: f.step },
        within_test,
        season: f.season.or(recipe.season),
        refit: f.refit.unwrap_or_default(),
        seed,
    };
    let data = args.data.open()?;
    let outcome =
        if long_term { ltsf::run(&data, &options, context)? } else { forecast::run(&data, &options, context)? };
    write(&args.out, &outcome)?;
    if !outcome.complete {
        return Err(TrainError::Interrupted(format!("the finished part of the report lies in {}", args.out.display())));
    }
    Ok(Answer::new(&outcome.report, text(&outcome.report, &args.out))?)
}

/// The rows of the report: those named, or the recipe's (or artifact's) forecaster and all other kinds. A named kind that
/// the recipe has is taken from there.
fn chosen(own: Option<Contender>, names: &[String]) -> Result<Vec<Contender>, TrainError> {
    let mut all: Vec<Contender> = own.into_iter().collect();
    for spec in all_models() {
        if all.iter().all(|s| s.kind() != spec.kind()) {
            all.push(Contender::Fit(spec));
        }
    }
    if names.is_empty() {
        return Ok(all);
    }
    let mut out: Vec<Contender> = Vec::with_capacity(names.len());
    for name in names {
        let Some(model) = all.iter().find(|m| m.kind() == name) else {
            let known: Vec<&str> = all.iter().map(Contender::kind).collect();
            return Err(TrainError::Usage(format!(
                "--models {name}: no such model; choose among {}",
                known.join(", ")
            )));
        };
        if out.iter().any(|m| m.kind() == name) {
            return Err(TrainError::Usage(format!("--models {name}: given twice; name each once")));
        }
        out.push(model.clone());
    }
    Ok(out)
}

fn write(out: &Path, outcome: &ForecastOutcome) -> Result<(), TrainError> {
    write_json(&out.join("report.json"), &outcome.report)?;
    if !outcome.columns.is_empty() {
        write_parquet(&out.join("forecasts.parquet"), outcome.columns.clone())?;
    }
    write_text(&out.join("report.html"), &forecast_html(&outcome.report, &outcome.plots))
}

fn text(report: &ForecastReport, out: &Path) -> String {
    let head =
        ["model", "MASE", "sMAPE", "SQL", "WQL", "ND", "MAE", "MSE", "80 %", "windows", "near-constant", "failed"];
    let rows = report.models.iter().map(|m| {
        let f = &m.measures;
        let band = f.bands.iter().find(|b| (b.nominal - 0.8).abs() < 1e-9).map(|b| b.measured);
        vec![
            m.name.clone(),
            figure(f.mase, 3),
            figure(f.smape, 3),
            figure(f.sql, 3),
            figure(f.wql, 5),
            figure(f.nd, 5),
            figure(f.mae, 3),
            figure(f.mse, 3),
            figure(band, 3),
            f.windows.to_string(),
            f.near_constant.to_string(),
            f.failed.to_string(),
        ]
    });
    format!("{}\n\nreport: {}", table(&head, 1, rows), out.join("report.html").display())
}
