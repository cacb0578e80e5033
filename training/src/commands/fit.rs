use super::DataArgs;
use super::recipe::read_recipe;
use crate::answer::table;
use crate::fitting::{FitOptions, FitSeries, Fitted, Known, fit_all};
use crate::{Answer, Context, TrainError, gate};
use foreglow_core::Seed;
use foreglow_core::signals::Signals;
use foreglow_models::artifact::Store;
use foreglow_models::monitor::group_id;
use serde_json::json;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Options of `fit`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  foreglow-train fit --data ../shared/data/smd_a --registry registry
  foreglow-train fit --data metrics.csv --signals signals.toml --recipe training/configs/fast.toml --registry registry --name web
  foreglow-train fit --data metrics.csv --registry registry --name web --from web")]
pub struct FitArgs {
    /// What is watched and what is judged together; without it every metric is a gauge and every file series a group.
    #[arg(long, value_name = "FILE")]
    signals: Option<PathBuf>,
    /// The models, a TOML file; without it the recommended ones.
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// An artifact of the registry to go on from: NAME, NAME/ID or ID.
    #[arg(long, value_name = "ARTIFACT")]
    from: Option<String>,
    /// The folder of artifacts; made if it is not there.
    #[arg(long, value_name = "DIR")]
    registry: PathBuf,
    /// The artifact's name; by default that of the data.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Replay the test rows before the artifact is kept and write the figures into its manifest. Labels are needed.
    #[arg(long)]
    backtest: bool,
    /// The seed: the same data, recipe and seed give the same artifact.
    #[arg(long, value_name = "N", default_value_t = Seed::default().0)]
    seed: u64,
    #[command(flatten)]
    data: DataArgs,
}

/// Reads `signals.toml`; no file is no rule.
///
/// # Errors
/// [`TrainError::Io`] and [`TrainError::Config`] with the file's name.
pub(crate) fn read_signals(path: Option<&Path>) -> Result<Signals, TrainError> {
    let Some(path) = path else { return Ok(Signals::default()) };
    let text = std::fs::read_to_string(path).map_err(|e| TrainError::io(path, "read", e))?;
    Signals::parse(&text).map_err(|e| TrainError::Config { path: path.to_owned(), problem: e.to_string() })
}

/// Runs `fit`.
///
/// # Errors
/// As [`fit_all`] and the registry.
pub fn fit(args: &FitArgs, context: &Context) -> Result<Answer, TrainError> {
    let rules = read_signals(args.signals.as_deref())?;
    let recipe = read_recipe(args.recipe.as_deref())?;
    let data = args.data.open()?;
    let store = Store::create(&args.registry)?;
    let warm = match &args.from {
        Some(text) => {
            let (name, id) = store.resolve(text)?;
            Some(store.load(&name, Some(&id))?)
        }
        None => None,
    };
    let options = FitOptions {
        name: args.name.clone().unwrap_or_else(|| data.name.clone()),
        recipe,
        rules,
        known: Known::Splits,
        seed: Seed(args.seed),
        warm: warm.as_ref(),
    };
    let start = Instant::now();
    let (mut fitted, mut notes) = fit_all(&data, &options, context)?;
    if args.backtest {
        for one in &mut fitted {
            match gate::Figures::of(&one.artifact, &data, context) {
                Ok(figures) => one.artifact = one.artifact.clone().with_backtest(figures.value())?,
                // The fit may have taken hours: it is kept.
                Err(e) => notes.push(format!("kept without backtest figures: {e}")),
            }
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let (mut text, mut answers) = (String::new(), Vec::new());
    for one in &fitted {
        let id = store.put(&one.artifact)?;
        answers.push(answer(one, &id));
        text.push_str(&lines(one, &id));
    }
    for note in &notes {
        let _ = writeln!(text, "note: {note}");
    }
    let _ = write!(text, "{seconds:.1} s");
    let value = json!({"artifacts": answers, "notes": notes, "seconds": seconds,
        "peak_memory_bytes": crate::backtest::peak_memory_bytes()});
    Ok(Answer { json: value, text })
}

/// The id of a series' group.
fn group_of(fitted: &Fitted, series: &FitSeries) -> String {
    let rules = fitted.artifact.pipeline.rules();
    series.keys.first().map_or_else(String::new, |k| group_id(&rules.place(k).0.group))
}

fn answer(fitted: &Fitted, id: &str) -> serde_json::Value {
    let m = &fitted.artifact.manifest;
    let groups: Vec<_> = fitted
        .series
        .iter()
        .map(|s| {
            let group = group_of(fitted, s);
            json!({"p_alert": m.p_alert.get(&group), "group": group, "signals": s.keys.len(), "fit_rows": s.fit.len(),
                "calibrate_rows": s.calibrate.len()})
        })
        .collect();
    json!({"name": m.name, "id": id, "step": fitted.step, "signals": m.signals.len(),
        "members": fitted.artifact.pipeline.member_names(), "groups": groups})
}

fn lines(fitted: &Fitted, id: &str) -> String {
    let m = &fitted.artifact.manifest;
    let rows = fitted.series.iter().map(|s| {
        let group = group_of(fitted, s);
        let p = m.p_alert.get(&group).map_or_else(|| "-".into(), |p| format!("{p:.2e}"));
        vec![group, s.keys.len().to_string(), s.fit.len().to_string(), s.calibrate.len().to_string(), p]
    });
    format!(
        "{}\nmembers: {}\nforecaster: {}\nstep {}\nartifact {}/{id}\n",
        table(&["group", "signals", "fit rows", "calibrate rows", "p_alert"], 1, rows),
        fitted.artifact.pipeline.member_names().join(", "),
        fitted.artifact.pipeline.forecaster().map_or("none", |f| f.kind()),
        fitted.step,
        m.name
    )
}
