//! The subjects of the race, each as a pair of sidecars: load → client sidecar → mTLS → server sidecar → app.
//!
//! The same for all of them: one worker per sidecar, TLS 1.3, keep-alive and pools, and each side checks who the
//! other is. What each can do for that last point is said in its module.

mod envoy;
mod ghostunnel;
mod haproxy;
mod nginx;
mod pair;
mod relay;
mod svidecar;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

pub use self::pair::{Pair, Scene};
use crate::course::Course;
use crate::tools::Tool;
use crate::workload::Workload;

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

async fn version_of(tool: Option<&Tool>, flag: &str) -> Result<Option<String>> {
    match tool {
        Some(tool) => tool.version(flag).await.map(Some),
        None => Ok(None),
    }
}
