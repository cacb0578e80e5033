use super::data::ChoiceArgs;
use crate::answer::{figure, table};
use crate::{Answer, Context, TrainError, gate};
use foreglow_models::artifact::Store;
use serde_json::json;
use std::path::PathBuf;

/// Options of `inspect`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  foreglow-train inspect --registry registry
  foreglow-train inspect smd_a --registry registry
  foreglow-train inspect smd_a/3f2c --registry registry --format json")]
pub struct InspectArgs {
    /// NAME, NAME/ID, NAME/current or ID; without it the registry is listed.
    #[arg(value_name = "ARTIFACT")]
    artifact: Option<String>,
    /// The folder of artifacts.
    #[arg(long, value_name = "DIR")]
    registry: PathBuf,
}

/// Options of `promote`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  foreglow-train promote smd_a 3f2c --registry registry
  foreglow-train promote smd_a 3f2c --registry registry --data ../shared/data/smd_a")]
pub struct PromoteArgs {
    /// The artifact's name.
    name: String,
    /// The id to serve from now on, or the beginning of it.
    id: String,
    /// The folder of artifacts.
    #[arg(long, value_name = "DIR")]
    registry: PathBuf,
    /// Labelled data: the artifact and the current one are first replayed over its test rows, and the artifact is refused
    /// when it does clearly worse, no better than chance, or alerts falsely more than twice as often as its budget.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Promote it whatever the test rows say.
    #[arg(long, requires = "data")]
    force: bool,
    #[command(flatten)]
    choice: ChoiceArgs,
}

/// Options of `rollback`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  foreglow-train rollback smd_a --registry registry")]
pub struct RollbackArgs {
    /// The artifact's name.
    name: String,
    /// The id to go back to; without it the one that was current before.
    id: Option<String>,
    /// The folder of artifacts.
    #[arg(long, value_name = "DIR")]
    registry: PathBuf,
}

/// Runs `inspect`: loads the artifact whole, so that a damaged one is found out.
///
/// # Errors
/// From the registry.
pub fn inspect(args: &InspectArgs) -> Result<Answer, TrainError> {
    let store = Store::open(&args.registry)?;
    let Some(text) = &args.artifact else { return listing(&store) };
    let (name, id) = store.resolve(text)?;
    let artifact = store.load(&name, Some(&id))?;
    let m = &artifact.manifest;
    let facts = [
        ("artifact", format!("{}/{}", m.name, m.id)),
        ("kind", m.kind.clone()),
        ("made by", format!("{}, kernel path {}", m.created_by, m.kernel)),
        ("data", format!("{}, sha256 {}", m.training.data, m.training.data_sha256)),
        (
            "trained on",
            format!(
                "{} to {}, {} rows of {} groups",
                m.training.start, m.training.end, m.training.rows, m.training.groups
            ),
        ),
        ("step", m.step.to_string()),
        ("signals", m.signals.len().to_string()),
        ("members", artifact.pipeline.member_names().join(", ")),
        ("forecaster", artifact.pipeline.forecaster().map_or("none", |f| f.kind()).to_owned()),
        ("seed", m.seed.0.to_string()),
        ("calibration", format!("epoch {}", m.calibration_epoch)),
        ("backtest", m.backtest.as_ref().map_or_else(|| "none was run".into(), backtest_line)),
    ];
    let mut text = table(&["", ""], 2, facts.iter().map(|(n, v)| vec![(*n).to_owned(), v.clone()]));
    text.push_str("\n\n");
    text.push_str(&table(&["group", "p_alert"], 1, m.p_alert.iter().map(|(g, p)| vec![g.clone(), format!("{p:.2e}")])));
    text.push_str("\n\n");
    let files = m.files.iter().map(|(name, f)| vec![name.clone(), f.bytes.to_string(), f.sha256.clone()]);
    text.push_str(&table(&["file", "bytes", "sha256"], 1, files));
    Ok(Answer::new(m, text)?)
}

/// The figures that a manifest keeps, in a line.
fn backtest_line(b: &serde_json::Value) -> String {
    let f = |path: &str, digits| figure(b.pointer(path).and_then(serde_json::Value::as_f64), digits);
    format!(
        "test rows of {}: VUS-PR {} (random {}), recall {}, {} false alerts a day",
        b["data"].as_str().unwrap_or("?"),
        f("/means/vus_pr", 3),
        f("/baselines_vus_pr/random", 3),
        f("/means/recall", 2),
        f("/means/false_alerts_per_day", 2)
    )
}

fn listing(store: &Store) -> Result<Answer, TrainError> {
    let all = store.list()?;
    let rows = all.iter().map(|l| {
        let mark = if l.current { "current" } else { "" };
        match &l.manifest {
            Ok(m) => vec![
                l.name.clone(),
                l.id.clone(),
                mark.into(),
                m.training.groups.to_string(),
                figure(Some(m.training.rows as f64), 0),
                m.training.data.clone(),
            ],
            Err(e) => vec![
                l.name.clone(),
                l.id.clone(),
                mark.into(),
                "-".into(),
                "-".into(),
                format!("cannot be loaded: {e}"),
            ],
        }
    });
    let text = table(&["name", "id", "", "groups", "rows", "data"], 6, rows);
    let value: Vec<_> = all
        .iter()
        .map(|l| match &l.manifest {
            Ok(m) => json!({"name": l.name, "id": l.id, "current": l.current, "manifest": m}),
            Err(e) => json!({"name": l.name, "id": l.id, "current": l.current, "error": e.to_string()}),
        })
        .collect();
    Ok(Answer { json: value.into(), text })
}

/// Runs `promote`: the artifact is loaded first, so that a damaged one is never served, and judged where data are given.
///
/// # Errors
/// From the registry, as [`gate::judge`], and [`TrainError::Refused`] when the gate does not hold.
pub fn promote(args: &PromoteArgs, context: &Context) -> Result<Answer, TrainError> {
    let store = Store::open(&args.registry)?;
    let Some(path) = &args.data else {
        if let Some(option) = args.choice.given() {
            return Err(TrainError::Usage(format!("{option} says what of the data: give --data too")));
        }
        return set_current(&store, &args.name, &args.id);
    };
    let (name, id) = store.resolve(&format!("{}/{}", args.name, args.id))?;
    let candidate = store.load(&name, Some(&id))?;
    // A current artifact that cannot be loaded serves nothing and is no bar.
    let current = store.current(&name)?.filter(|c| *c != id).and_then(|c| store.load(&name, Some(&c)).ok());
    let verdict = gate::judge(&candidate, current.as_ref(), &args.choice.open(path)?, context)?;
    let mut rows = vec![gate::row(&id, &verdict.candidate)];
    rows.extend(verdict.current.iter().map(|c| gate::row("current", c)));
    let figures = table(&["artifact", "VUS-PR", "precision", "recall", "false/day"], 1, rows);
    if let Some(why) = verdict.refused.as_ref().filter(|_| !args.force) {
        return Err(TrainError::Refused(format!(
            "{name}/{id} is not promoted: on the test rows of {} {why}. --force promotes it all the same.\n{figures}",
            path.display()
        )));
    }
    let mut answer = set_current(&store, &name, &id)?;
    answer.text = format!("{figures}\n{}", answer.text);
    if let Some(why) = &verdict.refused {
        answer.text = format!("{}, though {why}", answer.text);
    }
    answer.json["figures"] = verdict.candidate.value();
    answer.json["current_figures"] = verdict.current.as_ref().map_or(serde_json::Value::Null, gate::Figures::value);
    answer.json["difference"] = json!(verdict.difference);
    answer.json["refusal"] = json!(verdict.refused);
    Ok(answer)
}

fn set_current(store: &Store, name: &str, id: &str) -> Result<Answer, TrainError> {
    let (name, id) = store.resolve(&format!("{name}/{id}"))?;
    store.load(&name, Some(&id))?;
    store.promote(&name, &id)?;
    Ok(Answer { json: json!({"name": name, "current": id}), text: format!("{name}: {id} is current") })
}

/// Runs `rollback`.
///
/// # Errors
/// From the registry.
pub fn rollback(args: &RollbackArgs) -> Result<Answer, TrainError> {
    let store = Store::open(&args.registry)?;
    if let Some(id) = &args.id {
        return set_current(&store, &args.name, id);
    }
    let id = store.rollback(&args.name)?;
    let text = format!("{}: {id} is current again", args.name);
    Ok(Answer { json: json!({"name": args.name, "current": id}), text })
}
