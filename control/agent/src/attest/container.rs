//! Which container a caller is in, for whatever attests containers.
//!
//! Owns the knowledge of how engines name cgroups (v1 and v2, systemd's and cgroupfs' drivers) and of who may make which
//! cgroup: a name proves something only where nobody but the engine could have made it. It must never guess: texts that
//! name two containers side by side are an error that names both. Nobody is asked; what a container is, its engine knows.

mod cgroup;
mod id;
mod mounts;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

pub use cgroup::{containers, parents};
pub use id::{Container, ContainerId, Delegation, LocateError, Runtime};
pub use mounts::{Mounted, mounted};

use super::caller::{self, Caller};
use crate::error::AttestError;

/// A mount has some hundred bytes, a busy host thousands of mounts.
const MAX_MOUNTINFO: u64 = 4 << 20;
const MAX_CGROUP: u64 = 64 << 10;

const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// Where a caller is, before anybody was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In no container.
    Host,
    /// In these, the outermost first.
    Containers(Vec<Container>),
    /// In the agent's own, of which the cgroups show nothing from inside.
    Own(Mounted),
    /// It cannot be said, for this reason.
    Unclear(String),
}

/// The agent's own place.
#[derive(Debug, Clone, Default)]
pub struct Own {
    /// The containers that the agent is in.
    pub containers: HashSet<ContainerId>,
    /// Its mount namespace, as `/proc` names it.
    pub mount_namespace: Option<PathBuf>,
    /// What its mounts say.
    pub mounted: Option<Mounted>,
}

impl Own {
    /// Reads it from `/proc`. What cannot be read is not known, and helps nobody then.
    #[must_use]
    pub fn read() -> Self {
        let read = |name: &str, limit| -> io::Result<String> {
            caller::proc::read_bounded(Path::new("/proc/self").join(name), limit)
        };
        let cgroup = read("cgroup", MAX_CGROUP).unwrap_or_default();
        let mountinfo = read("mountinfo", MAX_MOUNTINFO).unwrap_or_default();
        Self {
            containers: containers(&cgroup)
                .map(|all| all.into_iter().map(|container| container.id).collect())
                .unwrap_or_default(),
            mount_namespace: fs::read_link("/proc/self/ns/mnt").ok(),
            mounted: mounted(&mountinfo).unwrap_or_default(),
        }
    }
}

/// Finds the containers of callers.
pub struct Locator {
    own: Own,
}

impl Locator {
    /// A locator of an agent whose own place this is.
    #[must_use]
    pub fn new(own: Own) -> Self {
        Self { own }
    }

    /// Whether the agent itself is in that container.
    #[must_use]
    pub fn holds_the_agent(&self, id: &ContainerId) -> bool {
        self.own.containers.contains(id)
    }

    /// Where the caller is. Reads `/proc`; nobody is asked.
    ///
    /// # Errors
    /// When the caller is gone.
    pub fn place(&self, caller: &Caller) -> Result<Place, AttestError> {
        let text = match caller.read("cgroup", MAX_CGROUP) {
            Ok(text) => text,
            Err(error @ AttestError::Gone { .. }) => return Err(error),
            Err(error) => return Ok(Place::Unclear(error.to_string())),
        };
        match containers(&text) {
            Err(error) => Ok(Place::Unclear(error.to_string())),
            Ok(containers) if containers.is_empty() => self.place_by_mounts(caller),
            Ok(containers) => {
                Ok(Place::Containers(judge(containers, roots_up_to(&text, Path::new(CGROUP_ROOT)))))
            }
        }
    }

    /// What a caller's mounts say is believed only of the agent's own mount namespace: in one of its own, anybody
    /// can mount anything.
    fn place_by_mounts(&self, caller: &Caller) -> Result<Place, AttestError> {
        let namespace = fs::read_link(caller.proc_file("ns/mnt")).ok();
        if namespace.is_some() && namespace == self.own.mount_namespace {
            return Ok(self.own.mounted.clone().map_or(Place::Host, Place::Own));
        }
        let text = match caller.read("mountinfo", MAX_MOUNTINFO) {
            Ok(text) => text,
            Err(error @ AttestError::Gone { .. }) => return Err(error),
            Err(error) => return Ok(Place::Unclear(error.to_string())),
        };
        Ok(match mounted(&text) {
            Ok(Some(Mounted { id, .. })) => Place::Unclear(format!(
                "the mounts are those of container {id}, but the cgroup is of no container, so nothing proves it; \
                 the engine has to manage cgroups (rootless engines need cgroup v2 and systemd)"
            )),
            Ok(None) | Err(_) => Place::Host,
        })
    }
}

/// Whether all cgroups above the outermost container are root's, in every hierarchy, as far as they can be seen.
/// `None` where some cannot: from a cgroup namespace of the agent's own, or without the file system.
fn roots_up_to(text: &str, cgroups: &Path) -> Option<bool> {
    let mut all_seen = true;
    for (controllers, parents) in parents(text) {
        if parents.split('/').any(|name| name == "..") {
            all_seen = false;
            continue;
        }
        let hierarchy = cgroups.join(controllers.trim_start_matches("name="));
        for cgroup in Path::new(parents.trim_start_matches('/')).ancestors() {
            match fs::metadata(hierarchy.join(cgroup)) {
                Ok(metadata) if metadata.uid() == 0 && metadata.mode() & 0o022 == 0 => {}
                Ok(_) => return Some(false),
                Err(_) => all_seen = false,
            }
        }
    }
    all_seen.then_some(true)
}

/// A quadlet's service is believed if it is seen to be root's; anybody else's name is not, if it is seen that root does
/// not own what it is in. What is inside of the outermost container decides nothing.
fn judge(mut containers: Vec<Container>, is_roots: Option<bool>) -> Vec<Container> {
    if let Some(outermost) = containers.first_mut() {
        match (&outermost.delegation, is_roots) {
            (Delegation::Service(_), Some(true)) => outermost.delegation = Delegation::None,
            (Delegation::None, Some(false)) => outermost.delegation = Delegation::Foreign,
            _ => {}
        }
    }
    containers
}
