//! Join tokens: one life, and one key at a time.
//!
//! The first use binds a token to the key of the agent that used it. The same key may repeat the request while
//! the token lives, so that a lost answer leaves no node behind. Another key gets in only if the token was made
//! reusable; then it takes the place of the key before.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Created, EntryRecord, Store, StoreError, TokenRecord, TokenUse, entries};

impl Store {
    /// Stores a new token, and in the same transaction the alias entry that names its agent, if there is one.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`], or as [`Self::create_entry`] for the alias.
    pub async fn create_token(
        &self,
        token: TokenRecord,
        alias: Option<EntryRecord>,
        now: i64,
    ) -> Result<Option<Created>, StoreError> {
        self.write(move |connection| {
            let inserted = connection
                .prepare_cached(
                    "INSERT INTO join_tokens (token, expires_at, reusable) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                )?
                .execute(params![token.token, token.expires_at, token.reusable])?;
            if inserted == 0 {
                return Err(StoreError::AlreadyExists { what: "join token", key: "given token".to_owned() });
            }
            alias.map(|entry| entries::create(connection, entry, now)).transpose()
        })
        .await
    }

    /// Uses a token: binds it to the key at the first use, and lets the same key repeat that while the token lives;
    /// a reusable one is bound to another key anew.
    ///
    /// # Errors
    /// [`StoreError::TokenUnknown`], [`StoreError::TokenExpired`]; [`StoreError::TokenUsed`] with who was first,
    /// when, and from where.
    pub async fn consume_token(&self, token: &str, by: TokenUse) -> Result<Consumed, StoreError> {
        let token = token.to_owned();
        self.write(move |connection| {
            let known = find(connection, &token)?.ok_or(StoreError::TokenUnknown)?;
            let expired = by.at >= known.expires_at;
            let consumed = match known.used {
                Some(before) if before.key_fingerprint == by.key_fingerprint => Consumed::Repeated,
                Some(before) if known.reusable => Consumed::Replaced(before),
                Some(first) => {
                    return Err(StoreError::TokenUsed {
                        used_by: first.key_fingerprint,
                        used_at: first.at,
                        used_from: first.from,
                    });
                }
                None => Consumed::First,
            };
            if expired {
                return Err(StoreError::TokenExpired { expired_at: known.expires_at });
            }
            if consumed != Consumed::Repeated {
                connection
                    .prepare_cached(
                        "UPDATE join_tokens SET used_by = ?, used_from = ?, used_at = ? WHERE token = ?",
                    )?
                    .execute(params![by.key_fingerprint, by.from, by.at, token])?;
            }
            Ok(consumed)
        })
        .await
    }

    /// The token, used or not.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn get_token(&self, token: &str) -> Result<Option<TokenRecord>, StoreError> {
        let token = token.to_owned();
        self.read(move |connection| find(connection, &token)).await
    }

    /// All tokens, in the order of their ends.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn list_tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        self.read(all).await
    }

    /// Deletes the token with that [`TokenRecord::id`] and returns it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or the commit failed.
    pub async fn delete_token(&self, id: &str) -> Result<TokenRecord, StoreError> {
        let id = id.to_owned();
        self.write(move |connection| {
            let found = all(connection)?.into_iter().find(|token| token.id() == id);
            let found = found.ok_or_else(|| StoreError::not_found("join token", &id))?;
            connection.prepare_cached("DELETE FROM join_tokens WHERE token = ?")?.execute([&found.token])?;
            Ok(found)
        })
        .await
    }

    /// Deletes the tokens whose life ended before `expired_before` (Unix seconds) and returns how many.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn prune_tokens(&self, expired_before: i64) -> Result<u64, StoreError> {
        self.write(move |connection| {
            let gone = connection
                .prepare_cached("DELETE FROM join_tokens WHERE expires_at < ?")?
                .execute([expired_before])?;
            Ok(gone as u64)
        })
        .await
    }
}

/// What a use of a token was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consumed {
    /// The first.
    First,
    /// By the key that it is bound to.
    Repeated,
    /// By another key than that of the use before, which a reusable token allows.
    Replaced(TokenUse),
}

const COLUMNS: &str = "token, expires_at, reusable, used_by, used_from, used_at";

pub(super) fn find(connection: &Connection, token: &str) -> Result<Option<TokenRecord>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM join_tokens WHERE token = ?");
    Ok(connection.prepare_cached(&sql)?.query_row([token], record).optional()?)
}

fn all(connection: &Connection) -> Result<Vec<TokenRecord>, StoreError> {
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
