use crate::EngineError;
use rusqlite::Connection;
use std::path::Path;

/// The schema this program writes. A newer one is refused; older ones are brought up step by step.
const VERSION: i64 = 2;

const TABLES: &str = "
CREATE TABLE group_state (
  tenant TEXT NOT NULL, pipeline TEXT NOT NULL, grp TEXT NOT NULL, saved_at INTEGER NOT NULL, state BLOB NOT NULL,
  PRIMARY KEY (tenant, pipeline, grp)) WITHOUT ROWID;

CREATE TABLE grp (id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT NULL, UNIQUE (tenant, name));
CREATE TABLE result (
  grp INTEGER NOT NULL, ts INTEGER NOT NULL, status TEXT NOT NULL, score REAL, p_value REAL, recorded_at INTEGER NOT NULL,
  PRIMARY KEY (grp, ts)) WITHOUT ROWID;
CREATE TABLE anomaly (
  id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, grp TEXT NOT NULL, ts INTEGER NOT NULL, score REAL NOT NULL,
  body TEXT NOT NULL, recorded_at INTEGER NOT NULL);
CREATE INDEX anomaly_by_tenant ON anomaly (tenant, id);
CREATE INDEX anomaly_by_age ON anomaly (recorded_at);

CREATE TABLE incident (
  seq INTEGER PRIMARY KEY, tenant TEXT NOT NULL, id TEXT NOT NULL, grp TEXT NOT NULL, opened_at INTEGER NOT NULL,
  resolved_at INTEGER, state TEXT NOT NULL, model TEXT NOT NULL, body TEXT NOT NULL, UNIQUE (tenant, id));
CREATE TABLE feedback (
  id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, incident TEXT NOT NULL, verdict TEXT NOT NULL, by TEXT, note TEXT,
  at INTEGER NOT NULL);
CREATE INDEX feedback_by_incident ON feedback (tenant, incident);

CREATE TABLE change (
  id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, kind TEXT NOT NULL, selector TEXT, start INTEGER NOT NULL, end INTEGER,
  body TEXT NOT NULL);
CREATE INDEX change_by_tenant ON change (tenant, id);
CREATE TABLE configuration (
  id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, entity TEXT NOT NULL, since INTEGER NOT NULL, parameters TEXT NOT NULL,
  ref TEXT, UNIQUE (tenant, entity, since));

CREATE TABLE study (
  tenant TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
CREATE TABLE recommendation (
  seq INTEGER PRIMARY KEY, tenant TEXT NOT NULL, id TEXT NOT NULL, study TEXT NOT NULL, body TEXT NOT NULL,
  UNIQUE (tenant, id));

CREATE TABLE history_series (
  id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT NULL, labels TEXT NOT NULL, UNIQUE (tenant, name, labels));
CREATE TABLE history (
  series INTEGER NOT NULL, ts INTEGER NOT NULL, value REAL NOT NULL, PRIMARY KEY (series, ts)) WITHOUT ROWID;
";

/// What version 2 added.
const EXPERIMENTS: &str = "
CREATE TABLE experiment (
  tenant TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
CREATE TABLE observation (
  tenant TEXT NOT NULL, experiment TEXT NOT NULL, metric TEXT NOT NULL, variant TEXT NOT NULL, ts INTEGER NOT NULL,
  unit TEXT NOT NULL, value REAL NOT NULL,
  PRIMARY KEY (tenant, experiment, metric, variant, ts, unit)) WITHOUT ROWID;
";

/// Opens the file and brings its schema up to this program's.
///
/// # Errors
/// [`EngineError::State`] when a newer program wrote the file, [`EngineError::Store`] when it cannot be used.
pub(super) fn open(folder: &Path, file: &Path) -> Result<Connection, EngineError> {
    let conn = Connection::open(file)?;
    // Killing the process loses nothing that was committed; a power cut may lose the last commits, never the file.
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.pragma_update(None, "synchronous", "NORMAL")?;
    let version: i64 = conn.query_row("PRAGMA user_version", [], |r| r.get(0))?;
    match version {
        VERSION => {}
        0 => conn.execute_batch(&format!("BEGIN; {TABLES} {EXPERIMENTS} PRAGMA user_version = {VERSION}; COMMIT;"))?,
        1 => conn.execute_batch(&format!("BEGIN; {EXPERIMENTS} PRAGMA user_version = {VERSION}; COMMIT;"))?,
        newer => {
            let problem = format!(
                "its schema has version {newer}, this program knows up to {VERSION}: start the newer program, or another folder"
            );
            return Err(EngineError::State { path: folder.to_owned(), problem });
        }
    }
    Ok(conn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_file_is_brought_up() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("foreglow.sqlite");
        let old = Connection::open(&file).unwrap();
        old.execute_batch(&format!("{TABLES} INSERT INTO study VALUES ('t', 'i', 'b'); PRAGMA user_version = 1;"))
            .unwrap();
        drop(old);
        for _ in 0..2 {
            let conn = open(dir.path(), &file).unwrap();
            let count = |table: &str| {
                conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |r| r.get::<_, i64>(0)).unwrap()
            };
            assert_eq!((count("study"), count("experiment"), count("observation")), (1, 0, 0));
        }
    }
}
