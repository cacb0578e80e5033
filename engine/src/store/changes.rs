use crate::EngineError;
use foreglow_core::{TimeRange, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::value::RawValue;

/// A change as it is written down.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NewChange {
    pub(crate) kind: String,
    pub(crate) selector: Option<String>,
    pub(crate) start: Timestamp,
    pub(crate) end: Option<Timestamp>,
    /// As it was posted, JSON.
    pub(crate) body: String,
}

/// Adds a change and gives its number. With `again` one of the same kind, selector and start is told anew, mostly to end it.
pub(crate) fn add_change(conn: &Connection, tenant: &str, c: &NewChange, again: bool) -> Result<i64, EngineError> {
    let end = c.end.map(Timestamp::ms);
    let mut q = conn.prepare_cached(
        "UPDATE change SET end = ?5, body = ?6 WHERE tenant = ?1 AND kind = ?2 AND selector IS ?3 AND start = ?4 \
         AND ?7 RETURNING id",
    )?;
    let there =
        q.query_row(params![tenant, c.kind, c.selector, c.start.ms(), end, c.body, again], |r| r.get(0)).optional()?;
    if let Some(id) = there {
        return Ok(id);
    }
    let mut q = conn.prepare_cached(
        "INSERT INTO change (tenant, kind, selector, start, end, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    Ok(q.insert(params![tenant, c.kind, c.selector, c.start.ms(), end, c.body])?)
}

/// Changes of a tenant, newest first: number and body.
pub(crate) fn changes(
    conn: &Connection,
    tenant: &str,
    before: i64,
    limit: usize,
) -> Result<Vec<(i64, Box<RawValue>)>, EngineError> {
    let mut q =
        conn.prepare_cached("SELECT id, body FROM change WHERE tenant = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3")?;
    let mut rows = q.query(params![tenant, before, limit as i64])?;
    let mut out = Vec::new();
    while let Some(r) = rows.next()? {
        out.push((r.get(0)?, RawValue::from_string(r.get(1)?)?));
    }
    Ok(out)
}

fn change_row(r: &rusqlite::Row<'_>) -> rusqlite::Result<NewChange> {
    let end: Option<i64> = r.get(3)?;
    Ok(NewChange {
        kind: r.get(0)?,
        selector: r.get(1)?,
        start: Timestamp(r.get(2)?),
        end: end.map(Timestamp),
        body: r.get(4)?,
    })
}

/// Changes of every tenant that end after `now` (or never), with their tenant.
pub(crate) fn active_changes(conn: &Connection, now: Timestamp) -> Result<Vec<(String, NewChange)>, EngineError> {
    let mut q =
        conn.prepare("SELECT kind, selector, start, end, body, tenant FROM change WHERE end IS NULL OR end > ?1")?;
    let rows = q.query_map([now.ms()], |r| Ok((r.get(5)?, change_row(r)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Changes of these kinds, of every tenant, with their tenant: of each the `most` that end last.
pub(crate) fn last_changes(
    conn: &Connection,
    kinds: &[&str],
    most: usize,
) -> Result<Vec<(String, NewChange)>, EngineError> {
    let named = vec!["?"; kinds.len()].join(", ");
    let mut q = conn.prepare(&format!(
        "SELECT kind, selector, start, end, body, tenant FROM (
           SELECT *, ROW_NUMBER() OVER (PARTITION BY tenant ORDER BY end IS NOT NULL, end DESC, id DESC) AS place
           FROM change WHERE kind IN ({named})) WHERE place <= {most} ORDER BY id"
    ))?;
    let rows = q.query_map(rusqlite::params_from_iter(kinds), |r| Ok((r.get(5)?, change_row(r)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Changes of a tenant that start within a range.
pub(crate) fn changes_within(conn: &Connection, tenant: &str, range: TimeRange) -> Result<Vec<NewChange>, EngineError> {
    let mut q = conn.prepare_cached(
        "SELECT kind, selector, start, end, body FROM change WHERE tenant = ?1 AND start >= ?2 AND start < ?3",
    )?;
    let rows = q.query_map(params![tenant, range.start.ms(), range.end.ms()], change_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// "This entity runs with these parameters since then."
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ConfigurationRow {
    /// Labels as JSON with sorted names.
    pub(crate) entity: String,
    pub(crate) since: Timestamp,
    /// JSON.
    pub(crate) parameters: String,
    pub(crate) reference: Option<String>,
}

/// Adds a configuration, over one of the same entity and instant.
pub(crate) fn add_configuration(conn: &Connection, tenant: &str, c: &ConfigurationRow) -> Result<(), EngineError> {
    let mut q = conn.prepare_cached(
        "INSERT INTO configuration (tenant, entity, since, parameters, ref) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (tenant, entity, since) DO UPDATE SET parameters = ?4, ref = ?5",
    )?;
    q.execute(params![tenant, c.entity, c.since.ms(), c.parameters, c.reference])?;
    Ok(())
}

/// Configurations of an entity, oldest first.
pub(crate) fn configurations(
    conn: &Connection,
    tenant: &str,
    entity: &str,
) -> Result<Vec<ConfigurationRow>, EngineError> {
    let mut q = conn.prepare_cached(
        "SELECT entity, since, parameters, ref FROM configuration WHERE tenant = ?1 AND entity = ?2 ORDER BY since",
    )?;
    let rows = q.query_map(params![tenant, entity], |r| {
        Ok(ConfigurationRow {
            entity: r.get(0)?,
            since: Timestamp(r.get(1)?),
            parameters: r.get(2)?,
            reference: r.get(3)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Tenants and entities of which a configuration is known.
pub(crate) fn entities(conn: &Connection) -> Result<Vec<(String, String)>, EngineError> {
    let mut q = conn.prepare("SELECT DISTINCT tenant, entity FROM configuration")?;
    let rows = q.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
