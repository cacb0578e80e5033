use crate::EngineError;
use foreglow_core::Timestamp;
use rusqlite::{Connection, params};

/// The saved state of one group.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GroupBlob {
    pub(crate) tenant: String,
    pub(crate) pipeline: String,
    pub(crate) group: String,
    pub(crate) state: Vec<u8>,
}

/// Writes states over older ones.
pub(crate) fn save_groups(conn: &Connection, blobs: &[GroupBlob], now: Timestamp) -> Result<(), EngineError> {
    let mut q = conn.prepare_cached("INSERT OR REPLACE INTO group_state VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for b in blobs {
        q.execute(params![b.tenant, b.pipeline, b.group, now.ms(), b.state])?;
    }
    Ok(())
}

/// Which tenants have state of which pipelines.
pub(crate) fn group_pipelines(conn: &Connection) -> Result<Vec<(String, String)>, EngineError> {
    let mut q = conn.prepare("SELECT DISTINCT tenant, pipeline FROM group_state")?;
    let rows = q.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Group and state, of one tenant and pipeline.
pub(crate) fn group_states(
    conn: &Connection,
    tenant: &str,
    pipeline: &str,
) -> Result<Vec<(String, Vec<u8>)>, EngineError> {
    let mut q = conn.prepare("SELECT grp, state FROM group_state WHERE tenant = ?1 AND pipeline = ?2")?;
    let rows = q.query_map(params![tenant, pipeline], |r| Ok((r.get(0)?, r.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A group whose state is there no more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Gone {
    pub(crate) tenant: String,
    pub(crate) pipeline: String,
    pub(crate) group: String,
}

/// Drops states that were last written before `before`; says which.
pub(crate) fn forget_old_groups(conn: &Connection, before: Timestamp) -> Result<Vec<Gone>, EngineError> {
    let mut q = conn.prepare("DELETE FROM group_state WHERE saved_at < ?1 RETURNING tenant, pipeline, grp")?;
    let rows = q.query_map([before.ms()], gone)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Drops `most` states of a tenant at most, those that have waited longest, all of them last written before `before`.
pub(crate) fn forget_idle_groups(
    conn: &Connection,
    tenant: &str,
    before: Timestamp,
    most: usize,
) -> Result<Vec<Gone>, EngineError> {
    let mut q = conn.prepare(
        "DELETE FROM group_state WHERE (tenant, pipeline, grp) IN (
           SELECT tenant, pipeline, grp FROM group_state WHERE tenant = ?1 AND saved_at < ?2
           ORDER BY saved_at, pipeline, grp LIMIT ?3)
         RETURNING tenant, pipeline, grp",
    )?;
    let rows = q.query_map(params![tenant, before.ms(), most as i64], gone)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn gone(r: &rusqlite::Row<'_>) -> rusqlite::Result<Gone> {
    Ok(Gone { tenant: r.get(0)?, pipeline: r.get(1)?, group: r.get(2)? })
}

/// Drops the state of one group.
pub(crate) fn drop_group(conn: &Connection, tenant: &str, pipeline: &str, group: &str) -> Result<(), EngineError> {
    conn.prepare_cached("DELETE FROM group_state WHERE tenant = ?1 AND pipeline = ?2 AND grp = ?3")?
        .execute(params![tenant, pipeline, group])?;
    Ok(())
}
