//! `/proc/PID/mountinfo` (proc_pid_mountinfo(5)): the files that an engine mounts into its containers.
//!
//! This is a claim, not a proof: whoever owns a mount namespace mounts what it likes. And of a container that shares
//! another's network, `/etc/hostname` and its like lead to the *other's* directory.

use std::sync::Arc;

use super::id::{ContainerId, LocateError, Runtime};

/// What the mounts say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// The container whose files these are.
    pub id: ContainerId,
    /// Whose layout it is.
    pub runtime: Runtime,
    /// Where the root file system is written to, which tells two containers apart that share a network.
    pub upper_dir: Option<Arc<str>>,
}

/// The files that an engine makes for each container.
const FILES: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

/// podman's alone is never shared with another container.
const CONTAINER_ENV: &str = "/run/.containerenv";

/// The container that the mounts name, if they do.
///
/// # Errors
/// When they name two.
pub fn mounted(text: &str) -> Result<Option<Mounted>, LocateError> {
    let (mut own, mut upper_dir) = (None, None);
    let mut shared: Option<(Runtime, ContainerId)> = None;
    for mount in text.lines().filter_map(Mount::parse) {
        match mount.point {
            "/" => upper_dir = mount.upper_dir().map(Arc::from),
            CONTAINER_ENV => own = owner(mount.root),
            point if FILES.contains(&point) => match (owner(mount.root), &shared) {
                (Some((_, id)), Some((_, other))) if id != *other => {
                    return Err(LocateError::Several(other.clone(), id));
                }
                (Some(found), _) => shared = Some(found),
                (None, _) => {}
            },
            _ => {}
        }
    }
    Ok(own.or(shared).map(|(runtime, id)| Mounted { id, runtime, upper_dir }))
}

struct Mount<'t> {
    root: &'t str,
    point: &'t str,
    options: &'t str,
}

impl<'t> Mount<'t> {
    fn parse(line: &'t str) -> Option<Self> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        Some(Self { root, point, options: filesystem.splitn(3, ' ').nth(2).unwrap_or_default() })
    }

    fn upper_dir(&self) -> Option<&'t str> {
        self.options.split(',').find_map(|option| option.strip_prefix("upperdir="))
    }
}

/// Whose file it is. What comes before differs with the data root and with how its file system is mounted.
fn owner(root: &str) -> Option<(Runtime, ContainerId)> {
    let mut names = root.rsplit('/').skip(1);
    let (last, before) = (names.next()?, names.next()?);
    // podman: …/overlay-containers/ID/userdata/hostname
    if last == "userdata" {
        return Some((Runtime::Podman, ContainerId::parse(before)?));
    }
    let id = ContainerId::parse(last)?;
    match before {
        "containers" => Some((Runtime::Docker, id)),
        "sandboxes" => Some((Runtime::Other("containerd"), id)),
        _ => None,
    }
}
