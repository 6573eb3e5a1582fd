//! A copy of the file while it is in use, and putting one in its place.

use std::{fs, io, path::Path};

use rusqlite::params;
use uuid::Uuid;

use super::{connection, schema};
use crate::store::error::StoreError;

/// All that is committed, as the bytes of a database of its own. Nobody waits for it.
pub(super) fn copy(path: &Path) -> Result<Vec<u8>, StoreError> {
    let beside = path.with_extension(format!("backup-{}", Uuid::new_v4()));
    let failed = |error: io::Error| StoreError::Open { path: beside.clone(), reason: error.to_string() };
    connection::private_file(&beside).map_err(failed)?;
    let copied = connection::open_for_reading(path).and_then(|connection| {
        connection.execute("VACUUM INTO ?", params![beside.to_string_lossy()])?;
        fs::read(&beside).map_err(failed)
    });
    fs::remove_file(&beside).map_err(failed)?;
    copied
}

/// Puts a copy in the place of the database, which is moved into `aside`, while `between` is done and no server runs.
pub(super) fn restore<E: From<StoreError>>(
    path: &Path,
    copy: &[u8],
    aside: &Path,
    between: impl FnOnce() -> Result<(), E>,
) -> Result<(), E> {
    let failed = |error: io::Error| StoreError::Open { path: path.to_owned(), reason: error.to_string() };
    let _lock = connection::lock(path)?;
    let fresh = connection::restoring(path);
    // Left behind by one that did not come to its end.
    if fresh.exists() {
        fs::remove_file(&fresh).map_err(failed)?;
    }
    drop(connection::private_file(&fresh).map_err(failed)?);
    fs::write(&fresh, copy).map_err(failed)?;
    let checked = check(&fresh);
    if let Err(error) = checked {
        fs::remove_file(&fresh).map_err(failed)?;
        return Err(error.into());
    }
    fs::File::open(&fresh).and_then(|file| file.sync_all()).map_err(failed)?;
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(suffix);
        let from = path.with_file_name(&name);
        if from.exists() {
            fs::rename(&from, aside.join(&name)).map_err(failed)?;
        }
    }
    between()?;
    fs::rename(&fresh, path).map_err(failed)?;
    if let Some(directory) = path.parent() {
        fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
    }
    Ok(())
}

/// That a file is a sound database which this version can open.
fn check(path: &Path) -> Result<(), StoreError> {
    let connection = connection::open_for_reading(path)?;
    let sound: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if sound != "ok" {
        return Err(StoreError::corrupt("database", sound));
    }
    schema::check(&connection).map(|_| ())
}
