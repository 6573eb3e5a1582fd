//! The subjects of the race, each as a pair of sidecars: load → client sidecar → mTLS → server sidecar → app.
//!
//! The same for all of them: one worker per sidecar, TLS 1.3, keep-alive and pools, and each side checks who the
//! other is. What each can do for that last point is said in its module.

mod envoy;
mod ghostunnel;
mod haproxy;
mod nginx;
mod relay;
mod svidecar;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use clap::ValueEnum;
use nix::sys::signal::Signal;
use svidecar_stack::{PATIENCE, Process};
use tokio::net::TcpStream;

use crate::course::{Course, Side};
use crate::wire::Wire;
use crate::workload::Workload;
use crate::{load, process};

/// What passes between two looks at whether a pair is there.
const RETRY: Duration = Duration::from_millis(1);
/// How long a pair is tried that should refuse.
const DOUBT: Duration = Duration::from_secs(1);

/// Who takes part. The names are those of the command line, the results and the README.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    /// No sidecars: the load calls the app
    Direct,
    /// Two relays that only receive and send: what is the least for any pair
    Relay,
    /// Ours
    Svidecar,
    /// HAProxy with HTTP/1.1 between the sidecars
    Haproxy,
    /// HAProxy with HTTP/2 between the sidecars and `http-reuse always`
    HaproxyH2,
    /// nginx
    Nginx,
    /// Envoy
    Envoy,
    /// ghostunnel, if GHOSTUNNEL names it
    Ghostunnel,
}

impl Subject {
    /// All, in the order in which they have their turns.
    pub fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }

    /// The name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Does it take part in this workload, as far as its protocols go?
    pub const fn takes_part_in(self, workload: Workload) -> bool {
        if matches!(self, Self::Relay) {
            return matches!(workload, Workload::H1 | Workload::H1one | Workload::Bulk);
        }
        match workload {
            Workload::Identity | Workload::Decide | Workload::Rules => matches!(self, Self::Svidecar),
            Workload::H2 => matches!(self, Self::Direct | Self::Svidecar | Self::HaproxyH2 | Self::Envoy),
            Workload::Grpc => !matches!(self, Self::Haproxy | Self::Ghostunnel),
            Workload::Bulk | Workload::Conn => !matches!(self, Self::HaproxyH2),
            Workload::Idle => !matches!(self, Self::HaproxyH2 | Self::Direct),
            Workload::Start | Workload::Wakeups => {
                !matches!(self, Self::Direct | Self::HaproxyH2 | Self::Ghostunnel)
            }
            Workload::H1 | Workload::H1one | Workload::Upload => !matches!(self, Self::Ghostunnel),
        }
    }

    /// The version of its program; nothing if the program is not here.
    pub async fn version(self, course: &Course) -> Result<Option<String>> {
        let tools = &course.tools;
        Ok(match self {
            Self::Direct | Self::Relay => Some(String::new()),
            Self::Svidecar => Some(env!("CARGO_PKG_VERSION").to_owned()),
            Self::Haproxy | Self::HaproxyH2 => version_of(tools.haproxy.as_ref(), "-v").await?,
            Self::Nginx => version_of(tools.nginx.as_ref(), "-v").await?,
            Self::Envoy => version_of(tools.envoy.as_ref(), "--version").await?,
            Self::Ghostunnel => version_of(tools.ghostunnel.as_ref(), "--version").await?,
        })
    }

    /// Starts both sidecars. Does not wait until they are ready.
    pub fn start(self, scene: &Scene<'_>) -> Result<Pair> {
        std::fs::create_dir_all(&scene.dir)?;
        let started = match self {
            Self::Direct => Ok(Pair { sidecars: Vec::new(), between: scene.app, entry: scene.app }),
            Self::Relay => relay::start(scene),
            Self::Svidecar => svidecar::start(scene),
            Self::Haproxy => haproxy::start(scene, haproxy::Middle::Http1),
            Self::HaproxyH2 => haproxy::start(scene, haproxy::Middle::Http2),
            Self::Nginx => nginx::start(scene),
            Self::Envoy => envoy::start(scene),
            Self::Ghostunnel => ghostunnel::start(scene),
        };
        started.with_context(|| format!("cannot start {}", self.name()))
    }
}

async fn version_of(tool: Option<&crate::tools::Tool>, flag: &str) -> Result<Option<String>> {
    match tool {
        Some(tool) => tool.version(flag).await.map(Some),
        None => Ok(None),
    }
}

/// What a pair is to lead to, and how.
pub struct Scene<'a> {
    /// Server, agent and programs.
    pub course: &'a Course,
    /// Who the server's sidecar is.
    pub server: &'a Side,
    /// Who the client's sidecar is.
    pub client: &'a Side,
    /// What load and app speak.
    pub wire: Wire,
    /// Where the server's sidecar is to listen.
    pub between: SocketAddr,
    /// Where the client's sidecar is to connect: the same, if nothing is in between.
    pub peer: SocketAddr,
    /// Where the app listens.
    pub app: SocketAddr,
    /// How many rules the policy has.
    pub rules: usize,
    /// A folder for configuration and logs of this pair alone.
    pub dir: PathBuf,
}

/// Two sidecars that lead to the app.
pub struct Pair {
    /// The server's, then the client's; none for `direct`.
    sidecars: Vec<Process>,
    /// Where the server's sidecar listens.
    between: SocketAddr,
    /// Where the load connects.
    pub entry: SocketAddr,
}

impl Pair {
    /// Returns when an exchange through both has succeeded. The client sidecar is called only when the server's
    /// accepts connections: some wait a second before they try again.
    pub async fn ready(&mut self, wire: Wire) -> Result<()> {
        let (between, entry) = (self.between, self.entry);
        let mut last = None;
        let mut accepts = false;
        let tries = async {
            loop {
                accepts = accepts || TcpStream::connect(between).await.is_ok();
                match if accepts {
                    load::probe(wire, entry).await
                } else {
                    Err(anyhow!("nobody at {between}"))
                } {
                    Ok(()) => return Ok(()),
                    Err(error) => last = Some(error),
                }
                for sidecar in &mut self.sidecars {
                    if sidecar.has_ended() {
                        bail!("a sidecar has ended:\n{}", sidecar.log.tail(20));
                    }
                }
                tokio::time::sleep(RETRY).await;
            }
        };
        let outcome = tokio::time::timeout(PATIENCE, tries).await;
        outcome.unwrap_or_else(|_| {
            let said: String = self.sidecars.iter().map(|sidecar| sidecar.log.tail(20)).collect();
            Err(last.unwrap_or_else(|| anyhow!("no answer")).context(format!("not ready:\n{said}")))
        })
    }

    /// Returns when both sidecars have accepted a connection, and fails if an exchange succeeds then: one of the two is
    /// not whom the other is to accept.
    pub async fn refuses(&self, wire: Wire) -> Result<()> {
        for address in [self.between, self.entry] {
            let accepts = async {
                while TcpStream::connect(address).await.is_err() {
                    tokio::time::sleep(RETRY).await;
                }
            };
            let accepted = tokio::time::timeout(PATIENCE, accepts).await;
            accepted.with_context(|| format!("nobody accepts connections at {address}"))?;
        }
        // Long enough for a pair that needs a moment after its first accept: one success is a failure.
        let until = Instant::now() + DOUBT;
        while Instant::now() < until {
            let answer = tokio::time::timeout(DOUBT, load::probe(wire, self.entry)).await;
            ensure!(!matches!(answer, Ok(Ok(()))), "it let a stranger in");
            tokio::time::sleep(RETRY).await;
        }
        Ok(())
    }

    /// The processes of both sidecars, workers and all.
    pub fn pids(&self) -> Result<Vec<u32>> {
        let mut pids = Vec::new();
        for sidecar in &self.sidecars {
            pids.extend(process::family(sidecar.pid().context("a sidecar has ended")?)?);
        }
        Ok(pids)
    }

    /// Ends both, with all their workers.
    pub async fn stop(mut self) -> Result<()> {
        for sidecar in &self.sidecars {
            sidecar.signal(Signal::SIGTERM)?;
        }
        for sidecar in &mut self.sidecars {
            sidecar.wait().await?;
        }
        Ok(())
    }
}
