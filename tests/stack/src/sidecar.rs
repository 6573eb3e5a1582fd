//! One sidecar: its configuration file, its policy file and its process.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;

use crate::http::{self, Answer};
use crate::process::{Launch, Process};
use crate::{Stack, ports};

/// What the proxy says once it takes traffic with an identity of its own.
const PROXY_READY: &str = "The proxy is ready";

/// What a sidecar is to do. Listeners get free loopback ports.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    inbound: Option<(String, String, String)>,
    outbound: Option<(String, String, String)>,
    upstream: String,
    more: String,
    program: Option<PathBuf>,
    user: Option<u32>,
    child: Vec<String>,
}

impl Spec {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes mutual TLS and forwards to a plain address, by a policy (the text of its file).
    #[must_use]
    pub fn inbound(mut self, protocol: &str, forward: impl ToString, policy: &str) -> Self {
        self.inbound = Some((protocol.to_owned(), forward.to_string(), policy.to_owned()));
        self
    }

    /// Takes plain connections and makes mutual TLS to an endpoint that must have this SPIFFE ID.
    #[must_use]
    pub fn outbound(mut self, protocol: &str, endpoint: impl ToString, server_id: &str) -> Self {
        self.outbound = Some((protocol.to_owned(), endpoint.to_string(), server_id.to_owned()));
        self
    }

    /// More settings of the outbound listener's upstream, such as `tunnel: hbone`.
    #[must_use]
    pub fn upstream(mut self, settings: &str) -> Self {
        self.upstream = format!(", {settings}");
        self
    }

    /// More lines at the top level of the configuration file.
    #[must_use]
    pub fn more(mut self, yaml: &str) -> Self {
        self.more.push_str(yaml);
        self
    }

    /// A copy of the proxy at another path, for selectors by path.
    #[must_use]
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// Run it under another user.
    #[must_use]
    pub const fn user(mut self, uid: u32) -> Self {
        self.user = Some(uid);
        self
    }

    /// Run a command inside it: `svidecar run -- CMD…`.
    #[must_use]
    pub fn child(mut self, command: &[&str]) -> Self {
        self.child = command.iter().map(ToString::to_string).collect();
        self
    }

    /// Writes the files and starts the process. Does not wait until it is ready.
    ///
    /// # Errors
    /// When a file cannot be written or the process not started.
    pub fn start(&self, stack: &Stack, name: &str) -> Result<Sidecar> {
        let (admin, local) = (ports::free()?, ports::free()?);
        let mut text = format!(
            "workload_api: unix://{}\nadmin: {{listen: \"{admin}\"}}\nlocal_api: {{listen: \"{local}\", audiences: [orders]}}\n{}",
            stack.agent_socket(),
            self.more
        );
        let policy = stack.dir().join(format!("{name}-policy.yaml"));
        let mut inbound_address = None;
        if let Some((protocol, forward, rules)) = &self.inbound {
            let listen = ports::free()?;
            inbound_address = Some(listen);
            std::fs::write(&policy, rules)?;
            write!(
                text,
                "inbound:\n  - name: {name}\n    listen: \"{listen}\"\n    protocol: {protocol}\n    \
                 forward: \"{forward}\"\n    policy: {name}-policy.yaml\n"
            )?;
        }
        let mut outbound_address = None;
        if let Some((protocol, endpoint, server_id)) = &self.outbound {
            let listen = ports::free()?;
            outbound_address = Some(listen);
            write!(
                text,
                "outbound:\n  - name: {name}\n    listen: \"{listen}\"\n    protocol: {protocol}\n    \
                 upstream: {{endpoints: [\"{endpoint}\"], server_id: [\"{server_id}\"]{}}}\n",
                self.upstream
            )?;
        }
        let config = stack.dir().join(format!("{name}.yaml"));
        std::fs::write(&config, text)?;

        let program = self.program.clone().unwrap_or_else(|| stack.binaries.proxy());
        let launch = Launch::new(program).arg("run").arg("--config").arg(&config).dir(stack.dir());
        let mut launch = stack.guarded(launch);
        if let Some(uid) = self.user {
            launch = launch.user(uid);
        }
        if !self.child.is_empty() {
            launch = launch.arg("--").args(&self.child);
        }
        let process = launch.start(name)?;
        Ok(Sidecar { process, admin, local, inbound_address, outbound_address, config, policy })
    }
}

/// A running sidecar.
pub struct Sidecar {
    /// The proxy.
    pub process: Process,
    /// Its admin address.
    pub admin: SocketAddr,
    /// Where it gives out tokens, for `orders`.
    pub local: SocketAddr,
    /// Its configuration file.
    pub config: PathBuf,
    /// Its inbound listener's policy file.
    pub policy: PathBuf,
    inbound_address: Option<SocketAddr>,
    outbound_address: Option<SocketAddr>,
}

impl Sidecar {
    /// Where it takes mutual TLS.
    ///
    /// # Errors
    /// When it has no inbound listener.
    pub fn inbound(&self) -> Result<SocketAddr> {
        self.inbound_address.ok_or_else(|| anyhow::anyhow!("this sidecar has no inbound listener"))
    }

    /// Where it takes plain connections.
    ///
    /// # Errors
    /// When it has no outbound listener.
    pub fn outbound(&self) -> Result<SocketAddr> {
        self.outbound_address.ok_or_else(|| anyhow::anyhow!("this sidecar has no outbound listener"))
    }

    /// Returns when it takes traffic with an identity of its own.
    ///
    /// # Errors
    /// When that does not happen within [`crate::PATIENCE`].
    pub async fn ready(&self) -> Result<()> {
        self.process.log.wait_for(&[PROXY_READY]).await.map(drop)
    }

    /// One GET at its admin address.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn admin(&self, path: &str) -> Result<Answer> {
        http::get(self.admin, path, &[]).await
    }

    /// One GET where it gives out tokens.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn local(&self, path: &str) -> Result<Answer> {
        http::get(self.local, path, &[("x-svidecar-local", "true")]).await
    }
}
