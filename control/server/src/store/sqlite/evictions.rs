//! Who may not come back: the agents that were evicted or banned, by whom, and when.
//!
//! Owns the one table that says so for each way back: by the join token, where it bars everybody or one key, and by a
//! certificate of the bootstrap key, where it bars all that were signed until then. It is forgotten when neither is left.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use svidecar_id::SpiffeId;

use crate::store::{
    error::StoreError,
    record::{AgentRecord, Barred, Eviction},
};

/// Remembers it, and bars from the token of that ID a key, or everybody when there is none.
pub(super) fn add(
    connection: &Connection,
    agent: &AgentRecord,
    token: Option<&str>,
    key: Option<&str>,
    why: &Eviction,
) -> Result<(), StoreError> {
    // A certificate may be of a time when the clock was ahead.
    let signed_until = agent.issued_at.max(why.at);
    connection
        .prepare_cached(
            "INSERT INTO evictions (agent_id, token, key, evicted_by, evicted_at, signed_until, member_until) \
             VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (token, key) DO UPDATE SET \
             signed_until = max(signed_until, excluded.signed_until), member_until = max(member_until, excluded.member_until)",
        )?
        .execute(params![
            agent.id.as_str(),
            token,
            key.unwrap_or_default(),
            why.by,
            why.at,
            signed_until,
            agent.member_until
        ])?;
    Ok(())
}

/// Who is barred from the token, in the order of their keys.
pub(super) fn from_token(connection: &Connection, token: &str) -> Result<Vec<Barred>, StoreError> {
    let barred = connection
        .prepare_cached("SELECT evicted_by, evicted_at, key FROM evictions WHERE token = ? ORDER BY key")?
        .query_map([token], |row| {
            let key: String = row.get(2)?;
            Ok(Barred { key: (!key.is_empty()).then_some(key), eviction: eviction(row)? })
        })?
        .collect::<Result<_, _>>()?;
    Ok(barred)
}

/// The latest that keeps out whoever has a certificate of the agent that was signed at that time.
pub(super) fn of_member(
    connection: &Connection,
    agent: &SpiffeId,
    signed_at: i64,
) -> Result<Option<Eviction>, StoreError> {
    let found = connection
        .prepare_cached(
            "SELECT evicted_by, evicted_at FROM evictions WHERE agent_id = ? AND signed_until >= ? \
             ORDER BY evicted_at DESC LIMIT 1",
        )?
        .query_row(params![agent.as_str(), signed_at], eviction)
        .optional()?;
    Ok(found)
}

/// Forgets those whose token is gone and whose last certificate ended before then.
pub(super) fn prune(connection: &Connection, ended_before: i64) -> Result<u64, StoreError> {
    let gone = connection
        .prepare_cached("DELETE FROM evictions WHERE token IS NULL AND member_until < ?")?
        .execute([ended_before])?;
    Ok(gone as u64)
}

fn eviction(row: &Row<'_>) -> rusqlite::Result<Eviction> {
    Ok(Eviction { by: row.get(0)?, at: row.get(1)? })
}
