//! `/proc/PID/cgroup` (cgroups(7)): lines of `HIERARCHY:CONTROLLERS:PATH`.
//!
//! A path is relative to the cgroup namespace of who reads it, that is to the agent's: the caller cannot hide in a
//! namespace of its own, and from a private one siblings look like `/../ID`.

use super::id::{Container, ContainerId, Delegation, LocateError, Runtime};

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
    let mut session = Delegation::None;
    for (controllers, path) in hierarchies(text) {
        let (mut chain, below) = chain(path);
        // Whom systemd put into a user's slice cannot leave it there, whatever was handed over elsewhere.
        if chain.is_empty() && controllers == "name=systemd" && matches!(below, Delegation::User(_)) {
            session = below;
        }
        if chain.len() > found.len() {
            std::mem::swap(&mut chain, &mut found);
        }
        for (longer, shorter) in found.iter_mut().zip(chain) {
            if longer.id != shorter.id {
                return Err(LocateError::Several(longer.id.clone(), shorter.id));
            }
            longer.delegation = both(&longer.delegation, &shorter.delegation);
        }
    }
    if let Some(outermost) = found.first_mut() {
        outermost.delegation = both(&outermost.delegation, &session);
    }
    Ok(found)
}

/// Where the outermost container is made: for each hierarchy its controllers (none for v2) and the path above the
/// container.
pub fn parents(text: &str) -> impl Iterator<Item = (&str, &str)> {
    hierarchies(text).filter_map(|(controllers, path)| {
        let mut rest = path;
        let mut parents = None;
        while let Some((above, name)) = rest.rsplit_once('/') {
            if container(name, above.rsplit('/').next().unwrap_or_default()).is_some() {
                parents = Some((controllers, above));
            }
            rest = above;
        }
        parents
    })
}

fn hierarchies(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some((fields.next()?, fields.next()?))
    })
}

/// What one hierarchy says that somebody could have made up taints the others.
fn both(one: &Delegation, other: &Delegation) -> Delegation {
    match (one, other) {
        (Delegation::None, only) | (only, Delegation::None) => only.clone(),
        _ if one == other => one.clone(),
        _ => Delegation::Foreign,
    }
}

/// The containers on a path, and who may make cgroups below the last.
fn chain(path: &str) -> (Vec<Container>, Delegation) {
    let mut found = Vec::new();
    let mut delegation = Delegation::None;
    let (mut above, mut parent) = ("", "");
    let mut length = 0;
    for name in path.split('/') {
        length += name.len() + 1;
        if let Some((runtime, id)) = container(name, parent) {
            // podman runs containers of units (quadlets) directly below the service; nobody else does.
            if matches!(delegation, Delegation::Service(_)) && runtime != Runtime::Podman {
                delegation = Delegation::Foreign;
            }
            found.push(Container { id, runtime, delegation });
            delegation = Delegation::None;
            if found.len() == MAX_NESTED {
                break;
            }
        } else {
            let here = path.get(..length - 1).unwrap_or(path);
            delegation = delegate(delegation, above, parent, name, here);
        }
        (above, parent) = (parent, name);
    }
    (found, delegation)
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

/// Who may make cgroups below `name`, the cgroup `here` in `parent` in `above`, given who may in `parent`. systemd hands a
/// user the slice of that user, and a service or scope with `Delegate=` its own cgroup; LXC and nspawn hand theirs to
/// the system inside, and LXC's PAM module `/user/NAME` to that user.
fn delegate(inherited: Delegation, above: &str, parent: &str, name: &str, here: &str) -> Delegation {
    let is_top = |name: &str| matches!(name, "" | "..");
    let is_system_container = name.starts_with("lxc")
        || name.starts_with("systemd-nspawn@")
        || (name.ends_with(".scope") && name != "init.scope");
    match inherited {
        Delegation::User(_) | Delegation::Foreign => inherited,
        // Below a service there may be anything, made by whomever it gave it to.
        Delegation::Service(_) => Delegation::Foreign,
        Delegation::None => match name.strip_prefix("user-").and_then(|rest| rest.strip_suffix(".slice")) {
            Some(uid) => match uid.parse() {
                Ok(0) => Delegation::None,
                Ok(uid) if parent == "user.slice" && is_top(above) => Delegation::User(uid),
                _ => Delegation::Foreign,
            },
            None if is_system_container || (name == "user" && is_top(parent)) => Delegation::Foreign,
            None if name.ends_with(".service") => Delegation::Service(here.into()),
            None => Delegation::None,
        },
    }
}
