//! Pieces of a transaction that fail on their own.

use rusqlite::Connection;

use crate::store::error::StoreError;

/// Runs `work` so that, if it fails, nothing of it stays in the transaction.
pub(super) fn isolated<T>(
    connection: &Connection,
    work: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    connection.prepare_cached("SAVEPOINT piece")?.execute([])?;
    let outcome = work();
    if outcome.is_err() {
        connection.prepare_cached("ROLLBACK TO piece")?.execute([])?;
    }
    connection.prepare_cached("RELEASE piece")?.execute([])?;
    outcome
}
