//! Files that commands read and write.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use super::error::CliError;

/// Most bytes that are read from a file or from stdin.
const MAX_BYTES: u64 = 64 << 20;

/// Reads a whole file, or stdin when the path is `-`.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    read_large(path, MAX_BYTES)
}

/// The same with another bound.
pub(super) fn read_large(path: &Path, most: u64) -> Result<Vec<u8>, CliError> {
    let failed = |error| CliError::File { doing: "cannot read", path: path.to_owned(), error };
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        io::stdin().lock().take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes)).map_err(failed)?;
    }
    if bytes.len() as u64 > most {
        return Err(failed(io::Error::other(format!("it is larger than {most} bytes"))));
    }
    Ok(bytes)
}

/// As [`read`], as text.
pub(super) fn read_text(path: &Path) -> Result<String, CliError> {
    String::from_utf8(read(path)?).map_err(|_| CliError::File {
        doing: "cannot read",
        path: path.to_owned(),
        error: io::Error::other("it is not UTF-8 text"),
    })
}

/// Writes a file whole or not at all, with the given mode from the first byte on.
pub(super) fn write(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), CliError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let written =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, path)
        });
    written.map_err(|error| {
        // It may not be there; what counts is the first error.
        drop(fs::remove_file(&temporary));
        CliError::File { doing: "cannot write", path: path.to_owned(), error }
    })
}

/// How a path is named in messages.
pub(super) fn display_name(path: &Path) -> &Path {
    if path == Path::new("-") { Path::new("<stdin>") } else { path }
}
