//! The unix attestor: selectors from the kernel's view of a process.
//!
//! Owns SPIRE's `unix:` selectors: uid, user, gid, group, supplementary_gid, supplementary_group, path and
//! sha256. A fact that cannot be had is left out and noted, so an entry that asks for it does not match. It must never
//! take a path for a file: in a mount namespace of its own, which any user can make, a process has any file at any path.

use std::{fs::File, io, os::unix::fs::MetadataExt as _, path::Path, sync::Arc};

use nix::{
    errno::Errno,
    unistd::{Gid, Group, Uid, User},
};

use super::{
    attestor::{Attestor, Found, Reading},
    caller::{Caller, FileId, ProcessStatus},
    hash::{HashCache, Hashed},
};
use crate::{error::AttestError, selector::Selector};

/// The type of all selectors made here.
pub const KIND: &str = "unix";

/// Makes `unix:` selectors.
pub struct UnixAttestor {
    /// None: neither `path` nor `sha256`.
    hashes: Option<HashCache>,
}

impl UnixAttestor {
    /// With `discover_path`, executables are named and those of at most `size_limit` bytes hashed.
    #[must_use]
    pub fn new(discover_path: bool, size_limit: u64) -> Self {
        Self { hashes: discover_path.then(|| HashCache::new(size_limit)) }
    }

    /// Reads the caller's selectors. Blocks on files and on the user database.
    ///
    /// # Errors
    /// When the process's status cannot be read or does not fit the connection.
    pub fn attest(&self, caller: &Caller) -> Result<Found, AttestError> {
        let mut notes = Vec::new();
        let mut selectors = Vec::new();
        accounts(&caller.status()?, &mut selectors, &mut notes);
        if let Some(hashes) = &self.hashes {
            executable(caller, hashes, &mut selectors, &mut notes);
        }
        Ok(Found { selectors, notes, unanswered: None })
    }
}

impl Attestor for UnixAttestor {
    fn read(self: Arc<Self>, caller: &Caller) -> Result<Reading, AttestError> {
        self.attest(caller).map(Reading::Whole)
    }
}

fn push(selectors: &mut Vec<Selector>, name: &str, value: impl std::fmt::Display) {
    selectors.push(Selector::new(KIND, format!("{name}:{value}")));
}

fn accounts(status: &ProcessStatus, selectors: &mut Vec<Selector>, notes: &mut Vec<String>) {
    push(selectors, "uid", status.uid);
    match User::from_uid(Uid::from_raw(status.uid)) {
        Ok(Some(user)) => push(selectors, "user", user.name),
        // Without /etc/passwd, as in an image from scratch, nobody has a name.
        Ok(None) | Err(Errno::ENOENT) => {
            notes.push(format!("no unix:user selector: uid {} has no name here", status.uid));
        }
        Err(error) => {
            notes.push(format!("no unix:user selector: looking up uid {} failed: {error}", status.uid))
        }
    }
    push(selectors, "gid", status.gid);
    group(status.gid, "group", selectors, notes);
    for gid in &status.groups {
        push(selectors, "supplementary_gid", gid);
        group(*gid, "supplementary_group", selectors, notes);
    }
}

fn group(gid: u32, name: &str, selectors: &mut Vec<Selector>, notes: &mut Vec<String>) {
    match Group::from_gid(Gid::from_raw(gid)) {
        Ok(Some(group)) => push(selectors, name, group.name),
        Ok(None) | Err(Errno::ENOENT) => {
            notes.push(format!("no unix:{name} selector: gid {gid} has no name here"));
        }
        Err(error) => notes.push(format!("no unix:{name} selector: looking up gid {gid} failed: {error}")),
    }
}

fn executable(caller: &Caller, hashes: &HashCache, selectors: &mut Vec<Selector>, notes: &mut Vec<String>) {
    let link = caller.proc_file("exe");
    let refused = |error: &io::Error| {
        let advice = match error.kind() {
            io::ErrorKind::PermissionDenied => "; run the agent as root or with CAP_SYS_PTRACE",
            _ => "",
        };
        format!("no unix:path and unix:sha256 selectors: {} cannot be read: {error}{advice}", link.display())
    };
    let path = match std::fs::read_link(&link) {
        Ok(path) => path,
        Err(error) => return notes.push(refused(&error)),
    };
    // The link is opened, not the path: it leads to the running binary in any mount namespace.
    let file = match File::open(&link).and_then(|file| Ok((file_id(&file.metadata()?), file))) {
        // Another program than the one that was pinned has nothing to say; the caller is refused soon.
        Ok((id, file)) if Some(id) == caller.executable() => file,
        Ok(_) => return,
        Err(error) => return notes.push(refused(&error)),
    };
    match path.to_str() {
        Some(text) if caller.executable() == seen_by_us(&path) => push(selectors, "path", text),
        Some(_) => notes.push(format!(
            "no unix:path selector: the process has a file at {} that is not the one which the agent has there (another \
             mount namespace, or replaced), and any user can make such a view; use unix:sha256, or run the agent where it \
             sees the same files",
            path.display()
        )),
        None => notes.push(format!("no unix:path selector: {} is not UTF-8", path.display())),
    }
    match hashes.sha256(&file) {
        Ok(Hashed::Sha256(hash)) => push(selectors, "sha256", hash),
        Ok(Hashed::TooLarge { size }) => notes.push(format!(
            "no unix:sha256 selector: {} has {size} bytes, over unix.workload_size_limit ({})",
            path.display(),
            hashes.limit()
        )),
        Err(error) => {
            notes.push(format!("no unix:sha256 selector: {} cannot be read: {error}", link.display()))
        }
    }
}

/// The file at this path, for the agent.
fn seen_by_us(path: &Path) -> Option<FileId> {
    Some(file_id(&std::fs::metadata(path).ok()?))
}

fn file_id(metadata: &std::fs::Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attest_self(attestor: &UnixAttestor) -> Found {
        attestor.attest(&Caller::pin(i32::try_from(std::process::id()).unwrap()).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn our_own_selectors_are_found() {
        let found = attest_self(&UnixAttestor::new(true, u64::MAX)).selectors;
        let exe = std::env::current_exe().unwrap();
        let uid = nix::unistd::geteuid().as_raw();
        assert!(found.contains(&Selector::new(KIND, format!("uid:{uid}"))), "{found:?}");
        assert!(found.contains(&Selector::new(KIND, format!("path:{}", exe.display()))), "{found:?}");
        assert!(found.iter().any(|s| s.value.starts_with("sha256:") && s.value.len() == 71), "{found:?}");
        assert!(found.iter().any(|s| s.value.starts_with("gid:")), "{found:?}");
    }

    #[tokio::test]
    async fn a_large_binary_is_noted_not_hashed() {
        let found = attest_self(&UnixAttestor::new(true, 1));
        assert!(!found.selectors.iter().any(|s| s.value.starts_with("sha256:")));
        assert!(found.notes.iter().any(|note| note.contains("workload_size_limit")), "{:?}", found.notes);
    }

    #[tokio::test]
    async fn paths_are_not_looked_at_unless_asked() {
        let found = attest_self(&UnixAttestor::new(false, 0)).selectors;
        assert!(!found.iter().any(|s| s.value.starts_with("path:")));
    }

    #[test]
    fn supplementary_groups_become_selectors() {
        let status = ProcessStatus { uid: 0, gid: 0, groups: vec![0, 3_999_999], own_ids: true };
        let (mut selectors, mut notes) = (Vec::new(), Vec::new());
        accounts(&status, &mut selectors, &mut notes);
        assert!(selectors.contains(&Selector::new(KIND, "supplementary_gid:3999999")));
        assert!(selectors.contains(&Selector::new(KIND, "supplementary_group:root")));
        assert!(notes.iter().any(|note| note.contains("3999999")), "{notes:?}");
    }
}
