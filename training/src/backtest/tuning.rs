//! Backtest of designers: each proposal is measured at the nearest row of a table of real measurements.

use super::{peak_memory_bytes, write_json, write_text};
use crate::{Context, TrainError};
use foreglow_core::Seed;
use foreglow_core::stats::quantile;
use foreglow_datasets::{Cell, Column, TuningTable, read_tuning_table, write_parquet};
use foreglow_search::backtest::{BacktestSpec, BacktestTrial, Table, replay_table};
use foreglow_search::{DesignerKind, Goal, assignment_key};
use rayon::prelude::*;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What to replay.
#[derive(Debug, Clone)]
pub struct TuningOptions {
    /// The table, a CSV file.
    pub data: PathBuf,
    /// The column to make small or large.
    pub column: String,
    /// Which of the two.
    pub goal: Goal,
    /// Who proposes, one row of the report each.
    pub designers: Vec<DesignerKind>,
    /// Trials of a run.
    pub budget: usize,
    /// Runs of a designer, with seeds 1 to this.
    pub seeds: u64,
    /// Standard deviation of multiplicative measurement noise; 0.1 is 10 %.
    pub noise: f64,
}

/// How one designer did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DesignerRow {
    /// Its name.
    pub designer: String,
    /// Median regret over seeds after the whole budget: 0 the best row of the table, 1 its median row.
    pub regret: f64,
    /// The quartiles of that regret.
    pub quartiles: [f64; 2],
    /// Median over seeds of the best true value found.
    pub best: f64,
    /// Median over seeds of the trials it took to a regret of at most 0.05; absent where most runs did not get there.
    pub trials_to_5_percent: Option<f64>,
    /// Median milliseconds of a suggestion.
    pub suggest_ms: f64,
    /// Median regret over seeds after each trial.
    pub curve: Vec<f64>,
}

/// `report.json` of `backtest --task tuning`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TuningReport {
    /// Layout of this file; 1.
    pub schema: u32,
    /// Always `tuning`.
    pub task: String,
    /// Name of the table.
    pub data: String,
    /// The column and which way it is better.
    pub goal: String,
    /// Rows that were replayed.
    pub rows: usize,
    /// Rows left out because a cell is missing: trials that failed.
    pub failed_rows: usize,
    /// Parameters that vary.
    pub parameters: Vec<String>,
    /// Best and median value of the table, which scale regret.
    pub best_in_table: f64,
    /// See `best_in_table`.
    pub median_of_table: f64,
    /// Trials of a run.
    pub budget: usize,
    /// Seeds of the runs.
    pub seeds: Vec<u64>,
    /// Multiplicative measurement noise.
    pub noise: f64,
    /// Version of the program.
    pub version: String,
    /// What to know: values that look like failure codes.
    pub notes: Vec<String>,
    /// The designers, best first.
    pub designers: Vec<DesignerRow>,
    /// Wall seconds.
    pub seconds: f64,
    /// Highest resident memory of the process, bytes, where the system tells it.
    pub peak_memory_bytes: Option<u64>,
}

/// One run of one designer.
#[derive(Debug, Clone)]
struct Run {
    designer: DesignerKind,
    seed: u64,
    trials: Vec<BacktestTrial>,
}

/// What a tuning backtest found.
#[derive(Debug, Clone)]
pub struct TuningOutcome {
    /// The figures.
    pub report: TuningReport,
    runs: Vec<Run>,
    /// Whether all runs ended; otherwise those that did are there.
    pub complete: bool,
}

/// Replays all designers and seeds, in parallel over both.
///
/// # Errors
/// [`TrainError::Usage`] for a goal that is no numeric column, [`TrainError::Data`] for text in a parameter,
/// [`TrainError::Search`] from the replay.
pub fn run(options: &TuningOptions, context: &Context) -> Result<TuningOutcome, TrainError> {
    let start = Instant::now();
    let table = read_tuning_table(&options.data)?;
    let (search, failed_rows) = search_table(&table, options)?;
    let jobs: Vec<(DesignerKind, u64)> =
        options.designers.iter().flat_map(|d| (1..=options.seeds).map(|s| (*d, s))).collect();
    let progress = context.progress("replaying designers", jobs.len());
    let runs: Vec<Option<Result<Run, TrainError>>> = jobs
        .par_iter()
        .map(|&(designer, seed)| {
            if context.stopped() {
                return None;
            }
            let spec = BacktestSpec { designer, budget: options.budget, seed: Seed(seed), noise: options.noise };
            let began = Instant::now();
            let mut clock = || began.elapsed().as_secs_f64() * 1e3;
            let trials = replay_table(&search, &spec, &mut clock);
            progress.advance();
            Some(trials.map(|trials| Run { designer, seed, trials }).map_err(TrainError::from))
        })
        .collect();
    let complete = runs.iter().all(Option::is_some);
    let runs: Vec<Run> = runs.into_iter().flatten().collect::<Result<_, _>>()?;
    let mut designers: Vec<DesignerRow> = options.designers.iter().filter_map(|d| summary(*d, &runs)).collect();
    designers.sort_by(|a, b| a.regret.total_cmp(&b.regret));
    let (best_in_table, median_of_table) = search.reference();
    let word = if options.goal == Goal::Min { "min" } else { "max" };
    let report = TuningReport {
        schema: 1,
        task: "tuning".into(),
        data: options.data.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned()),
        goal: format!("{}:{word}", options.column),
        rows: search.len(),
        failed_rows,
        parameters: search.space().parameters().iter().map(|p| p.name().to_owned()).collect(),
        best_in_table,
        median_of_table,
        budget: options.budget,
        seeds: (1..=options.seeds).collect(),
        noise: options.noise,
        version: env!("CARGO_PKG_VERSION").into(),
        notes: table
            .suspicions
            .iter()
            .map(|s| format!("{} rows have {} = {}: perhaps a code for failure", s.rows, s.column, s.value))
            .collect(),
        designers,
        seconds: start.elapsed().as_secs_f64(),
        peak_memory_bytes: peak_memory_bytes(),
    };
    Ok(TuningOutcome { report, runs, complete })
}

/// The rows without a missing cell, and how many others there are.
fn search_table(table: &TuningTable, options: &TuningOptions) -> Result<(Table, usize), TrainError> {
    let at = table.position(&options.column).filter(|&at| table.columns[at].numeric).ok_or_else(|| {
        let names: Vec<&str> = table.columns.iter().filter(|c| c.numeric).map(|c| c.name.as_str()).collect();
        TrainError::Usage(format!(
            "--goal {}: no such numeric column in {}; expected COLUMN:min or COLUMN:max with one of {}",
            options.column,
            options.data.display(),
            names.join(", ")
        ))
    })?;
    let parameters: Vec<usize> = table.parameters().map(|(i, _)| i).filter(|i| *i != at).collect();
    if let Some(&text) = parameters.iter().find(|&&i| !table.columns[i].numeric) {
        let row = table.rows.iter().position(|r| matches!(r[text], Cell::Text(_))).unwrap_or(0) + 1;
        return Err(TrainError::Data(format!(
            "{}: row {row}, column {:?} holds text; a replay needs numbers in every parameter: code categories as numbers",
            options.data.display(),
            table.columns[text].name
        )));
    }
    let whole = |row: &&Vec<Cell>| parameters.iter().chain([&at]).all(|&i| row[i].number().is_some());
    let rows: Vec<&Vec<Cell>> = table.rows.iter().filter(whole).collect();
    let column = |i: usize| rows.iter().filter_map(|r| r[i].number()).collect::<Vec<f64>>();
    let names: Vec<String> = parameters.iter().map(|&i| table.columns[i].name.clone()).collect();
    let columns: Vec<Vec<f64>> = parameters.iter().map(|&i| column(i)).collect();
    Ok((Table::new(&names, &columns, column(at), options.goal)?, table.rows.len() - rows.len()))
}

fn summary(designer: DesignerKind, runs: &[Run]) -> Option<DesignerRow> {
    let own: Vec<&Run> = runs.iter().filter(|r| r.designer == designer && !r.trials.is_empty()).collect();
    let longest = own.iter().map(|r| r.trials.len()).max()?;
    // A table that is used up leaves the last regret standing.
    let at = |r: &Run, n: usize| r.trials[n.min(r.trials.len() - 1)].regret;
    let over = |f: &dyn Fn(&Run) -> f64, level: f64| quantile(&own.iter().map(|r| f(r)).collect::<Vec<_>>(), level);
    let last = |r: &Run| at(r, longest - 1);
    let reached =
        over(&|r| r.trials.iter().position(|t| t.regret <= 0.05).map_or(f64::INFINITY, |n| n as f64 + 1.0), 0.5);
    let best = |r: &Run| r.trials.last().map_or(f64::NAN, |t| t.best);
    let times: Vec<f64> = own.iter().flat_map(|r| r.trials.iter().map(|t| t.suggest_ms)).collect();
    Some(DesignerRow {
        designer: designer.name().to_owned(),
        regret: over(&last, 0.5),
        quartiles: [over(&last, 0.25), over(&last, 0.75)],
        best: over(&best, 0.5),
        trials_to_5_percent: Some(reached).filter(|v| v.is_finite()),
        suggest_ms: quantile(&times, 0.5),
        curve: (0..longest).map(|n| over(&|r| at(r, n), 0.5)).collect(),
    })
}

impl TuningOutcome {
    /// Writes `trials.parquet`, `report.json` and `report.html` to `out`. Of the Parquet file all columns but
    /// `suggest_ms` repeat with the seeds.
    ///
    /// # Errors
    /// When writing fails.
    pub fn write(&self, out: &Path) -> Result<(), TrainError> {
        std::fs::create_dir_all(out).map_err(|e| TrainError::io(out, "create", e))?;
        let rows = || self.runs.iter().flat_map(|r| r.trials.iter().map(move |t| (r, t)));
        let number = |f: fn(&BacktestTrial) -> f64| Column::F64(rows().map(|(_, t)| f(t)).collect());
        write_parquet(
            &out.join("trials.parquet"),
            vec![
                ("designer".into(), Column::Str(rows().map(|(r, _)| r.designer.name().to_owned()).collect())),
                ("seed".into(), Column::I64(rows().map(|(r, _)| r.seed as i64).collect())),
                ("n".into(), Column::I64(rows().map(|(_, t)| t.n as i64).collect())),
                ("parameters".into(), Column::Str(rows().map(|(_, t)| assignment_key(&t.parameters)).collect())),
                ("value".into(), number(|t| t.value)),
                ("best".into(), number(|t| t.best)),
                ("regret".into(), number(|t| t.regret)),
                ("suggest_ms".into(), number(|t| t.suggest_ms)),
            ],
        )?;
        write_json(&out.join("report.json"), &self.report)?;
        write_text(&out.join("report.html"), &super::tuning_page::html(&self.report))
    }
}
