//! Opening the database file: who may read it, how it is written, and that only one server uses it.

use std::{
    fs::{File, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};
use svidecar_process::private;

use super::schema;
use crate::store::error::StoreError;

/// How long a statement waits for a foreign process (a backup, a shell) that holds SQLite's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How many prepared statements a connection keeps.
const STATEMENTS: usize = 128;

/// The one connection that writes, and the lock that makes it the only one on this machine.
pub(super) fn open_for_writing(path: &Path) -> Result<(File, Connection), StoreError> {
    let failed = |error: io::Error| StoreError::Open { path: path.to_owned(), reason: error.to_string() };
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        private::create_directory(directory).map_err(failed)?;
    }
    let lock = lock(path)?;
    if !path.exists() && restoring(path).exists() {
        let reason = "a restore did not come to its end; what was there is in `replaced-…` beside it. Run `svidecar-server restore` again";
        return Err(StoreError::Open { path: path.to_owned(), reason: reason.to_owned() });
    }
    // SQLite gives its journal files the mode of the database.
    private_file(path).map_err(failed)?;
    let mut connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // An answer means that it is on disk: a deleted entry must not come back after a power cut.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    schema::migrate(&mut connection)?;
    Ok((lock, connection))
}

/// What is to take the place of the database. Where it is there and the database is not, a restore was cut short: an empty
/// database would make new keys, and forget the fleet.
pub(super) fn restoring(path: &Path) -> PathBuf {
    path.with_extension("restoring")
}

/// Makes this process the only one that uses the file.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    let failed = |error: io::Error| StoreError::Open { path: path.to_owned(), reason: error.to_string() };
    let lock = private_file(&path.with_extension("lock")).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// A connection that cannot write.
pub(super) fn open_for_reading(path: &Path) -> Result<Connection, StoreError> {
    open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

fn open(path: &Path, mode: OpenFlags) -> Result<Connection, StoreError> {
    let failed =
        |error: rusqlite::Error| StoreError::Open { path: path.to_owned(), reason: error.to_string() };
    let connection =
        Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Savepoints spill into temporary files, for which a container with a read-only root has no place.
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// Opens or creates a file that only its owner may read.
pub(super) fn private_file(path: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}
