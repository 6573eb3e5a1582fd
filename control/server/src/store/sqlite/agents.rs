//! Attested agents.

use rusqlite::{Connection, params, params_from_iter};
use svidecar_id::SpiffeId;

use super::{conditions, entries, events, evictions, rows, tokens};
use crate::store::{
    error::StoreError,
    filter::{AgentFilter, Page, PageRequest},
    record::{
        AgentRecord, Columns as _, EntryRecord, Eviction, Member, Removed, Signed, TokenRecord, TokenUse,
    },
    snapshot::EventKind,
};

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
    let (names, new) = (rows::names::<AgentRecord>(""), rows::names::<AgentRecord>("excluded."));
    let marks = rows::marks::<AgentRecord>();
    let sql = format!(
        "INSERT INTO agents ({names}) VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET ({names}) = ({new}) RETURNING seq"
    );
    let seq: i64 =
        connection.prepare_cached(&sql)?.query_row(params_from_iter(agent.values()), |row| row.get(0))?;
    connection.prepare_cached("DELETE FROM agent_selectors WHERE agent = ?")?.execute([seq])?;
    let mut insert = connection.prepare_cached(
        "INSERT OR IGNORE INTO agent_selectors (agent, position, type, value) VALUES (?, ?, ?, ?)",
    )?;
    for (position, selector) in (0_i64..).zip(&agent.selectors) {
        insert.execute(params![seq, position, selector.kind, selector.value])?;
    }
    events::append(connection, EventKind::Agent, agent.id.as_str())
}

/// Deletes an agent, and what goes with it.
pub(super) fn delete(connection: &Connection, id: &SpiffeId, why: &Eviction) -> Result<Removed, StoreError> {
    let agent = find(connection, id)?.ok_or_else(|| StoreError::not_found("agent", id))?;
    let entries = end_join(connection, &agent, why, agent.is_banned())?;
    connection.prepare_cached("DELETE FROM agents WHERE id = ?")?.execute([id.as_str()])?;
    events::append(connection, EventKind::Agent, id.as_str())?;
    Ok(Removed { agent, entries })
}

/// Bans an agent, and deletes what goes with it.
pub(super) fn ban(connection: &Connection, id: &SpiffeId, why: &Eviction) -> Result<Removed, StoreError> {
    let agent = change(connection, id, |agent| {
        agent.ban();
        Ok(())
    })?;
    let entries = end_join(connection, &agent, why, true)?;
    Ok(Removed { agent, entries })
}

/// Lets nobody come back who was the agent: neither by a key that was signed for, nor by the join token that it came by,
/// from which everybody may be barred. Once nobody can be this agent again, the entries below it are deleted: they could never
/// apply.
fn end_join(
    connection: &Connection,
    agent: &AgentRecord,
    why: &Eviction,
    everybody: bool,
) -> Result<Vec<EntryRecord>, StoreError> {
    if !agent.joined_by_token() {
        evictions::add(connection, agent, None, None, why)?;
        return Ok(Vec::new());
    }
    let token = tokens::of_agent(connection, &agent.id)?;
    let key = token.as_ref().filter(|_| !everybody).and_then(TokenRecord::key_to_bar);
    let token = token.as_ref().map(|token| token.id.as_str());
    evictions::add(connection, agent, token, key.as_deref(), why)?;
    if key.is_some() {
        return Ok(Vec::new());
    }
    let below = entries::below(connection, &agent.id)?;
    below.iter().map(|entry| entries::delete(connection, &entry.id)).collect()
}

/// Renews an agent that comes back, and stores one that this store was restored without. The token that it came by is
/// its own then, too, and nobody else's.
pub(super) fn bring_back(
    connection: &Connection,
    member: Member,
    signed: Signed,
) -> Result<AgentRecord, StoreError> {
    let known = find(connection, &member.id)?;
    known.as_ref().map_or(Ok(()), AgentRecord::check_not_banned)?;
    if !known.as_ref().is_some_and(|known| known.has_key(&member.key_sha256)) {
        let evicted = evictions::of_member(connection, &member.id, member.issued_at)?;
        if let Some(Eviction { by, at }) = evicted {
            return Err(StoreError::AgentEvicted { id: member.id.to_string(), by, at });
        }
    }
    if known.is_none() {
        let by = TokenUse {
            agent: Some(member.id.clone()),
            key_fingerprint: member.key_sha256.clone(),
            from: member.from.clone(),
            at: signed.issued_at,
        };
        tokens::bind(connection, &member.id, &by)?;
    }
    let mut agent = known.unwrap_or_else(|| AgentRecord::unknown(member.id.clone()));
    agent.come_back(member, signed)?;
    put(connection, &agent)?;
    Ok(agent)
}

/// Reads all agents.
pub(super) fn all(connection: &Connection) -> Result<Vec<AgentRecord>, StoreError> {
    Ok(list(connection, &AgentFilter::default(), &PageRequest::default())?.items)
}

/// Reads one agent.
pub(super) fn find(connection: &Connection, id: &SpiffeId) -> Result<Option<AgentRecord>, StoreError> {
    let sql = format!("SELECT seq, {} FROM agents WHERE id = ?", rows::names::<AgentRecord>(""));
    let found =
        connection.prepare_cached(&sql)?.query_and_then([id.as_str()], rows::record)?.next().transpose()?;
    found.map(|found| complete(connection, found).map(|(_, agent)| agent)).transpose()
}

/// One page of the agents that pass the filter.
pub(super) fn list(
    connection: &Connection,
    filter: &AgentFilter,
    page: &PageRequest,
) -> Result<Page<AgentRecord>, StoreError> {
    rows::page(connection, "agents", conditions::agents(filter), page, complete)
}

/// How many agents pass the filter.
pub(super) fn count(connection: &Connection, filter: &AgentFilter) -> Result<u64, StoreError> {
    rows::count(connection, "agents", conditions::agents(filter))
}

/// Adds the selectors.
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
