use crate::EngineError;
use foreglow_core::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::value::RawValue;

/// What is kept of every closed step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ResultRow {
    pub(crate) group: String,
    pub(crate) timestamp: Timestamp,
    pub(crate) status: &'static str,
    pub(crate) score: f64,
    pub(crate) p_value: f64,
}

/// What is kept of a step at or above the alert line.
#[derive(Debug)]
pub(crate) struct AnomalyRow {
    pub(crate) id: i64,
    pub(crate) group: String,
    pub(crate) timestamp: Timestamp,
    pub(crate) score: f64,
    /// The step as `/v1/score` answered it.
    pub(crate) body: Box<RawValue>,
}

fn number(v: f64) -> Option<f64> {
    v.is_finite().then_some(v)
}

/// Writes steps over older ones of the same instant.
pub(crate) fn add_results(
    conn: &Connection,
    tenant: &str,
    rows: &[ResultRow],
    now: Timestamp,
) -> Result<(), EngineError> {
    let mut find = conn.prepare_cached("SELECT id FROM grp WHERE tenant = ?1 AND name = ?2")?;
    let mut make = conn.prepare_cached("INSERT INTO grp (tenant, name) VALUES (?1, ?2)")?;
    let mut put = conn.prepare_cached("INSERT OR REPLACE INTO result VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    let mut last: Option<(&str, i64)> = None;
    for r in rows {
        let id = match last {
            Some((name, id)) if name == r.group => id,
            _ => match find.query_row(params![tenant, r.group], |q| q.get(0)).optional()? {
                Some(id) => id,
                None => make.insert(params![tenant, r.group])?,
            },
        };
        last = Some((&r.group, id));
        put.execute(params![id, r.timestamp.ms(), r.status, number(r.score), number(r.p_value), now.ms()])?;
    }
    Ok(())
}

/// The newest steps of a group, newest first.
pub(crate) fn recent_results(
    conn: &Connection,
    tenant: &str,
    group: &str,
    limit: usize,
) -> Result<Vec<(Timestamp, String, Option<f64>)>, EngineError> {
    let mut q = conn.prepare_cached(
        "SELECT ts, status, score FROM result WHERE grp = (SELECT id FROM grp WHERE tenant = ?1 AND name = ?2)
         ORDER BY ts DESC LIMIT ?3",
    )?;
    let rows =
        q.query_map(params![tenant, group, limit as i64], |r| Ok((Timestamp(r.get(0)?), r.get(1)?, r.get(2)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Adds anomalous steps: group, instant, score, body.
pub(crate) fn add_anomalies(
    conn: &Connection,
    tenant: &str,
    rows: &[(String, Timestamp, f64, String)],
    now: Timestamp,
) -> Result<(), EngineError> {
    let mut q = conn.prepare_cached(
        "INSERT INTO anomaly (tenant, grp, ts, score, body, recorded_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for (group, ts, score, body) in rows {
        q.execute(params![tenant, group, ts.ms(), score, body, now.ms()])?;
    }
    Ok(())
}

/// What to show of anomalies.
#[derive(Debug, Clone)]
pub(crate) struct AnomalyFilter {
    pub(crate) group: Option<String>,
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
    pub(crate) min_score: f64,
    /// Only rows older than this one.
    pub(crate) before: i64,
}

/// Anomalous steps, newest first.
pub(crate) fn anomalies(
    conn: &Connection,
    tenant: &str,
    f: &AnomalyFilter,
    limit: usize,
) -> Result<Vec<AnomalyRow>, EngineError> {
    let mut q = conn.prepare_cached(
        "SELECT id, grp, ts, score, body FROM anomaly
         WHERE tenant = ?1 AND id < ?2 AND ts >= ?3 AND ts < ?4 AND score >= ?5 AND (?6 IS NULL OR grp = ?6)
         ORDER BY id DESC LIMIT ?7",
    )?;
    let mut rows = q.query(params![tenant, f.before, f.from.ms(), f.to.ms(), f.min_score, f.group, limit as i64])?;
    let mut out = Vec::new();
    while let Some(r) = rows.next()? {
        out.push(AnomalyRow {
            id: r.get(0)?,
            group: r.get(1)?,
            timestamp: Timestamp(r.get(2)?),
            score: r.get(3)?,
            body: RawValue::from_string(r.get(4)?)?,
        });
    }
    Ok(out)
}

/// Drops what was recorded before `before`.
pub(crate) fn forget_old_results(conn: &Connection, before: Timestamp) -> Result<usize, EngineError> {
    let n = conn.execute("DELETE FROM anomaly WHERE recorded_at < ?1", [before.ms()])?;
    Ok(n + conn.execute("DELETE FROM result WHERE recorded_at < ?1", [before.ms()])?)
}
