//! Workloads that are known by their containers: who runs in which one is asked of the real Docker Engine.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use svidecar_containers::{Compose, Project, socket_and_group};
use tokio::net::{UnixListener, UnixStream};

/// A sidecar beside the stack, with this user and label.
async fn sidecar(project: &mut Project, name: &str, user: &str, workload: &str) -> String {
    let api = format!("{}_workload-api:/run/svidecar:ro", project.name());
    let config = format!("{}:/etc/svidecar:ro", svidecar_containers::compose_dir().join("config").display());
    let (label, image) = (format!("org.svidecar.workload={workload}"), project.engine().image("proxy"));
    let args = ["--user", user, "--label", &label, "--volume", &api, "--volume", &config];
    let env = ["--env", "SVIDECAR_PROXY_CONFIG=/etc/svidecar/demo-client.yaml", &image];
    project.guest(name, &[&args[..], &env].concat()).await.unwrap()
}

/// Two sidecars of one and the same user, and one of them in the network of another container.
#[tokio::test]
async fn labels_are_attested_across_containers() {
    let test = "labels_are_attested_across_containers";
    let files = ["compose.yaml", "labels.yaml"];
    let Some(mut project) = Project::new(test, Compose::V2, &files).await.unwrap() else { return };
    project.up().await.unwrap();
    assert_eq!(project.exit_code("demo-client").await.unwrap(), 0);
    let client = project.log("demo-client").await.unwrap();
    assert!(client.contains(r#""caller":"spiffe://demo.org/robot/unit-7""#), "{client}");

    for workload in ["demo-server", "demo-client"] {
        let sidecar = project.container(&format!("{workload}-sidecar")).await.unwrap();
        let pid = project.docker(&["inspect", "--format", "{{.State.Pid}}", &sidecar]).text().await.unwrap();
        let image = project.docker(&["inspect", "--format", "{{.Image}}", &sidecar]).text().await.unwrap();
        let why = ["/svidecar-agent", "why", "--data-dir", "/var/lib/svidecar", "--pid", pid.trim()];
        let why = project.exec("agent", &why).await.unwrap();
        for selector in [
            &format!("docker:label:org.svidecar.workload:{workload}\n"),
            &format!("docker:label:com.docker.compose.service:{workload}-sidecar\n"),
            &format!("docker:env:SVIDECAR_PROXY_CONFIG=/etc/svidecar/{workload}.yaml\n"),
            &format!("docker:image_id:{}\n", project.engine().image("proxy")),
            &format!("docker:image_config_digest:{}\n", image.trim()),
            "unix:uid:65532\n",
        ] {
            assert!(why.contains(selector), "{selector} is missing in:\n{why}");
        }
        assert!(why.contains("1 of 2 entries match"), "{why}");
    }

    let agent = project.follow("agent").await.unwrap();
    sidecar(&mut project, "other", "65532", "other").await;
    let refused =
        agent.log.wait_for(&["no identity issued", "docker:label:org.svidecar.workload:other"]).await;
    let refused = refused.unwrap();
    assert!(refused.contains("missing docker:label:org.svidecar.workload:demo-"), "{refused}");
    assert!(refused.contains("docker:env:SVIDECAR_PROXY_CONFIG=…"), "values stay out of the log: {refused}");
}

/// Leads to Docker's socket while it is open, and hangs up on everybody while it is not.
struct Relay {
    directory: tempfile::TempDir,
    open: Arc<AtomicBool>,
}

impl Relay {
    fn start(engine: PathBuf) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let relay = Self { directory: tempfile::tempdir().unwrap(), open: Arc::new(AtomicBool::new(true)) };
        let listener = UnixListener::bind(relay.socket()).unwrap();
        for path in [relay.directory.path(), &relay.socket()] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
        }
        let open = Arc::clone(&relay.open);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                if !open.load(Ordering::Relaxed) {
                    continue;
                }
                let engine = engine.clone();
                tokio::spawn(async move {
                    let mut engine = UnixStream::connect(&engine).await?;
                    tokio::io::copy_bidirectional(&mut client, &mut engine).await
                });
            }
        });
        relay
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("docker.sock")
    }

    fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::Relaxed);
    }
}

/// Who is known stays known; who is new waits, is told why, and gets its identity when the engine is back.
#[tokio::test]
async fn an_engine_that_is_away_refuses_nobody() {
    let test = "an_engine_that_is_away_refuses_nobody";
    let files = ["compose.yaml", "labels.yaml"];
    let Some(project) = Project::new(test, Compose::V2, &files).await.unwrap() else { return };
    let relay = Relay::start(socket_and_group().unwrap().0);
    let mut project = project.env("DOCKER_SOCKET", relay.socket().to_str().unwrap());
    project.up().await.unwrap();
    let by_user = "spiffe://demo.org/workload/by-user";
    let entry = ["/svidecar-server", "entry", "create", "-parentID", "spiffe://demo.org/node"];
    let entry = [&entry[..], &["-spiffeID", by_user, "-selector", "unix:uid:1003"]].concat();
    project.exec("server", &entry).await.unwrap();

    relay.set_open(false);
    let agent = project.follow("agent").await.unwrap();
    let new = sidecar(&mut project, "new", "65532", "demo-client").await;
    let said = agent.log.wait_for(&["the API of the Docker Engine does not answer"]).await.unwrap();
    assert!(said.contains("engine_unavailable"), "{said}");
    let told = project.docker(&["logs", "--follow", &new]).start("new").unwrap();
    told.log.wait_for(&["the identity cannot be decided: the API of the Docker Engine"]).await.unwrap();
    project.compose(&["restart", "demo-client-sidecar"]).text().await.unwrap();
    project.ready("demo-client-sidecar").await.unwrap();
    // Of two identities this one has the one that needs no engine.
    let both = sidecar(&mut project, "both", "1003", "demo-client").await;
    let both = project.docker(&["logs", "--follow", &both]).start("both").unwrap();
    both.log.wait_for(&["Obtained SVID", by_user]).await.unwrap();

    relay.set_open(true);
    // The other one belongs to the older entry, which makes it the first.
    both.log.wait_for(&["robot/unit-7 in place of another identity"]).await.unwrap();
    project.docker(&["exec", &new, "/svidecar", "wait", "--timeout", "1m"]).text().await.unwrap();
    let log = project.log("agent").await.unwrap();
    assert_eq!(log.matches("the API of the Docker Engine does not answer").count(), 1, "{log}");
    assert_eq!(log.matches("the API of the Docker Engine answers").count(), 2, "{log}");
    assert!(!log.contains("no identity issued"), "{log}");
}

/// An agent that was not given the host's processes.
#[tokio::test]
async fn a_caller_in_another_pid_namespace_is_told_the_ways_out() {
    let test = "a_caller_in_another_pid_namespace_is_told_the_ways_out";
    let directory = tempfile::tempdir().unwrap();
    let apart = directory.path().join("apart.yaml");
    std::fs::write(&apart, "services: {agent: {pid: !reset null}}\n").unwrap();
    let files = ["compose.yaml", Path::to_str(&apart).unwrap()];
    let Some(project) = Project::new(test, Compose::V2, &files).await.unwrap() else { return };
    project.compose(&["up", "--detach", "demo-client-sidecar"]).text().await.unwrap();
    let sidecar = project.follow("demo-client-sidecar").await.unwrap();
    let told =
        sidecar.log.wait_for(&["the caller is in another PID namespace than the agent"]).await.unwrap();
    for way in ["pid: host", "service:AGENT", "svidecar-agent run … -- COMMAND"] {
        assert!(told.contains(way), "{told}");
    }
    let log = project.log("agent").await.unwrap();
    assert!(log.contains("other_pid_namespace"), "{log}");
}
