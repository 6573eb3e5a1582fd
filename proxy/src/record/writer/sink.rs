//! Where the lines of the access log go.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    mem,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use svidecar_config::proxy::AccessLogPath;

/// An open destination.
pub(super) enum Sink {
    /// A descriptor of its own for a stream of the process: whoever waits in it holds no lock that others take, above all not
    /// the one that the end of the program takes.
    Stream(File),
    File {
        path: PathBuf,
        file: File,
        /// A full disk took a part of a line.
        is_torn: bool,
    },
    #[cfg(test)]
    Test(Box<dyn Write + Send>),
}

impl Sink {
    pub(super) fn open(path: &AccessLogPath) -> io::Result<Self> {
        match path {
            AccessLogPath::Stdout => Ok(Self::Stream(io::stdout().as_fd().try_clone_to_owned()?.into())),
            AccessLogPath::Stderr => Ok(Self::Stream(io::stderr().as_fd().try_clone_to_owned()?.into())),
            AccessLogPath::File(path) => {
                Ok(Self::File { path: path.clone(), file: open_file(path)?, is_torn: false })
            }
        }
    }

    /// Keeps the old file when the new one cannot be opened.
    pub(super) fn reopen(&mut self) {
        if let Self::File { path, file, is_torn } = self {
            match open_file(path) {
                Ok(fresh) => (*file, *is_torn) = (fresh, false),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "The access log cannot be opened again; the old file is kept");
                }
            }
        }
    }

    pub(super) fn write(&mut self, batch: &[u8]) -> io::Result<()> {
        match self {
            Self::Stream(file) => file.write_all(batch),
            Self::File { file, is_torn, .. } => {
                if mem::replace(is_torn, true) {
                    file.write_all(b"\n")?;
                }
                file.write_all(batch)?;
                *is_torn = false;
                Ok(())
            }
            #[cfg(test)]
            Self::Test(sink) => sink.write_all(batch),
        }
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}
