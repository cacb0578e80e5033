use crate::{DatasetError, SeriesTable, Split};
use foreglow_core::{Aggregation, CounterRate, Frame, Step, Timestamp};
use ndarray::Array2;
use polars::prelude as pl;
use polars::prelude::{IntoColumn, NamedFrom};

/// Most cells of one grid: 800 MB of values.
const MAX_CELLS: u64 = 100_000_000;

/// How to lay a series on a grid.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GridOptions {
    /// The step; `None` takes the interval most rows keep.
    pub step: Option<Step>,
    /// How several samples of one step become one value. Default: the last in file order, as live scoring does.
    pub aggregation: Aggregation,
    /// Metrics that are counters: they become rates a second (see [`CounterRate`]) before anything is aggregated.
    pub counters: Vec<String>,
}

/// A series on a grid, with what its rows said about split and truth.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    /// The values; steps without a sample are NaN.
    pub frame: Frame,
    /// The split of each step: that of its last row; steps without a row take that of the step before.
    pub split: Vec<Split>,
    /// The truth of each step: anomalous if any row is, not labelled if none is.
    pub label: Vec<Option<bool>>,
    /// The step each row of the series belongs to.
    pub step_of_row: Vec<usize>,
}

/// Lays a series on a regular grid: step `k` holds the samples nearest to `first + k step`, where `first` is the earliest
/// instant (ties go up). Gaps stay missing; a missing sample takes no part in an aggregation, so mean, sum, min, max and last are
/// those of the values that are there.
///
/// # Errors
/// [`DatasetError::Param`] for a series without rows, a step that cannot be told from fewer than two instants, or a
/// counter that is no metric; [`DatasetError::Grid`] when the range of time is absurdly large for the step.
pub fn to_grid(table: &SeriesTable, options: &GridOptions) -> Result<Grid, DatasetError> {
    let bad = |field, value: &str, allowed| DatasetError::Param { field, value: value.to_owned(), allowed };
    if let Some(c) = options.counters.iter().find(|c| !table.metrics.contains(c)) {
        return Err(bad("counters", c, "metrics of the series"));
    }
    let (Some(start), Some(end)) = (table.timestamps.iter().min().copied(), table.timestamps.iter().max().copied())
    else {
        return Err(bad("series", &table.id, "a series with at least one row"));
    };
    let Some(step) = options.step.or_else(|| table.step()) else {
        return Err(bad("step", "none", "an explicit step where a series has fewer than two instants"));
    };
    // A span that no step can count is refused like one with too many steps.
    let span = end.ms().checked_sub(start.ms());
    let steps = span.map_or(u64::MAX, |s| (s as u64).saturating_add(step.ms() as u64 / 2) / step.ms() as u64 + 1);
    let cells = steps.saturating_mul(table.metrics.len().max(1) as u64);
    if cells > MAX_CELLS {
        return Err(DatasetError::Grid {
            series: table.id.clone(),
            step: step.to_string(),
            start: start.to_string(),
            end: end.to_string(),
            cells,
            limit: MAX_CELLS,
        });
    }
    let steps = steps as usize;
    let step_of_row: Vec<usize> = table.timestamps.iter().map(|t| step.nearest(start, *t) as usize).collect();
    let mut count = vec![0u32; steps];
    for k in &step_of_row {
        count[*k] += 1;
    }
    let crowded = count.iter().any(|c| *c > 1);

    let mut values = Array2::from_elem((steps, table.metrics.len()), f64::NAN);
    for (m, (name, column)) in table.metrics.iter().zip(&table.columns).enumerate() {
        let rates;
        let column = if options.counters.contains(name) {
            rates = to_rates(&table.timestamps, column);
            &rates
        } else {
            column
        };
        if crowded {
            for (k, v) in aggregate(&step_of_row, column, options.aggregation)? {
                values[[k, m]] = v;
            }
        } else {
            // Where every step has one row, each aggregation is that row's value.
            for (k, v) in step_of_row.iter().zip(column) {
                values[[*k, m]] = *v;
            }
        }
    }

    let mut split_at: Vec<Option<Split>> = vec![None; steps];
    let mut label: Vec<Option<bool>> = vec![None; steps];
    for (row, k) in step_of_row.iter().enumerate() {
        if let Some(s) = table.split.get(row) {
            split_at[*k] = Some(*s);
        }
        label[*k] = match (label[*k], table.label.get(row).copied().flatten()) {
            (Some(a), Some(b)) => Some(a || b),
            (a, b) => a.or(b),
        };
    }
    let mut last = split_at.iter().flatten().next().copied().unwrap_or(Split::Unused);
    let split = split_at
        .into_iter()
        .map(|s| {
            last = s.unwrap_or(last);
            last
        })
        .collect();
    Ok(Grid { frame: Frame::new(start, step, table.keys(), values)?, split, label, step_of_row })
}

/// A counter's rates, row by row; rows that are not later than those before have none.
fn to_rates(times: &[Timestamp], column: &[f64]) -> Vec<f64> {
    let mut rate = CounterRate::default();
    times.iter().zip(column).map(|(t, v)| rate.observe(*t, *v)).collect()
}

/// `(step, value)` of the steps that have a value, by a group-by over the present samples.
#[expect(deprecated, reason = "the eager aggregations; the lazy ones would pull a cloud stack into the build")]
fn aggregate(steps: &[usize], column: &[f64], how: Aggregation) -> Result<Vec<(usize, f64)>, DatasetError> {
    let present = || steps.iter().zip(column).filter(|(_, v)| !v.is_nan());
    let k: Vec<u64> = present().map(|(k, _)| *k as u64).collect();
    let v: Vec<f64> = present().map(|(_, v)| *v).collect();
    if k.is_empty() {
        return Ok(Vec::new());
    }
    let run = || -> Result<Vec<(usize, f64)>, pl::PolarsError> {
        let frame = pl::DataFrame::new(
            k.len(),
            vec![pl::Series::new("k".into(), &k).into_column(), pl::Series::new("v".into(), &v).into_column()],
        )?;
        let groups = frame.group_by_stable(["k"])?.select(["v"]);
        let out = match how {
            Aggregation::Last => groups.last(),
            Aggregation::Mean => groups.mean(),
            Aggregation::Sum => groups.sum(),
            Aggregation::Min => groups.min(),
            Aggregation::Max => groups.max(),
        }?;
        let (keys, values) = (out.columns()[0].u64()?, out.columns()[1].f64()?);
        Ok(keys.iter().zip(values.iter()).filter_map(|(k, v)| Some((k? as usize, v?))).collect())
    };
    run().map_err(|e| DatasetError::Param {
        field: "aggregation",
        value: e.to_string(),
        allowed: "values that can be aggregated",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn series(times: &[i64], values: &[f64]) -> SeriesTable {
        SeriesTable {
            id: "s".into(),
            timestamps: times.iter().map(|t| Timestamp(*t)).collect(),
            metrics: vec!["v".into()],
            columns: vec![values.to_vec()],
            ..SeriesTable::default()
        }
    }

    fn grid(t: &SeriesTable, step: i64, aggregation: Aggregation) -> Vec<f64> {
        let o = GridOptions { step: Some(Step::from_ms(step).unwrap()), aggregation, counters: vec![] };
        to_grid(t, &o).unwrap().frame.column(0).to_vec()
    }

    #[test]
    fn gaps_stay_missing_and_samples_go_to_the_nearest_step() {
        let t = series(&[0, 10, 40, 44, 46], &[1.0, 2.0, 4.0, 8.0, 16.0]);
        let show = |v: Vec<f64>| {
            v.iter().map(|x| if x.is_nan() { "-".into() } else { x.to_string() }).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(show(grid(&t, 10, Aggregation::Last)), "1 2 - - 8 16");
        assert_eq!(show(grid(&t, 10, Aggregation::Sum)), "1 2 - - 12 16");
        assert_eq!(show(grid(&t, 10, Aggregation::Mean)), "1 2 - - 6 16");
        assert_eq!(show(grid(&t, 10, Aggregation::Min)), "1 2 - - 4 16");
        assert_eq!(show(grid(&t, 10, Aggregation::Max)), "1 2 - - 8 16");
    }

    #[test]
    fn truth_and_split_go_along() {
        let mut t = series(&[0, 1, 30], &[1.0, 2.0, 3.0]);
        t.label = vec![Some(true), Some(false), None];
        t.split = vec![Split::Train, Split::Train, Split::Test];
        let g = to_grid(&t, &GridOptions { step: Some(Step::from_ms(10).unwrap()), ..GridOptions::default() }).unwrap();
        assert_eq!(g.label, [Some(true), None, None, None]);
        assert_eq!(g.split, [Split::Train, Split::Train, Split::Train, Split::Test]);
        assert_eq!(g.step_of_row, [0, 0, 3]);
    }

    #[test]
    fn counters_become_rates() {
        let t = series(&[0, 1000, 2000, 3000], &[5.0, 7.0, 1.0, f64::NAN]);
        let o = GridOptions { counters: vec!["v".into()], ..GridOptions::default() };
        let v = to_grid(&t, &o).unwrap().frame.column(0).to_vec();
        assert!(v[0].is_nan() && v[3].is_nan());
        assert_eq!(v[1..3], [2.0, 1.0]);
        let o = GridOptions { counters: vec!["w".into()], ..GridOptions::default() };
        assert!(to_grid(&t, &o).is_err());
    }

    #[test]
    fn refuses_what_has_no_grid() {
        assert!(to_grid(&series(&[], &[]), &GridOptions::default()).is_err(), "empty");
        assert!(to_grid(&series(&[5], &[1.0]), &GridOptions::default()).is_err(), "one row has no step");
        let e = to_grid(&series(&[0, 1, 2, i64::MAX / 2], &[1.0; 4]), &GridOptions::default()).unwrap_err();
        assert!(e.to_string().contains("wrong timestamp"), "{e}");
        assert!(to_grid(&series(&[i64::MIN, i64::MAX], &[1.0; 2]), &GridOptions::default()).is_err());
        let one = GridOptions { step: Some(Step::from_ms(10).unwrap()), ..GridOptions::default() };
        assert_eq!(to_grid(&series(&[5], &[1.0]), &one).unwrap().frame.len(), 1);
    }

    proptest! {
        #[test]
        fn laws(
            cells in proptest::collection::vec((0i64..400, proptest::option::of(-100i32..100)), 1..80),
            step in 1i64..60,
        ) {
            let t = series(
                &cells.iter().map(|c| c.0).collect::<Vec<_>>(),
                &cells.iter().map(|c| c.1.map_or(f64::NAN, f64::from)).collect::<Vec<_>>(),
            );
            let of = |a| grid(&t, step, a);
            let (sum, mean, min, max, last) =
                (of(Aggregation::Sum), of(Aggregation::Mean), of(Aggregation::Min), of(Aggregation::Max), of(Aggregation::Last));
            // Nothing is lost and nothing is invented.
            let total: f64 = t.columns[0].iter().filter(|v| !v.is_nan()).sum();
            prop_assert_eq!(sum.iter().filter(|v| !v.is_nan()).sum::<f64>(), total);
            for i in 0..sum.len() {
                let gap = sum[i].is_nan();
                prop_assert!([mean[i], min[i], max[i], last[i]].iter().all(|v| v.is_nan() == gap));
                if !gap {
                    prop_assert!(min[i] <= mean[i] + 1e-9 && mean[i] <= max[i] + 1e-9);
                    prop_assert!(min[i] <= last[i] && last[i] <= max[i]);
                }
            }
            // A grid on its own step is itself.
            let again = SeriesTable {
                timestamps: (0..mean.len()).map(|i| Timestamp(i as i64 * step)).collect(),
                columns: vec![mean.clone()],
                ..t.clone()
            };
            let twice = grid(&again, step, Aggregation::Mean);
            prop_assert!(twice.iter().zip(&mean).all(|(a, b)| a == b || a.is_nan() && b.is_nan()));
        }
    }
}
