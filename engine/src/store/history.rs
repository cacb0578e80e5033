use crate::EngineError;
use crate::config::labels_json;
use foreglow_core::{Labels, MetricKey, Step, TimeRange, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::BTreeMap;

/// One value to keep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct HistoryPoint {
    /// Which of the keys beside it.
    pub(crate) series: usize,
    pub(crate) timestamp: Timestamp,
    pub(crate) value: f64,
}

/// One series as kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HistoryRow {
    pub(crate) labels: Labels,
    /// Ascending.
    pub(crate) values: BTreeMap<Timestamp, f64>,
}

/// Adds values, over older ones of the same series and instant.
pub(crate) fn append_history(
    conn: &Connection,
    tenant: &str,
    keys: &[MetricKey],
    points: &[HistoryPoint],
) -> Result<(), EngineError> {
    let mut find =
        conn.prepare_cached("SELECT id FROM history_series WHERE tenant = ?1 AND name = ?2 AND labels = ?3")?;
    let mut make = conn.prepare_cached("INSERT INTO history_series (tenant, name, labels) VALUES (?1, ?2, ?3)")?;
    let mut put = conn.prepare_cached("INSERT OR REPLACE INTO history VALUES (?1, ?2, ?3)")?;
    let mut ids: Vec<Option<i64>> = vec![None; keys.len()];
    for p in points {
        let id = if let Some(id) = ids[p.series] {
            id
        } else {
            let key = &keys[p.series];
            let labels = labels_json(&key.labels);
            match find.query_row(params![tenant, &*key.name, labels], |r| r.get(0)).optional()? {
                Some(id) => id,
                None => make.insert(params![tenant, &*key.name, labels])?,
            }
        };
        ids[p.series] = Some(id);
        put.execute(params![id, p.timestamp.ms(), p.value])?;
    }
    Ok(())
}

/// The series of a metric whose labels hold all of `entity`, within a range.
pub(crate) fn history(
    conn: &Connection,
    tenant: &str,
    name: &str,
    entity: &Labels,
    range: TimeRange,
) -> Result<Vec<HistoryRow>, EngineError> {
    history_where(conn, tenant, name, &|labels| entity.iter().all(|(n, v)| labels.get(n) == Some(v)), range)
}

/// The series of a metric whose labels `wanted` says, within a range.
pub(crate) fn history_where(
    conn: &Connection,
    tenant: &str,
    name: &str,
    wanted: &dyn Fn(&Labels) -> bool,
    range: TimeRange,
) -> Result<Vec<HistoryRow>, EngineError> {
    let mut q =
        conn.prepare_cached("SELECT id, labels FROM history_series WHERE tenant = ?1 AND name = ?2 ORDER BY labels")?;
    let mut values =
        conn.prepare_cached("SELECT ts, value FROM history WHERE series = ?1 AND ts >= ?2 AND ts < ?3 ORDER BY ts")?;
    let mut rows = q.query(params![tenant, name])?;
    let mut out = Vec::new();
    while let Some(r) = rows.next()? {
        let text: String = r.get(1)?;
        let labels: Labels = serde_json::from_str(&text)?;
        if !wanted(&labels) {
            continue;
        }
        let id: i64 = r.get(0)?;
        let values = values
            .query_map(params![id, range.start.ms(), range.end.ms()], |r| Ok((Timestamp(r.get(0)?), r.get(1)?)))?
            .collect::<Result<_, _>>()?;
        out.push(HistoryRow { labels, values });
    }
    Ok(out)
}

/// Drops values older than `kept`, counted from the newest of their series: a replay of old data is kept as well.
pub(crate) fn forget_old_history(conn: &Connection, kept: Step) -> Result<usize, EngineError> {
    let mut ids = conn.prepare("SELECT id FROM history_series")?;
    let ids: Vec<i64> = ids.query_map([], |r| r.get(0))?.collect::<Result<_, _>>()?;
    let mut drop = conn.prepare_cached(
        "DELETE FROM history WHERE series = ?1 AND ts < (SELECT max(ts) FROM history WHERE series = ?1) - ?2",
    )?;
    let mut dropped = 0;
    for id in ids {
        dropped += drop.execute(params![id, kept.ms()])?;
    }
    Ok(dropped)
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::*;

    #[test]
    fn series_of_an_entity() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let key = |agent: &str| MetricKey::new("latency", Labels::new([("swarm", "s"), ("agent", agent)]));
        let keys = vec![key("1"), key("2"), MetricKey::new("latency", Labels::new([("swarm", "other")]))];
        let point = |series, ms| HistoryPoint { series, timestamp: Timestamp(ms), value: ms as f64 };
        let points = vec![point(0, 2), point(0, 1), point(1, 1), point(2, 1), point(0, 9)];
        store.wait(move |c| append_history(c, "t", &keys, &points)).unwrap();
        let entity = Labels::new([("swarm", "s")]);
        let range = TimeRange { start: Timestamp(0), end: Timestamp(5) };
        let found = store.wait(move |c| history(c, "t", "latency", &entity, range)).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].values.keys().map(|t| t.ms()).collect::<Vec<_>>(), [1, 2]);
    }
}
