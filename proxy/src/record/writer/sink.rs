//! Where the lines of the access log go.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use svidecar_config::proxy::AccessLogPath;

/// An open destination.
pub(super) enum Sink {
    Stdout,
    Stderr,
    File {
        path: PathBuf,
        file: File,
    },
    #[cfg(test)]
    Test(Box<dyn Write + Send>),
}

impl Sink {
    pub(super) fn open(path: &AccessLogPath) -> io::Result<Self> {
        match path {
            AccessLogPath::Stdout => Ok(Self::Stdout),
            AccessLogPath::Stderr => Ok(Self::Stderr),
            AccessLogPath::File(path) => Ok(Self::File { path: path.clone(), file: open_file(path)? }),
        }
    }

    /// Keeps the old file when the new one cannot be opened.
    pub(super) fn reopen(&mut self) {
        if let Self::File { path, file } = self {
            match open_file(path) {
                Ok(fresh) => *file = fresh,
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "The access log cannot be opened again; the old file is kept");
                }
            }
        }
    }

    pub(super) fn write(&mut self, batch: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(batch)?;
                stdout.flush()
            }
            Self::Stderr => io::stderr().lock().write_all(batch),
            Self::File { file, .. } => file.write_all(batch),
            #[cfg(test)]
            Self::Test(sink) => sink.write_all(batch),
        }
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}
