//! Join tokens: one life, one key.
//!
//! The first use binds a token to the key of the agent that used it. The same key may repeat the request while
//! the token lives, so that a lost answer leaves no node behind; another key never gets in.

use rusqlite::{Connection, OptionalExtension, params};

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
                    "INSERT INTO join_tokens (token, expires_at) VALUES (?, ?) ON CONFLICT DO NOTHING",
                )?
                .execute(params![token.token, token.expires_at])?;
            if inserted == 0 {
                return Err(StoreError::AlreadyExists { what: "join token", key: "given token".to_owned() });
            }
            alias.map(|entry| entries::create(connection, entry, now)).transpose()
        })
        .await
    }

    /// Uses a token: binds it to the key at the first use, and lets the same key repeat that while the token lives.
    /// Whether it was the first use is what comes back.
    ///
    /// # Errors
    /// [`StoreError::TokenUnknown`], [`StoreError::TokenExpired`]; [`StoreError::TokenUsed`] with who was first,
    /// when, and from where.
    pub async fn consume_token(&self, token: &str, by: TokenUse) -> Result<bool, StoreError> {
        let token = token.to_owned();
        self.write(move |connection| {
            let known = find(connection, &token)?.ok_or(StoreError::TokenUnknown)?;
            let expired = by.at >= known.expires_at;
            match known.used {
                Some(first) if first.key_fingerprint != by.key_fingerprint => Err(StoreError::TokenUsed {
                    used_by: first.key_fingerprint,
                    used_at: first.at,
                    used_from: first.from,
                }),
                _ if expired => Err(StoreError::TokenExpired { expired_at: known.expires_at }),
                Some(_) => Ok(false),
                None => {
                    connection
                        .prepare_cached(
                            "UPDATE join_tokens SET used_by = ?, used_from = ?, used_at = ? WHERE token = ?",
                        )?
                        .execute(params![by.key_fingerprint, by.from, by.at, token])?;
                    Ok(true)
                }
            }
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

fn find(connection: &Connection, token: &str) -> Result<Option<TokenRecord>, StoreError> {
    let found = connection
        .prepare_cached("SELECT expires_at, used_by, used_from, used_at FROM join_tokens WHERE token = ?")?
        .query_row([token], |row| {
            let used: (Option<String>, Option<String>, Option<i64>) = (row.get(1)?, row.get(2)?, row.get(3)?);
            Ok(TokenRecord {
                token: token.to_owned(),
                expires_at: row.get(0)?,
                used: match used {
                    (Some(key_fingerprint), Some(from), Some(at)) => {
                        Some(TokenUse { key_fingerprint, from, at })
                    }
                    _ => None,
                },
            })
        })
        .optional()?;
    Ok(found)
}
