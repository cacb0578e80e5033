use crate::answer::{figure, table};
use crate::{Answer, TrainError};
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
#[command(after_help = "Example:\n  foreglow-train promote smd_a 3f2c --registry registry")]
pub struct PromoteArgs {
    /// The artifact's name.
    name: String,
    /// The id to serve from now on, or the beginning of it.
    id: String,
    /// The folder of artifacts.
    #[arg(long, value_name = "DIR")]
    registry: PathBuf,
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
    ];
    let mut text = table(&["", ""], 2, facts.iter().map(|(n, v)| vec![(*n).to_owned(), v.clone()]));
    text.push_str("\n\n");
    text.push_str(&table(&["group", "p_alert"], 1, m.p_alert.iter().map(|(g, p)| vec![g.clone(), format!("{p:.2e}")])));
    text.push_str("\n\n");
    let files = m.files.iter().map(|(name, f)| vec![name.clone(), f.bytes.to_string(), f.sha256.clone()]);
    text.push_str(&table(&["file", "bytes", "sha256"], 1, files));
    Ok(Answer::new(m, text)?)
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

/// Runs `promote`: the artifact is loaded first, so that a damaged one is never served.
///
/// # Errors
/// From the registry.
pub fn promote(args: &PromoteArgs) -> Result<Answer, TrainError> {
    let store = Store::open(&args.registry)?;
    set_current(&store, &args.name, &args.id)
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
