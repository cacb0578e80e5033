use crate::TrainError;
use foreglow_datasets::{DatasetError, atomically};
use serde::Serialize;
use std::io::Write;
use std::path::Path;

/// Writes a text file, which appears whole or not at all; makes the folder.
///
/// # Errors
/// [`TrainError::Io`], [`TrainError::Dataset`].
pub fn write_text(path: &Path, text: &str) -> Result<(), TrainError> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(|e| TrainError::io(dir, "create", e))?;
    }
    let failed = |source| DatasetError::Io { path: path.to_owned(), action: "write", source };
    Ok(atomically(path, |file| file.write_all(text.as_bytes()).map_err(failed))?)
}

/// Writes a value as indented JSON with a line end.
///
/// # Errors
/// As [`write_text`], and [`TrainError::Json`].
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), TrainError> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    write_text(path, &text)
}
