//! The tables, as numbered migrations. A migration, once released, is never edited: the next one amends it.

use rusqlite::Connection;

use crate::store::error::StoreError;

/// Each brings the schema from its index to its index plus one, which SQLite's `user_version` remembers.
const MIGRATIONS: &[&str] =
    &[include_str!("schema/001_initial.sql"), include_str!("schema/002_reusable_tokens.sql")];

/// Brings the schema up to date, in one transaction.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let found: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(StoreError::NewerSchema { found, known });
    }
    let transaction = connection.transaction()?;
    for migration in MIGRATIONS.iter().skip(found as usize) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_an_older_version_wrote_is_kept() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(MIGRATIONS[0]).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        let old = "INSERT INTO join_tokens VALUES ('secret', 1700000000, 'key', '10.0.0.1', 1600000000)";
        connection.execute_batch(old).unwrap();
        migrate(&mut connection).unwrap();
        // A token of before is bound to its first key.
        let read = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(read("SELECT reusable FROM join_tokens WHERE token = 'secret' AND used_by = 'key'"), 0);
        assert_eq!(read("PRAGMA user_version"), MIGRATIONS.len() as i64);
    }
}
