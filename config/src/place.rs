//! Where sockets and data are when nobody says.
//!
//! Owns the defaults: places where only root, or only the user itself, can be first. It must never name a place under
//! `/tmp` for something that is made; what others made there is found only if it belongs to root or to the user.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

/// The agent's Workload API, for root.
pub const WORKLOAD_SOCKET: &str = "/run/svidecar/api.sock";
/// The server's administration socket, for root.
pub const SERVER_SOCKET: &str = "/run/svidecar/server.sock";
/// Where a sidecar gives out tokens, for root.
pub const LOCAL_SOCKET: &str = "/run/svidecar/local.sock";
/// The agent's data, for root.
pub const AGENT_DATA: &str = "/var/lib/svidecar/agent";
/// The server's data, for root.
pub const SERVER_DATA: &str = "/var/lib/svidecar/server";

/// Where a SPIRE agent and a SPIRE server listen by default.
const SPIRE_WORKLOAD_SOCKET: &str = "/tmp/spire-agent/public/api.sock";
const SPIRE_SERVER_SOCKET: &str = "/tmp/spire-server/private/api.sock";

/// Where an agent of this user serves the Workload API.
#[must_use]
pub fn workload_socket() -> PathBuf {
    User::current().socket(WORKLOAD_SOCKET)
}

/// Where a server of this user is administered.
#[must_use]
pub fn server_socket() -> PathBuf {
    User::current().socket(SERVER_SOCKET)
}

/// Where a sidecar of this user gives out tokens.
#[must_use]
pub fn local_socket() -> PathBuf {
    User::current().socket(LOCAL_SOCKET)
}

/// Where an agent of this user has its data.
#[must_use]
pub fn agent_data() -> PathBuf {
    User::current().data(AGENT_DATA)
}

/// Where a server of this user has its data.
#[must_use]
pub fn server_data() -> PathBuf {
    User::current().data(SERVER_DATA)
}

/// Where a client finds the Workload API: an agent of this user, of the system, or SPIRE's.
#[must_use]
pub fn find_workload_socket() -> Found {
    User::current().find(WORKLOAD_SOCKET, Path::new(SPIRE_WORKLOAD_SOCKET))
}

/// Where a client finds the server: one of this user, of the system, or SPIRE's.
#[must_use]
pub fn find_server_socket() -> Found {
    User::current().find(SERVER_SOCKET, Path::new(SPIRE_SERVER_SOCKET))
}

/// A socket that nobody named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it is, or would be.
    pub path: PathBuf,
    /// Whether anybody can make it, now or later, so that at each connection the one who serves it has to be root or
    /// the user itself.
    pub is_anybodys: bool,
}

/// Who asks.
struct User {
    id: u32,
    runtime: Option<PathBuf>,
    state: Option<PathBuf>,
}

impl User {
    fn current() -> Self {
        let given = |name: &str| std::env::var_os(name).filter(|path| Path::new(path).is_absolute());
        let below_home = |home: OsString| PathBuf::from(home).join(".local/state");
        let id = rustix::process::geteuid().as_raw();
        // Where systemd has it.
        let usual = || Some(PathBuf::from(format!("/run/user/{id}"))).filter(|path| path.is_dir());
        Self {
            id,
            runtime: given("XDG_RUNTIME_DIR").map(PathBuf::from).or_else(usual),
            state: given("XDG_STATE_HOME").map(PathBuf::from).or_else(|| given("HOME").map(below_home)),
        }
    }

    /// The place below `base` that is for other users what `path` below `roots` is for root. The services of a system that
    /// have no `base` have root's places, where root has to make them a folder.
    fn own(&self, path: &str, base: Option<&Path>, roots: &str) -> PathBuf {
        match (self.id, base, Path::new(path).strip_prefix(roots)) {
            (1.., Some(base), Ok(below)) => base.join(below),
            _ => PathBuf::from(path),
        }
    }

    fn socket(&self, path: &str) -> PathBuf {
        self.own(path, self.runtime.as_deref(), "/run")
    }

    fn data(&self, path: &str) -> PathBuf {
        self.own(path, self.state.as_deref(), "/var/lib")
    }

    fn find(&self, path: &str, spires: &Path) -> Found {
        let systems = PathBuf::from(path);
        let ours = [self.socket(path), systems.clone()];
        // Only root and the user itself can have made what is there, or have let somebody else make it.
        let found = ours.into_iter().find(|path| owner_of_socket(path).is_some());
        let is_anybodys = found.is_none() && owner_of_socket(spires).is_some_and(|owner| self.trusts(owner));
        let otherwise = if is_anybodys { spires.to_owned() } else { systems };
        Found { path: found.unwrap_or(otherwise), is_anybodys }
    }

    const fn trusts(&self, owner: u32) -> bool {
        owner == 0 || owner == self.id
    }
}

/// Whose socket is there.
fn owner_of_socket(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().filter(|found| found.file_type().is_socket()).map(|found| found.uid())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::net::UnixListener;

    use super::*;

    fn user(id: u32) -> User {
        User { id, runtime: Some("/run/user/7".into()), state: Some("/home/u/.local/state".into()) }
    }

    #[test]
    fn root_has_the_systems_places_and_others_their_own() {
        assert_eq!(user(0).socket(WORKLOAD_SOCKET), Path::new("/run/svidecar/api.sock"));
        assert_eq!(user(7).socket(WORKLOAD_SOCKET), Path::new("/run/user/7/svidecar/api.sock"));
        assert_eq!(user(0).data(AGENT_DATA), Path::new("/var/lib/svidecar/agent"));
        assert_eq!(user(7).data(SERVER_DATA), Path::new("/home/u/.local/state/svidecar/server"));
        let bare = User { id: 7, runtime: None, state: None };
        assert_eq!(bare.socket(SERVER_SOCKET), Path::new(SERVER_SOCKET));
        assert_eq!(bare.data(SERVER_DATA), Path::new(SERVER_DATA));
    }

    /// Who is first under /tmp is not for that the one who is meant.
    #[test]
    fn a_client_finds_sockets_of_root_and_of_its_own_user_only() {
        let dir = tempfile::tempdir().unwrap();
        let spires = dir.path().join("api.sock");
        let _listener = UnixListener::bind(&spires).unwrap();
        let owner = fs::metadata(&spires).unwrap().uid();
        let absent = "/run/svidecar-test-absent/api.sock";
        let found = |path: &Path, is_anybodys| Found { path: path.to_owned(), is_anybodys };
        assert_eq!(user(owner).find(absent, &spires), found(&spires, true));
        if std::os::unix::fs::chown(&spires, Some(64_001), None).is_ok() {
            assert_eq!(user(64_002).find(absent, &spires), found(Path::new(absent), false));
        } else {
            println!("skipped: sockets of other users need root");
        }
        // A file is no socket.
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(user(owner).find(absent, &file), found(Path::new(absent), false));
        // Its own comes first.
        let own = User { id: 1.max(owner), runtime: Some(dir.path().to_owned()), state: None };
        fs::create_dir(dir.path().join("svidecar-test-absent")).unwrap();
        let mine = dir.path().join("svidecar-test-absent/api.sock");
        let _listener = UnixListener::bind(&mine).unwrap();
        assert_eq!(own.find(absent, &spires), found(&mine, false));
    }
}
