//! Rotation, with lifetimes short enough to see it: nothing may fail across it.

use anyhow::Result;
use svidecar_e2e::{CLIENT_ID, Pair, SERVER_ID};
use svidecar_stack::{Launch, StackOptions};

/// A plain client that keeps sending until it is told to stop.
fn traffic(pair: &Pair) -> Result<svidecar_stack::Process> {
    let address = pair.client.outbound()?.to_string();
    Launch::new(pair.stack.binaries.demo())
        .args(["client", &address, "/api/hello", "--repeat"])
        .start("traffic")
}

#[tokio::test]
async fn svids_rotate_under_traffic_without_one_failed_request() -> Result<()> {
    let pair = Pair::start(StackOptions::default(), &["-x509SVIDTTL", "10"]).await?;
    let positions = [pair.client.process.log.position(), pair.server.process.log.position()];
    let mut traffic = traffic(&pair)?;
    pair.client.process.log.wait_from(positions[0], &["Rotated SVID", CLIENT_ID]).await?;
    pair.server.process.log.wait_from(positions[1], &["Rotated SVID", SERVER_ID]).await?;
    let status = traffic.stop().await?;
    assert!(status.success(), "{}", traffic.log.text());
    Ok(())
}

/// A new CA is prepared and published ahead, activated later, the old one pruned: traffic goes on through it all.
#[tokio::test]
async fn the_ca_rotates_under_traffic_without_one_failed_request() -> Result<()> {
    // Prepared at half of a minute, activated with ten seconds of it left.
    let server =
        "ca_ttl: 60s\ndefault_x509_svid_ttl: 10s\nagent_ttl: 10s\ndefault_jwt_svid_ttl: 10s\n".to_owned();
    let pair = Pair::start(StackOptions { server, ..StackOptions::default() }, &[]).await?;
    let mut traffic = traffic(&pair)?;
    let log = &pair.stack.server.log;
    let limit = std::time::Duration::from_secs(80);
    log.wait_until(0, limit, |line| line.contains("repared") && line.contains("X.509")).await?;
    log.wait_until(0, limit, |line| line.contains("ctivated") && line.contains("X.509")).await?;
    // Both sides get SVIDs from the new authority.
    for (sidecar, id) in [(&pair.client, CLIENT_ID), (&pair.server, SERVER_ID)] {
        let position = sidecar.process.log.position();
        sidecar.process.log.wait_from(position, &["Rotated SVID", id]).await?;
    }
    assert_eq!(pair.get("/api/hello").await?.status, 200);
    let status = traffic.stop().await?;
    assert!(status.success(), "{}", traffic.log.text());
    Ok(())
}
