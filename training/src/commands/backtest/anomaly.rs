use super::BacktestArgs;
use crate::answer::{figure, table};
use crate::backtest::anomaly::{self, AnomalyOptions, AnomalyOutcome, Model};
use crate::backtest::{write_json, write_text};
use crate::commands::fit::read_signals;
use crate::commands::recipe::{read_recipe, recipe_name};
use crate::fitting::{FitOptions, Known};
use crate::{Answer, Context, TrainError};
use foreglow_core::Seed;
use foreglow_datasets::write_parquet;
use foreglow_models::evaluate::report::{AnomalyReport, Protocol, anomaly_html};
use std::path::{Path, PathBuf};

/// Which rows of `expected.parquet` are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Expected {
    /// Rows at or above the alert line.
    Alerts,
    /// Every row.
    All,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "--task anomaly")]
pub(super) struct AnomalyArgs {
    /// What is watched and what is judged together.
    #[arg(long, value_name = "FILE")]
    signals: Option<PathBuf>,
    /// Rows of expected.parquet. Default alerts.
    #[arg(long, value_enum)]
    expected: Option<Expected>,
    /// Protocol tsb: fit on the first so many labelled rows of each series instead of its train rows.
    #[arg(long, value_name = "ROWS")]
    prefix: Option<usize>,
}

impl AnomalyArgs {
    /// The first option that was given.
    pub(super) fn given(&self) -> Option<&'static str> {
        let rules = self.signals.as_ref().map(|_| "--signals").or(self.prefix.map(|_| "--prefix"));
        rules.or(self.expected.map(|_| "--expected"))
    }
}

/// Runs `backtest --task anomaly`.
pub(super) fn run(
    args: &BacktestArgs,
    protocol: Protocol,
    seed: Seed,
    context: &Context,
) -> Result<Answer, TrainError> {
    let (all, out, recipe) = (args, args.out.as_path(), args.recipe.as_deref());
    let args = &all.anomaly;
    if args.prefix.is_some() && protocol != Protocol::Tsb {
        return Err(TrainError::Usage(
            "--prefix belongs to --protocol tsb: under causal, train rows are fitted on".into(),
        ));
    }
    let data = all.data.open()?;
    let (model, name) = if let Some((artifact, name)) = all.artifact()? {
        (Model::Replay(vec![artifact]), name)
    } else {
        let fit = FitOptions {
            name: data.name.clone(),
            recipe: read_recipe(recipe)?,
            rules: read_signals(args.signals.as_deref())?,
            known: args.prefix.map_or(Known::Splits, Known::Prefix),
            seed,
            warm: None,
        };
        (Model::Fit(Box::new(fit)), recipe_name(recipe))
    };
    let options = AnomalyOptions { model, name, protocol, expected_all: args.expected == Some(Expected::All), seed };
    let outcome = anomaly::run(&data, options, context)?;
    write(out, &outcome)?;
    if !outcome.complete {
        return Err(TrainError::Interrupted(format!("the finished series lie in {}", out.display())));
    }
    Ok(Answer::new(&outcome.report, text(&outcome.report, out))?)
}

fn write(out: &Path, outcome: &AnomalyOutcome) -> Result<(), TrainError> {
    write_json(&out.join("report.json"), &outcome.report)?;
    write_parquet(&out.join("scores.parquet"), outcome.scores.clone())?;
    write_parquet(&out.join("expected.parquet"), outcome.expected.clone())?;
    write_text(&out.join("report.html"), &anomaly_html(&outcome.report, &outcome.plots))
}

fn text(report: &AnomalyReport, out: &Path) -> String {
    let head = [
        "detector",
        "VUS-PR",
        "VUS-ROC",
        "AUC-PR",
        "precision",
        "recall",
        "F1",
        "delay min",
        "false/day",
        "Hit@100",
        "Hit@150",
    ];
    let rows = report.detectors.iter().map(|d| {
        let m = &d.means;
        vec![
            d.name.clone(),
            figure(m.vus_pr, 3),
            figure(m.vus_roc, 3),
            figure(m.auc_pr, 3),
            figure(m.precision, 2),
            figure(m.recall, 2),
            figure(m.f1, 2),
            figure(m.median_delay_ms.map(|d| d / 60_000.0), 1),
            figure(m.false_alerts_per_day, 2),
            figure(m.hit_100, 2),
            figure(m.hit_150, 2),
        ]
    });
    let cost = &report.cost;
    if report.is_unlabelled() {
        let head = ["series", "start", "length", "peak", "metric", "seen"];
        let highest = report.alerts.highest.iter().take(10);
        let rows = highest.map(|a| std::iter::once(a.series.clone()).chain(a.cells()).collect::<Vec<_>>());
        return format!(
            "no row is labelled, so nothing is judged: {}\n\n{}\n\nreport: {}",
            report.alerts.summary(),
            table(&head, 6, rows),
            out.join("report.html").display()
        );
    }
    format!(
        "{}\n\nfit {:.1} s, replay {:.1} s on {} threads, peak memory {}\nreport: {}",
        table(&head, 1, rows),
        cost.fit_seconds,
        cost.score_seconds,
        cost.threads,
        cost.peak_memory_bytes.map_or_else(|| "unknown".into(), |b| format!("{} MiB", b >> 20)),
        out.join("report.html").display()
    )
}
