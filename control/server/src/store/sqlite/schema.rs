//! The tables, as numbered migrations. A migration, once released, is never edited: the next one amends it.

use rusqlite::{Connection, params};

use crate::{ids, store::error::StoreError};

/// Each brings the schema from its index to its index plus one, which SQLite's `user_version` remembers.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/001_initial.sql"),
    include_str!("schema/002_reusable_tokens.sql"),
    include_str!("schema/003_tokens_by_hash.sql"),
    include_str!("schema/004_agents_that_come_back.sql"),
    include_str!("schema/005_clock.sql"),
];

/// The version at which tokens are kept by their hashes.
const TOKENS_BY_HASH: u32 = 3;

/// Brings the schema up to date, in one transaction.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let found = check(connection)?;
    let known = known();
    // What is deleted on the way is overwritten: a secret does not stay in a free page.
    connection.pragma_update(None, "secure_delete", true)?;
    let transaction = connection.transaction()?;
    for (version, migration) in (1..).zip(MIGRATIONS).skip(found as usize) {
        transaction.execute_batch(migration)?;
        if version == TOKENS_BY_HASH {
            hash_tokens(&transaction)?;
        }
    }
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()?;
    connection.pragma_update(None, "secure_delete", false)?;
    Ok(())
}

/// Brings the tokens over that a version before kept by their secrets.
fn hash_tokens(connection: &Connection) -> Result<(), StoreError> {
    let mut before = connection
        .prepare("SELECT token, expires_at, reusable, used_by, used_from, used_at FROM join_tokens_before")?;
    let mut rows = before.query([])?;
    while let Some(row) = rows.next()? {
        let (token, reusable): (String, bool) = (row.get(0)?, row.get(2)?);
        let id = ids::token_digest(&token);
        // An agent is named after its token, or after the hash of one that is reusable.
        let name = format!("/{}", if reusable { &id } else { &token });
        connection
            .prepare_cached(
                "INSERT INTO join_tokens VALUES (?1, ?2, ?3, (SELECT id FROM agents WHERE attestation_type = 'join_token' \
                 AND substr(id, -length(?4)) = ?4), ?5, ?6, ?7)",
            )?
            .execute(params![
                id,
                row.get::<_, i64>(1)?,
                reusable,
                name,
                row.get::<_, Option<String>>(3)?,
                row.get::<_, Option<String>>(4)?,
                row.get::<_, Option<i64>>(5)?
            ])?;
    }
    drop(rows);
    drop(before);
    connection.execute_batch("DROP TABLE join_tokens_before")?;
    Ok(())
}

/// That the schema is one that this version knows; its number.
pub(super) fn check(connection: &Connection) -> Result<u32, StoreError> {
    let found: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let known = known();
    if found > known {
        return Err(StoreError::NewerSchema { found, known });
    }
    Ok(found)
}

fn known() -> u32 {
    u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use svidecar_id::SpiffeId;

    use super::{
        super::{evictions, tokens},
        *,
    };
    use crate::store::{Barred, Eviction, TokenRecord, TokenUse};

    /// Who was thrown out stays out.
    #[test]
    fn those_who_were_barred_from_a_token_are_barred_still() {
        let mut connection = Connection::open_in_memory().unwrap();
        for migration in &MIGRATIONS[..3] {
            connection.execute_batch(migration).unwrap();
        }
        connection.execute_batch("DROP TABLE join_tokens_before").unwrap();
        connection.pragma_update(None, "user_version", 3).unwrap();
        let agent = "spiffe://demo.org/spire/agent/join_token/t";
        let old = format!(
            "INSERT INTO join_tokens VALUES ('t', 1700000000, 1, '{agent}', 'next', '10.0.0.1', 1600000000);
            INSERT INTO join_tokens VALUES ('u', 1700000000, 0, NULL, NULL, NULL, NULL);
            INSERT INTO join_token_bars VALUES ('t', 'key', 'admin', 1600000000);
            INSERT INTO join_token_bars VALUES ('u', '', 'admin', 1600000001);"
        );
        connection.execute_batch(&old).unwrap();
        migrate(&mut connection).unwrap();
        let tokens = tokens::all(&connection).unwrap();
        let barred = |key: Option<&str>, at| Barred {
            key: key.map(str::to_owned),
            eviction: Eviction { by: "admin".to_owned(), at },
        };
        assert_eq!(tokens[0].barred, [barred(Some("key"), 1_600_000_000)]);
        assert_eq!(tokens[1].barred, [barred(None, 1_600_000_001)]);
        let agent = SpiffeId::parse(agent).unwrap();
        let keeps_out = |at| evictions::of_member(&connection, &agent, at).unwrap().is_some();
        assert!(keeps_out(1_600_000_000) && !keeps_out(1_600_000_001));
    }

    #[test]
    fn what_an_older_version_wrote_is_kept() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(MIGRATIONS[0]).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        let old = "INSERT INTO join_tokens VALUES ('secret', 1700000000, 'key', '10.0.0.1', 1600000000);
            INSERT INTO join_tokens VALUES ('unused', 1700000000, NULL, NULL, NULL);
            INSERT INTO agents VALUES (1, 'spiffe://demo.org/spire/agent/join_token/secret', 'join_token', '1', 1, '', 0, 0, '');";
        connection.execute_batch(old).unwrap();
        migrate(&mut connection).unwrap();
        assert_eq!(
            connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0)).unwrap(),
            MIGRATIONS.len() as i64
        );
        // A token of before is bound to its first key, and its secret is not there any more.
        let tokens = tokens::all(&connection).unwrap();
        let used = TokenUse {
            agent: Some(SpiffeId::parse("spiffe://demo.org/spire/agent/join_token/secret").unwrap()),
            key_fingerprint: "key".to_owned(),
            from: "10.0.0.1".to_owned(),
            at: 1_600_000_000,
        };
        let new = |token| TokenRecord::new(ids::token_digest(token), 1_700_000_000, false);
        let mut expected = [TokenRecord { used: Some(used), ..new("secret") }, new("unused")];
        expected.sort_by(|a, b| a.id.cmp(&b.id));
        assert_eq!(tokens, expected);
        let left = "SELECT count(*) FROM sqlite_schema WHERE name = 'join_tokens_before'";
        assert_eq!(connection.query_row(left, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    }
}
