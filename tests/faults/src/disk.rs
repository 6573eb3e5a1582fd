//! A small disk of one part, that can be filled. It is in memory, and mounted where only we and our children see it.

use std::{
    fs::File,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use svidecar_stack::Launch;

/// Enough for a server with some entries and its write-ahead log.
const SIZE: &str = "size=24m,mode=0700";

/// One disk.
#[derive(Clone, Debug)]
pub struct Disk {
    filler: PathBuf,
}

impl Disk {
    /// Mounts it at `path`.
    ///
    /// # Errors
    /// When this may not mount anything.
    pub async fn mount(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path)?;
        Launch::new("mount").args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(path).text().await?;
        Ok(Self { filler: path.join("filler") })
    }

    /// Fills it to the last byte.
    ///
    /// # Errors
    /// When it fails for any other reason than that.
    pub fn fill(&self) -> Result<()> {
        let mut filler = File::create(&self.filler)?;
        // Ever smaller pieces, so that nothing at all is left.
        for size in [1 << 20, 4096, 1] {
            let piece = vec![0; size];
            let full = loop {
                if let Err(error) = filler.write_all(&piece) {
                    break error;
                }
            };
            ensure!(full.kind() == ErrorKind::StorageFull, "cannot fill a disk: {full}");
        }
        Ok(())
    }

    /// Makes room.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn clear(&self) -> Result<()> {
        std::fs::remove_file(&self.filler).context("cannot make room on a disk")
    }
}
