//! How the story looks on a terminal: headings, sparklines, tables. No decisions here.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use std::io::{IsTerminal, Write};

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Writes to the terminal, with colours where they are wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pen {
    colour: bool,
    indent: &'static str,
}

impl Pen {
    /// Colours on a terminal, unless `NO_COLOR` (see no-color.org) is set.
    pub(crate) fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Self { colour: wanted && std::io::stdout().is_terminal(), indent: "   " }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// A line of the story.
    pub(crate) fn say(self, text: &str) {
        // With nobody reading any more (`| head`) there is nobody to tell.
        let _ = writeln!(std::io::stdout(), "{}{text}", self.indent);
    }

    /// An empty line.
    pub(crate) fn gap(self) {
        Self { indent: "", ..self }.say("");
    }

    /// The title of all.
    pub(crate) fn title(self, text: &str) {
        Self { indent: "", ..self }.say(&self.bold(text));
    }

    /// The title of a part of the story.
    pub(crate) fn heading(self, number: usize, title: &str) {
        self.gap();
        self.title(&format!("{number}  {title}"));
    }

    /// A line with a name in front.
    pub(crate) fn item(self, name: &str, text: &str) {
        self.say(&format!("{} {text}", self.dim(&format!("{name:<18}"))));
    }

    /// A table, its titles dimmed.
    pub(crate) fn table(self, table: &Table) {
        for (i, line) in table.lines().enumerate() {
            // The preset begins each cell with a blank.
            let line = line.trim_end().strip_prefix(' ').unwrap_or_default().to_owned();
            self.say(&if i == 0 { self.dim(&line) } else { line });
        }
    }
}

/// An empty table with these column titles; those after the first `left` columns are aligned to the right.
pub(crate) fn table(titles: &[&str], left: usize) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(titles);
    for column in table.column_iter_mut().skip(left) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// `values` as bars between `low` and `high`, in at most `width` characters, each the largest of its stretch, so that no
/// peak is lost; `·` where nothing was measured.
pub(crate) fn sparkline(values: &[f64], low: f64, high: f64, width: usize) -> String {
    if values.is_empty() || width == 0 {
        return String::new();
    }
    let cells = width.min(values.len());
    (0..cells)
        .map(|i| {
            let stretch = &values[i * values.len() / cells..(i + 1) * values.len() / cells];
            let top = stretch.iter().copied().filter(|v| !v.is_nan()).fold(f64::NAN, f64::max);
            if top.is_nan() {
                return '·';
            }
            let part = if high > low { (top - low) / (high - low) } else { 0.0 };
            BARS[(part * 8.0).clamp(0.0, 7.0) as usize]
        })
        .collect()
}

/// A sparkline over its own range, and the range.
pub(crate) fn own_sparkline(values: &[f64], width: usize) -> String {
    let known = || values.iter().copied().filter(|v| v.is_finite());
    let (low, high) = (known().fold(f64::INFINITY, f64::min), known().fold(f64::NEG_INFINITY, f64::max));
    if low > high {
        return "nothing measured".to_owned();
    }
    format!("{}  {} to {}", sparkline(values, low, high, width), number(low), number(high))
}

/// Three significant digits, without exponents in the range that people read: `0.0123`, `12.3`, `1,234`.
pub(crate) fn number(x: f64) -> String {
    let size = x.abs();
    match size {
        _ if !x.is_finite() => "-".to_owned(),
        s if s >= 1e6 => format!("{:.2} M", x / 1e6),
        s if s >= 1e4 => format!("{:.1} k", x / 1e3),
        s if s >= 99.95 => format!("{x:.0}"),
        s if s >= 9.995 => format!("{x:.1}"),
        s if s >= 0.9995 || s == 0.0 => format!("{x:.2}"),
        _ => format!("{x:.3}"),
    }
}

/// A relative change, signed: `-31 %`.
pub(crate) fn percent(x: f64) -> String {
    if x.is_finite() { format!("{:+.0} %", 100.0 * x) } else { "-".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparklines_keep_peaks_and_gaps() {
        assert_eq!(sparkline(&[0.0, 0.0, 1.0, 0.0], 0.0, 1.0, 2), "▁█");
        assert_eq!(sparkline(&[f64::NAN, 0.5, 2.0], 0.0, 1.0, 10), "·▅█");
        assert_eq!(sparkline(&[3.0, 3.0], 3.0, 3.0, 10), "▁▁");
        assert_eq!(sparkline(&[], 0.0, 1.0, 10), "");
        assert_eq!(own_sparkline(&[f64::NAN], 4), "nothing measured");
        assert_eq!(own_sparkline(&[1.0, 2.0], 4), "▁█  1.00 to 2.00");
    }

    #[test]
    fn numbers_have_three_digits() {
        let all = [0.0, 0.01234, 1.234, 12.34, 123.4, 12_345.0, 3.5e6, f64::NAN].map(number).join(" ");
        assert_eq!(all, "0.00 0.012 1.23 12.3 123 12.3 k 3.50 M -");
        assert_eq!((percent(-0.314), percent(0.05)), ("-31 %".to_owned(), "+5 %".to_owned()));
    }
}
