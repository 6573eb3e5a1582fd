//! The network namespace of a sidecar dies, as that of a container does when the one starts again whose network it shares.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use svidecar_e2e::{Tool, need};
use svidecar_stack::{Binaries, Launch, Process};

/// A network namespace with two interfaces, gone when it is dropped.
struct Namespace {
    ip: PathBuf,
    name: String,
}

impl Namespace {
    async fn new(ip: &Path, name: &str) -> Result<Self> {
        let this = Self { ip: ip.to_owned(), name: format!("{name}-{}", std::process::id()) };
        this.run(&["netns", "add", &this.name]).await?;
        this.inside(&["link", "set", "lo", "up"]).await?;
        this.inside(&["link", "add", "eth0", "type", "veth", "peer", "name", "eth1"]).await?;
        this.inside(&["link", "set", "eth0", "up"]).await?;
        Ok(this)
    }

    async fn run(&self, args: &[&str]) -> Result<()> {
        Launch::new(&self.ip).args(args).text().await.map(drop)
    }

    async fn inside(&self, args: &[&str]) -> Result<()> {
        self.run(&[&["-n", &self.name], args].concat()).await
    }

    /// A sidecar in it that has started.
    async fn sidecar(&self, setting: &str) -> Result<Process> {
        let binaries = Binaries::beside_this_program(None)?;
        let process = Launch::new(&self.ip)
            .args(["netns", "exec", &self.name])
            .arg(binaries.proxy())
            .args(["run", "--workload-api", "unix:///nowhere/agent.sock", "--admin-listen", "off"])
            .env("SVIDECAR_PROXY_ON_NETWORK_LOSS", setting)
            .start("sidecar")?;
        process.log.wait_for(&["svidecar is up"]).await?;
        Ok(process)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = std::process::Command::new(&self.ip).args(["netns", "delete", &self.name]).status();
    }
}

#[tokio::test]
async fn a_sidecar_whose_network_is_gone_ends_when_it_is_told_to() -> Result<()> {
    let test = "a_sidecar_whose_network_is_gone_ends_when_it_is_told_to";
    let Some(ip) = need(Tool::Namespaces, test)? else { return Ok(()) };
    let namespace = Namespace::new(&ip, "svidecar-exit").await?;
    let mut sidecar = namespace.sidecar("exit").await?;
    namespace.inside(&["link", "delete", "eth0"]).await?;
    let status = sidecar.wait().await?;
    assert_eq!(status.code(), Some(1), "{}", sidecar.log.text());
    let said = sidecar.log.text();
    let error = said.lines().find(|line| line.starts_with("Error")).context("no error")?;
    assert!(error.contains("(network_lost)") && error.contains("eth0"), "{error}");
    Ok(())
}

/// By default it says what it sees, and stays.
#[tokio::test]
async fn a_sidecar_whose_network_is_gone_says_so() -> Result<()> {
    let Some(ip) = need(Tool::Namespaces, "a_sidecar_whose_network_is_gone_says_so")? else { return Ok(()) };
    let namespace = Namespace::new(&ip, "svidecar-ignore").await?;
    let mut sidecar = namespace.sidecar("ignore").await?;
    namespace.inside(&["link", "delete", "eth0"]).await?;
    sidecar.log.wait_for(&["The network is gone", "on_network_loss: exit"]).await?;
    assert_eq!(sidecar.stop().await?.code(), Some(0));
    Ok(())
}
