//! One fit: data, rules and recipe to artifacts. Each file series gives one group.

use crate::{Context, TrainError};
use foreglow_core::signals::Signals;
use foreglow_core::{MetricKey, Seed, Step};
use foreglow_datasets::{Dataset, SeriesTable, Split};
use foreglow_models::artifact::{Artifact, BuildGroup, DataInfo, NewArtifact, build_artifact};
use foreglow_models::evaluate::ReplaySeries;
use foreglow_models::pipeline::FitProgress;
use foreglow_models::spec::Recipe;
use std::collections::BTreeMap;
use std::ops::Range;

/// What fitting may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Known {
    /// Train rows fit; val rows calibrate, or, where there are none, the last 20 % of train.
    #[default]
    Splits,
    /// The first so many labelled rows of each series, as TSB-AD does it: 80 % fit, 20 % calibrate.
    Prefix(usize),
}

/// What to fit.
#[derive(Debug, Clone)]
pub struct FitOptions<'a> {
    /// Name of the artifact in the registry.
    pub name: String,
    /// What to fit.
    pub recipe: Recipe,
    /// What is watched and judged together.
    pub rules: Signals,
    /// What fitting may see.
    pub known: Known,
    /// The seed of fits.
    pub seed: Seed,
    /// An earlier artifact to go on from.
    pub warm: Option<&'a Artifact>,
}

/// One file series, cut behind the last row that fitting or calibrating sees.
#[derive(Debug, Clone)]
pub struct FitSeries {
    /// Its rows, without metrics that have no value in them.
    pub table: SeriesTable,
    /// The keys of its metrics.
    pub keys: Vec<MetricKey>,
    /// Rows that weights are fitted on.
    pub fit: Range<usize>,
    /// Later rows that calibration sees.
    pub calibrate: Range<usize>,
}

/// An artifact and what it was fitted on.
#[derive(Debug)]
pub struct Fitted {
    /// The artifact.
    pub artifact: Artifact,
    /// The step of all its series.
    pub step: Step,
    /// The series.
    pub series: Vec<FitSeries>,
}

/// Fits one artifact for each step among the series of `data` (most series first), and says what was left out.
///
/// # Errors
/// [`TrainError::Data`] without anything to fit on, [`TrainError::Model`] from the fit.
pub fn fit_all(
    data: &Dataset,
    options: &FitOptions<'_>,
    context: &Context,
) -> Result<(Vec<Fitted>, Vec<String>), TrainError> {
    let mut notes = Vec::new();
    let mut by_step: BTreeMap<Step, Vec<FitSeries>> = BTreeMap::new();
    for table in data.load_all(None)? {
        let id = table.id.clone();
        match prepare(table, options.known) {
            Ok((step, series)) => {
                let crowded = series.table.crowded(step);
                if 100 * crowded > series.table.len() {
                    notes.push(format!(
                        "{id}: {crowded} of {} rows share a step of {step} with a later row, which wins",
                        series.table.len()
                    ));
                }
                by_step.entry(step).or_default().push(series);
            }
            Err(why) => notes.push(format!("left out {id}: {why}")),
        }
    }
    let mut steps: Vec<(Step, Vec<FitSeries>)> = by_step.into_iter().collect();
    steps.sort_by_key(|(_, series)| std::cmp::Reverse(series.len()));
    if steps.is_empty() {
        let why = notes.first().map_or("it has no series", String::as_str);
        return Err(TrainError::Data(format!("{}: nothing to fit on: {why}", data.name)));
    }
    if options.warm.is_some() && steps.len() > 1 {
        let have: Vec<String> = steps.iter().map(|(step, s)| format!("{step} ({} series)", s.len())).collect();
        return Err(TrainError::Usage(format!(
            "--from: the data has several steps, {}; choose the series of one with --series",
            have.join(", ")
        )));
    }
    let info = DataInfo { data: data.name.clone(), data_sha256: data.sha256()? };
    let several = steps.len() > 1;
    let mut out = Vec::with_capacity(steps.len());
    for (step, series) in steps {
        if context.stopped() {
            return Err(TrainError::Interrupted("the fit was not finished, nothing was stored".into()));
        }
        let groups: Vec<BuildGroup<'_>> = series
            .iter()
            .map(|s| BuildGroup {
                series: ReplaySeries { keys: &s.keys, timestamps: &s.table.timestamps, columns: &s.table.columns },
                fit: s.fit.clone(),
                calibrate: s.calibrate.clone(),
            })
            .collect();
        let new = NewArtifact {
            name: &if several { format!("{}-{step}", options.name) } else { options.name.clone() },
            recipe: &options.recipe,
            rules: &options.rules,
            groups: &groups,
            may_miss: &[],
            selectors: &[],
            step: Some(step),
            data: info.clone(),
            seed: options.seed,
            warm: options.warm,
        };
        let progress = context.progress("fitting", groups.len());
        let heard = |p: FitProgress| progress.set(p.done, p.total, &p.what);
        let (artifact, said) = build_artifact(&new, &heard)?;
        drop(groups);
        notes.extend(said);
        out.push(Fitted { artifact, step, series });
    }
    Ok((out, notes))
}

/// The step and the rows to fit on; the error says why there are none.
fn prepare(mut table: SeriesTable, known: Known) -> Result<(Step, FitSeries), String> {
    let step = table.step().ok_or_else(|| format!("{} rows at one instant have no step", table.len()))?;
    let (fit, calibrate) = match known {
        Known::Splits => {
            split_rows(&table.split).ok_or("no train rows: name the split column, or give --train-share")?
        }
        Known::Prefix(rows) => {
            let labelled = |l: &Option<bool>| l.is_some();
            let first = table.label.iter().position(labelled).ok_or("no labelled rows to take a prefix of")?;
            let end = (first + rows).min(table.len());
            let cut = end - (end - first) / 5;
            (first..cut, cut..end)
        }
    };
    let rows = fit.end.max(calibrate.end);
    table.file_rows.clear();
    table.timestamps.truncate(rows);
    table.split.truncate(rows);
    table.label.truncate(rows);
    table.extra_labels.values_mut().for_each(|c| c.truncate(rows));
    table.columns.iter_mut().for_each(|c| c.truncate(rows));
    let table = table.without_empty_metrics();
    if table.metrics.is_empty() {
        return Err("no metric has a value in its train rows".into());
    }
    let keys = table.keys();
    Ok((step, FitSeries { table, keys, fit, calibrate }))
}

/// The rows that fit and those that calibrate: from the first train row on, before any test row that follows it.
fn split_rows(split: &[Split]) -> Option<(Range<usize>, Range<usize>)> {
    let at = |want: Split, within: Range<usize>| {
        let part = &split[within.clone()];
        let first = part.iter().position(|s| *s == want)?;
        let last = part.iter().rposition(|s| *s == want)?;
        Some(within.start + first..within.start + last + 1)
    };
    let first = split.iter().position(|s| *s == Split::Train)?;
    let limit = at(Split::Test, first..split.len()).map_or(split.len(), |r| r.start);
    let train = at(Split::Train, first..limit)?;
    if let Some(val) = at(Split::Val, train.end..limit) {
        return Some((train, val));
    }
    let cut = train.end - train.len() / 5;
    Some((train.start..cut, cut..train.end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreglow_core::Timestamp;

    #[test]
    fn rows_follow_the_splits() {
        use Split::{Test, Train, Unused, Val};
        let split = |parts: &[(Split, usize)]| -> Vec<Split> {
            parts.iter().flat_map(|(s, n)| std::iter::repeat_n(*s, *n)).collect()
        };
        let of = |parts: &[(Split, usize)]| split_rows(&split(parts));
        assert_eq!(of(&[(Train, 10), (Val, 4), (Test, 3)]), Some((0..10, 10..14)));
        assert_eq!(of(&[(Train, 10), (Test, 3)]), Some((0..8, 8..10)));
        assert_eq!(
            of(&[(Unused, 2), (Train, 10), (Test, 3), (Train, 9)]),
            Some((2..10, 10..12)),
            "nothing behind a test row"
        );
        assert_eq!(of(&[(Test, 3)]), None);
    }

    #[test]
    fn only_what_may_be_seen_is_kept() {
        let n = 30;
        let mut table = SeriesTable {
            id: "a".into(),
            timestamps: (0..n).map(|i| Timestamp(i * 1000)).collect(),
            split: vec![Split::Test; n as usize],
            label: (0..n).map(|i| (i >= 10).then_some(false)).collect(),
            metrics: vec!["cpu".into(), "late".into()],
            columns: vec![vec![1.0; 30], (0..n).map(|i| if i < 25 { f64::NAN } else { 1.0 }).collect()],
            ..SeriesTable::default()
        };
        let e = prepare(table.clone(), Known::Splits).expect_err("no train rows");
        assert!(e.contains("--train-share"), "{e}");
        let (step, series) = prepare(table.clone(), Known::Prefix(10)).expect("labelled rows");
        assert_eq!((step.ms(), series.fit, series.calibrate), (1000, 10..18, 18..20));
        assert_eq!((series.table.len(), series.table.metrics), (20, vec!["cpu".to_owned()]));
        table.timestamps.fill(Timestamp(0));
        assert!(prepare(table, Known::Splits).is_err());
    }
}
