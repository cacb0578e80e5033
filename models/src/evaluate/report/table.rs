use std::fmt::Write;

/// Text made safe inside HTML and SVG.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Which end of a column is good, so that its best cell can stand out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Better {
    Higher,
    Lower,
    Neither,
}

/// A cell of a figure column.
pub(super) struct Cell {
    value: Option<f64>,
    text: String,
}

impl Cell {
    pub(super) fn number(value: Option<f64>, digits: usize) -> Self {
        let text = value.map_or_else(|| "–".to_owned(), |v| fixed(v, digits));
        Self { value, text }
    }

    pub(super) fn text(text: impl Into<String>) -> Self {
        Self { value: None, text: text.into() }
    }
}

/// A table of figures: a name column, then figure columns; the best value of a column is set bold.
pub(super) struct Table {
    head: Vec<(String, Better)>,
    rows: Vec<(String, &'static str, Vec<Cell>)>,
    name: String,
}

impl Table {
    pub(super) fn new(name: &str, head: &[(&str, Better)]) -> Self {
        let head = head.iter().map(|(h, b)| ((*h).to_owned(), *b)).collect();
        Self { head, rows: Vec::new(), name: name.to_owned() }
    }

    /// Adds a row; `class` is a style of the page (`subject`, `baseline` or empty).
    pub(super) fn row(&mut self, name: &str, class: &'static str, cells: Vec<Cell>) {
        self.rows.push((name.to_owned(), class, cells));
    }

    pub(super) fn html(&self) -> String {
        let mut out = String::from("<div class=\"scroll\"><table><thead><tr>");
        let _ = write!(out, "<th>{}</th>", escape(&self.name));
        for (title, _) in &self.head {
            let _ = write!(out, "<th class=\"n\">{}</th>", escape(title));
        }
        out.push_str("</tr></thead><tbody>\n");
        let best: Vec<Option<f64>> =
            self.head.iter().enumerate().map(|(k, (_, better))| self.best(k, *better)).collect();
        for (name, class, cells) in &self.rows {
            let _ = write!(out, "<tr class=\"{class}\"><td>{}</td>", escape(name));
            for (cell, best) in cells.iter().zip(&best) {
                let mark = if cell.value.is_some() && cell.value == *best { "n best" } else { "n" };
                let _ = write!(out, "<td class=\"{mark}\">{}</td>", escape(&cell.text));
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody></table></div>\n");
        out
    }

    fn best(&self, column: usize, better: Better) -> Option<f64> {
        let values = self.rows.iter().filter_map(|r| r.2.get(column).and_then(|c| c.value)).filter(|v| v.is_finite());
        match better {
            Better::Higher if self.rows.len() > 1 => values.reduce(f64::max),
            Better::Lower if self.rows.len() > 1 => values.reduce(f64::min),
            _ => None,
        }
    }
}

/// A number for people: fixed digits, in powers of ten where that would hide it.
pub(super) fn fixed(v: f64, digits: usize) -> String {
    if !v.is_finite() {
        return "–".to_owned();
    }
    if v != 0.0 && (v.abs() >= 1e6 || v.abs() < 0.5 * 10f64.powi(-(digits as i32))) {
        return format!("{v:.2e}");
    }
    format!("{v:.digits$}")
}

/// A duration in the unit that suits it.
pub(super) fn duration(ms: f64) -> String {
    let s = ms / 1000.0;
    match s {
        _ if s < 120.0 => format!("{s:.0} s"),
        _ if s < 7200.0 => format!("{:.0} min", s / 60.0),
        _ if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        _ => format!("{:.1} d", s / 86_400.0),
    }
}
