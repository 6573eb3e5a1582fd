//! The docker attestor: selectors of the caller's container, from the engine that runs it.
//!
//! Owns SPIRE's `docker:` selectors. A caller's cgroup says which container it is in, which
//! [`container`](super::container) reads, and the engine's API says what that container is ([`engine`]). Who is in no
//! container has no such selectors, and that is no error. It must never ask an engine about an ID that somebody else than that engine could have made up.

pub mod engine;
mod inspect;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Duration};

use svidecar_code::Code;
use svidecar_config::agent::DockerAttestorSettings;

use self::{
    engine::{Engine, Patience},
    inspect::{Inspected, KIND},
};
use super::{
    attestor::{Attestor, Found, Reading, Unanswered},
    caller::Caller,
    container::{Container, Delegation, Locator, Mounted, Place, Runtime},
};
use crate::error::AttestError;

/// One try; a healthy engine answers within milliseconds.
const ONE_TRY: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// See the module.
pub struct DockerAttestor {
    docker: Arc<Engine>,
    podman: Arc<Engine>,
    /// Of users, by whether it is podman.
    rootless: HashMap<(u32, bool), Arc<Engine>>,
    locator: Arc<Locator>,
}

impl DockerAttestor {
    /// An attestor that asks the engines of `settings` about the containers that `locator` finds.
    #[must_use]
    pub fn new(settings: &DockerAttestorSettings, locator: Arc<Locator>) -> Self {
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
            locator,
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

    /// Asks the engine.
    pub async fn selectors(&self, place: Place) -> Found {
        match place {
            Place::Host => Found::default(),
            Place::Unclear(why) => nothing(why),
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
                Err(why) => return nothing(why),
            };
            match engine.inspect(&container.id).await {
                Ok(Some(found)) => return Found { selectors: found.selectors.clone(), ..Found::default() },
                Ok(None) => {
                    unknown.push(format!("{} does not know container {}", engine.name(), container.id))
                }
                Err(error) => return unanswered(engine, &error),
            }
            if !self.locator.holds_the_agent(&container.id) {
                break;
            }
        }
        nothing(unknown.join(", and "))
    }

    /// The mounts name a container whose network this one shares, perhaps; its root file system is its own.
    async fn of_own(&self, mounted: &Mounted) -> Found {
        let Mounted { id, runtime, upper_dir } = mounted;
        let container = Container { id: id.clone(), runtime: *runtime, delegation: Delegation::None };
        let engine = match self.engine(&container) {
            Ok(engine) => engine,
            Err(why) => return nothing(why),
        };
        match engine.inspect(id).await {
            Ok(Some(found)) if is_root_of(&found, upper_dir.as_deref()) => {
                Found { selectors: found.selectors.clone(), ..Found::default() }
            }
            Ok(Some(_)) => nothing(format!(
                "the process is in the agent's own container, which from inside cannot be told from {id}, whose network it shares; \
                 run the agent with the host's cgroup namespace (`cgroup: host` in Compose)"
            )),
            Ok(None) => nothing(format!("{} does not know container {id}", engine.name())),
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

fn nothing(why: impl std::fmt::Display) -> Found {
    Found { notes: vec![format!("no docker selectors: {why}")], ..Found::default() }
}

fn unanswered(engine: &Engine, error: &engine::EngineError) -> Found {
    let name = engine.name();
    let unanswered = Unanswered {
        kind: KIND,
        code: Code::EngineUnavailable,
        reason: format!("the API of {name}, which runs the caller's container, does not answer"),
        answered: "the engine of the caller's container answers again",
    };
    Found { unanswered: Some(unanswered), ..nothing(format!("the API of {name} does not answer: {error}")) }
}

fn is_root_of(found: &Inspected, upper_dir: Option<&str>) -> bool {
    upper_dir.is_some() && found.upper_dir.as_deref() == upper_dir
}

impl Attestor for DockerAttestor {
    fn read(self: Arc<Self>, caller: &Caller) -> Result<Reading, AttestError> {
        Ok(match self.locator.place(caller)? {
            Place::Host => Reading::Whole(Found::default()),
            place => Reading::Question(Box::pin(async move { self.selectors(place).await })),
        })
    }
}
