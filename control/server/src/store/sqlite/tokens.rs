//! Join tokens.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::store::{
    error::StoreError,
    record::{Consumed, TokenRecord, TokenUse},
};

const COLUMNS: &str = "token, expires_at, reusable, used_by, used_from, used_at";

/// Stores a token that must be new.
pub(super) fn create(connection: &Connection, token: &TokenRecord) -> Result<(), StoreError> {
    let inserted = connection
        .prepare_cached(
            "INSERT INTO join_tokens (token, expires_at, reusable) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        )?
        .execute(params![token.token, token.expires_at, token.reusable])?;
    if inserted == 0 {
        return Err(StoreError::AlreadyExists { what: "join token", key: "given token".to_owned() });
    }
    Ok(())
}

/// Uses a token, and remembers who has it now.
pub(super) fn consume(connection: &Connection, token: &str, by: TokenUse) -> Result<Consumed, StoreError> {
    let mut known = find(connection, token)?.ok_or(StoreError::TokenUnknown)?;
    let consumed = known.consume(by)?;
    if let Some(used) = known.used.filter(|_| consumed != Consumed::Repeated) {
        connection
            .prepare_cached("UPDATE join_tokens SET used_by = ?, used_from = ?, used_at = ? WHERE token = ?")?
            .execute(params![used.key_fingerprint, used.from, used.at, token])?;
    }
    Ok(consumed)
}

/// Deletes the token that `id` names.
pub(super) fn delete(connection: &Connection, id: &str) -> Result<TokenRecord, StoreError> {
    let found = all(connection)?.into_iter().find(|token| token.id() == id);
    let found = found.ok_or_else(|| StoreError::not_found("join token", id))?;
    connection.prepare_cached("DELETE FROM join_tokens WHERE token = ?")?.execute([&found.token])?;
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
pub(super) fn find(connection: &Connection, token: &str) -> Result<Option<TokenRecord>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM join_tokens WHERE token = ?");
    Ok(connection.prepare_cached(&sql)?.query_row([token], record).optional()?)
}

/// All tokens, in the order of their ends.
pub(super) fn all(connection: &Connection) -> Result<Vec<TokenRecord>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM join_tokens ORDER BY expires_at, token");
    Ok(connection.prepare_cached(&sql)?.query_map([], record)?.collect::<Result<_, _>>()?)
}

fn record(row: &Row<'_>) -> rusqlite::Result<TokenRecord> {
    let used: (Option<String>, Option<String>, Option<i64>) = (row.get(3)?, row.get(4)?, row.get(5)?);
    Ok(TokenRecord {
        token: row.get(0)?,
        expires_at: row.get(1)?,
        reusable: row.get(2)?,
        used: match used {
            (Some(key_fingerprint), Some(from), Some(at)) => Some(TokenUse { key_fingerprint, from, at }),
            _ => None,
        },
    })
}
