use super::DataArgs;
use super::record::{RecordArgs, record};
use crate::answer::table;
use crate::{Answer, Context, TrainError};
use foreglow_core::{Seed, Step, Timestamp};
use foreglow_datasets::{
    AnomalyKind, Dataset, DatasetError, FetchOptions, Origin, SyntheticSpec, check, describe, fetch, find, generate,
    list, local, write_tidy,
};
use serde_json::json;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The commands about datasets.
#[derive(Debug, clap::Subcommand)]
pub enum DatasetsCommand {
    /// The catalogue, and the datasets that lie in a folder.
    List(ListArgs),
    /// What a dataset is: size, terms, splits, labels, caveats, series.
    Describe(DescribeArgs),
    /// Read a whole dataset and compare it with what it says of itself.
    Check(Box<CheckArgs>),
    /// Download a dataset of the catalogue that is a plain file; the checksum is verified.
    Fetch(FetchArgs),
    /// Generate a dataset with exact labels.
    Generate(Box<GenerateArgs>),
    /// Run the swarm on this machine and record it, with faults on command.
    Record(Box<RecordArgs>),
}

/// Options of `datasets list`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  foreglow-train datasets list --root ../shared/data")]
pub struct ListArgs {
    /// A folder whose datasets are listed beside the catalogue.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// Options of `datasets describe`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  foreglow-train datasets describe ../shared/data/smd_a\n  foreglow-train datasets describe ett/h1"
)]
pub struct DescribeArgs {
    /// A dataset folder, a .parquet or .csv file, or a name of the catalogue.
    #[arg(value_name = "PATH_OR_NAME")]
    what: PathBuf,
}

/// Options of `datasets check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  foreglow-train datasets check --data ../shared/data/asd")]
pub struct CheckArgs {
    #[command(flatten)]
    data: DataArgs,
}

/// Options of `datasets fetch`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  foreglow-train datasets fetch ett/h1 --into data --sha256 SUM")]
pub struct FetchArgs {
    /// A name of the catalogue.
    name: String,
    /// The folder in which the dataset's own folder is made.
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
    /// The checksum to hold the bytes to; needed where the catalogue has none.
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    /// Another address of the same bytes.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// Options of `datasets generate`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  foreglow-train datasets generate --out data/synthetic --series 4 --days 14 --events 10 --seed 7"
)]
pub struct GenerateArgs {
    /// The folder to write.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A TOML file with all fields of the generator; the options below win over it.
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
    /// Name of the set.
    #[arg(long)]
    name: Option<String>,
    /// Series (entities).
    #[arg(long, value_name = "N")]
    series: Option<usize>,
    /// Metrics of each.
    #[arg(long, value_name = "N")]
    metrics: Option<usize>,
    /// Groups of correlated metrics.
    #[arg(long, value_name = "N")]
    groups: Option<usize>,
    /// Length in days.
    #[arg(long, value_name = "DAYS")]
    days: Option<f64>,
    /// Distance of rows, such as 5m.
    #[arg(long, value_name = "DURATION")]
    step: Option<Step>,
    /// First instant: RFC 3339 or epoch milliseconds.
    #[arg(long, value_name = "TIME")]
    start: Option<Timestamp>,
    /// Anomalies of each series, all in test rows.
    #[arg(long, value_name = "N")]
    events: Option<usize>,
    /// Kinds of anomalies, separated by commas: level_shift, variance_burst, spike, stuck_sensor, missing.
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = anomaly_kind)]
    kinds: Option<Vec<AnomalyKind>>,
    /// The seed.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

fn anomaly_kind(text: &str) -> Result<AnomalyKind, String> {
    AnomalyKind::ALL.into_iter().find(|k| k.name() == text).ok_or_else(|| {
        let known = AnomalyKind::ALL.map(AnomalyKind::name).join(", ");
        format!("expected one of {known}")
    })
}

/// Runs `datasets`.
///
/// # Errors
/// As the command.
pub fn datasets(command: &DatasetsCommand, context: &Context) -> Result<Answer, TrainError> {
    match command {
        DatasetsCommand::List(args) => list_command(args),
        DatasetsCommand::Describe(args) => describe_command(args),
        DatasetsCommand::Check(args) => check_command(args),
        DatasetsCommand::Fetch(args) => fetch_command(args, context),
        DatasetsCommand::Generate(args) => generate_command(args),
        DatasetsCommand::Record(args) => record(args, context),
    }
}

fn list_command(args: &ListArgs) -> Result<Answer, TrainError> {
    let here = match &args.root {
        Some(root) => local(root)?,
        None => Vec::new(),
    };
    let origin = |o: &Origin| match o {
        Origin::Folder => "folder",
        Origin::File { .. } => "file to fetch",
    };
    let known = list();
    let rows = known.iter().map(|e| {
        vec![
            e.name.to_owned(),
            e.tasks.join(", "),
            e.licence.to_owned(),
            origin(&e.origin).to_owned(),
            e.title.to_owned(),
        ]
    });
    let mut text = table(&["name", "tasks", "licence", "origin", "title"], 5, rows);
    if let Some(root) = &args.root {
        let rows = here.iter().map(|(path, m)| {
            let size = [m.series.len(), m.n_rows, m.metrics.len(), m.n_events].map(|n| n.to_string());
            [vec![path.display().to_string()], size.to_vec(), vec![m.title.clone()]].concat()
        });
        let _ = writeln!(text, "\n\nin {}:", root.display());
        text.push_str(&table(&["path", "series", "rows", "metrics", "events", "title"], 1, rows));
    }
    let catalogue: Vec<_> = known
        .iter()
        .map(|e| json!({"name": e.name, "title": e.title, "tasks": e.tasks, "licence": e.licence, "origin": origin(&e.origin)}))
        .collect();
    let here: Vec<_> = here
        .iter()
        .map(|(path, m)| json!({"path": path, "name": m.name, "series": m.series.len(), "rows": m.n_rows, "metrics": m.metrics.len(), "events": m.n_events, "title": m.title}))
        .collect();
    Ok(Answer { json: json!({"catalogue": catalogue, "local": here}), text })
}

fn describe_command(args: &DescribeArgs) -> Result<Answer, TrainError> {
    if !args.what.exists() {
        let name = args.what.to_string_lossy();
        let entry = find(&name).map_err(|e| match e {
            DatasetError::Catalogue { problem, .. } => {
                TrainError::Usage(format!("{name}: no file or folder of that name, and {problem}"))
            }
            other => other.into(),
        })?;
        let mut text = format!(
            "{}: {}\n  tasks         {}\n  licence       {}\n",
            entry.name,
            entry.title,
            entry.tasks.join(", "),
            entry.licence
        );
        let mut value =
            json!({"name": entry.name, "title": entry.title, "tasks": entry.tasks, "licence": entry.licence});
        if let Origin::File { url, sha256, .. } = entry.origin {
            let sum = sha256.unwrap_or("not verified: pass it with --sha256");
            let _ = writeln!(text, "  url           {url}\n  sha256        {sum}");
            value["url"] = json!(url);
            value["sha256"] = json!(sha256);
        }
        return Ok(Answer { json: value, text });
    }
    let set = Dataset::open(&args.what, &foreglow_datasets::OpenOptions::default())?;
    if let Some(manifest) = &set.manifest {
        return Ok(Answer::new(manifest.as_ref(), describe(manifest))?);
    }
    let rows = set.series.iter().map(|s| {
        let time = |t: Option<Timestamp>| t.map_or_else(|| "-".into(), |t| t.to_string());
        vec![
            s.id.clone(),
            s.rows.to_string(),
            time(s.start),
            time(s.end),
            s.step.map_or_else(|| "-".into(), |s| s.to_string()),
        ]
    });
    let text = format!(
        "{}: {} series, metrics {}\n{}",
        set.name,
        set.series.len(),
        set.metrics.join(", "),
        table(&["series", "rows", "first", "last", "step"], 1, rows)
    );
    let series: Vec<_> = set
        .series
        .iter()
        .map(|s| json!({"id": s.id, "rows": s.rows, "start": s.start, "end": s.end, "step": s.step}))
        .collect();
    Ok(Answer { json: json!({"name": set.name, "metrics": set.metrics, "series": series}), text })
}

fn check_command(args: &CheckArgs) -> Result<Answer, TrainError> {
    let report = check(&args.data.data, &args.data.options()?)?;
    if report.is_sound() {
        return Ok(Answer::new(&report, report.to_string())?);
    }
    let text = report.to_string();
    Err(TrainError::Data(format!("{}: the dataset contradicts itself:\n{}", args.data.data.display(), text.trim_end())))
}

fn fetch_command(args: &FetchArgs, context: &Context) -> Result<Answer, TrainError> {
    let entry = find(&args.name)?;
    let options = FetchOptions { sha256: args.sha256.clone(), url: args.url.clone(), ..FetchOptions::default() };
    let progress = context.progress(&format!("fetching {}", entry.name), 0);
    let got = fetch(entry, &args.into, &options, &mut |bytes, total| {
        progress.set(bytes as usize, total.unwrap_or(bytes) as usize, "bytes");
    })?;
    let text = format!("{}: {} bytes, sha256 {}\nlicence: {}", got.dir.display(), got.bytes, got.sha256, got.licence);
    Ok(Answer { json: json!({"dir": got.dir, "bytes": got.bytes, "sha256": got.sha256, "licence": got.licence}), text })
}

/// An option wins over what the field holds.
fn take<T: Clone>(field: &mut T, option: Option<&T>) {
    if let Some(v) = option {
        *field = v.clone();
    }
}

fn generate_command(args: &GenerateArgs) -> Result<Answer, TrainError> {
    let mut spec = match &args.spec {
        Some(path) => read_spec(path)?,
        None => SyntheticSpec::default(),
    };
    take(&mut spec.name, args.name.as_ref());
    take(&mut spec.series, args.series.as_ref());
    take(&mut spec.metrics, args.metrics.as_ref());
    take(&mut spec.groups, args.groups.as_ref());
    take(&mut spec.days, args.days.as_ref());
    take(&mut spec.step, args.step.as_ref());
    take(&mut spec.start, args.start.as_ref());
    take(&mut spec.events, args.events.as_ref());
    take(&mut spec.kinds, args.kinds.as_ref());
    take(&mut spec.seed, args.seed.map(Seed).as_ref());
    // The default of two groups is no wish: fewer metrics mean fewer groups.
    if args.groups.is_none() && args.spec.is_none() {
        spec.groups = spec.groups.min(spec.metrics.max(1));
    }
    let manifest = write_tidy(&args.out, &generate(&spec.check()?))?;
    Ok(written(&args.out, &manifest))
}

fn read_spec(path: &Path) -> Result<SyntheticSpec, TrainError> {
    let text = std::fs::read_to_string(path).map_err(|e| TrainError::io(path, "read", e))?;
    toml::from_str(&text)
        .map_err(|e| TrainError::Config { path: path.to_owned(), problem: e.to_string().trim_end().to_owned() })
}

/// The answer for a dataset that was written.
pub(super) fn written(out: &Path, manifest: &foreglow_datasets::Manifest) -> Answer {
    let m = manifest;
    let text = format!(
        "{}: {} series, {} rows, {} metrics, {} events, {} anomalous rows",
        out.display(),
        m.n_series,
        m.n_rows,
        m.n_metrics,
        m.n_events,
        m.anomalous_rows
    );
    let value = json!({"dir": out, "series": m.n_series, "rows": m.n_rows, "metrics": m.n_metrics, "events": m.n_events,
        "anomalous_rows": m.anomalous_rows, "files": m.files});
    Answer { json: value, text }
}
