use crate::EngineError;
use rusqlite::{Connection, params};

/// Writes a study over its older form.
pub(crate) fn put_study(conn: &Connection, tenant: &str, id: &str, body: &str) -> Result<(), EngineError> {
    conn.prepare_cached("INSERT OR REPLACE INTO study VALUES (?1, ?2, ?3)")?.execute(params![tenant, id, body])?;
    Ok(())
}

/// All studies: tenant and body.
pub(crate) fn studies(conn: &Connection) -> Result<Vec<(String, String)>, EngineError> {
    let mut q = conn.prepare("SELECT tenant, body FROM study ORDER BY tenant, id")?;
    let rows = q.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Writes a recommendation over its older form.
pub(crate) fn put_recommendation(
    conn: &Connection,
    tenant: &str,
    id: &str,
    study: &str,
    body: &str,
) -> Result<(), EngineError> {
    let mut q = conn.prepare_cached(
        "INSERT INTO recommendation (tenant, id, study, body) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (tenant, id) DO UPDATE SET body = ?4",
    )?;
    q.execute(params![tenant, id, study, body])?;
    Ok(())
}

/// All recommendations, oldest first: tenant and body.
pub(crate) fn recommendations(conn: &Connection) -> Result<Vec<(String, String)>, EngineError> {
    let mut q = conn.prepare("SELECT tenant, body FROM recommendation ORDER BY seq")?;
    let rows = q.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
