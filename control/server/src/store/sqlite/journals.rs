//! The CA's journals.

use rusqlite::{Connection, OptionalExtension, params};

use crate::store::error::StoreError;

pub(super) fn find(connection: &Connection, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let data = connection
        .prepare_cached("SELECT data FROM ca_journals WHERE name = ?")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    Ok(data)
}

pub(super) fn put(connection: &Connection, name: &str, data: &[u8]) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO ca_journals (name, data) VALUES (?, ?) ON CONFLICT DO UPDATE SET data = excluded.data",
        )?
        .execute(params![name, data])?;
    Ok(())
}
