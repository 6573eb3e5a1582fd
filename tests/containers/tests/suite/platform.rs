//! The example of a platform that runs one container per app: agent, sidecar and app as one, with a volume and without.

use std::{cell::Cell, fs, path::Path};

use anyhow::{Context as _, Result};
use svidecar_containers::{Compose, PATIENCE, Project, compose_dir};
use svidecar_stack::Launch;
use tempfile::TempDir;

const SUCCEEDED: &str = "mTLS request succeeded (status 200 OK)";

/// A reusable token's second key, as the server's log tells it.
const TAKES_THE_PLACE: &str = "this agent takes the place of the one before";

/// A copy of the example, as somebody has it who follows its README.
struct Platform {
    project: Project,
    dir: TempDir,
}

impl Platform {
    /// With its server, its secrets and its app.
    async fn start(test: &str) -> Result<Option<Self>> {
        let dir = tempfile::tempdir()?;
        copy(&compose_dir().join("examples/platform"), dir.path())?;
        let file = dir.path().join("compose.yaml");
        let file = file.to_str().context("the path is text")?;
        let Some(project) = Project::new(test, Compose::V2, &[file]).await? else { return Ok(None) };
        let platform = Self { project, dir };
        platform.build().await?;
        platform.up("server").await?;
        platform.secrets().await?;
        platform.up("app").await?;
        Ok(Some(platform))
    }

    async fn build(&self) -> Result<()> {
        let engine = self.project.engine();
        let arguments = ["app=demo", "agent=agent", "proxy=proxy"].map(|pair| {
            let (argument, image) = pair.split_once('=').unwrap_or_default();
            format!("{}={}", argument.to_uppercase(), engine.image(image))
        });
        let mut build = engine.docker(&["build", "--quiet", "--tag", &engine.image("platform")]);
        for argument in &arguments {
            build = build.args(["--build-arg", argument]);
        }
        build.arg(self.dir.path()).text().await.map(drop)
    }

    async fn up(&self, service: &str) -> Result<()> {
        self.project.compose(&["up", "--detach", "--wait", service]).text().await.map(drop)
    }

    /// The example's own script, on this project.
    async fn secrets(&self) -> Result<()> {
        let compose = self.project.compose(&[]).blocking();
        let mut secrets = Launch::new(self.dir.path().join("secrets")).env("COMPOSE", compose.get_program());
        for (name, value) in compose.get_envs() {
            if let (Some(name), Some(value)) = (name.to_str(), value) {
                secrets = secrets.env(name, value);
            }
        }
        secrets.patience(PATIENCE).text().await.map(drop)
    }

    /// The client, in a container that has never been: its request, through mutual TLS.
    async fn request(&self, path: &str) -> Result<String> {
        let client = ["run", "--rm", "-T", "client", "/svidecar-demo", "client", "127.0.0.1:9000", path];
        let said = self.project.compose(&client).text().await?;
        assert!(said.contains(path), "{said}");
        Ok(said)
    }

    async fn succeeds(&self) -> Result<()> {
        let said = self.request("/api/hello").await?;
        assert!(said.contains(SUCCEEDED), "{said}");
        assert!(said.contains(r#""caller":"spiffe://demo.org/client""#), "{said}");
        Ok(())
    }

    /// Stops a service and takes away its volume.
    async fn lose(&self, service: &str, volume: &str) -> Result<()> {
        self.project.compose(&["rm", "--stop", "--force", service]).text().await?;
        let volume = format!("{}_{volume}", self.project.name());
        self.project.docker(&["volume", "rm", &volume]).text().await.map(drop)
    }

    async fn told(&self, service: &str, what: &str) -> Result<usize> {
        Ok(self.project.log(service).await?.matches(what).count())
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else if entry.file_name() != ".env" {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn one_container_is_agent_sidecar_and_app() {
    let test = "one_container_is_agent_sidecar_and_app";
    let Some(platform) = Platform::start(test).await.unwrap() else { return };
    platform.succeeds().await.unwrap();
    // The app has learnt who it is, and tells it to whom its policy lets in.
    assert_eq!(platform.told("app", "[app] I am spiffe://demo.org/app").await.unwrap(), 1);
    let who = platform.request("/api/whoami").await.unwrap();
    assert!(who.contains(r#""spiffe_id":"spiffe://demo.org/app""#), "{who}");
    // The client's exit code comes through sidecar and agent.
    let refused = platform.request("/elsewhere").await.unwrap_err().to_string();
    assert!(refused.contains("exit status: 1") && refused.contains("403 Forbidden"), "{refused}");

    // With its volume it needs no token again; without one it takes its own place with a new key.
    platform.project.compose(&["restart", "app"]).text().await.unwrap();
    platform.up("app").await.unwrap();
    assert_eq!(platform.told("app", "no attestation is needed").await.unwrap(), 1);
    platform.succeeds().await.unwrap();
    let before = platform.told("server", TAKES_THE_PLACE).await.unwrap();
    platform.lose("app", "app-data").await.unwrap();
    platform.up("app").await.unwrap();
    assert_eq!(platform.told("server", TAKES_THE_PLACE).await.unwrap(), before + 1);
    assert_eq!(platform.told("app", "node attestation succeeded").await.unwrap(), 1);
    platform.succeeds().await.unwrap();

    platform.project.down(true).await.unwrap();
    platform.project.nothing_left().await.unwrap();
}

#[tokio::test]
async fn the_server_may_restart_and_be_replaced() {
    let test = "the_server_may_restart_and_be_replaced";
    let Some(platform) = Platform::start(test).await.unwrap() else { return };
    platform.project.compose(&["restart", "server"]).text().await.unwrap();
    platform.up("server").await.unwrap();
    platform.succeeds().await.unwrap();

    // Its volume is gone: the app keeps what it has and says what to do, until an operator's token names the new server.
    let app = platform.project.follow("app").await.unwrap();
    platform.lose("server", "server-data").await.unwrap();
    platform.up("server").await.unwrap();
    let replaced = |line: &str| line.contains(r#"code="server_replaced""#);
    let said = app.log.wait_until(0, PATIENCE, replaced).await.unwrap();
    assert!(said.contains("is the one that it joined the old server with"), "{said}");
    platform.secrets().await.unwrap();
    platform.up("app").await.unwrap();
    let app = platform.project.follow("app").await.unwrap();
    app.log.wait_until(0, PATIENCE, |line| line.contains("the agent has joined anew")).await.unwrap();
    // What the sidecar gets after that is of the new authority, its first SVID or its next.
    let signed = Cell::new(false);
    let renewed = |line: &str| {
        signed.set(signed.get() || line.contains("X509-SVID signed"));
        signed.get() && (line.contains("Obtained SVID") || line.contains("Rotated SVID"))
    };
    app.log.wait_until(0, PATIENCE, renewed).await.unwrap();
    platform.succeeds().await.unwrap();
}
