//! A backup: the database and the keys as they were at one moment, in one piece, and putting it back.
//!
//! Owns what belongs to it and its form: a line that says what it is, then each file with its name and length before it. It
//! must never leave half of a restored server behind as if it were one, and never throw away what was there: that is moved aside.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use svidecar_config::server::ServerSettings;
use svidecar_id::TrustDomain;
use svidecar_process::private;
use uuid::{Uuid, fmt::Hyphenated};
use zeroize::Zeroizing;

use crate::{error::ServerError, state::State, store::SqliteStore};

/// The database in `data_dir`.
pub const DATABASE: &str = "datastore.sqlite3";

/// The directory of keys in `data_dir`.
pub const KEYS: &str = "keys";

/// The first word of every backup, and the version of its form.
const MAGIC: &str = "svidecar-backup 1 ";

/// What comes after the last file, so that nothing of it can be missing.
const END: &str = "end\n";

/// Longest line before a file.
const MAX_LINE: usize = 1024;

/// Removes from `home`, which this process alone uses, what a backup or a restore that was killed left behind: copies of keys and
/// of the database.
pub fn remove_remains(home: &Path) {
    let Ok(files) = fs::read_dir(home) else { return };
    for file in files.flatten() {
        if !is_passing(&file.file_name().to_string_lossy()) {
            continue;
        }
        let path = file.path();
        match if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) } {
            Ok(()) => {
                tracing::info!(path = %path.display(), "removed what a backup or a restore that was killed left behind")
            }
            Err(error) => tracing::warn!(
                path = %path.display(), %error,
                "what a backup or a restore that was killed left behind cannot be removed; it is of no use"
            ),
        }
    }
}

/// Whether a name is one that a backup or a restore gives to what it needs for a moment, and not the one of a backup that somebody
/// keeps here.
fn is_passing(name: &str) -> bool {
    let is_copy = |id: &str| id.len() == Hyphenated::LENGTH && Uuid::try_parse(id).is_ok();
    let is_time = |time: &str| !time.is_empty() && time.bytes().all(|byte| byte.is_ascii_digit());
    name.strip_prefix("datastore.backup-").is_some_and(is_copy)
        || name.strip_prefix("restoring-").is_some_and(is_time)
}

/// What a restored server is made of.
pub struct Backup {
    /// Whose it is.
    pub trust_domain: TrustDomain,
    /// When it was taken, Unix seconds.
    pub taken_at: i64,
    database: Zeroizing<Vec<u8>>,
    keys: Vec<(String, Zeroizing<Vec<u8>>)>,
}

impl Backup {
    /// Takes one of a server that runs. Authorities wait for it, nobody else does.
    ///
    /// # Errors
    /// The database or a key cannot be read.
    pub async fn take(state: &State) -> Result<Self, ServerError> {
        let (database, keys) = state.ca.at_rest(state.store.back_up()).await?;
        Ok(Self {
            trust_domain: state.trust_domain.clone(),
            taken_at: state.clock.unix(),
            database: Zeroizing::new(database?),
            keys,
        })
    }

    /// In one piece.
    #[must_use]
    pub fn write(&self) -> Zeroizing<Vec<u8>> {
        let head = format!("{MAGIC}{} {}\n", self.trust_domain, self.taken_at);
        let keys = self.keys.iter().map(|(name, content)| (format!("{KEYS}/{name}"), content));
        let files: Vec<_> = [(DATABASE.to_owned(), &self.database)].into_iter().chain(keys).collect();
        // Room for all of it from the start: a growing vector would leave copies of the keys behind.
        let size: usize = files.iter().map(|(name, content)| name.len() + content.len() + 32).sum();
        let mut bytes = Zeroizing::new(Vec::with_capacity(head.len() + size + END.len()));
        bytes.extend_from_slice(head.as_bytes());
        for (name, content) in files {
            bytes.extend_from_slice(format!("{name} {}\n", content.len()).as_bytes());
            bytes.extend_from_slice(content);
        }
        bytes.extend_from_slice(END.as_bytes());
        bytes
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// [`ServerError::Backup`] with what is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Self, ServerError> {
        let bad = |reason: &str| ServerError::Backup(reason.to_owned());
        let (head, mut rest) = line(bytes).ok_or_else(|| bad("it is no backup of svidecar-server"))?;
        let head = head.strip_prefix(MAGIC).and_then(|head| head.split_once(' '));
        let (name, taken_at) =
            head.ok_or_else(|| bad("it is no backup of svidecar-server, or of a newer version"))?;
        let trust_domain = TrustDomain::parse(name).map_err(|error| bad(&error.to_string()))?;
        let taken_at = taken_at.parse().map_err(|_| bad("it does not say when it was taken"))?;
        let mut database = None;
        let mut keys = Vec::new();
        while rest != END.as_bytes() {
            let (file, after) = line(rest).ok_or_else(|| bad("its end is missing"))?;
            let (name, length) = file.rsplit_once(' ').ok_or_else(|| bad("it is damaged"))?;
            let length: usize = length.parse().map_err(|_| bad("it is damaged"))?;
            let (content, after) = after.split_at_checked(length).ok_or_else(|| bad("its end is missing"))?;
            let content = Zeroizing::new(content.to_vec());
            match name.split_once('/') {
                None if name == DATABASE => database = Some(content),
                Some((KEYS, name)) if is_plain(name) => keys.push((name.to_owned(), content)),
                _ => return Err(bad(&format!("it has a file `{name}`, which is not of this version"))),
            }
            rest = after;
        }
        let database = database.ok_or_else(|| bad("it has no database"))?;
        Ok(Self { trust_domain, taken_at, database, keys })
    }

    /// Puts it into `data_dir` of a server that does not run. What was there is moved aside, and where to is returned. Blocks.
    ///
    /// # Errors
    /// [`ServerError::Backup`] when it is of another trust domain, [`ServerError::Store`] when the server runs or the database
    /// in it is not sound. Then nothing was changed.
    pub fn restore(&self, settings: &ServerSettings, now: i64) -> Result<PathBuf, ServerError> {
        if self.trust_domain != settings.trust_domain {
            return Err(ServerError::Backup(format!(
                "it is of the trust domain `{}`, and the settings say `{}`",
                self.trust_domain, settings.trust_domain
            )));
        }
        let home = &settings.data_dir;
        let (aside, fresh) = (home.join(format!("replaced-{now}")), home.join(format!("restoring-{now}")));
        let outcome = self.put(home, &fresh, &aside);
        // What was not put in its place is no use to anybody, and has the keys in it.
        drop(fs::remove_dir_all(&fresh));
        if outcome.is_err() {
            drop(fs::remove_dir(&aside));
        }
        outcome.map(|()| aside)
    }

    fn put(&self, home: &Path, fresh: &Path, aside: &Path) -> Result<(), ServerError> {
        let failed =
            |error: io::Error| ServerError::Backup(format!("cannot write into {}: {error}", home.display()));
        let (current, keys) = (home.join(KEYS), fresh.join(KEYS));
        for path in [home, fresh, &keys, aside] {
            private::create_directory(path).map_err(failed)?;
        }
        for (name, content) in &self.keys {
            write(&keys.join(name), content).map_err(failed)?;
        }
        // The keys first: a database without its keys would have new ones made.
        let swap = || {
            if current.exists() {
                fs::rename(&current, aside.join(KEYS)).map_err(failed)?;
            }
            fs::rename(&keys, &current).map_err(failed)
        };
        SqliteStore::restore(&home.join(DATABASE), &self.database, aside, swap)
    }
}

/// The text before the next end of line, and what follows.
fn line(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().take(MAX_LINE).position(|byte| *byte == b'\n')?;
    let (line, rest) = bytes.split_at_checked(end)?;
    Some((str::from_utf8(line).ok()?, rest.get(1..)?))
}

/// Whether a name is one of a file in a directory, and leads nowhere else.
fn is_plain(name: &str) -> bool {
    name.ends_with(".pem") && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn backup() -> Backup {
        Backup {
            trust_domain: TrustDomain::parse("demo.org").unwrap(),
            taken_at: 7,
            database: Zeroizing::new(b"data\nbase".to_vec()),
            keys: vec![("x509-1.pem".to_owned(), Zeroizing::new(b"key".to_vec()))],
        }
    }

    #[test]
    fn what_was_written_is_read_and_nothing_that_was_cut() {
        let bytes = backup().write();
        let read = Backup::read(&bytes).unwrap();
        assert_eq!((read.database, read.keys), (backup().database, backup().keys));
        for length in 0..bytes.len() {
            assert!(Backup::read(&bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn what_a_killed_backup_left_behind_goes_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        let kept = [
            DATABASE,
            "datastore.restoring",
            "datastore.backup-20260301",
            "restoring-notes",
            "keys/a.pem",
            "replaced-7/keys/a.pem",
        ];
        let copy = format!("datastore.backup-{}", Uuid::new_v4());
        for name in kept.into_iter().chain([&*copy, "restoring-7/keys/a.pem"]) {
            private::create_directory(path(name).parent().unwrap()).unwrap();
            write(&path(name), b"").unwrap();
        }
        remove_remains(home.path());
        assert!(kept.iter().all(|name| path(name).exists()));
        assert!(!path(&copy).exists() && !path("restoring-7").exists());
    }

    #[test]
    fn no_name_leads_out_of_the_directory() {
        for name in ["../x.pem", "a/b.pem", "", "x", ".."] {
            let text = format!("{MAGIC}demo.org 7\nkeys/{name} 0\n{DATABASE} 0\n{END}");
            assert!(Backup::read(text.as_bytes()).is_err(), "{name}");
        }
    }
}
