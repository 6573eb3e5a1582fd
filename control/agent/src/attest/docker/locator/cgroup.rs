//! `/proc/PID/cgroup` (cgroups(7)): lines of `HIERARCHY:CONTROLLERS:PATH`.
//!
//! A path is relative to the cgroup namespace of who reads it, that is to the agent's: the caller cannot hide in a
//! namespace of its own, and from a private one siblings look like `/../ID`.

use super::{Container, ContainerId, Delegation, LocateError, Runtime};

/// Deeper than any path of the kernel (PATH_MAX), and more than containers nest.
const MAX_NESTED: usize = 16;

/// The containers that a process is in, the outermost first. None for a process of the host.
///
/// Every hierarchy is looked at: v1 has several, and the process may be deeper in one than in another.
///
/// # Errors
/// When two hierarchies lead to different containers.
pub fn containers(text: &str) -> Result<Vec<Container>, LocateError> {
    let mut found: Vec<Container> = Vec::new();
    for line in text.lines() {
        let Some(path) = line.splitn(3, ':').nth(2) else { continue };
        let mut chain = chain(path);
        if chain.len() > found.len() {
            std::mem::swap(&mut chain, &mut found);
        }
        for (longer, shorter) in found.iter_mut().zip(chain) {
            if longer.id != shorter.id {
                return Err(LocateError::Several(longer.id.clone(), shorter.id));
            }
            // One hierarchy that somebody could have made up taints the others.
            if longer.delegation == Delegation::None {
                longer.delegation = shorter.delegation;
            }
        }
    }
    Ok(found)
}

fn chain(path: &str) -> Vec<Container> {
    let mut found = Vec::new();
    let mut delegation = Delegation::None;
    let mut parent = "";
    let mut length = 0;
    for name in path.split('/') {
        length += name.len() + 1;
        if let Some((runtime, id)) = container(name, parent) {
            found.push(Container { id, runtime, delegation });
            delegation = Delegation::None;
            if found.len() == MAX_NESTED {
                break;
            }
        } else {
            let here = path.get(..length - 1).unwrap_or(path);
            delegation = delegate(delegation, name, here);
        }
        parent = name;
    }
    found
}

/// What a container's cgroup is called by its engine. Monitors (`libpod-conmon-ID`) are not containers.
fn container(name: &str, parent: &str) -> Option<(Runtime, ContainerId)> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    if let Some(id) = ContainerId::parse(name) {
        let runtime = match parent {
            // A pod of podman's, whose containers are below.
            "libpod_parent" => return None,
            "docker" => Runtime::Docker,
            "k8s.io" => Runtime::Other("containerd"),
            _ => Runtime::Unnamed,
        };
        return Some((runtime, id));
    }
    // systemd's notation, which runc takes for a name when it was told to use cgroupfs: `SLICE:PREFIX:ID`.
    let (prefix, id) = match name.rsplit_once(':') {
        Some((before, id)) => (before.rsplit_once(':')?.1, id),
        None => name.rsplit_once('-')?,
    };
    let runtime = match prefix {
        "docker" => Runtime::Docker,
        "libpod" | "libpod-payload" => Runtime::Podman,
        "cri-containerd" | "nerdctl" => Runtime::Other("containerd"),
        "crio" => Runtime::Other("CRI-O"),
        _ => return None,
    };
    Some((runtime, ContainerId::parse(id)?))
}

/// Who may make cgroups below `name`, given who may above it. systemd hands a user the slice of that user, and a
/// service or scope with `Delegate=` its own cgroup; LXC and nspawn hand theirs to the system inside.
fn delegate(above: Delegation, name: &str, here: &str) -> Delegation {
    let user = name.strip_prefix("user-").and_then(|rest| rest.strip_suffix(".slice"));
    let is_system_container = name.starts_with("lxc")
        || name.starts_with("systemd-nspawn@")
        || (name.ends_with(".scope") && name != "init.scope");
    match above {
        Delegation::User(_) | Delegation::Foreign => above,
        _ if user.is_some() => match user.and_then(|uid| uid.parse().ok()) {
            Some(0) => above,
            Some(uid) => Delegation::User(uid),
            None => Delegation::Foreign,
        },
        _ if is_system_container => Delegation::Foreign,
        Delegation::None if name.ends_with(".service") => Delegation::Service(here.into()),
        above => above,
    }
}
