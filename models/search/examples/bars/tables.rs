use foreglow_search::Goal;
use foreglow_search::backtest::Table;
use std::error::Error;
use std::path::PathBuf;

/// A table of numbers; columns that end in `+` or `-`, and the last one, are objectives and never parameters.
pub(crate) fn read_table(file: &str, goal: Goal, objective: &str) -> Result<Table, Box<dyn Error>> {
    let (parameters, values, all, names) = read_columns(file, objective)?;
    let target = names.iter().position(|n| *n == objective).unwrap_or(names.len() - 1);
    Ok(Table::new(&parameters, &values, all[target].clone(), goal)?)
}

type Columns = (Vec<String>, Vec<Vec<f64>>, Vec<Vec<f64>>, Vec<String>);

/// Names and columns of the parameters, all columns, and all names.
pub(crate) fn read_columns(file: &str, objective: &str) -> Result<Columns, Box<dyn Error>> {
    let root = std::env::var("FOREGLOW_DATA")
        .map_or_else(|_| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")), PathBuf::from);
    let path = root.join("tuning").join(file);
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().ok_or("an empty file")?.split(',').collect();
    let mut columns = vec![Vec::new(); names.len()];
    for line in lines {
        for (column, cell) in columns.iter_mut().zip(line.split(',')) {
            column.push(cell.parse::<f64>()?);
        }
    }
    let target = names.iter().position(|n| *n == objective).unwrap_or(names.len() - 1);
    let is_parameter = |i: usize| i != target && !names[i].ends_with(['+', '-']) && i + 1 != names.len();
    let kept: Vec<usize> = (0..names.len()).filter(|i| is_parameter(*i)).collect();
    let parameters: Vec<String> = kept.iter().map(|i| names[*i].to_owned()).collect();
    let values: Vec<Vec<f64>> = kept.iter().map(|i| columns[*i].clone()).collect();
    Ok((parameters, values, columns, names.iter().map(|n| (*n).to_owned()).collect()))
}
