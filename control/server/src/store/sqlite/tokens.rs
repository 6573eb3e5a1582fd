//! Join tokens, by their hashes.

use rusqlite::{Connection, OptionalExtension, Row, params};
use svidecar_id::SpiffeId;

use super::evictions;
use crate::{
    ids,
    store::{
        error::StoreError,
        record::{Consumed, TokenRecord, TokenUse},
    },
};

const COLUMNS: &str = "id, expires_at, reusable, agent_id, used_by, used_from, used_at";

/// Stores a token that must be new.
pub(super) fn create(connection: &Connection, token: &TokenRecord) -> Result<(), StoreError> {
    let inserted = connection
        .prepare_cached(
            "INSERT INTO join_tokens (id, expires_at, reusable) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        )?
        .execute(params![token.id, token.expires_at, token.reusable])?;
    if inserted == 0 {
        return Err(StoreError::AlreadyExists { what: "join token", key: "given token".to_owned() });
    }
    Ok(())
}

/// Uses a token, and remembers who has it now.
pub(super) fn consume(connection: &Connection, id: &str, by: TokenUse) -> Result<Consumed, StoreError> {
    let mut known = find(connection, id)?.ok_or(StoreError::TokenUnknown)?;
    let consumed = known.consume(by)?;
    if let Some(used) = &known.used {
        set_used(connection, id, used)?;
    }
    Ok(consumed)
}

/// Binds the token that the agent is named after, if nobody has used it: the store was restored from before that.
pub(super) fn bind(connection: &Connection, agent: &SpiffeId, by: &TokenUse) -> Result<(), StoreError> {
    match of_agent(connection, agent)? {
        Some(token) if token.used.is_none() => set_used(connection, &token.id, by),
        _ => Ok(()),
    }
}

fn set_used(connection: &Connection, id: &str, used: &TokenUse) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE join_tokens SET agent_id = ?, used_by = ?, used_from = ?, used_at = ? WHERE id = ?",
        )?
        .execute(params![
            used.agent.as_ref().map(SpiffeId::as_str),
            used.key_fingerprint,
            used.from,
            used.at,
            id
        ])?;
    Ok(())
}

/// Deletes the token that `id` names.
pub(super) fn delete(connection: &Connection, id: &str) -> Result<TokenRecord, StoreError> {
    let found = find(connection, id)?.ok_or_else(|| StoreError::not_found("join token", id))?;
    connection.prepare_cached("DELETE FROM join_tokens WHERE id = ?")?.execute([id])?;
    Ok(found)
}

/// Deletes the tokens whose life ended before that moment.
pub(super) fn prune(connection: &Connection, expired_before: i64) -> Result<u64, StoreError> {
    let gone = connection
        .prepare_cached("DELETE FROM join_tokens WHERE expires_at < ?")?
        .execute([expired_before])?;
    Ok(gone as u64)
}

/// The token, used or not.
pub(super) fn find(connection: &Connection, id: &str) -> Result<Option<TokenRecord>, StoreError> {
    one(connection, "id", id)
}

/// The token that the agent joined by. The agent is named after it, so that it is found also where its use is not known.
pub(super) fn of_agent(connection: &Connection, agent: &SpiffeId) -> Result<Option<TokenRecord>, StoreError> {
    if let Some(token) = one(connection, "agent_id", agent.as_str())? {
        return Ok(Some(token));
    }
    let name = agent.path().rsplit('/').next().unwrap_or_default();
    for (id, reusable) in [(name.to_owned(), true), (ids::token_digest(name), false)] {
        let has_no_agent = |token: &TokenRecord| token.used.as_ref().is_none_or(|used| used.agent.is_none());
        let found = find(connection, &id)?.filter(|token| token.reusable == reusable && has_no_agent(token));
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn one(connection: &Connection, column: &str, value: &str) -> Result<Option<TokenRecord>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM join_tokens WHERE {column} = ?");
    let found = connection.prepare_cached(&sql)?.query_row([value], record).optional()?;
    found.map(|found| complete(connection, found)).transpose()
}

/// All tokens, in the order of their ends.
pub(super) fn all(connection: &Connection) -> Result<Vec<TokenRecord>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM join_tokens ORDER BY expires_at, id");
    let found: Vec<_> = connection.prepare_cached(&sql)?.query_map([], record)?.collect::<Result<_, _>>()?;
    found.into_iter().map(|found| complete(connection, found)).collect()
}

/// A token and the name of its agent, as they are in the row.
fn record(row: &Row<'_>) -> rusqlite::Result<(TokenRecord, Option<String>)> {
    let used: (Option<String>, Option<String>, Option<i64>) = (row.get(4)?, row.get(5)?, row.get(6)?);
    let token = TokenRecord {
        used: match used {
            (Some(key_fingerprint), Some(from), Some(at)) => {
                Some(TokenUse { agent: None, key_fingerprint, from, at })
            }
            _ => None,
        },
        ..TokenRecord::new(row.get(0)?, row.get(1)?, row.get(2)?)
    };
    Ok((token, row.get(3)?))
}

/// Adds the agent, and who is barred.
fn complete(
    connection: &Connection,
    (mut token, agent): (TokenRecord, Option<String>),
) -> Result<TokenRecord, StoreError> {
    if let (Some(used), Some(agent)) = (&mut token.used, agent) {
        let agent = SpiffeId::parse(&agent).map_err(|error| StoreError::corrupt("agent_id", error))?;
        used.agent = Some(agent);
    }
    token.barred = evictions::from_token(connection, &token.id)?;
    Ok(token)
}
