//! The agent: what it keeps across restarts, and how fast an entry becomes an identity.

use anyhow::{Context as _, Result};
use spiffe::WorkloadApiClient;
use svidecar_stack::{PATIENCE, Stack, StackOptions};
use tokio_stream::StreamExt as _;

/// The selector of this very process.
fn own_uid() -> String {
    format!("unix:uid:{}", nix::unistd::getuid())
}

#[tokio::test]
async fn a_restarted_agent_serves_with_the_server_down() -> Result<()> {
    let mut stack = Stack::start(StackOptions::default()).await?;
    stack.register("spiffe://demo.org/workload", &own_uid(), &[]).await?;
    let fetched = stack.agent_cli(&["api", "fetch", "x509"]).text().await?;
    assert!(fetched.contains("spiffe://demo.org/workload"), "{fetched}");

    stack.server.kill().await?;
    stack.restart_agent().await?;
    let fetched = stack.agent_cli(&["api", "fetch", "x509"]).text().await?;
    assert!(fetched.contains("spiffe://demo.org/workload"), "{fetched}");
    Ok(())
}

#[tokio::test]
async fn an_agent_finds_its_restarted_server_again() -> Result<()> {
    let mut stack = Stack::start(StackOptions::default()).await?;
    stack.register("spiffe://demo.org/before", &own_uid(), &[]).await?;
    let client = WorkloadApiClient::connect_to(format!("unix:{}", stack.agent_socket())).await?;
    let mut stream = client.stream_x509_contexts().await?;
    stream.next().await.context("the stream ended")??;
    stack.restart_server().await?;
    stack.register("spiffe://demo.org/after", &own_uid(), &[]).await?;
    let arrived = async {
        while let Some(update) = stream.next().await {
            if update?.svids().iter().any(|svid| svid.spiffe_id().to_string() == "spiffe://demo.org/after") {
                return Ok(());
            }
        }
        anyhow::bail!("the stream ended")
    };
    tokio::time::timeout(PATIENCE, arrived).await.context("the new identity never came")?
}

/// H13, H14, H24: every message is the whole state, comes when something changed, and keeps its order.
#[tokio::test]
async fn an_entry_appears_in_an_open_stream_and_goes_again() -> Result<()> {
    let stack = Stack::start(StackOptions::default()).await?;
    stack.register("spiffe://demo.org/first", &own_uid(), &[]).await?;
    let client = WorkloadApiClient::connect_to(format!("unix:{}", stack.agent_socket())).await?;
    let mut stream = client.stream_x509_contexts().await?;
    let mut next = async || -> Result<Vec<String>> {
        let update = tokio::time::timeout(PATIENCE, stream.next()).await?.context("the stream ended")??;
        Ok(update.svids().iter().map(|svid| svid.spiffe_id().to_string()).collect())
    };
    assert_eq!(next().await?, ["spiffe://demo.org/first"]);
    let entry = stack.register("spiffe://demo.org/second", &own_uid(), &[]).await?;
    assert_eq!(next().await?, ["spiffe://demo.org/first", "spiffe://demo.org/second"]);
    stack.server_cli(&["entry", "delete", "-entryID", &entry]).text().await?;
    assert_eq!(next().await?, ["spiffe://demo.org/first"]);
    Ok(())
}

/// H8: no identity is PermissionDenied; and a person learns what is missing.
#[tokio::test]
async fn a_caller_without_an_entry_is_refused_and_told_why() -> Result<()> {
    let stack = Stack::start(StackOptions::default()).await?;
    stack.register("spiffe://demo.org/other", "unix:uid:4294967", &[]).await?;
    let output = stack.agent_cli(&["api", "fetch", "x509"]).output().await?;
    assert!(!output.status.success());
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("no identity issued"), "{said}");
    stack.agent.log.wait_for(&["spiffe://demo.org/other", "unix:uid:4294967"]).await?;
    Ok(())
}
