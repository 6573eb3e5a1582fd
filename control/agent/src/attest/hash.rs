//! SHA-256 of workloads' executables, remembered by file identity.
//!
//! Owns the cache that lets a busy socket hash each binary once. It must never trust a path: it hashes
//! an open file, and a file that changed (inode, size, modification or change time) is hashed again.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::digest::{Context, SHA256};

/// As many binaries as a node plausibly runs; at 100 bytes each.
const MAX_REMEMBERED: usize = 4096;

/// What tells one content of one file from another. The change time cannot be set by a process, so
/// restoring the modification time after a write does not hide it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct FileIdentity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// What hashing gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hashed {
    /// Lower-case hex.
    Sha256(Arc<str>),
    /// The file is over the limit and was not read.
    TooLarge {
        /// Its size in bytes.
        size: u64,
    },
}

/// Hashes executables up to a size.
pub struct HashCache {
    limit: u64,
    remembered: Mutex<HashMap<FileIdentity, Arc<str>>>,
}

impl HashCache {
    /// A cache that hashes files of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self { limit, remembered: Mutex::default() }
    }

    /// The limit in bytes.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Hashes `file`, or remembers.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn sha256(&self, file: &File) -> io::Result<Hashed> {
        let identity = identity(file)?;
        if identity.size > self.limit {
            return Ok(Hashed::TooLarge { size: identity.size });
        }
        let remembered = |cache: &Self| {
            cache.remembered.lock().unwrap_or_else(PoisonError::into_inner).get(&identity).cloned()
        };
        if let Some(hash) = remembered(self) {
            return Ok(Hashed::Sha256(hash));
        }
        let Some(hash) = hash(file, self.limit)? else {
            return Ok(Hashed::TooLarge { size: identity.size });
        };
        let hash: Arc<str> = hash.into();
        // Only a file that held still while it was read may be remembered.
        if self::identity(file)? == identity {
            let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
            if remembered.len() >= MAX_REMEMBERED {
                remembered.clear();
            }
            remembered.insert(identity, Arc::clone(&hash));
        }
        Ok(Hashed::Sha256(hash))
    }
}

fn identity(file: &File) -> io::Result<FileIdentity> {
    let meta = file.metadata()?;
    Ok(FileIdentity {
        device: meta.dev(),
        inode: meta.ino(),
        size: meta.len(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
    })
}

/// None when the file grew over the limit while it was read.
fn hash(mut file: &File, limit: u64) -> io::Result<Option<String>> {
    let mut digest = Context::new(&SHA256);
    let mut buffer = vec![0; 64 * 1024];
    let mut total = 0_u64;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(Some(hex::encode(digest.finish())));
        }
        total = total.saturating_add(read as u64);
        if total > limit {
            return Ok(None);
        }
        digest.update(buffer.get(..read).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_changed_file_is_hashed_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("binary");
        let cache = HashCache::new(1024);

        fs::write(&path, "abc").unwrap();
        assert_eq!(cache.sha256(&File::open(&path).unwrap()).unwrap(), Hashed::Sha256(OF_ABC.into()));
        assert_eq!(cache.remembered.lock().unwrap().len(), 1);
        assert_eq!(cache.sha256(&File::open(&path).unwrap()).unwrap(), Hashed::Sha256(OF_ABC.into()));
        assert_eq!(cache.remembered.lock().unwrap().len(), 1);

        fs::write(&path, "abcd").unwrap();
        assert_ne!(cache.sha256(&File::open(&path).unwrap()).unwrap(), Hashed::Sha256(OF_ABC.into()));
    }

    #[test]
    fn a_file_over_the_limit_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("binary");
        fs::write(&path, vec![0; 100]).unwrap();
        let hashed = HashCache::new(99).sha256(&File::open(&path).unwrap()).unwrap();
        assert_eq!(hashed, Hashed::TooLarge { size: 100 });
    }
}
