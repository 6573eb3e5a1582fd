//! The course on which all subjects run: server and agent, the SVIDs of both sides (from the agent for ours, from the
//! agent's command line as files for the others), and the app.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use svidecar_stack::{Launch, PATIENCE, Process, Stack, StackOptions, binaries};

use crate::load::Measured;
use crate::tools::Tools;
use crate::wire::Wire;
use crate::workload::Workload;

/// The identity of the server side.
pub const SERVER_ID: &str = "spiffe://demo.org/workload/server";
/// A DNS name in the server's SVID, for subjects that can check no URI in a server's certificate.
pub const SERVER_DNS: &str = "server.demo.org";
/// The identity of the client side.
pub const CLIENT_ID: &str = "spiffe://demo.org/workload/client";
/// A DNS name in the client's SVID, and its common name.
pub const CLIENT_DNS: &str = "client.demo.org";

const STRANGER_ID: &str = "spiffe://demo.org/workload/stranger";

/// A running trust domain, and all that subjects need of it.
pub struct Course {
    /// Server and agent.
    pub stack: Stack,
    /// The programs of others.
    pub tools: Tools,
    /// Who the server side is.
    pub server: Side,
    /// Who the client side is.
    pub client: Side,
    /// Somebody of the same trust domain whom neither side is to accept.
    pub stranger: Side,
}

/// One identity, for whatever program.
pub struct Side {
    /// The SVID as files, for the programs of others.
    pub svid: SvidFiles,
    /// A copy of our proxy that the agent gives the SVID to.
    pub proxy: PathBuf,
}

/// An SVID as PEM files.
pub struct SvidFiles {
    /// The certificates of the SVID.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Certificates and key in one file, as HAProxy and ghostunnel want them.
    pub both: PathBuf,
    /// The bundle of the trust domain.
    pub bundle: PathBuf,
}

impl Course {
    /// Starts server and agent and registers both sides.
    pub async fn open(proxy: Option<PathBuf>, ghostunnel: Option<PathBuf>) -> Result<Self> {
        // Children inherit it; 2,000 idle connections are 4,000 descriptors in a sidecar.
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
        let agent = "unix: {discover_workload_path: true}\n".to_owned();
        let options = StackOptions { agent, guarded: true, proxy, ..StackOptions::default() };
        let stack = Stack::start(options).await?;
        let tools = Tools::find(&stack.binaries.tools(), ghostunnel)?;
        let server = side(&stack, "server", SERVER_ID, SERVER_DNS).await?;
        let client = side(&stack, "client", CLIENT_ID, CLIENT_DNS).await?;
        let stranger = side(&stack, "stranger", STRANGER_ID, "stranger.demo.org").await?;
        Ok(Self { stack, tools, server, client, stranger })
    }

    /// A part of this very program.
    pub fn own(&self, part: &str) -> Result<Launch> {
        Ok(self.stack.guarded(Launch::new(std::env::current_exe()?).arg(part)))
    }

    /// The plain app, and where it listens.
    pub async fn app(&self, wire: Wire) -> Result<(Process, SocketAddr)> {
        let app = self.own("app")?.arg(wire.name()).start("app")?;
        let said = app.log.wait_for(&["listening on "]).await?;
        let address = said.rsplit(' ').next().and_then(|address| address.parse().ok());
        Ok((app, address.context("the app did not say where it listens")?))
    }

    /// Runs the load to its end.
    pub async fn load(
        &self,
        workload: Workload,
        target: SocketAddr,
        seconds: f64,
        watched: &[u32],
    ) -> Result<Measured> {
        let watch = watched.iter().map(|pid| format!("--watch={pid}"));
        let launch = self.own("load")?.arg(target.to_string()).args(["--workload", &workload.name()]);
        let load = launch.arg("--seconds").arg(seconds.to_string()).args(watch).start("load")?;
        let limit = PATIENCE + std::time::Duration::from_secs_f64(seconds);
        let line = load.log.wait_until(0, limit, |line| line.starts_with('{')).await;
        let line = line.context("the load did not say what it measured")?;
        serde_json::from_str(&line).with_context(|| format!("not a measurement: {line}"))
    }

    /// Opens connections that stay open as long as the process that is returned.
    pub async fn hold(&self, workload: Workload, target: SocketAddr) -> Result<Process> {
        let launch = self.own("load")?.arg(target.to_string()).args(["--workload", &workload.name()]);
        let load = launch.start("load")?;
        load.log.wait_for(&["holding"]).await?;
        Ok(load)
    }
}

async fn side(stack: &Stack, name: &str, id: &str, dns: &str) -> Result<Side> {
    let proxy = register(stack, &stack.binaries.proxy(), name, id, dns).await?;
    let svid = svid_files(stack, &format!("{name}-svid"), id, dns).await?;
    Ok(Side { svid, proxy })
}

/// A copy of a program that is registered by its path.
async fn register(stack: &Stack, program: &Path, name: &str, id: &str, dns: &str) -> Result<PathBuf> {
    let program = binaries::place(program, &stack.dir().join(name))?;
    stack.register(id, &format!("unix:path:{}", program.display()), &["-dns", dns]).await?;
    Ok(program)
}

/// Lets a copy of the agent's command line, registered under the ID, write the ID's SVID into files.
async fn svid_files(stack: &Stack, name: &str, id: &str, dns: &str) -> Result<SvidFiles> {
    let dir = stack.dir().join(name);
    let fetcher = register(stack, &stack.binaries.agent(), name, id, dns).await?;
    let socket = stack.agent_socket();
    let fetch = Launch::new(fetcher).args(["api", "fetch", "x509", "-socketPath", &socket, "-write"]);
    fetch.arg(&dir).text().await?;
    let file = |name: &str| dir.join(name);
    let files = SvidFiles {
        cert: file("svid.0.pem"),
        key: file("svid.0.key"),
        both: file("svid.0.both.pem"),
        bundle: file("bundle.0.pem"),
    };
    let both = [std::fs::read(&files.cert)?, std::fs::read(&files.key)?].concat();
    std::fs::write(&files.both, both)?;
    Ok(files)
}
