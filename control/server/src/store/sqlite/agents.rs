//! Attested agents.

use rusqlite::{Connection, OptionalExtension, Row, params};
use svidecar_id::SpiffeId;

use super::{conditions, entries, events, rows};
use crate::store::{
    error::StoreError,
    filter::{AgentFilter, Page, PageRequest},
    record::AgentRecord,
    snapshot::EventKind,
};

const COLUMNS: &str =
    "seq, id, attestation_type, serial, expires_at, new_serial, new_expires_at, can_reattest, agent_version";

/// That the agent, if it is known, may attest.
pub(super) fn check(connection: &Connection, id: &SpiffeId) -> Result<(), StoreError> {
    find(connection, id)?.map_or(Ok(()), |known| known.check_not_banned())
}

/// Reads, changes and writes one agent; an unchanged one writes nothing.
pub(super) fn change(
    connection: &Connection,
    id: &SpiffeId,
    change: impl FnOnce(&mut AgentRecord) -> Result<(), StoreError>,
) -> Result<AgentRecord, StoreError> {
    let before = find(connection, id)?.ok_or_else(|| StoreError::not_found("agent", id))?;
    let mut agent = before.clone();
    change(&mut agent)?;
    if agent != before {
        put(connection, &agent)?;
    }
    Ok(agent)
}

/// Writes an agent, new or in place of what it was.
pub(super) fn put(connection: &Connection, agent: &AgentRecord) -> Result<(), StoreError> {
    let seq: i64 = connection
        .prepare_cached(
            "INSERT INTO agents (id, attestation_type, serial, expires_at, new_serial, new_expires_at, can_reattest, \
             agent_version) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET \
             attestation_type = excluded.attestation_type, serial = excluded.serial, expires_at = excluded.expires_at, \
             new_serial = excluded.new_serial, new_expires_at = excluded.new_expires_at, \
             can_reattest = excluded.can_reattest, agent_version = excluded.agent_version RETURNING seq",
        )?
        .query_row(
            params![
                agent.id.as_str(),
                agent.attestation_type,
                agent.serial,
                agent.expires_at,
                agent.new_serial,
                agent.new_expires_at,
                agent.can_reattest,
                agent.agent_version,
            ],
            |row| row.get(0),
        )?;
    connection.prepare_cached("DELETE FROM agent_selectors WHERE agent = ?")?.execute([seq])?;
    let mut insert = connection.prepare_cached(
        "INSERT OR IGNORE INTO agent_selectors (agent, position, type, value) VALUES (?, ?, ?, ?)",
    )?;
    for (position, selector) in (0_i64..).zip(&agent.selectors) {
        insert.execute(params![seq, position, selector.kind, selector.value])?;
    }
    events::append(connection, EventKind::Agent, agent.id.as_str())
}

/// Deletes an agent, and with it the alias entry that its join token made.
pub(super) fn delete(connection: &Connection, id: &SpiffeId) -> Result<AgentRecord, StoreError> {
    let agent = find(connection, id)?.ok_or_else(|| StoreError::not_found("agent", id))?;
    if agent.joined_by_token() {
        for entry in entries::below(connection, id)?.iter().filter(|entry| entry.is_token_alias()) {
            entries::delete(connection, &entry.id)?;
        }
    }
    connection.prepare_cached("DELETE FROM agents WHERE id = ?")?.execute([id.as_str()])?;
    events::append(connection, EventKind::Agent, id.as_str())?;
    Ok(agent)
}

/// Reads all agents.
pub(super) fn all(connection: &Connection) -> Result<Vec<AgentRecord>, StoreError> {
    Ok(list(connection, &AgentFilter::default(), &PageRequest::default())?.items)
}

/// Reads one agent.
pub(super) fn find(connection: &Connection, id: &SpiffeId) -> Result<Option<AgentRecord>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM agents WHERE id = ?");
    let found = connection.prepare_cached(&sql)?.query_row([id.as_str()], header).optional()?;
    found.map(|found| complete(connection, found).map(|(_, agent)| agent)).transpose()
}

/// One page of the agents that pass the filter.
pub(super) fn list(
    connection: &Connection,
    filter: &AgentFilter,
    page: &PageRequest,
) -> Result<Page<AgentRecord>, StoreError> {
    let (condition, mut values) = conditions::agents(filter);
    let sql =
        format!("SELECT {COLUMNS} FROM agents a WHERE {condition} AND a.seq > ? ORDER BY a.seq LIMIT ?");
    values.extend(conditions::bounds(page)?);
    let rows = connection
        .prepare_cached(&sql)?
        .query_map(rusqlite::params_from_iter(values), header)?
        .collect::<Result<Vec<_>, _>>()?;
    let agents = rows.into_iter().map(|row| complete(connection, row)).collect::<Result<Vec<_>, _>>()?;
    Ok(page.cut(agents))
}

/// How many agents pass the filter.
pub(super) fn count(connection: &Connection, filter: &AgentFilter) -> Result<u64, StoreError> {
    let (condition, values) = conditions::agents(filter);
    rows::count(connection, &format!("SELECT count(*) FROM agents a WHERE {condition}"), values)
}

/// One row of `agents`: its `seq`, and the agent without its selectors.
fn header(row: &Row<'_>) -> rusqlite::Result<(i64, AgentRecord)> {
    let agent = AgentRecord {
        id: rows::spiffe_id(row, 1)?,
        attestation_type: row.get(2)?,
        serial: row.get(3)?,
        expires_at: row.get(4)?,
        new_serial: row.get(5)?,
        new_expires_at: row.get(6)?,
        can_reattest: row.get(7)?,
        agent_version: row.get(8)?,
        selectors: Vec::new(),
    };
    Ok((row.get(0)?, agent))
}

fn complete(
    connection: &Connection,
    (seq, mut agent): (i64, AgentRecord),
) -> Result<(i64, AgentRecord), StoreError> {
    agent.selectors = connection
        .prepare_cached("SELECT type, value FROM agent_selectors WHERE agent = ? ORDER BY position")?
        .query_map([seq], rows::selector)?
        .collect::<Result<_, _>>()?;
    Ok((seq, agent))
}
