use crate::DatasetError;
use crate::columns::{column, column_names};
use crate::csv::{is_missing, read_text};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Which way an objective is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Goal {
    /// Smaller is better.
    Min,
    /// Larger is better.
    Max,
}

/// A column of a tuning table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TuningColumn {
    /// The name as it stands in the header.
    pub name: String,
    /// The goal that the header's mark declares: `name+` or `>$name` is maximised, `name-` or `<$name` minimised; `None`
    /// for parameters.
    pub goal: Option<Goal>,
    /// Whether all cells are numbers.
    pub numeric: bool,
}

/// A cell of a tuning table.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Cell {
    /// A number.
    Number(f64),
    /// Anything else: a category.
    Text(String),
    /// Empty, NaN, `?`, or a declared failure sentinel in an objective: this trial failed.
    Missing,
}

impl Cell {
    /// The number, if it is one.
    pub fn number(&self) -> Option<f64> {
        if let Self::Number(v) = self { Some(*v) } else { None }
    }
}

/// Many equal values at the end of an objective's range: perhaps a code for failure. Named, never dropped on its own.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Suspicion {
    /// The objective.
    pub column: String,
    /// Its largest or smallest value.
    pub value: f64,
    /// How many rows hold exactly it.
    pub rows: usize,
}

/// A table of configurations and what was measured with them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TuningTable {
    /// The columns, in file order.
    pub columns: Vec<TuningColumn>,
    /// The rows, in file order, one cell a column.
    pub rows: Vec<Vec<Cell>>,
    /// Objective values that look like failure sentinels.
    pub suspicions: Vec<Suspicion>,
}

impl TuningTable {
    /// The place of a column, by its full name or by the name without its goal mark.
    pub fn position(&self, name: &str) -> Option<usize> {
        let bare = |c: &TuningColumn| bare_name(&c.name).0 == name;
        self.columns.iter().position(|c| c.name == name).or_else(|| self.columns.iter().position(bare))
    }

    /// The columns without a goal: the parameters.
    pub fn parameters(&self) -> impl Iterator<Item = (usize, &TuningColumn)> {
        self.columns.iter().enumerate().filter(|(_, c)| c.goal.is_none())
    }

    /// The columns with a goal.
    pub fn objectives(&self) -> impl Iterator<Item = (usize, &TuningColumn)> {
        self.columns.iter().enumerate().filter(|(_, c)| c.goal.is_some())
    }

    /// Turns the values in `sentinels` (column, value that its source declares as failure) into [`Cell::Missing`]; returns
    /// how many cells that were.
    ///
    /// # Errors
    /// [`DatasetError::NoMetric`] when a column is not there.
    pub fn declare_failures(&mut self, sentinels: &[(String, f64)]) -> Result<usize, DatasetError> {
        let mut n = 0;
        for (name, value) in sentinels {
            let at = self.position(name).ok_or_else(|| DatasetError::NoMetric {
                dataset: "tuning table".into(),
                metric: name.clone(),
                present: crate::error::some_of(self.columns.iter().map(|c| &c.name)),
            })?;
            for row in &mut self.rows {
                if row[at].number() == Some(*value) {
                    row[at] = Cell::Missing;
                    n += 1;
                }
            }
            self.suspicions.retain(|s| !(s.column == self.columns[at].name && s.value == *value));
        }
        Ok(n)
    }
}

/// Reads a table of configurations: parameters (numbers or categories) and objectives (numbers). Header marks say what an
/// objective is, see [`TuningColumn::goal`]. An extreme value of an objective in at least 5 rows and 1 % of them is named in
/// [`TuningTable::suspicions`], unless the objective has fewer than 10 distinct values.
///
/// # Errors
/// [`DatasetError`] naming file and row: ragged rows, text or an infinite number in an objective.
pub fn read_tuning_table(path: &Path) -> Result<TuningTable, DatasetError> {
    let frame = read_text(path, None)?;
    let names: Vec<String> = column_names(&frame);
    let mut columns = Vec::new();
    let mut rows: Vec<Vec<Cell>> = vec![Vec::with_capacity(names.len()); frame.height()];
    for name in &names {
        let goal = bare_name(name).1;
        let cells = column(path, &frame, name)?;
        let cells = cells.str().map_err(|e| DatasetError::parquet(path, e))?;
        let mut numeric = true;
        for (row, cell) in cells.iter().enumerate() {
            let cell = cell.unwrap_or("").trim();
            rows[row].push(match cell.parse::<f64>() {
                Ok(v) if v.is_finite() => Cell::Number(v),
                _ if cell == "?" || is_missing(cell) => Cell::Missing,
                _ if goal.is_some() => {
                    return Err(DatasetError::Text {
                        path: path.to_owned(),
                        row: row + 1,
                        column: name.clone(),
                        value: cell.to_owned(),
                    });
                }
                _ => {
                    numeric = false;
                    Cell::Text(cell.to_owned())
                }
            });
        }
        columns.push(TuningColumn { name: name.clone(), goal, numeric });
    }
    let mut table = TuningTable { columns, rows, suspicions: Vec::new() };
    let objectives: Vec<usize> = table.objectives().map(|(i, _)| i).collect();
    for at in objectives {
        let mut count: BTreeMap<u64, (f64, usize)> = BTreeMap::new();
        for v in table.rows.iter().filter_map(|r| r[at].number()) {
            count.entry(v.to_bits()).or_insert((v, 0)).1 += 1;
        }
        if count.len() < 10 {
            continue;
        }
        let by = |a: &&(f64, usize), b: &&(f64, usize)| a.0.total_cmp(&b.0);
        for end in [count.values().min_by(by), count.values().max_by(by)].into_iter().flatten() {
            if end.1 >= 5 && end.1 * 100 >= table.rows.len() {
                let column = table.columns[at].name.clone();
                table.suspicions.push(Suspicion { column, value: end.0, rows: end.1 });
            }
        }
    }
    Ok(table)
}

fn bare_name(name: &str) -> (&str, Option<Goal>) {
    let n = name.trim();
    if let Some(rest) = n.strip_prefix("<$") {
        (rest, Some(Goal::Min))
    } else if let Some(rest) = n.strip_prefix(">$") {
        (rest, Some(Goal::Max))
    } else if let Some(rest) = n.strip_suffix('-') {
        (rest, Some(Goal::Min))
    } else if let Some(rest) = n.strip_suffix('+') {
        (rest, Some(Goal::Max))
    } else {
        (n, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    fn table(text: &str) -> Result<TuningTable, DatasetError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        std::fs::write(&path, text).unwrap();
        read_tuning_table(&path)
    }

    #[test]
    fn marks_categories_and_failures() {
        let t = table("workers,mode,Throughput+,<$time\n1,a,10,2\n2,b,?,3\n").unwrap();
        assert_eq!(
            t.columns.iter().map(|c| c.goal).collect::<Vec<_>>(),
            [None, None, Some(Goal::Max), Some(Goal::Min)]
        );
        assert_eq!((t.position("Throughput"), t.position("time"), t.position("x")), (Some(2), Some(3), None));
        assert!(!t.columns[1].numeric && t.columns[0].numeric);
        assert_eq!(t.rows[1], [Cell::Number(2.0), Cell::Text("b".into()), Cell::Missing, Cell::Number(3.0)]);
        let e = table("a,t-\n1,slow\n").unwrap_err().to_string();
        assert!(e.contains("row 1") && e.contains("\"t-\"") && e.contains("slow"), "{e}");
    }

    #[test]
    fn sentinels_are_named_and_declared() {
        let mut text = String::from("a,t-\n");
        for i in 0..100 {
            writeln!(text, "{i},{}", if i % 10 == 0 { 99999 } else { i }).unwrap();
        }
        let mut t = table(&text).unwrap();
        assert_eq!(t.suspicions, [Suspicion { column: "t-".into(), value: 99999.0, rows: 10 }]);
        assert_eq!(t.declare_failures(&[("t".into(), 99999.0)]).unwrap(), 10);
        assert!(t.suspicions.is_empty() && t.rows[0][1] == Cell::Missing);
        assert!(t.declare_failures(&[("zz".into(), 1.0)]).is_err());
    }
}
