//! One project of Compose: a name of its own, so that tests run side by side; brought down with its volumes when it is dropped.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail, ensure};
use svidecar_stack::{Launch, Process};

use crate::{
    Compose, Engine,
    engine::{compose_dir, socket_and_group},
};

/// A stack.
pub struct Project {
    engine: Engine,
    compose: Launch,
    name: String,
    files: Vec<PathBuf>,
    /// Containers that Compose does not know of.
    guests: Vec<String>,
}

impl Project {
    /// The stack of files below `compose/`. Nothing is started. None where [`Engine::need`] skips the test, or Compose is missing.
    ///
    /// # Errors
    /// When the skip cannot be written down, or the engine's socket cannot be looked at.
    pub async fn new(test: &str, version: Compose, files: &[&str]) -> Result<Option<Self>> {
        let Some(engine) = Engine::need(test).await? else { return Ok(None) };
        let Some(compose) = engine.compose(version, test)? else { return Ok(None) };
        let (socket, group) = socket_and_group()?;
        // Two runs on one engine must not meet.
        let name = format!("svt{}-{}", std::process::id(), test.replace('_', "-"));
        let compose = compose
            .env("COMPOSE_PROJECT_NAME", &name)
            .env("SVIDECAR_TAG", engine.tag())
            .env("DOCKER_SOCKET", &socket)
            .env("DOCKER_GID", group.to_string());
        let files = files.iter().map(|file| compose_dir().join(file)).collect();
        Ok(Some(Self { engine, compose, name, files, guests: Vec::new() }))
    }

    /// One more variable for the files.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.compose = self.compose.clone().env(name, value);
        self
    }

    /// The engine that it runs on.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Its name, with which those of its containers, volumes and networks begin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A call of Compose about this project.
    #[must_use]
    pub fn compose(&self, args: &[&str]) -> Launch {
        let mut launch = self.compose.clone();
        for file in &self.files {
            launch = launch.arg("-f").arg(file);
        }
        launch.args(args)
    }

    /// A call of Docker's client.
    #[must_use]
    pub fn docker(&self, args: &[&str]) -> Launch {
        self.engine.docker(args)
    }

    /// `up`: returns when everything that others wait for is healthy.
    ///
    /// # Errors
    /// With all that the containers said.
    pub async fn up(&self) -> Result<()> {
        let Err(error) = self.compose(&["up", "--detach"]).text().await else { return Ok(()) };
        bail!("{error:#}\n{}", self.logs().await.unwrap_or_default())
    }

    /// `down`, with the volumes or without.
    ///
    /// # Errors
    /// When Compose fails.
    pub async fn down(&self, volumes: bool) -> Result<()> {
        let args: &[&str] = if volumes { &["down", "--volumes"] } else { &["down"] };
        self.compose(args).text().await.map(drop)
    }

    /// All that all containers said.
    ///
    /// # Errors
    /// When Compose fails.
    pub async fn logs(&self) -> Result<String> {
        self.compose(&["logs", "--no-color"]).text().await
    }

    /// All that the container of one service said.
    ///
    /// # Errors
    /// When there is none.
    pub async fn log(&self, service: &str) -> Result<String> {
        let container = self.container(service).await?;
        let output = self.docker(&["logs", &container]).output().await?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
    }

    /// Follows what the container of a service says, from its beginning, until it ends.
    ///
    /// # Errors
    /// When there is none.
    pub async fn follow(&self, service: &str) -> Result<Process> {
        let container = self.container(service).await?;
        self.docker(&["logs", "--follow", &container]).start(service)
    }

    /// Tells of each `start` and each `die` of a service's container, from now on.
    ///
    /// # Errors
    /// When there is none.
    pub async fn events(&self, service: &str) -> Result<Process> {
        let container = self.container(service).await?;
        let filter = format!("container={container}");
        // From a moment that has passed, so that nothing is missed while the client connects.
        let now = self.docker(&["info", "--format", "{{.SystemTime}}"]).text().await?;
        // Health checks have events too.
        let kinds = ["--filter", "event=start", "--filter", "event=die"];
        let events = ["events", "--since", now.trim(), "--filter", &filter, "--format", "{{.Action}}"];
        self.docker(&events).args(kinds).start("events")
    }

    /// The container of a service, running or not.
    ///
    /// # Errors
    /// When there is none.
    pub async fn container(&self, service: &str) -> Result<String> {
        let text = self.compose(&["ps", "--all", "--quiet", service]).text().await?;
        let id = text.lines().next().with_context(|| format!("there is no container of {service}"))?;
        Ok(id.to_owned())
    }

    /// Runs one of our own commands in the container of a service.
    ///
    /// # Errors
    /// When it fails.
    pub async fn exec(&self, service: &str, command: &[&str]) -> Result<String> {
        let container = self.container(service).await?;
        self.docker(&["exec", &container]).args(command).text().await
    }

    /// Returns when the sidecar of a service takes traffic with an identity of its own.
    ///
    /// # Errors
    /// When that does not happen.
    pub async fn ready(&self, sidecar: &str) -> Result<()> {
        match self.exec(sidecar, &["/svidecar", "wait", "--timeout", "1m"]).await {
            Ok(_) => Ok(()),
            Err(error) => bail!("{error:#}\n{}", self.log(sidecar).await.unwrap_or_default()),
        }
    }

    /// Runs the container of a service that ends by itself once more, and returns what it said.
    ///
    /// # Errors
    /// When it does not end with 0.
    pub async fn run_again(&self, service: &str) -> Result<String> {
        let container = self.container(service).await?;
        match self.docker(&["start", "--attach", &container]).text().await {
            Ok(text) => Ok(text),
            Err(error) => bail!("{error:#}\n{}", self.logs().await.unwrap_or_default()),
        }
    }

    /// What the last run of a service's container ended with.
    ///
    /// # Errors
    /// When there is none.
    pub async fn exit_code(&self, service: &str) -> Result<i32> {
        let container = self.container(service).await?;
        Ok(self.docker(&["wait", &container]).text().await?.trim().parse()?)
    }

    /// Starts a container beside the stack, with `docker run --detach` and these arguments; it goes with the project.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn guest(&mut self, name: &str, args: &[&str]) -> Result<String> {
        let name = format!("{}-{name}", self.name);
        self.guests.push(name.clone());
        self.docker(&["run", "--detach", "--name", &name]).args(args).text().await?;
        Ok(name)
    }

    /// Checks that nothing of the project is left.
    ///
    /// # Errors
    /// With what is left.
    pub async fn nothing_left(&self) -> Result<()> {
        for what in ["container", "volume", "network"] {
            let filter = format!("name={}", self.name);
            let all: &[&str] = if what == "container" { &["--all"] } else { &[] };
            let left = self.docker(&[what, "ls", "--quiet", "--filter", &filter]).args(all).text().await?;
            ensure!(left.is_empty(), "{what}s of {} are left:\n{left}", self.name);
        }
        Ok(())
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let quietly = |mut command: Command| {
            // A test that fails must not fail a second time here.
            let _ = command.output();
        };
        for guest in &self.guests {
            quietly(self.docker(&["rm", "--force", "--volumes", guest]).blocking());
        }
        quietly(self.compose(&["down", "--volumes", "--remove-orphans", "--timeout", "1"]).blocking());
    }
}
