//! Who is asked about which container, and who is not. The engines are stand-ins that know some containers by ID.

use std::collections::HashSet;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixListener,
};

use super::*;
use crate::attest::container::{ContainerId, Own};

fn id(name: u8) -> ContainerId {
    ContainerId::parse(&format!("{name:02x}").repeat(32)).unwrap()
}

fn container(name: u8, runtime: Runtime, delegation: Delegation) -> Container {
    Container { id: id(name), runtime, delegation }
}

fn docker(names: &[u8]) -> Place {
    Place::Containers(names.iter().map(|name| container(*name, Runtime::Docker, Delegation::None)).collect())
}

/// Engines that know the containers `known`, each labelled with who answered.
struct Bed {
    directory: tempfile::TempDir,
    attestor: DockerAttestor,
}

impl Bed {
    fn new(rootless_users: Vec<u32>) -> Self {
        Self::with_agent_in(HashSet::new(), rootless_users)
    }

    /// The agent is itself in these containers.
    fn with_agent_in(containers: HashSet<ContainerId>, rootless_users: Vec<u32>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| format!("{}/{name}", directory.path().display());
        let settings = DockerAttestorSettings {
            enabled: true,
            docker_socket_path: at("docker.sock").parse().unwrap(),
            podman_socket_path: at("podman.sock").parse().unwrap(),
            docker_socket_path_template: at("%d-docker.sock").parse().unwrap(),
            podman_socket_path_template: at("%d-podman.sock").parse().unwrap(),
            rootless_users,
            timeout: Duration::from_millis(1).into(),
        };
        let locator = Arc::new(Locator::new(Own { containers, ..Own::default() }));
        let mut attestor = DockerAttestor::new(&settings, locator);
        // What is tested here is who is asked, not how long.
        let patience = Patience {
            total: Duration::from_secs(60),
            one_try: Duration::from_secs(60),
            pause: Duration::from_secs(61),
        };
        attestor.docker = Arc::new(Engine::docker(settings.docker_socket_path.path(), None, patience));
        attestor.podman = Arc::new(Engine::podman(settings.podman_socket_path.path(), None, patience));
        for ((uid, is_podman), engine) in &mut attestor.rootless {
            let socket = engine.socket().to_owned();
            let make = if *is_podman { Engine::podman } else { Engine::docker };
            *engine = Arc::new(make(&socket, Some(*uid), patience));
        }
        Self { directory, attestor }
    }

    fn engine(&self, socket: &'static str, known: &[u8]) {
        let listener = UnixListener::bind(self.directory.path().join(socket)).unwrap();
        let known: Vec<_> = known.iter().map(|name| id(*name)).collect();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 4096];
                let length = stream.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                let found = known.iter().find(|id| request.contains(id.as_str()));
                let (status, body) = match found {
                    Some(id) => (
                        "200 OK",
                        serde_json::json!({
                            "Id": id.as_str(), "Config": {"Labels": {"by": socket, "id": id.to_string()}},
                            "GraphDriver": {"Data": {"UpperDir": format!("/layers/{id}")}},
                        }),
                    ),
                    None => ("404 Not Found", serde_json::json!({"message": "No such container"})),
                };
                let body = body.to_string();
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
    }

    /// The labels that came, or why there are none.
    async fn ask(&self, place: Place) -> String {
        let found = self.attestor.selectors(place).await;
        let selectors: Vec<_> = found.selectors.iter().map(|selector| selector.value.to_string()).collect();
        found.notes.into_iter().next().unwrap_or_else(|| selectors.join(" "))
    }
}

fn labels(engine: &str, name: u8) -> String {
    format!("label:by:{engine} label:id:{}", id(name))
}

#[tokio::test]
async fn who_is_in_no_container_has_no_selectors_and_no_note() {
    let found = Bed::new(Vec::new()).attestor.selectors(Place::Host).await;
    assert!(found.selectors.is_empty() && found.notes.is_empty() && found.unanswered.is_none());
}

#[tokio::test]
async fn each_engine_is_asked_for_its_own() {
    let bed = Bed::new(Vec::new());
    bed.engine("docker.sock", &[1, 2]);
    bed.engine("podman.sock", &[1, 2]);
    for (runtime, engine) in [
        (Runtime::Docker, "docker.sock"),
        (Runtime::Unnamed, "docker.sock"),
        (Runtime::Podman, "podman.sock"),
    ] {
        let place = Place::Containers(vec![container(1, runtime, Delegation::None)]);
        assert_eq!(bed.ask(place).await, labels(engine, 1));
    }
    let place = Place::Containers(vec![container(1, Runtime::Other("CRI-O"), Delegation::None)]);
    assert!(bed.ask(place).await.contains("is run by CRI-O"));
}

/// A container's root can make cgroups inside its own, named after another container.
#[tokio::test]
async fn the_outermost_container_decides() {
    let bed = Bed::new(Vec::new());
    bed.engine("docker.sock", &[1, 2]);
    assert_eq!(bed.ask(docker(&[1, 2])).await, labels("docker.sock", 1));
    let unknown = bed.ask(docker(&[3, 2])).await;
    assert!(unknown.contains("the Docker Engine does not know container 030303030303"), "{unknown}");
    let foreign = Place::Containers(vec![
        container(3, Runtime::Other("containerd"), Delegation::None),
        container(2, Runtime::Docker, Delegation::None),
    ]);
    assert!(bed.ask(foreign).await.contains("is run by containerd"));
}

/// Docker in Docker, with the agent inside: the engine inside does not know the container around it.
#[tokio::test]
async fn a_container_that_holds_the_agent_too_is_passed_over() {
    let bed = Bed::with_agent_in([id(1)].into(), Vec::new());
    bed.engine("docker.sock", &[2, 3]);
    assert_eq!(bed.ask(docker(&[1, 2, 3])).await, labels("docker.sock", 2));
    assert!(bed.ask(docker(&[1])).await.contains("does not know container 010101010101"));
}

#[tokio::test]
async fn a_users_engine_is_believed_only_if_the_operator_says_so() {
    let me = nix::unistd::geteuid().as_raw();
    let bed = Bed::new(vec![me]);
    bed.engine("docker.sock", &[1]);
    bed.engine("podman.sock", &[1]);
    let of = |uid, runtime| Place::Containers(vec![container(1, runtime, Delegation::User(uid))]);
    for runtime in [Runtime::Docker, Runtime::Podman] {
        let refused = bed.ask(of(me + 1, runtime)).await;
        assert!(refused.contains(&format!("only if docker.rootless_users has {}", me + 1)), "{refused}");
    }
    // The user's own engine, and never root's, however the cgroup is called.
    let away = bed.attestor.selectors(of(me, Runtime::Podman)).await;
    assert!(away.unanswered.unwrap().reason.contains(&format!("user {me}'s podman")));
}

#[tokio::test]
async fn cgroups_that_others_can_make_prove_nothing() {
    let bed = Bed::new(Vec::new());
    bed.engine("docker.sock", &[1]);
    bed.engine("podman.sock", &[1]);
    for delegation in [Delegation::Foreign, Delegation::Service("/system.slice/ci-runner.service".into())] {
        for runtime in [Runtime::Docker, Runtime::Podman, Runtime::Unnamed] {
            let refused = bed.ask(Place::Containers(vec![container(1, runtime, delegation.clone())])).await;
            assert!(refused.contains("may be made up"), "{refused}");
        }
    }
}

#[tokio::test]
async fn the_agents_own_container_is_told_from_one_whose_network_it_shares() {
    let bed = Bed::new(Vec::new());
    bed.engine("docker.sock", &[1]);
    let own = |name, upper_dir: Option<&str>| {
        Place::Own(Mounted { id: id(name), runtime: Runtime::Docker, upper_dir: upper_dir.map(Arc::from) })
    };
    assert_eq!(bed.ask(own(1, Some("/layers/010101010101"))).await, labels("docker.sock", 1));
    assert!(bed.ask(own(1, Some("/layers/other"))).await.contains("cgroup: host"));
    assert!(bed.ask(own(1, None)).await.contains("cgroup: host"));
    assert!(bed.ask(own(2, Some("/layers/020202020202"))).await.contains("does not know"));
}

#[tokio::test]
async fn an_engine_that_does_not_answer_leaves_the_question_open() {
    let found = Bed::new(Vec::new()).attestor.selectors(docker(&[1])).await;
    assert!(found.selectors.is_empty());
    assert!(found.notes[0].contains("there is no socket at"));
    let said = found.unanswered.unwrap().reason;
    assert!(said.contains("the API of the Docker Engine"), "{said}");
    assert!(!said.contains('/'), "the caller is not told of the host's paths: {said}");
}
