//! The main scene: a plain app behind an inbound sidecar, and an outbound sidecar that leads to it.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use svidecar_stack::http::{self, Answer};
use svidecar_stack::sidecar::Spec;
use svidecar_stack::{Launch, Process, Sidecar, Stack, StackOptions, binaries};

/// The identity of the app.
pub const SERVER_ID: &str = "spiffe://demo.org/workload/server";
/// The identity of its client.
pub const CLIENT_ID: &str = "spiffe://demo.org/workload/client";

/// Allows the client everything under `/api`, and nobody the secrets.
const POLICY: &str = "\
service: server
default: deny
rules:
  - name: client-may-call
    from: [spiffe://demo.org/workload/client]
    to: [{methods: [GET, POST], paths: [\"/api/**\"]}]
  - name: no-secrets
    action: deny
    from: [\"spiffe://demo.org/**\"]
    to: [{paths: [\"/api/secrets/**\"]}]
";

/// Where the copy of the proxy is that one workload of a stack runs as.
#[must_use]
pub fn workload_path(stack: &Stack, name: &str) -> PathBuf {
    stack.dir().join(name).join("svidecar")
}

/// A sidecar for a workload of its own: a copy of the proxy, registered by its path.
///
/// # Errors
/// When it cannot be registered.
pub async fn proxy_of(stack: &Stack, name: &str, id: &str, more: &[&str]) -> Result<Spec> {
    let program = binaries::place(&stack.binaries.proxy(), &stack.dir().join(name))?;
    stack.register(id, &format!("unix:path:{}", program.display()), more).await?;
    Ok(Spec::new().program(program))
}

/// A stack, an app, and a sidecar on either side.
pub struct Pair {
    /// Stopped first.
    pub client: Sidecar,
    /// In front of the app.
    pub server: Sidecar,
    /// The plain app.
    pub app: Process,
    /// Server and agent.
    pub stack: Stack,
}

impl Pair {
    /// Starts all of it, and returns when both sidecars are ready.
    ///
    /// # Errors
    /// When a part does not become ready.
    pub async fn start(options: StackOptions, entry_flags: &[&str]) -> Result<Self> {
        let agent = format!("unix: {{discover_workload_path: true}}\n{}", options.agent);
        let stack = Stack::start(StackOptions { agent, ..options }).await?;
        let (app, app_address) = app(&stack).await?;
        let inbound = proxy_of(&stack, "server", SERVER_ID, entry_flags).await?;
        let server = inbound.inbound("http", app_address, POLICY).start(&stack, "server")?;
        let outbound = proxy_of(&stack, "client", CLIENT_ID, entry_flags).await?;
        let client = outbound.outbound("http", server.inbound()?, SERVER_ID).start(&stack, "client")?;
        server.ready().await?;
        client.ready().await?;
        Ok(Self { client, server, app, stack })
    }

    /// One GET from the plain client to the plain app.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        http::get(self.client.outbound()?, path, &[]).await
    }

    /// A URL at the client's sidecar.
    ///
    /// # Errors
    /// Never, for a pair.
    pub fn url(&self, path: &str) -> Result<String> {
        Ok(format!("http://{}{path}", self.client.outbound()?))
    }
}

/// The plain app and where it listens.
///
/// # Errors
/// When it does not start.
pub async fn app(stack: &Stack) -> Result<(Process, SocketAddr)> {
    let app = Launch::new(stack.binaries.demo()).arg("app").start("app")?;
    let said = app.log.wait_for(&["listening on "]).await?;
    let address = said.rsplit(' ').next().and_then(|address| address.parse().ok());
    Ok((app, address.context("the app did not say where it listens")?))
}
