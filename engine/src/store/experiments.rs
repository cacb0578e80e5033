use crate::EngineError;
use foreglow_core::{TimeRange, Timestamp};
use rusqlite::{Connection, params};

/// A value that somebody posted for an experiment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ObservationRow {
    pub(crate) variant: String,
    pub(crate) metric: String,
    pub(crate) at: Timestamp,
    /// What tells values of one instant apart: a user, a request; mostly empty.
    pub(crate) unit: String,
    pub(crate) value: f64,
}

/// Writes an experiment over its older form.
pub(crate) fn put_experiment(conn: &Connection, tenant: &str, id: &str, body: &str) -> Result<(), EngineError> {
    conn.prepare_cached("INSERT OR REPLACE INTO experiment VALUES (?1, ?2, ?3)")?.execute(params![tenant, id, body])?;
    Ok(())
}

/// All experiments: tenant and body.
pub(crate) fn experiments(conn: &Connection) -> Result<Vec<(String, String)>, EngineError> {
    let mut q = conn.prepare("SELECT tenant, body FROM experiment ORDER BY tenant, id")?;
    let rows = q.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Adds values, over older ones of the same variant, metric, instant and unit.
pub(crate) fn add_observations(
    conn: &Connection,
    tenant: &str,
    id: &str,
    rows: &[ObservationRow],
) -> Result<(), EngineError> {
    let mut put = conn.prepare_cached("INSERT OR REPLACE INTO observation VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    for r in rows {
        put.execute(params![tenant, id, r.metric, r.variant, r.at.ms(), r.unit, r.value])?;
    }
    Ok(())
}

/// A posted value: when, of what unit, what.
pub(crate) type Posted = (Timestamp, String, f64);

/// The posted values of a metric under a variant within a range, in the order of time and unit.
pub(crate) fn observations(
    conn: &Connection,
    tenant: &str,
    id: &str,
    metric: &str,
    variant: &str,
    range: TimeRange,
) -> Result<Vec<Posted>, EngineError> {
    let mut q = conn.prepare_cached(
        "SELECT ts, unit, value FROM observation WHERE tenant = ?1 AND experiment = ?2 AND metric = ?3 AND variant = ?4
         AND ts >= ?5 AND ts < ?6 ORDER BY ts, unit",
    )?;
    let rows = q.query_map(params![tenant, id, metric, variant, range.start.ms(), range.end.ms()], |r| {
        Ok((Timestamp(r.get(0)?), r.get(1)?, r.get(2)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::*;

    #[test]
    fn the_same_value_again_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let row = |ms, unit: &str, value| ObservationRow {
            variant: "new".into(),
            metric: "latency".into(),
            at: Timestamp(ms),
            unit: unit.into(),
            value,
        };
        let rows = vec![row(2, "", 3.0), row(1, "b", 2.0), row(1, "a", 1.0), row(2, "", 4.0), row(9, "", 5.0)];
        let range = TimeRange { start: Timestamp(0), end: Timestamp(9) };
        let found = store
            .wait(move |c| {
                add_observations(c, "t", "e", &rows)?;
                observations(c, "t", "e", "latency", "new", range)
            })
            .unwrap();
        let posted = |ms, unit: &str, value| (Timestamp(ms), unit.to_owned(), value);
        assert_eq!(found, [posted(1, "a", 1.0), posted(1, "b", 2.0), posted(2, "", 4.0)]);
    }
}
