//! The event log: which objects changed, in the order of the commits, and a snapshot to begin from.

use rusqlite::{Connection, params};

use super::{AgentRecord, BundleRecord, EntryRecord, Store, StoreError, agents, bundles, entries};

/// What kind of object changed. The number is what the table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A registration entry; the key is its ID.
    Entry = 1,
    /// An attested agent; the key is its SPIFFE ID.
    Agent = 2,
    /// A bundle; the key is its trust domain.
    Bundle = 3,
}

/// One object was created, changed or deleted; read it to know which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place in the log.
    pub position: u64,
    /// The kind of object.
    pub kind: EventKind,
    /// Which one.
    pub key: String,
}

/// All that is served from memory, at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The last event that is in it.
    pub position: u64,
    /// Every entry.
    pub entries: Vec<EntryRecord>,
    /// Every agent.
    pub agents: Vec<AgentRecord>,
    /// Every bundle.
    pub bundles: Vec<BundleRecord>,
}

impl Store {
    /// At most `limit` events after `position`, oldest first.
    ///
    /// # Errors
    /// [`StoreError::EventsPruned`] when some of them are gone; then [`Self::snapshot`] is the way.
    pub async fn events_after(&self, position: u64, limit: u32) -> Result<Vec<Event>, StoreError> {
        self.read(move |connection| {
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
        })
        .await
    }

    /// All entries, agents and bundles, and the position in the log at which they were so.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.read(|connection| {
            Ok(Snapshot {
                position: latest_position(connection)?,
                entries: entries::all(connection)?,
                agents: agents::all(connection)?,
                bundles: bundles::all(connection)?,
            })
        })
        .await
    }

    /// Forgets all but the last `keep` events and returns how many went.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn prune_events(&self, keep: u64) -> Result<u64, StoreError> {
        self.write(move |connection| {
            let last_to_go = latest_position(connection)?.saturating_sub(keep);
            let gone = connection
                .prepare_cached("DELETE FROM events WHERE position <= ?")?
                .execute([to_column(last_to_go)])?;
            Ok(gone as u64)
        })
        .await
    }
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
