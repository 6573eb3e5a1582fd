//! A proxy made from YAML, as a user writes it.

use std::{net::SocketAddr, path::PathBuf};

use svidecar::{
    control::{
        proxy::{LOG_DEADLINE, Proxy},
        ready::Readiness,
    },
    runtime::drain::Direction,
};
use svidecar_config::{address::ListenAddress, load::Loader, proxy::ProxySettings};
use svidecar_process::clock;
use tokio::sync::mpsc;

use super::{agent::Agent, client, soon};

pub struct Sidecar {
    pub proxy: Proxy,
    pub directory: tempfile::TempDir,
    _reload: mpsc::Sender<()>,
}

/// Lets `demo.org/shop` and `demo.org/other` in everywhere but to `/admin`.
pub const POLICY: &str = "
service: orders
rules:
  - name: shop-may-order
    from: [spiffe://demo.org/shop, spiffe://demo.org/other]
  - name: nobody-is-admin
    action: deny
    from: [\"spiffe://demo.org/**\"]
    to: [{paths: [\"/admin/**\", /admin]}]
";

impl Sidecar {
    /// Starts with these listeners and [`POLICY`] as `policy.yaml`.
    pub async fn start(agent: &Agent, listeners: &str) -> Self {
        Self::with_policy(agent, listeners, POLICY).await
    }

    pub async fn with_policy(agent: &Agent, listeners: &str, policy: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("policy.yaml"), policy).unwrap();
        let config = directory.path().join("svidecar.yaml");
        let head = format!(
            "workload_api: {}\nworkers: 2\naccess_log: {{path: {}}}\nadmin: {{listen: \"127.0.0.1:0\"}}\n",
            agent.endpoint(),
            directory.path().join("access.log").display()
        );
        std::fs::write(&config, head + listeners).unwrap();
        let loader = Loader::<ProxySettings>::new("SVIDECAR_TEST").file(config);
        let settings = loader.load().unwrap_or_else(|error| panic!("{error}")).value;
        let (reload, requests) = mpsc::channel(1);
        let proxy = Proxy::start(loader, settings, requests).await.unwrap_or_else(|error| panic!("{error}"));
        Self { proxy, directory, _reload: reload }
    }

    /// As [`start`](Self::start), and waits until it is ready.
    pub async fn ready(agent: &Agent, listeners: &str) -> Self {
        let sidecar = Self::start(agent, listeners).await;
        sidecar.until(|readiness| readiness.ready).await;
        sidecar
    }

    /// Waits until the readiness is as wanted.
    pub async fn until(&self, wanted: impl Fn(&Readiness) -> bool) -> Readiness {
        let shared = self.proxy.shared();
        let mut changes = shared.current.subscribe();
        soon("the readiness that the test wants", async {
            loop {
                let readiness = Readiness::of(shared, clock::unix());
                if wanted(&readiness) {
                    return readiness;
                }
                changes.changed().await.unwrap();
            }
        })
        .await
    }

    pub fn inbound(&self, name: &str) -> SocketAddr {
        self.address(Direction::Inbound, name)
    }

    pub fn outbound(&self, name: &str) -> SocketAddr {
        self.address(Direction::Outbound, name)
    }

    fn address(&self, direction: Direction, name: &str) -> SocketAddr {
        match self.proxy.address(direction, name) {
            Some(ListenAddress::Tcp(address)) => *address,
            other => panic!("{name} listens on {other:?}"),
        }
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    /// Replaces the policy, and waits until the reload has been tried.
    pub async fn edit_policy(&self, policy: &str) {
        self.edit("policy.yaml", policy).await;
    }

    /// Replaces a file as a careful editor does, and waits until the reload has been tried.
    pub async fn edit(&self, file: &str, text: &str) {
        let mut reloads = self.proxy.shared().reload.subscribe();
        reloads.mark_unchanged();
        std::fs::write(self.path("new"), text).unwrap();
        std::fs::rename(self.path("new"), self.path(file)).unwrap();
        soon("a reload", reloads.changed()).await.unwrap();
    }

    /// Ends the access log and gives its lines.
    pub fn access_log(&self) -> Vec<serde_json::Value> {
        self.proxy.shared().telemetry.close(LOG_DEADLINE);
        let text = std::fs::read_to_string(self.path("access.log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// A page of the admin.
    pub async fn admin(&self, path: &str) -> client::Read {
        client::plain_get(self.proxy.admin_address().unwrap(), path).await
    }

    /// Waits until the metrics name `word`: a record is written after the other side has seen the end.
    pub async fn until_counted(&self, word: &str) {
        soon(&format!("metrics with {word}"), async {
            while !self.admin("/metrics").await.body.contains(word) {}
        })
        .await;
    }
}
