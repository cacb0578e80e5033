use crate::{Assignment, Goal, ParameterSpec, SearchError, SearchSpace, SpaceSpec, Value};

/// Configurations and what was measured of each.
#[derive(Debug, Clone)]
pub struct Table {
    pub(super) space: SearchSpace,
    pub(super) rows: Vec<Assignment>,
    features: Vec<Vec<f64>>,
    pub(super) values: Vec<f64>,
    pub(super) goal: Goal,
}

impl Table {
    /// A table from columns of numbers: `columns[k][row]` belongs to `names[k]`. A column with the values 0 and 1 alone
    /// becomes a bool, any other a discrete parameter over its distinct values; constant columns are left out.
    ///
    /// # Errors
    /// [`SearchError::Table`] naming row and column: unequal lengths, a value that is not finite, no varying column.
    pub fn new(names: &[String], columns: &[Vec<f64>], values: Vec<f64>, goal: Goal) -> Result<Self, SearchError> {
        let bad = |problem: String| SearchError::Table { problem };
        if names.len() != columns.len() {
            return Err(bad(format!("{} names for {} columns", names.len(), columns.len())));
        }
        if values.len() < 2 {
            return Err(bad(format!("{} rows: at least 2 are needed", values.len())));
        }
        for (name, column) in names.iter().map(String::as_str).zip(columns).chain([("the objective", &values)]) {
            if column.len() != values.len() {
                return Err(bad(format!("column `{name}` has {} rows, expected {}", column.len(), values.len())));
            }
            if let Some(row) = column.iter().position(|v| !v.is_finite()) {
                return Err(bad(format!("row {row} of column `{name}` is {}: expected a number", column[row])));
            }
        }
        let mut specs = Vec::new();
        let mut used: Vec<&Vec<f64>> = Vec::new();
        for (name, column) in names.iter().zip(columns) {
            let mut distinct = column.clone();
            distinct.sort_by(f64::total_cmp);
            distinct.dedup();
            if distinct.len() > 1 {
                let switch = distinct == [0.0, 1.0];
                specs.push(if switch {
                    ParameterSpec::boolean(name)
                } else {
                    ParameterSpec::discrete(name, &distinct)
                });
                used.push(column);
            }
        }
        if specs.is_empty() {
            return Err(bad("no parameter column varies".to_owned()));
        }
        let space = SpaceSpec(specs).check()?;
        let rows: Vec<Assignment> = (0..values.len())
            .map(|r| {
                let cell = |k: usize, p: &crate::space::Parameter| match p.spec().kind {
                    crate::ParameterKind::Bool => Value::Bool(used[k][r] == 1.0),
                    _ => Value::Float(used[k][r]),
                };
                space.parameters().iter().enumerate().map(|(k, p)| (p.name().to_owned(), cell(k, p))).collect()
            })
            .collect();
        let features = rows.iter().map(|r| space.features(r)).collect();
        Ok(Self { space, rows, features, values, goal })
    }

    /// The inferred space.
    pub fn space(&self) -> &SearchSpace {
        &self.space
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Always false: a table has at least 2 rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The best and the median value.
    pub fn reference(&self) -> (f64, f64) {
        let sign = self.goal.sign();
        let best = self.values.iter().map(|v| sign * v).fold(f64::INFINITY, f64::min) * sign;
        (best, crate::stats::quantile(&self.values, 0.5))
    }

    /// Regret of a value: 0 the best row, 1 the median row.
    pub fn regret(&self, value: f64) -> f64 {
        let (best, median) = self.reference();
        // `+ 0.0` turns the -0 of a maximised optimum into 0.
        if median == best { 0.0 } else { (value - best) / (median - best) + 0.0 }
    }

    /// What looks like a failure sentinel rather than a measurement: an extreme value that at least 5 rows and 1 % of them
    /// share exactly. In words, empty when there is none. Such rows belong out of the table, or in as failed trials.
    pub fn suspicious(&self) -> Vec<String> {
        let n = self.values.len();
        let ends = [f64::INFINITY, f64::NEG_INFINITY]
            .map(|start| self.values.iter().fold(start, |m, v| if start > 0.0 { m.min(*v) } else { m.max(*v) }));
        let words = ["smallest", "largest"];
        ends.iter()
            .zip(words)
            .filter_map(|(end, word)| {
                let count = self.values.iter().filter(|v| *v == end).count();
                let many = count >= 5 && count * 100 >= n && count < n;
                many.then(|| {
                    format!("the {word} value, {end}, stands in {count} of {n} rows: is it a failure sentinel?")
                })
            })
            .collect()
    }

    /// The row nearest to a configuration among those not yet `used`; the first of equals.
    pub(super) fn nearest(&self, a: &Assignment, used: &[bool]) -> Option<usize> {
        let q = self.space.features(a);
        let mut best: Option<(usize, f64)> = None;
        for (r, f) in self.features.iter().enumerate() {
            if used[r] {
                continue;
            }
            let d: f64 = f.iter().zip(&q).map(|(x, y)| (x - y) * (x - y)).sum();
            if best.is_none_or(|b| d < b.1) {
                best = Some((r, d));
            }
        }
        best.map(|b| b.0)
    }
}
