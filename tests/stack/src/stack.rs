//! A trust domain: one server and one agent, configured in a folder of their own, and their command lines.

use std::fs::{OpenOptions, Permissions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::process::{Launch, Process};
use crate::{Binaries, binaries, ports};

/// What the server says once it serves.
const SERVER_READY: &str = "server is ready";
/// What the agent says once it serves the Workload API.
const AGENT_READY: &str = "agent is ready";

/// How a stack differs from the plain one.
#[derive(Clone, Debug, Default)]
pub struct StackOptions {
    /// More lines for the server's configuration file.
    pub server: String,
    /// More lines for the agent's configuration file.
    pub agent: String,
    /// Tie the life of every process to ours (see [`Launch::through`]): this very program must have `guard`.
    pub guarded: bool,
    /// Another proxy than the one that was built with us.
    pub proxy: Option<PathBuf>,
}

/// A running server and agent.
pub struct Stack {
    /// The built programs.
    pub binaries: Binaries,
    /// The server.
    pub server: Process,
    /// The agent, attested by a join token as [`Stack::NODE`].
    pub agent: Process,
    dir: TempDir,
    guard: Option<PathBuf>,
    server_address: SocketAddr,
}

impl Stack {
    /// The trust domain.
    pub const TRUST_DOMAIN: &str = "demo.org";
    /// The alias of the agent: the parent of all workloads.
    pub const NODE: &str = "spiffe://demo.org/node";

    /// Starts server and agent, and returns when the agent serves.
    ///
    /// # Errors
    /// When one of them cannot be started or does not become ready.
    pub async fn start(options: StackOptions) -> Result<Self> {
        let binaries = Binaries::beside_this_program(options.proxy)?;
        let dir = tempfile::Builder::new().prefix("svidecar-").tempdir()?;
        // Sidecars of other users read their configuration and the agent's socket in here.
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        let server_address = ports::free()?;

        let path = dir.path();
        let guard = if options.guarded {
            Some(binaries::place(&std::env::current_exe()?, &path.join("guard"))?)
        } else {
            None
        };
        let text = format!(
            "trust_domain: {td}\ndata_dir: {dir}/server\nbind_address: 127.0.0.1\nbind_port: {port}\n\
             socket_path: {dir}/private/server.sock\n{more}",
            td = Self::TRUST_DOMAIN,
            dir = path.display(),
            port = server_address.port(),
            more = options.server,
        );
        std::fs::write(path.join("server.yaml"), text)?;
        let server = start_server(&binaries, path, guard.as_ref()).await?;

        let text = format!(
            "trust_domain: {td}\ndata_dir: {dir}/agent\nserver_address: 127.0.0.1\nserver_port: {port}\n\
             socket_path: {dir}/public/agent.sock\njoin_token_file: {dir}/join-token\n{more}",
            td = Self::TRUST_DOMAIN,
            dir = path.display(),
            port = server_address.port(),
            more = options.agent,
        );
        std::fs::write(path.join("agent.yaml"), text)?;
        let token = server_command(&binaries, path)
            .args(["token", "generate", "-spiffeID", Self::NODE, "-output", "json"])
            .args(["-socketPath", &server_socket(path)])
            .text()
            .await?;
        let token: serde_json::Value = serde_json::from_str(&token)?;
        let token = token.get("value").and_then(|value| value.as_str()).context("no token in the answer")?;
        write_secret(&path.join("join-token"), token)?;
        let agent = start_agent(&binaries, path, guard.as_ref()).await?;
        Ok(Self { binaries, server, agent, dir, guard, server_address })
    }

    /// The stack's own folder; gone when the stack is dropped.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A program that lives as long as we do, if this stack is guarded.
    #[must_use]
    pub fn guarded(&self, launch: Launch) -> Launch {
        guarded(launch, self.guard.as_ref())
    }

    /// Stops the agent, then the server.
    ///
    /// # Errors
    /// When one of them does not end.
    pub async fn stop(&mut self) -> Result<()> {
        self.agent.stop().await?;
        self.server.stop().await?;
        Ok(())
    }

    /// Where the server listens for agents.
    #[must_use]
    pub const fn server_address(&self) -> SocketAddr {
        self.server_address
    }

    /// The path of the server's admin socket.
    #[must_use]
    pub fn server_socket(&self) -> String {
        server_socket(self.dir())
    }

    /// The path of the Workload API's socket.
    #[must_use]
    pub fn agent_socket(&self) -> String {
        format!("{}/public/agent.sock", self.dir().display())
    }

    /// Starts the server again after it was stopped, from what it has on disk.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn restart_server(&mut self) -> Result<()> {
        self.server.stop().await?;
        self.server = start_server(&self.binaries, self.dir(), self.guard.as_ref()).await?;
        Ok(())
    }

    /// Starts the agent again after it was stopped, without its join token, from what it has on disk.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn restart_agent(&mut self) -> Result<()> {
        self.agent.stop().await?;
        let token = self.dir().join("join-token");
        if token.exists() {
            std::fs::remove_file(token)?;
            let config = self.dir().join("agent.yaml");
            let text = std::fs::read_to_string(&config)?;
            let kept = text.lines().filter(|line| !line.starts_with("join_token_file")).collect::<Vec<_>>();
            std::fs::write(config, kept.join("\n"))?;
        }
        self.agent = start_agent(&self.binaries, self.dir(), self.guard.as_ref()).await?;
        Ok(())
    }

    /// A command line of the server, on this stack's admin socket.
    #[must_use]
    pub fn server_cli(&self, args: &[&str]) -> Launch {
        server_command(&self.binaries, self.dir()).args(args).args(["-socketPath", &self.server_socket()])
    }

    /// A command line of the agent, on this stack's Workload API.
    #[must_use]
    pub fn agent_cli(&self, args: &[&str]) -> Launch {
        Launch::new(self.binaries.agent()).args(args).args(["-socketPath", &self.agent_socket()])
    }

    /// Registers a workload of this stack's agent and returns the entry's ID.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn register(&self, spiffe_id: &str, selector: &str, more: &[&str]) -> Result<String> {
        let text = self
            .server_cli(&["entry", "create", "-parentID", Self::NODE, "-spiffeID", spiffe_id])
            .args(["-selector", selector])
            .args(more)
            .text()
            .await?;
        let id = text.lines().find_map(|line| line.strip_prefix("Entry ID")?.split_once(": "));
        Ok(id.with_context(|| format!("no entry ID in:\n{text}"))?.1.trim().to_owned())
    }
}

/// Writes a new file that its owner alone may read, such as a token: agents look.
///
/// # Errors
/// When it cannot be written, or is there.
pub fn write_secret(path: &Path, text: &str) -> Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

fn server_socket(dir: &Path) -> String {
    format!("{}/private/server.sock", dir.display())
}

fn server_command(binaries: &Binaries, dir: &Path) -> Launch {
    Launch::new(binaries.server()).dir(dir)
}

fn guarded(launch: Launch, guard: Option<&PathBuf>) -> Launch {
    match guard {
        Some(guard) => launch.through(guard),
        None => launch,
    }
}

async fn start_server(binaries: &Binaries, dir: &Path, guard: Option<&PathBuf>) -> Result<Process> {
    let launch = server_command(binaries, dir).args(["run", "-config", "server.yaml"]);
    let server = guarded(launch, guard).start("server")?;
    server.log.wait_for(&[SERVER_READY]).await?;
    Ok(server)
}

async fn start_agent(binaries: &Binaries, dir: &Path, guard: Option<&PathBuf>) -> Result<Process> {
    let launch = Launch::new(binaries.agent()).dir(dir).args(["run", "-config", "agent.yaml"]);
    let agent = guarded(launch, guard).start("agent")?;
    agent.log.wait_for(&[AGENT_READY]).await?;
    Ok(agent)
}
