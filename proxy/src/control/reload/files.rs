//! Watches files for changes by inotify: no polling, no wake-up while nothing changes.
//!
//! Watches the directories, because editors, `ConfigMap`s and careful writers replace files by renaming, and heeds the names in
//! them that lead to the files. What else happens there holds nothing up. Knows nothing of what the files say.

mod names;

use std::{
    collections::HashMap,
    ffi::OsStr,
    io,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::inotify::{self, Event, ReadFlags},
    io::Errno,
};
use svidecar_process::clock;
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, timeout_at},
};

use self::names::Names;

/// One save is several events; they are over well before this.
const SETTLE: Duration = Duration::from_millis(30);

/// However often the files are written: what is in them is looked at after this time.
const LONGEST_SETTLE: Duration = Duration::from_secs(1);

/// Enough for many events at once; what does not fit is read in the next round.
const EVENT_BUFFER: usize = 4096;

/// A watch over the directories that hold a set of files.
pub struct FileWatch {
    inotify: AsyncFd<OwnedFd>,
    watched: HashMap<PathBuf, i32>,
    /// By watch.
    names: HashMap<i32, Names>,
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
        Ok(Self { inotify, watched: HashMap::new(), names: HashMap::new() })
    }

    /// Watches exactly what can change the content behind `files`: their names, and, where a path leads through symbolic
    /// links, the names of those and of what they lead to.
    ///
    /// # Errors
    /// The first directory of a file that cannot be watched. The others are watched nevertheless.
    pub fn watch<'a>(&mut self, files: impl Iterator<Item = &'a Path>) -> io::Result<()> {
        let wanted = names::of(files);
        let flags = inotify::WatchFlags::CLOSE_WRITE
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::DELETE
            | inotify::WatchFlags::ONLYDIR;
        let fd = self.inotify.get_ref();
        self.watched.retain(|directory, descriptor| {
            let keep = wanted.contains_key(directory);
            if !keep {
                // It may be gone with its directory already.
                let _ = inotify::remove_watch(fd, *descriptor);
            }
            keep
        });
        self.names.clear();
        let mut first_error = None;
        for (directory, names) in wanted {
            // Added again even if it is watched: the directory of that name may be another one by now.
            match inotify::add_watch(fd, &directory, flags) {
                Ok(descriptor) => {
                    self.watched.insert(directory, descriptor);
                    // Two paths may lead to one directory.
                    self.names.entry(descriptor).or_default().extend(names);
                }
                Err(error) => {
                    let what = format!("cannot watch {}: {error}", directory.display());
                    first_error.get_or_insert(io::Error::new(io::Error::from(error).kind(), what));
                }
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Waits until one of the files may have changed, and for the change to settle; for a second at most.
    ///
    /// # Errors
    /// What reading the inotify descriptor says; the watch is of no use afterwards.
    pub async fn changed(&mut self) -> io::Result<()> {
        while !self.next().await? {}
        let (mut quiet, latest) = (after(SETTLE), after(LONGEST_SETTLE));
        loop {
            let settled = quiet.min(latest);
            // Events that never end would always be there before the time is up.
            if settled <= clock::timer() {
                return Ok(());
            }
            match timeout_at(settled, self.next()).await {
                Ok(concerns) => {
                    if concerns? {
                        quiet = after(SETTLE);
                    }
                }
                Err(_) => return Ok(()),
            }
        }
    }

    /// Waits for events, and says whether one of them concerns a file. What it was does not matter: that is read from the
    /// files themselves.
    async fn next(&self) -> io::Result<bool> {
        let concerns = |event: &Event<'_>| {
            let lost = event.events().intersects(ReadFlags::QUEUE_OVERFLOW | ReadFlags::IGNORED);
            lost || event.file_name().is_none_or(|name| {
                let name = OsStr::from_bytes(name.to_bytes());
                self.names.get(&event.wd()).is_some_and(|names| names.contains(name))
            })
        };
        let read = |fd: &OwnedFd| {
            let mut buffer = [MaybeUninit::uninit(); EVENT_BUFFER];
            let mut reader = inotify::Reader::new(fd, &mut buffer);
            // One read, which says whether there is anything to wait for.
            let mut any = concerns(&reader.next()?);
            while !reader.is_buffer_empty() {
                match reader.next() {
                    Ok(event) => any |= concerns(&event),
                    Err(Errno::AGAIN) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(any)
        };
        self.inotify.async_io(Interest::READABLE, read).await
    }
}

fn after(time: Duration) -> Instant {
    clock::timer() + time
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

    /// What happens to other names in the directory is not ours.
    #[tokio::test]
    async fn only_the_names_that_lead_to_the_files_count() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.yaml");
        fs::write(&file, "1").unwrap();
        let watch = watch(&[&file]).await;
        fs::write(directory.path().join("b.yaml"), "1").unwrap();
        assert!(!watch.next().await.unwrap());
        fs::write(&file, "2").unwrap();
        assert!(watch.next().await.unwrap());
    }

    /// A file that is written without end is read as it is after a second.
    #[tokio::test(start_paused = true)]
    async fn a_change_settles_though_the_writing_does_not_end() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.yaml");
        fs::write(&file, "1").unwrap();
        let mut watch = watch(&[&file]).await;
        let writing = async {
            for _ in 0..150 {
                fs::write(&file, "2").unwrap();
                tokio::time::advance(Duration::from_millis(10)).await;
                // Until the runtime has asked the system what there is to read.
                for _ in 0..128 {
                    tokio::task::yield_now().await;
                }
            }
        };
        tokio::select! {
            changed = watch.changed() => changed.unwrap(),
            () = writing => panic!("it is not read as long as it is written"),
        }
    }

    /// A release that is a link to a directory.
    #[tokio::test]
    async fn a_link_on_the_way_that_is_replaced_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for version in ["v1", "v2"] {
            fs::create_dir(root.join(version)).unwrap();
            fs::write(root.join(version).join("a.yaml"), version).unwrap();
        }
        symlink("v1", root.join("current")).unwrap();
        let mut watch = watch(&[&root.join("current/a.yaml")]).await;
        symlink("v2", root.join("next")).unwrap();
        fs::rename(root.join("next"), root.join("current")).unwrap();
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
