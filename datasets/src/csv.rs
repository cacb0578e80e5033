use crate::DatasetError;
use polars::prelude::{CsvParseOptions, CsvReadOptions, DataFrame, SerReader};
use std::io::Cursor;
use std::ops::Range;
use std::path::Path;

/// A CSV file as columns of text (empty cell = null), after a check that every record has as many fields as the header:
/// a table parser that guesses types could name neither the row nor the value of a bad cell.
pub(crate) fn read_text(path: &Path, separator: Option<u8>) -> Result<DataFrame, DatasetError> {
    let bytes = std::fs::read(path).map_err(|e| DatasetError::io(path, "read", e))?;
    let body = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let bad = |place: String, problem: String| DatasetError::Csv { path: path.to_owned(), place, problem };
    if let Err(e) = std::str::from_utf8(body) {
        let row = body[..e.valid_up_to()].split(|b| *b == b'\n').count() - 1;
        return Err(bad(format!("line {}", row + 1), "no UTF-8 text; convert the file to UTF-8".into()));
    }
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(DatasetError::Empty { path: path.to_owned() });
    }
    let separator = separator.unwrap_or_else(|| guess_separator(body));
    let Shape { rows, blanks } = check_shape(body, separator)
        .map_err(|(row, problem)| bad(if row == 0 { "header".to_owned() } else { format!("row {row}") }, problem))?;
    if rows == 0 {
        return Err(DatasetError::Empty { path: path.to_owned() });
    }
    // The table parser would read a blank line as a record of missing values.
    let mut kept = Vec::with_capacity(body.len());
    let mut from = 0;
    for blank in blanks {
        kept.extend_from_slice(&body[from..blank.start]);
        from = blank.end;
    }
    kept.extend_from_slice(&body[from..]);
    let mut frame = CsvReadOptions::default()
        .with_infer_schema_length(Some(0))
        .with_rechunk(true)
        .with_parse_options(CsvParseOptions::default().with_separator(separator))
        .into_reader_with_file_handle(Cursor::new(kept))
        .finish()
        .map_err(|e| bad("table".into(), e.to_string()))?;
    let names: Vec<String> = frame.get_column_names().iter().map(|n| n.trim().to_owned()).collect();
    frame.set_column_names(&names).map_err(|e| bad("header".into(), e.to_string()))?;
    if frame.height() != rows {
        return Err(bad(
            "table".into(),
            format!("{rows} records were counted, {} were read; look for an unclosed quote", frame.height()),
        ));
    }
    Ok(frame)
}

fn guess_separator(body: &[u8]) -> u8 {
    let header = body.split(|b| *b == b'\n').next().unwrap_or(body);
    let count = |s: u8| header.split(|b| *b == s).count();
    // The first of equals wins, so a single column is read as comma-separated.
    [b',', b';', b'\t'].into_iter().rev().max_by_key(|s| count(*s)).unwrap_or(b',')
}

/// What lies between header and end.
struct Shape {
    /// Data rows.
    rows: usize,
    /// Where lines hold nothing, line break included.
    blanks: Vec<Range<usize>>,
}

/// Counts the data rows and finds the blank lines; the error carries the data row (0 = header) and what is wrong with it.
fn check_shape(body: &[u8], separator: u8) -> Result<Shape, (usize, String)> {
    let mut blanks = Vec::new();
    let (mut width, mut record, mut fields, mut quoted, mut blank) = (0usize, 0usize, 1usize, false, true);
    let mut names: Vec<&[u8]> = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while at <= body.len() {
        let end = at == body.len();
        let byte = if end { b'\n' } else { body[at] };
        if quoted && end {
            return Err((record, "a quote is not closed".into()));
        }
        match byte {
            b'"' => {
                quoted = !quoted;
                blank = false;
            }
            _ if quoted => {}
            b'\n' => {
                // The end of the file closes a last record without a line break; blank lines hold no record.
                if blank && fields == 1 {
                    blanks.push(start..(at + 1).min(body.len()));
                } else {
                    if record == 0 {
                        width = fields;
                        names = body[start..at].split(|b| *b == separator).collect();
                    } else if fields != width {
                        return Err((
                            record,
                            format!(
                                "{fields} fields, the header has {width}; the line may be cut or hold an unquoted separator"
                            ),
                        ));
                    }
                    record += 1;
                }
                (fields, blank, start) = (1, true, at + 1);
            }
            b if b == separator => fields += 1,
            b'\r' | b' ' => {}
            _ => blank = false,
        }
        at += 1;
    }
    let mut sorted = names;
    for n in &mut sorted {
        *n = n.trim_ascii();
    }
    sorted.sort_unstable();
    if let Some(w) = sorted.windows(2).find(|w| w[0] == w[1]) {
        return Err((0, format!("two columns are called {:?}; names must differ", String::from_utf8_lossy(w[0]))));
    }
    Ok(Shape { rows: record.saturating_sub(1), blanks })
}

/// Cells that mean "missing": empty, `NaN`, `NA`, `N/A`, `null`, `none`, `-` in any case.
pub(crate) fn is_missing(cell: &str) -> bool {
    let c = cell.trim();
    c.is_empty() || ["nan", "na", "n/a", "null", "none", "-"].iter().any(|m| c.eq_ignore_ascii_case(m))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(content: &str) -> Result<DataFrame, DatasetError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.csv");
        std::fs::write(&path, content).unwrap();
        read_text(&path, None)
    }

    #[test]
    fn shapes() {
        assert_eq!(text("a,b\n1,2\n3,4").unwrap().shape(), (2, 2));
        assert_eq!(text("time, cpu ,mem\n1, 2,3\n").unwrap().get_column_names(), ["time", "cpu", "mem"]);
        assert_eq!(text("\u{feff}a;b\r\n1;2\r\n").unwrap().shape(), (1, 2));
        assert_eq!(text("a,b\n\"x\ny\",2\n\n3,4\n").unwrap().shape(), (2, 2));
        for (content, part) in [
            ("", "no data rows"),
            ("\n", "no data rows"),
            ("a,b\n", "no data rows"),
            ("a,b\n1,2\n3\n", "row 2: 1 fields, the header has 2"),
            ("a,b\n1,2,3\n", "row 1: 3 fields"),
            ("a,b\n1,\"2\n", "quote is not closed"),
            ("a,a\n1,2\n", "two columns are called \"a\""),
        ] {
            let e = text(content).unwrap_err().to_string();
            assert!(e.contains(part), "{content:?}: {e}");
        }
    }
}
