//! The tables, as numbered migrations. A migration, once released, is never edited: the next one amends it.

use rusqlite::Connection;

use super::StoreError;

/// Each brings the schema from its index to its index plus one, which SQLite's `user_version` remembers.
const MIGRATIONS: &[&str] = &[include_str!("schema/001_initial.sql")];

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
