//! Secret files: never readable by others, never half written.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use svidecar_process::private;
use zeroize::Zeroizing;

use crate::error::AgentError;

/// A hundred thousand SVIDs; more was not written by us.
const MAX_BYTES: u64 = 512 * 1024 * 1024;

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AgentError {
    let path = path.to_owned();
    move |source| AgentError::File { what, path, source }
}

/// Makes the directory with mode 0700 if it is missing.
pub fn make_directory(path: &Path) -> Result<(), AgentError> {
    private::create_directory(path).map_err(failed("make the directory", path))
}

/// Reads a file of ours; none if there is none.
pub fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, AgentError> {
    match read_bounded(path, MAX_BYTES) {
        Err(AgentError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        outcome => outcome.map(Some),
    }
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// When it cannot be read, or is larger.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, AgentError> {
    let read = || -> io::Result<_> {
        let file = File::open(path)?;
        let size = usize::try_from(file.metadata()?.len().min(limit)).unwrap_or(0);
        // All of it at once: a growing vector would leave copies of a secret behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(size + 1));
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::other(format!("it has more than {limit} bytes")));
        }
        Ok(bytes)
    };
    read().map_err(failed("read", path))
}

/// Replaces a file: written beside it with mode 0600, flushed to disk, renamed over it.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), AgentError> {
    let temporary = path.with_extension("tmp");
    let replace = || -> io::Result<()> {
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    };
    replace().map_err(failed("write", path))
}

/// Removes a file if it is there.
pub fn remove(path: &Path) -> Result<(), AgentError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Moves a file into a directory, in place of one of that name, if it is there.
pub fn move_into(path: &Path, directory: &Path) -> Result<(), AgentError> {
    let Some(name) = path.file_name() else { return Ok(()) };
    let moved = fs::rename(path, directory.join(name));
    match moved.and_then(|()| File::open(directory)?.sync_all()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("move aside", path)(error)),
        _ => Ok(()),
    }
}
