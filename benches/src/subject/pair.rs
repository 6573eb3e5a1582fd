//! A pair of sidecars at work: what it is to lead to, whether it is ready, which processes it has, its end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::sys::signal::Signal;
use svidecar_process::clock;
use svidecar_stack::{PATIENCE, Process};
use tokio::net::TcpStream;

use crate::course::{Course, Side};
use crate::wire::Wire;
use crate::{load, process};

/// What passes between two looks at whether a pair is there.
const RETRY: Duration = Duration::from_millis(1);
/// How long a pair is tried that should refuse.
const DOUBT: Duration = Duration::from_secs(1);

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
    pub(super) sidecars: Vec<Process>,
    /// Where the server's sidecar listens.
    pub(super) between: SocketAddr,
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
        let until = clock::monotonic() + DOUBT;
        while clock::monotonic() < until {
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
