//! The main scene: a plain app behind an inbound sidecar, and an outbound sidecar that leads to it.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
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
    to: [{methods: [GET, HEAD, POST], paths: [\"/api/**\", \"/svidecar.test.Echo/*\"]}]
  - name: no-secrets
    action: deny
    from: [\"spiffe://demo.org/**\"]
    to: [{paths: [\"/api/secrets/**\"]}]
";

/// The same for bytes of any protocol.
const TCP_POLICY: &str = "\
service: server
rules:
  - {name: client-may-connect, from: [spiffe://demo.org/workload/client]}
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
pub struct Pair<A = Process> {
    /// Stopped first.
    pub client: Sidecar,
    /// In front of the app.
    pub server: Sidecar,
    /// The plain app, if it is a process.
    pub app: A,
    /// Server and agent.
    pub stack: Stack,
}

impl Pair {
    /// Starts all of it, and returns when both sidecars are ready.
    ///
    /// # Errors
    /// When a part does not become ready.
    pub async fn start(options: StackOptions, entry_flags: &[&str]) -> Result<Self> {
        let stack = stack(options).await?;
        let (app, address) = app(&stack).await?;
        Self::of(stack, app, address, "http", entry_flags).await
    }

    /// The same around an app that somebody else wrote, which says `listening on ADDRESS`.
    ///
    /// # Errors
    /// When a part does not become ready.
    pub async fn around(app: &Launch, protocol: &str) -> Result<Self> {
        let stack = stack(StackOptions::default()).await?;
        let (app, address) = listening(app).await?;
        Self::of(stack, app, address, protocol, &[]).await
    }
}

impl Pair<()> {
    /// The same before an app of the test's own.
    ///
    /// # Errors
    /// When a part does not become ready.
    pub async fn before(app: SocketAddr, protocol: &str) -> Result<Self> {
        Self::of(stack(StackOptions::default()).await?, (), app, protocol, &[]).await
    }
}

impl<A> Pair<A> {
    async fn of(
        stack: Stack,
        app: A,
        address: SocketAddr,
        protocol: &str,
        entry_flags: &[&str],
    ) -> Result<Self> {
        let policy = if protocol == "tcp" { TCP_POLICY } else { POLICY };
        let inbound = proxy_of(&stack, "server", SERVER_ID, entry_flags).await?;
        let server = inbound.inbound(protocol, address, policy).start(&stack, "server")?;
        let outbound = proxy_of(&stack, "client", CLIENT_ID, entry_flags).await?;
        let client = outbound.outbound(protocol, server.inbound()?, SERVER_ID).start(&stack, "client")?;
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

    /// As [`explain`], with both sidecars.
    ///
    /// # Errors
    /// The failure.
    pub async fn explain<T>(&mut self, result: Result<T>) -> Result<T> {
        explain(result, [&mut self.client.process, &mut self.server.process]).await
    }

    /// A URL at the client's sidecar.
    ///
    /// # Errors
    /// Never, for a pair.
    pub fn url(&self, path: &str) -> Result<String> {
        Ok(format!("http://{}{path}", self.client.outbound()?))
    }
}

/// Adds to a failure what sidecars wrote down of requests that failed; for that they are stopped.
///
/// # Errors
/// The failure.
pub async fn explain<T>(result: Result<T>, sidecars: impl IntoIterator<Item = &mut Process>) -> Result<T> {
    let Err(error) = result else { return result };
    let mut said = String::from("the sidecars wrote down:\n");
    for process in sidecars {
        if process.signal(Signal::SIGTERM).is_ok() {
            process.wait().await?;
        }
        let lines = process.log.lines_with("\"code\":");
        said.extend(lines.iter().take(10).map(|line| format!("    {line}\n")));
    }
    Err(error.context(said))
}

/// A server and an agent that knows workloads by their path.
///
/// # Errors
/// When one does not become ready.
pub async fn stack(options: StackOptions) -> Result<Stack> {
    let agent = format!("unix: {{discover_workload_path: true}}\n{}", options.agent);
    Stack::start(StackOptions { agent, ..options }).await
}

/// The plain app and where it listens.
///
/// # Errors
/// When it does not start.
pub async fn app(stack: &Stack) -> Result<(Process, SocketAddr)> {
    listening(&Launch::new(stack.binaries.demo()).arg("app")).await
}

/// Starts a program that says `listening on ADDRESS`.
///
/// # Errors
/// When it does not say so.
pub async fn listening(program: &Launch) -> Result<(Process, SocketAddr)> {
    let app = program.start("app")?;
    let said = app.log.wait_for(&["listening on "]).await?;
    let address = said.rsplit(' ').next().and_then(|address| address.parse().ok());
    Ok((app, address.context("the app did not say where it listens")?))
}

/// A folder with the SVID of a workload: `svid.0.pem`, `svid.0.key`, `bundle.0.pem`. A copy of the agent's command
/// line that is registered as this workload fetches them.
///
/// # Errors
/// When it gets none.
pub async fn svid_files(stack: &Stack, name: &str, id: &str) -> Result<PathBuf> {
    let dir = stack.dir().join(name);
    let fetcher = binaries::place(&stack.binaries.agent(), &dir)?;
    stack.register(id, &format!("unix:path:{}", fetcher.display()), &[]).await?;
    Launch::new(fetcher)
        .args(["api", "fetch", "x509", "-socketPath", &stack.agent_socket(), "-write"])
        .arg(&dir)
        .text()
        .await?;
    Ok(dir)
}
