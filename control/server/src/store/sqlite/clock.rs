//! The last time that was believed.

use rusqlite::{Connection, OptionalExtension, params};
use svidecar_process::clock::Seen;

use crate::store::error::StoreError;

pub(super) fn find(connection: &Connection) -> Result<Option<Seen>, StoreError> {
    let seen = connection
        .prepare_cached("SELECT seen_at, boot, up FROM clock")?
        .query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get::<_, i64>(2)?)))
        .optional()?;
    let seconds = |number: i64| u64::try_from(number).unwrap_or_default();
    Ok(seen.map(|(at, boot, up)| Seen { at: seconds(at), boot, up: seconds(up) }))
}

pub(super) fn put(connection: &Connection, seen: &Seen) -> Result<(), StoreError> {
    let number = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "INSERT INTO clock (id, seen_at, boot, up) VALUES (1, ?, ?, ?) \
             ON CONFLICT DO UPDATE SET seen_at = excluded.seen_at, boot = excluded.boot, up = excluded.up",
        )?
        .execute(params![number(seen.at), seen.boot, number(seen.up)])?;
    Ok(())
}
