use crate::EngineError;
use foreglow_core::{Incident, IncidentState, TimeRange, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

/// An incident with what is known about it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct IncidentRow {
    pub(crate) seq: i64,
    pub(crate) model: String,
    pub(crate) incident: Incident,
    pub(crate) feedback: Vec<FeedbackRow>,
}

/// What somebody said of an incident.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FeedbackRow {
    pub(crate) verdict: String,
    pub(crate) by: Option<String>,
    pub(crate) note: Option<String>,
    pub(crate) at: Timestamp,
}

fn state_name(s: IncidentState) -> &'static str {
    match s {
        IncidentState::Open => "open",
        IncidentState::Resolved => "resolved",
    }
}

/// Writes an incident over its older form.
pub(crate) fn put_incident(conn: &Connection, tenant: &str, model: &str, i: &Incident) -> Result<(), EngineError> {
    let mut q = conn.prepare_cached(
        "INSERT INTO incident (tenant, id, grp, opened_at, resolved_at, state, model, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (tenant, id) DO UPDATE SET resolved_at = ?5, state = ?6, body = ?8",
    )?;
    let resolved = i.resolved_at.map(Timestamp::ms);
    let body = serde_json::to_string(i)?;
    q.execute(params![tenant, i.id, i.finding.group, i.opened_at.ms(), resolved, state_name(i.state), model, body])?;
    Ok(())
}

/// What to show of incidents.
#[derive(Debug, Clone)]
pub(crate) struct IncidentFilter {
    pub(crate) group: Option<String>,
    pub(crate) state: Option<IncidentState>,
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
    /// Only rows older than this one.
    pub(crate) before: i64,
}

/// Incidents, newest first.
pub(crate) fn incidents(
    conn: &Connection,
    tenant: &str,
    f: &IncidentFilter,
    limit: usize,
) -> Result<Vec<IncidentRow>, EngineError> {
    let mut q = conn.prepare_cached(
        "SELECT seq, model, body FROM incident
         WHERE tenant = ?1 AND seq < ?2 AND opened_at < ?4 AND (resolved_at IS NULL OR resolved_at >= ?3)
           AND (?5 IS NULL OR grp = ?5) AND (?6 IS NULL OR state = ?6)
         ORDER BY seq DESC LIMIT ?7",
    )?;
    let state = f.state.map(state_name);
    let mut rows = q.query(params![tenant, f.before, f.from.ms(), f.to.ms(), f.group, state, limit as i64])?;
    let mut out = Vec::new();
    while let Some(r) = rows.next()? {
        out.push(row(conn, tenant, r)?);
    }
    Ok(out)
}

/// Every incident that goes on: tenant, model, incident.
pub(crate) fn open_incidents(conn: &Connection) -> Result<Vec<(String, String, Incident)>, EngineError> {
    let mut q = conn.prepare("SELECT tenant, model, body FROM incident WHERE state = ?1 ORDER BY seq")?;
    let mut rows = q.query([state_name(IncidentState::Open)])?;
    let mut out = Vec::new();
    while let Some(r) = rows.next()? {
        let body: String = r.get(2)?;
        out.push((r.get(0)?, r.get(1)?, serde_json::from_str(&body)?));
    }
    Ok(out)
}

/// Writes the end of an incident down, unless it has one; says whether it had none.
pub(crate) fn end_incident(conn: &Connection, tenant: &str, i: &Incident) -> Result<bool, EngineError> {
    let mut q = conn.prepare_cached(
        "UPDATE incident SET resolved_at = ?3, state = ?4, body = ?5 WHERE tenant = ?1 AND id = ?2 AND state <> ?4",
    )?;
    let body = serde_json::to_string(i)?;
    let resolved = i.resolved_at.map(Timestamp::ms);
    Ok(q.execute(params![tenant, i.id, resolved, state_name(i.state), body])? > 0)
}

/// One incident.
pub(crate) fn incident(conn: &Connection, tenant: &str, id: &str) -> Result<Option<IncidentRow>, EngineError> {
    let mut q = conn.prepare_cached("SELECT seq, model, body FROM incident WHERE tenant = ?1 AND id = ?2")?;
    let mut rows = q.query(params![tenant, id])?;
    rows.next()?.map(|r| row(conn, tenant, r)).transpose()
}

fn row(conn: &Connection, tenant: &str, r: &rusqlite::Row<'_>) -> Result<IncidentRow, EngineError> {
    let body: String = r.get(2)?;
    let incident: Incident = serde_json::from_str(&body)?;
    let mut q = conn
        .prepare_cached("SELECT verdict, by, note, at FROM feedback WHERE tenant = ?1 AND incident = ?2 ORDER BY id")?;
    let feedback = q
        .query_map(params![tenant, incident.id], |r| {
            Ok(FeedbackRow { verdict: r.get(0)?, by: r.get(1)?, note: r.get(2)?, at: Timestamp(r.get(3)?) })
        })?
        .collect::<Result<_, _>>()?;
    Ok(IncidentRow { seq: r.get(0)?, model: r.get(1)?, incident, feedback })
}

/// Stretches of incidents of a tenant that touch a range, with their groups; open ones end with the range.
pub(crate) fn incidents_within(
    conn: &Connection,
    tenant: &str,
    range: TimeRange,
) -> Result<Vec<(String, TimeRange)>, EngineError> {
    let mut q = conn.prepare_cached(
        "SELECT grp, opened_at, resolved_at FROM incident
         WHERE tenant = ?1 AND opened_at < ?3 AND (resolved_at IS NULL OR resolved_at >= ?2)",
    )?;
    let rows = q.query_map(params![tenant, range.start.ms(), range.end.ms()], |r| {
        let end: Option<i64> = r.get(2)?;
        Ok((r.get(0)?, TimeRange { start: Timestamp(r.get(1)?), end: end.map_or(range.end, Timestamp) }))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Adds feedback; `false` when there is no such incident.
pub(crate) fn add_feedback(
    conn: &Connection,
    tenant: &str,
    incident: &str,
    f: &FeedbackRow,
) -> Result<bool, EngineError> {
    let known: Option<i64> = conn
        .query_row("SELECT seq FROM incident WHERE tenant = ?1 AND id = ?2", params![tenant, incident], |r| r.get(0))
        .optional()?;
    if known.is_none() {
        return Ok(false);
    }
    conn.execute(
        "INSERT INTO feedback (tenant, incident, verdict, by, note, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![tenant, incident, f.verdict, f.by, f.note, f.at.ms()],
    )?;
    Ok(true)
}
