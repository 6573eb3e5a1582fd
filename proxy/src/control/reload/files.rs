//! Watches files for changes by inotify: no polling, no wake-up while nothing changes.
//!
//! Watches the directories, because editors, `ConfigMap`s and careful writers replace files by renaming. Knows
//! nothing of what the files say.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::inotify;
use tokio::io::{Interest, unix::AsyncFd};

/// One save is several events; they are over well before this.
const SETTLE: Duration = Duration::from_millis(30);

/// Enough for many events at once; what does not fit is read in the next round.
const EVENT_BUFFER: usize = 4096;

/// A watch over the directories that hold a set of files.
pub struct FileWatch {
    inotify: AsyncFd<OwnedFd>,
    watched: HashMap<PathBuf, i32>,
}

impl FileWatch {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// What `inotify_init1(2)` says, mostly that the user has too many instances.
    pub fn new() -> io::Result<Self> {
        let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe; an owned descriptor lives as long as its registration"
        )]
        let inotify = AsyncFd::with_interest(fd, Interest::READABLE)?;
        Ok(Self { inotify, watched: HashMap::new() })
    }

    /// Watches exactly what can change the content behind `files`: their directories, and, where a path leads
    /// through symbolic links, the directories of what it leads to.
    ///
    /// # Errors
    /// The first directory that cannot be watched. The others are watched nevertheless.
    pub fn watch<'a>(&mut self, files: impl Iterator<Item = &'a Path>) -> io::Result<()> {
        let wanted: BTreeSet<PathBuf> = files.flat_map(directories_of).collect();
        let flags = inotify::WatchFlags::CLOSE_WRITE
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::DELETE
            | inotify::WatchFlags::ONLYDIR;
        let fd = self.inotify.get_ref();
        self.watched.retain(|directory, descriptor| {
            let keep = wanted.contains(directory);
            if !keep {
                // It may be gone with its directory already.
                let _ = inotify::remove_watch(fd, *descriptor);
            }
            keep
        });
        let mut first_error = None;
        for directory in wanted {
            // Added again even if it is watched: the directory of that name may be another one by now.
            match inotify::add_watch(fd, &directory, flags) {
                Ok(descriptor) => {
                    self.watched.insert(directory, descriptor);
                }
                Err(error) => {
                    let what = format!("cannot watch {}: {error}", directory.display());
                    first_error.get_or_insert(io::Error::new(io::Error::from(error).kind(), what));
                }
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Waits until something changed in a watched directory, and for the change to settle.
    ///
    /// # Errors
    /// What reading the inotify descriptor says; the watch is of no use afterwards.
    pub async fn changed(&mut self) -> io::Result<()> {
        self.drain_events().await?;
        while let Ok(more) = tokio::time::timeout(SETTLE, self.drain_events()).await {
            more?;
        }
        Ok(())
    }

    /// Waits for events and throws them away: what matters is read from the files themselves.
    async fn drain_events(&mut self) -> io::Result<()> {
        let mut buffer = [0_u8; EVENT_BUFFER];
        self.inotify
            .async_io(Interest::READABLE, |fd| rustix::io::read(fd, &mut buffer).map_err(io::Error::from))
            .await?;
        Ok(())
    }
}

/// The directory that holds `file`, and the one that holds what it is a link to.
fn directories_of(file: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let parent = |path: &Path| match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let real = file.canonicalize().ok().map(|real| parent(&real));
    std::iter::once(parent(file)).chain(real)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    async fn watch(files: &[&Path]) -> FileWatch {
        let mut watch = FileWatch::new().unwrap();
        watch.watch(files.iter().copied()).unwrap();
        watch
    }

    #[tokio::test]
    async fn a_file_written_in_place_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.yaml");
        fs::write(&file, "1").unwrap();
        let mut watch = watch(&[&file]).await;
        fs::write(&file, "2").unwrap();
        watch.changed().await.unwrap();
    }

    #[tokio::test]
    async fn a_file_replaced_by_rename_is_seen_each_time() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.yaml");
        fs::write(&file, "1").unwrap();
        let mut watch = watch(&[&file]).await;
        for round in 0..3 {
            let new = directory.path().join("new");
            fs::write(&new, round.to_string()).unwrap();
            fs::rename(&new, &file).unwrap();
            watch.changed().await.unwrap();
        }
    }

    /// Kubernetes updates a `ConfigMap` by swapping the link `..data` to a new directory.
    #[tokio::test]
    async fn a_config_map_swap_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for version in ["..v1", "..v2"] {
            fs::create_dir(root.join(version)).unwrap();
            fs::write(root.join(version).join("a.yaml"), version).unwrap();
        }
        symlink("..v1", root.join("..data")).unwrap();
        symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
        let mut watch = watch(&[&root.join("a.yaml")]).await;
        symlink("..v2", root.join("..tmp")).unwrap();
        fs::rename(root.join("..tmp"), root.join("..data")).unwrap();
        watch.changed().await.unwrap();
        assert_eq!(fs::read_to_string(root.join("a.yaml")).unwrap(), "..v2");
    }

    #[tokio::test]
    async fn a_directory_that_is_missing_is_named_and_the_rest_is_watched() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.yaml");
        let mut watch = FileWatch::new().unwrap();
        let missing = directory.path().join("nope/b.yaml");
        let error = watch.watch([missing.as_path(), &file].into_iter()).unwrap_err();
        assert!(error.to_string().contains("nope"), "{error}");
        fs::write(&file, "1").unwrap();
        watch.changed().await.unwrap();
    }
}
