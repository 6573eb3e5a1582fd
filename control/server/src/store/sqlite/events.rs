//! The event log: written in the transaction that makes the change, read in the order of the commits.

use rusqlite::{Connection, params};

use crate::store::{
    error::StoreError,
    snapshot::{Event, EventKind},
};

/// At most `limit` events after `position`.
pub(super) fn after(connection: &Connection, position: u64, limit: u32) -> Result<Vec<Event>, StoreError> {
    let oldest = oldest_position(connection)?;
    if position.saturating_add(1) < oldest {
        return Err(StoreError::EventsPruned { asked: position, oldest });
    }
    connection
        .prepare_cached(
            "SELECT position, kind, key FROM events WHERE position > ? ORDER BY position LIMIT ?",
        )?
        .query_map(params![to_column(position), limit], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get(2)?))
        })?
        .map(|row| {
            let (position, kind, key) = row?;
            Ok(Event { position: position.unsigned_abs(), kind: parse_kind(kind)?, key })
        })
        .collect()
}

/// Forgets all but the last `keep` events.
pub(super) fn prune(connection: &Connection, keep: u64) -> Result<u64, StoreError> {
    let last_to_go = latest_position(connection)?.saturating_sub(keep);
    let gone = connection
        .prepare_cached("DELETE FROM events WHERE position <= ?")?
        .execute([to_column(last_to_go)])?;
    Ok(gone as u64)
}

/// Writes an event into the transaction that makes the change.
pub(super) fn append(connection: &Connection, kind: EventKind, key: &str) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT INTO events (kind, key) VALUES (?, ?)")?
        .execute(params![kind as i64, key])?;
    Ok(())
}

/// The last position given, also when its event was pruned; 0 before the first.
pub(super) fn latest_position(connection: &Connection) -> Result<u64, StoreError> {
    let position: i64 = connection
        .prepare_cached("SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0)")?
        .query_row([], |row| row.get(0))?;
    Ok(position.unsigned_abs())
}

/// The first position still in the log, or the next to be given when it is empty.
fn oldest_position(connection: &Connection) -> Result<u64, StoreError> {
    let oldest: Option<i64> =
        connection.prepare_cached("SELECT min(position) FROM events")?.query_row([], |row| row.get(0))?;
    match oldest {
        Some(position) => Ok(position.unsigned_abs()),
        None => Ok(latest_position(connection)? + 1),
    }
}

/// SQLite's integers are signed; a position beyond them is after everything.
fn to_column(position: u64) -> i64 {
    i64::try_from(position).unwrap_or(i64::MAX)
}

fn parse_kind(kind: i64) -> Result<EventKind, StoreError> {
    [EventKind::Entry, EventKind::Agent, EventKind::Bundle]
        .into_iter()
        .find(|known| *known as i64 == kind)
        .ok_or_else(|| StoreError::corrupt("event kind", kind))
}
