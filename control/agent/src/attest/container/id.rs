//! What is known of a container from the outside: its ID, who runs it, and who else could have named a cgroup so.

use std::{fmt, sync::Arc};

/// A container's ID: 64 lower-case hex digits, so it is safe in a path or a log.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId(Arc<str>);

impl ContainerId {
    const LENGTH: usize = 64;

    /// The ID that `text` is, if it is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_id =
            text.len() == Self::LENGTH && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        is_id.then(|| Self(text.into()))
    }

    /// All 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The first twelve digits, as engines print them.
impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.get(..12).unwrap_or(&self.0))
    }
}

/// Who runs a container, as far as its cgroup's name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Runtime {
    /// The Docker Engine.
    Docker,
    /// podman.
    Podman,
    /// The name is the bare ID: cgroupfs with a parent of the operator's choice. Docker, if it knows the ID.
    Unnamed,
    /// One without Docker's API.
    Other(&'static str),
}

/// Who could have made a cgroup of this name, other than root.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Delegation {
    /// Nobody.
    None,
    /// This user: it is below the user's slice.
    User(u32),
    /// The service with this cgroup, directly above the container, if root is not its owner.
    Service(Arc<str>),
    /// Whoever root handed a scope, a system container or something in a service to.
    Foreign,
}

/// A container on the way from the root of the cgroups to a process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Container {
    /// Its ID.
    pub id: ContainerId,
    /// Who runs it.
    pub runtime: Runtime,
    /// Who may have made this up.
    pub delegation: Delegation,
}

/// The texts cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocateError {
    /// Two containers, neither of which is inside the other.
    #[error("the process is in two containers at once, {} and {}", .0.as_str(), .1.as_str())]
    Several(ContainerId, ContainerId),
}
