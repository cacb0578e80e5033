use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Tables for people.
    #[default]
    Table,
    /// One JSON value for programs.
    Json,
}

/// What a command found out: the same facts for programs and for people.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// For programs.
    pub json: serde_json::Value,
    /// For people: lines and tables.
    pub text: String,
}

impl Answer {
    /// An answer from a serialisable value and its text.
    ///
    /// # Errors
    /// When the value cannot be written as JSON.
    pub fn new(value: &impl Serialize, text: impl Into<String>) -> Result<Self, serde_json::Error> {
        Ok(Self { json: serde_json::to_value(value)?, text: text.into() })
    }

    /// The text to print, with a line end.
    pub fn render(&self, format: Format) -> String {
        let mut out = match format {
            Format::Json => format!("{:#}", self.json),
            Format::Table => self.text.trim_end().to_owned(),
        };
        if !out.is_empty() {
            out.push('\n');
        }
        out
    }
}

/// A plain table; columns from the `text` first ones on are numbers, set to the right.
pub(crate) fn table(head: &[&str], text: usize, rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut t = Table::new();
    t.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    t.set_header(head.to_vec());
    for row in rows {
        t.add_row(row);
    }
    for (i, column) in t.column_iter_mut().enumerate() {
        if i >= text {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    t.lines().map(|l| l.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// A figure for a table: fixed digits, `-` where there is none.
pub(crate) fn figure(v: Option<f64>, digits: usize) -> String {
    v.filter(|v| v.is_finite()).map_or_else(|| "-".into(), |v| format!("{v:.digits$}"))
}
