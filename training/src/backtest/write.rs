use crate::TrainError;
use serde::Serialize;
use std::path::Path;

/// Writes a text file through a temporary neighbour, so that it appears whole or not at all; makes the folder.
///
/// # Errors
/// [`TrainError::Io`].
pub fn write_text(path: &Path, text: &str) -> Result<(), TrainError> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(|e| TrainError::io(dir, "create", e))?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let done = std::fs::write(&part, text).and_then(|()| std::fs::rename(&part, path));
    if done.is_err() {
        // The first error is the one to report.
        let _ = std::fs::remove_file(&part);
    }
    done.map_err(|e| TrainError::io(path, "write", e))
}

/// Writes a value as indented JSON with a line end.
///
/// # Errors
/// [`TrainError::Io`], [`TrainError::Json`].
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), TrainError> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    write_text(path, &text)
}
