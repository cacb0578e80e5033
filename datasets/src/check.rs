use crate::write::file_info;
use crate::{Dataset, DatasetError, ManifestSeries, OpenOptions, SeriesTable, split_ranges};
use foreglow_core::Timestamp;
use serde::Serialize;
use std::fmt;
use std::path::Path;

/// How bad a remark is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Note,
    /// Look at it before you quote a number.
    Warning,
    /// The set contradicts itself.
    Error,
}

/// One remark of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// How bad it is.
    pub severity: Severity,
    /// The series, or the file.
    pub place: String,
    /// What there is.
    pub text: String,
}

/// What [`check`] found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct CheckReport {
    /// The dataset.
    pub name: String,
    /// Series read.
    pub series: usize,
    /// Rows read.
    pub rows: usize,
    /// Events read.
    pub events: usize,
    /// The remarks, in the order of the file.
    pub remarks: Vec<Remark>,
}

impl CheckReport {
    /// Whether nothing contradicts itself.
    pub fn is_sound(&self) -> bool {
        self.remarks.iter().all(|r| r.severity != Severity::Error)
    }

    fn say(&mut self, severity: Severity, place: &str, text: impl Into<String>) {
        self.remarks.push(Remark { severity, place: place.to_owned(), text: text.into() });
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} series, {} rows, {} events read", self.name, self.series, self.rows, self.events)?;
        for r in &self.remarks {
            let word = match r.severity {
                Severity::Note => "note",
                Severity::Warning => "warning",
                Severity::Error => "ERROR",
            };
            writeln!(f, "  {word:<8}{}: {}", r.place, r.text)?;
        }
        writeln!(f, "  {}", if self.is_sound() { "sound" } else { "NOT sound" })
    }
}

/// Reads a whole dataset and compares it with what it says of itself: checksums, row counts, split ranges and labels
/// against the manifest; order of time; missing, constant and empty metrics; events inside their series.
///
/// # Errors
/// Only when the set cannot be read at all; contradictions are remarks of [`Severity::Error`].
pub fn check(path: &Path, options: &OpenOptions) -> Result<CheckReport, DatasetError> {
    let set = Dataset::open(path, options)?;
    let mut report = CheckReport { name: set.name.clone(), ..CheckReport::default() };
    if let Some(m) = &set.manifest {
        for (file, info) in &m.files {
            let have = file_info(&path.join(file))?;
            if have != *info {
                let text = format!(
                    "{} bytes, sha256 {}; the manifest says {}, {}",
                    have.bytes, have.sha256, info.bytes, info.sha256
                );
                report.say(Severity::Error, file, text);
            }
        }
        let rows: usize = m.series.iter().map(|s| s.rows).sum();
        for (what, said, counted) in [
            ("rows", m.n_rows, rows),
            ("series", m.n_series, m.series.len()),
            ("metrics", m.n_metrics, m.metrics.len()),
        ] {
            if said != counted {
                report.say(Severity::Error, "manifest.json", format!("n_{what} is {said}, its lists hold {counted}"));
            }
        }
        for (what, said, counted) in [
            ("labelled_rows", m.labelled_rows, m.series.iter().map(|s| s.labelled_rows).sum::<usize>()),
            ("anomalous_rows", m.anomalous_rows, m.series.iter().map(|s| s.anomalous_rows).sum()),
        ] {
            if said != counted {
                report.say(
                    Severity::Error,
                    "manifest.json",
                    format!("{what} is {said}, its series add up to {counted}"),
                );
            }
        }
    }
    for s in &set.series {
        let table = set.load_series(&s.id, None)?;
        report.series += 1;
        report.rows += table.len();
        let listed = set.manifest.as_ref().and_then(|m| m.series.iter().find(|e| e.id == s.id));
        one_series(&mut report, &table, listed);
    }
    let events = set.events()?;
    report.events = events.len();
    if let Some(m) = &set.manifest {
        let whole = options.series.is_none();
        if whole && m.n_events != events.len() {
            report.say(
                Severity::Error,
                "events.parquet",
                format!("{} events, the manifest says {}", events.len(), m.n_events),
            );
        }
        for e in &events {
            let place = format!("event of {}", e.series_id);
            let Some(s) = set.series.iter().find(|s| s.id == e.series_id) else { continue };
            let outside = |t: Option<Timestamp>| {
                t.is_some_and(|t| s.start.is_some_and(|a| t < a) || s.end.is_some_and(|b| t > b))
            };
            if let (Some(a), Some(b)) = (e.start, e.end)
                && b < a
            {
                report.say(Severity::Error, &place, format!("ends at {b}, before it starts at {a}"));
            }
            if outside(e.start) || outside(e.end) {
                let t = e.start.map(|t| t.to_string()).unwrap_or_default();
                report.say(Severity::Warning, &place, format!("starting {t}: reaches outside the rows of its series"));
            }
            if let Some(unknown) = e.metrics.iter().find(|x| !m.metrics.contains(x)) {
                report.say(Severity::Warning, &place, format!("names {unknown:?}, which is no metric column"));
            }
        }
    }
    Ok(report)
}

fn one_series(report: &mut CheckReport, table: &SeriesTable, listed: Option<&ManifestSeries>) {
    let id = table.id.clone();
    let q = table.quality();
    if q.non_increasing_steps > 0 {
        let text = format!(
            "{} rows are not later than the row before ({} go back), {} repeat an instant; {}",
            q.non_increasing_steps,
            q.backward_steps,
            q.duplicate_timestamps,
            if table.file_rows.is_empty() { "file order is kept" } else { "they are sorted by time" }
        );
        report.say(Severity::Warning, &id, text);
    }
    if q.missing_values > 0 {
        let cells = table.len() * table.metrics.len();
        let share = 100.0 * q.missing_values as f64 / cells as f64;
        report.say(Severity::Note, &id, format!("{} of {cells} values are missing ({share:.2} %)", q.missing_values));
    }
    if q.infinite_values > 0 {
        report.say(Severity::Warning, &id, format!("{} infinite values, read as missing", q.infinite_values));
    }
    if !q.constant_metrics.is_empty() {
        report.say(Severity::Note, &id, format!("constant: {}", crate::error::some_of(&q.constant_metrics)));
    }
    if !q.empty_metrics.is_empty() {
        report.say(Severity::Note, &id, format!("without any value: {}", crate::error::some_of(&q.empty_metrics)));
    }
    if let Some(step) = table.step()
        && q.longest_gap_ms > 10 * step.ms()
    {
        report.say(Severity::Note, &id, format!("longest gap {} s at a step of {step}", q.longest_gap_ms / 1000));
    }
    if let Some(step) = table.step()
        && let crowded = table.crowded(step)
        && 100 * crowded > table.len()
    {
        let text = format!(
            "{crowded} of {} rows share a step of {step} with a later row, which wins: are there several steps in it?",
            table.len()
        );
        report.say(Severity::Warning, &id, text);
    }
    let Some(m) = listed else { return };
    for (split, [a, b]) in &m.splits {
        if *b > table.len() || a > b {
            report.say(Severity::Error, &id, format!("split {split} is rows {a} to {b} of {}", table.len()));
        } else if let Some(row) = (*a..*b).find(|r| table.split[*r] != *split) {
            report.say(
                Severity::Error,
                &id,
                format!("row {} is {}, the manifest says {split}", row + 1, table.split[row]),
            );
        }
    }
    let covered: usize = m.splits.values().map(|[a, b]| b.saturating_sub(*a)).sum();
    if !m.splits.is_empty() && covered != table.len() {
        let runs = split_ranges(&table.split).len();
        report.say(
            Severity::Error,
            &id,
            format!("its splits cover {covered} of {} rows ({runs} runs in the column)", table.len()),
        );
    }
    let labelled = table.label.iter().flatten().count();
    let anomalous = table.label.iter().filter(|l| **l == Some(true)).count();
    for (what, said, have) in [
        ("labelled_rows", m.labelled_rows, labelled),
        ("anomalous_rows", m.anomalous_rows, anomalous),
        ("non_increasing_steps", m.non_increasing_steps, q.non_increasing_steps),
    ] {
        if said != have {
            report.say(Severity::Error, &id, format!("{what} is {said} in the manifest, {have} in the data"));
        }
    }
}
