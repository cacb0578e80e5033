use super::BacktestArgs;
use crate::answer::{figure, table};
use crate::backtest::tuning::{self, TuningOptions, TuningReport};
use crate::{Answer, Context, TrainError};
use foreglow_search::{DesignerKind, Goal};
use std::path::Path;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "--task tuning")]
pub(super) struct TuningArgs {
    /// The column to make small or large: COLUMN:min or COLUMN:max; needed.
    #[arg(long, value_name = "COLUMN:WAY")]
    goal: Option<String>,
    /// Designers, separated by commas, or 'all'. Default auto.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    designer: Vec<String>,
    /// Trials of a run. Default 50.
    #[arg(long, value_name = "N")]
    budget: Option<usize>,
    /// Runs of each designer, with seeds 1 to K. Default 5.
    #[arg(long, value_name = "K")]
    seeds: Option<u64>,
    /// Multiplicative measurement noise: 0.1 is 10 %. Default 0.
    #[arg(long, value_name = "SD")]
    noise: Option<f64>,
}

impl TuningArgs {
    /// The first option that was given.
    pub(super) fn given(&self) -> Option<&'static str> {
        let named = self.goal.as_ref().map(|_| "--goal").or((!self.designer.is_empty()).then_some("--designer"));
        let counts = self.budget.map(|_| "--budget").or(self.seeds.map(|_| "--seeds"));
        named.or(counts).or(self.noise.map(|_| "--noise"))
    }
}

/// Runs `backtest --task tuning`.
pub(super) fn run(args: &BacktestArgs, context: &Context) -> Result<Answer, TrainError> {
    let t = &args.tuning;
    let usage = |problem: &str| TrainError::Usage(format!("--goal {problem}: expected COLUMN:min or COLUMN:max"));
    let goal = t.goal.as_deref().ok_or_else(|| usage("is missing"))?;
    let (column, goal) = match goal.rsplit_once(':') {
        Some((column, "min")) => (column, Goal::Min),
        Some((column, "max")) => (column, Goal::Max),
        _ => return Err(usage(goal)),
    };
    let (budget, seeds) = (t.budget.unwrap_or(50), t.seeds.unwrap_or(5));
    for (name, value) in [("--budget", budget as u64), ("--seeds", seeds)] {
        if value == 0 {
            return Err(TrainError::Usage(format!("{name} 0: expected 1 or more")));
        }
    }
    let options = TuningOptions {
        data: args.data.data.clone(),
        column: column.to_owned(),
        goal,
        designers: designers(&t.designer)?,
        budget,
        seeds,
        noise: t.noise.unwrap_or(0.0),
    };
    let outcome = tuning::run(&options, context)?;
    outcome.write(&args.out)?;
    if !outcome.complete {
        return Err(TrainError::Interrupted(format!("the finished runs lie in {}", args.out.display())));
    }
    Ok(Answer::new(&outcome.report, text(&outcome.report, &args.out))?)
}

fn designers(names: &[String]) -> Result<Vec<DesignerKind>, TrainError> {
    let mut out = Vec::new();
    for name in names {
        let named = if name == "all" { DesignerKind::ALL.to_vec() } else { vec![name.parse()?] };
        for kind in named {
            if !out.contains(&kind) {
                out.push(kind);
            }
        }
    }
    Ok(if out.is_empty() { vec![DesignerKind::default()] } else { out })
}

fn text(report: &TuningReport, out: &Path) -> String {
    let head = ["designer", "regret", "lower quartile", "upper quartile", "best", "trials to 5 %", "ms a suggestion"];
    let rows = report.designers.iter().map(|d| {
        vec![
            d.designer.clone(),
            format!("{:.4}", d.regret),
            format!("{:.4}", d.quartiles[0]),
            format!("{:.4}", d.quartiles[1]),
            format!("{}", d.best),
            figure(d.trials_to_5_percent, 0),
            format!("{:.2}", d.suggest_ms),
        ]
    });
    let mut text = table(&head, 1, rows);
    for note in &report.notes {
        text.push_str("\nnote: ");
        text.push_str(note);
    }
    text.push_str("\n\nreport: ");
    text.push_str(&out.join("report.html").display().to_string());
    text
}
