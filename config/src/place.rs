//! Where sockets and data are when nobody says.
//!
//! Owns the defaults: places where only root, or only the user itself, can be first. It must never name a place under
//! `/tmp` for something that is made; what is found there is said to be anybody's.

use std::{
    ffi::OsString,
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

/// Where a client looks for the Workload API: an agent of this user, of the system, or SPIRE's.
#[must_use]
pub fn workload_sockets() -> Usual {
    User::current().usual(WORKLOAD_SOCKET, SPIRE_WORKLOAD_SOCKET)
}

/// Where a client looks for the server: one of this user, of the system, or SPIRE's.
#[must_use]
pub fn server_sockets() -> Usual {
    User::current().usual(SERVER_SOCKET, SPIRE_SERVER_SOCKET)
}

/// Where a socket is looked for that nobody named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usual {
    /// The first of these that is there. Only root and the user itself can have made it.
    pub ours: Vec<PathBuf>,
    /// Otherwise this one, where anybody can be first, so that who serves it has to be root or the user itself.
    pub anybodys: PathBuf,
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

    fn usual(&self, path: &str, spires: &str) -> Usual {
        let mut ours = vec![self.socket(path), PathBuf::from(path)];
        ours.dedup();
        Usual { ours, anybodys: spires.into() }
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_client_looks_for_its_own_then_the_systems_then_spires() {
        let usual = |id| user(id).usual(SERVER_SOCKET, SPIRE_SERVER_SOCKET);
        let systems = PathBuf::from("/run/svidecar/server.sock");
        assert_eq!(usual(7).ours, [PathBuf::from("/run/user/7/svidecar/server.sock"), systems.clone()]);
        assert_eq!(usual(0).ours, [systems]);
        assert_eq!(usual(0).anybodys, Path::new("/tmp/spire-server/private/api.sock"));
    }
}
