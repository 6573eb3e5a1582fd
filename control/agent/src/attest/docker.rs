//! The docker attestor: selectors of the caller's container, from the engine that runs it.
//!
//! Owns SPIRE's `docker:` selectors. A caller's cgroup says which container it is in ([`locator`]), and the engine's
//! API says what that container is ([`engine`]). Who is in no container has no such selectors, and that is no
//! error. It must never ask an engine about an ID that somebody else than that engine could have made up.

pub mod engine;
mod inspect;
pub mod locator;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use svidecar_config::agent::DockerAttestorSettings;

use self::{
    engine::{Engine, Patience},
    inspect::Inspected,
    locator::{Container, ContainerId, Delegation, Mounted, Runtime},
};
use super::{Caller, caller};
use crate::{error::AttestError, selector::Selector};

/// The type of all selectors made here.
pub const KIND: &str = "docker";

/// One try; a healthy engine answers within milliseconds.
const ONE_TRY: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(100);

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

/// What was found out about a caller's container.
#[derive(Debug, Default)]
pub struct Found {
    /// The selectors.
    pub selectors: Vec<Selector>,
    /// Why there are none.
    pub note: Option<String>,
    /// There might be some: the engine did not answer. A sentence for the caller.
    pub unanswered: Option<String>,
}

impl Found {
    fn nothing(why: impl std::fmt::Display) -> Self {
        Self { note: Some(format!("no docker selectors: {why}")), ..Self::default() }
    }
}

/// See the module.
pub struct DockerAttestor {
    docker: Arc<Engine>,
    podman: Arc<Engine>,
    /// Of users, by whether it is podman.
    rootless: HashMap<(u32, bool), Arc<Engine>>,
    own: Own,
}

/// The agent's own place.
struct Own {
    containers: HashSet<ContainerId>,
    mount_namespace: Option<PathBuf>,
    mounted: Option<Mounted>,
}

impl DockerAttestor {
    /// An attestor that asks the engines of `settings`. Reads the agent's own place from `/proc`.
    #[must_use]
    pub fn new(settings: &DockerAttestorSettings) -> Self {
        let total = settings.timeout.get();
        let patience = Patience { total, one_try: ONE_TRY.min(total), pause: FIRST_PAUSE };
        let mut rootless = HashMap::new();
        for uid in &settings.rootless_users {
            let docker = settings.docker_socket_path_template.of(*uid);
            rootless.insert((*uid, false), Arc::new(Engine::docker(docker.path(), Some(*uid), patience)));
            let podman = settings.podman_socket_path_template.of(*uid);
            rootless.insert((*uid, true), Arc::new(Engine::podman(podman.path(), Some(*uid), patience)));
        }
        Self {
            docker: Arc::new(Engine::docker(settings.docker_socket_path.path(), None, patience)),
            podman: Arc::new(Engine::podman(settings.podman_socket_path.path(), None, patience)),
            rootless,
            own: Own::read(),
        }
    }

    /// Says in the log which engines are asked, and which of them do not answer.
    pub async fn announce(&self, settings: &DockerAttestorSettings) {
        tracing::info!(
            docker = %self.docker.socket().display(), podman = %self.podman.socket().display(),
            rootless_users = ?settings.rootless_users, "callers in containers get docker selectors"
        );
        // A machine has one of the two. The other's socket is missed only if somebody named it.
        let is_here = |engine: &Engine, named: bool| named || engine.socket().exists();
        let podman_is_named =
            settings.podman_socket_path != DockerAttestorSettings::default().podman_socket_path;
        let podman = is_here(&self.podman, podman_is_named);
        if podman && self.podman.ping().await.is_err() {
            tracing::debug!("podman is asked again when a caller is in one of its containers");
        }
        let docker_is_named =
            settings.docker_socket_path != DockerAttestorSettings::default().docker_socket_path;
        if is_here(&self.docker, docker_is_named || !podman) && self.docker.ping().await.is_err() {
            tracing::debug!("the Docker Engine is asked again when a caller is in one of its containers");
        }
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
        match locator::containers(&text) {
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
        Ok(match locator::mounted(&text) {
            Ok(Some(Mounted { id, .. })) => Place::Unclear(format!(
                "the mounts are those of container {id}, but the cgroup is of no container, so nothing proves it; \
                 the engine has to manage cgroups (rootless engines need cgroup v2 and systemd)"
            )),
            Ok(None) | Err(_) => Place::Host,
        })
    }

    /// Asks the engine.
    pub async fn selectors(&self, place: Place) -> Found {
        match place {
            Place::Host => Found::default(),
            Place::Unclear(why) => Found::nothing(why),
            Place::Own(mounted) => self.of_own(&mounted).await,
            Place::Containers(containers) => self.of_outermost(&containers).await,
        }
    }

    /// The outermost container decides: what is inside it, its own root may have made up. An engine that
    /// runs inside a container knows only what is further in, so one that holds the agent as well is passed over.
    async fn of_outermost(&self, containers: &[Container]) -> Found {
        let mut unknown = Vec::new();
        for container in containers {
            let engine = match self.engine(container) {
                Ok(engine) => engine,
                Err(why) => return Found::nothing(why),
            };
            match engine.inspect(&container.id).await {
                Ok(Some(found)) => return Found { selectors: found.selectors.clone(), ..Found::default() },
                Ok(None) => {
                    unknown.push(format!("{} does not know container {}", engine.name(), container.id))
                }
                Err(error) => return unanswered(engine, &error),
            }
            if !self.own.containers.contains(&container.id) {
                break;
            }
        }
        Found::nothing(unknown.join(", and "))
    }

    /// The mounts name a container whose network this one shares, perhaps; its root file system is its own.
    async fn of_own(&self, mounted: &Mounted) -> Found {
        let Mounted { id, runtime, upper_dir } = mounted;
        let container = Container { id: id.clone(), runtime: *runtime, delegation: Delegation::None };
        let engine = match self.engine(&container) {
            Ok(engine) => engine,
            Err(why) => return Found::nothing(why),
        };
        match engine.inspect(id).await {
            Ok(Some(found)) if is_root_of(&found, upper_dir.as_deref()) => {
                Found { selectors: found.selectors.clone(), ..Found::default() }
            }
            Ok(Some(_)) => Found::nothing(format!(
                "the process is in the agent's own container, which from inside cannot be told from {id}, whose network it shares; \
                 run the agent with the host's cgroup namespace (`cgroup: host` in Compose)"
            )),
            Ok(None) => Found::nothing(format!("{} does not know container {id}", engine.name())),
            Err(error) => unanswered(engine, &error),
        }
    }

    /// Who may be asked about a container.
    fn engine(&self, container: &Container) -> Result<&Engine, String> {
        let id = &container.id;
        match (&container.delegation, container.runtime) {
            (_, Runtime::Other(name)) => {
                Err(format!("container {id} is run by {name}, which does not speak Docker's API"))
            }
            (Delegation::None, Runtime::Podman) => Ok(&self.podman),
            (Delegation::None, Runtime::Docker | Runtime::Unnamed) => Ok(&self.docker),
            (Delegation::User(uid), runtime) => self
                .rootless
                .get(&(*uid, runtime == Runtime::Podman))
                .map(|engine| &**engine)
                .ok_or_else(|| {
                    format!(
                        "container {id} is of user {uid}'s own engine, which is believed only if docker.rootless_users has {uid}"
                    )
                }),
            (Delegation::Service(path), _) => Err(format!(
                "container {id} is named by a cgroup below {path}, which root does not own or which cannot be seen from here, so that it may be made up"
            )),
            (Delegation::Foreign, _) => Err(format!(
                "container {id} is named by a cgroup that others than root may have made (in a scope, a service, a system container or a user's cgroup), so that it may be made up"
            )),
        }
    }
}

fn unanswered(engine: &Engine, error: &engine::EngineError) -> Found {
    let name = engine.name();
    Found {
        unanswered: Some(format!("the API of {name}, which runs the caller's container, does not answer")),
        ..Found::nothing(format!("the API of {name} does not answer: {error}"))
    }
}

fn is_root_of(found: &Inspected, upper_dir: Option<&str>) -> bool {
    upper_dir.is_some() && found.upper_dir.as_deref() == upper_dir
}

/// Whether all cgroups above the outermost container are root's, in every hierarchy, as far as they can be seen.
/// `None` where some cannot: from a cgroup namespace of the agent's own, or without the file system.
fn roots_up_to(text: &str, cgroups: &Path) -> Option<bool> {
    let mut all_seen = true;
    for (controllers, parents) in locator::parents(text) {
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

impl Own {
    /// What cannot be read is not known, and helps nobody then.
    fn read() -> Self {
        let read = |name: &str, limit| -> io::Result<String> {
            caller::read_bounded(Path::new("/proc/self").join(name), limit)
        };
        let cgroup = read("cgroup", MAX_CGROUP).unwrap_or_default();
        let mountinfo = read("mountinfo", MAX_MOUNTINFO).unwrap_or_default();
        Self {
            containers: locator::containers(&cgroup)
                .map(|all| all.into_iter().map(|container| container.id).collect())
                .unwrap_or_default(),
            mount_namespace: fs::read_link("/proc/self/ns/mnt").ok(),
            mounted: locator::mounted(&mountinfo).unwrap_or_default(),
        }
    }
}
