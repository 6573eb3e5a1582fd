//! Wall clocks that can be set for one process, by libfaketime. The monotonic clock stays as it is.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use svidecar_stack::Launch;

/// Where Debian and its kin keep the library, below the folder of the architecture.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The library, if it is here.
#[must_use]
pub fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?;
    folders.filter_map(|folder| Some(folder.ok()?.path().join(LIBRARY))).find(|path| path.is_file())
}

/// The clock of one part.
#[derive(Clone, Debug)]
pub struct WallClock {
    file: PathBuf,
}

impl WallClock {
    /// A clock that is right, in a file below `dir`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn new(dir: &Path, name: &str) -> Result<Self> {
        let clock = Self { file: dir.join(format!("{name}.clock")) };
        clock.set(0)?;
        Ok(clock)
    }

    /// From now on it is so many seconds ahead.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set(&self, seconds: i64) -> Result<()> {
        // A half-written file would be another time.
        let next = self.file.with_extension("next");
        std::fs::write(&next, format!("{seconds:+}"))?;
        std::fs::rename(&next, &self.file).context("cannot set a clock")
    }

    /// A program that goes by it.
    #[must_use]
    pub fn over(&self, launch: Launch, library: &Path) -> Launch {
        launch
            .env("LD_PRELOAD", library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", OsString::from("1"))
            .env("FAKETIME_DONT_FAKE_MONOTONIC", OsString::from("1"))
            .env("NO_FAKE_STAT", OsString::from("1"))
    }
}
