//! ghostunnel: TCP only; both sides check the other's SPIFFE ID as a URI, the client also a DNS name.

use anyhow::{Context as _, Result};
use svidecar_stack::{Process, ports};

use super::pair::{Pair, Scene};
use crate::course::{CLIENT_ID, SERVER_DNS, SERVER_ID, SvidFiles};

/// Starts both sidecars.
pub fn start(scene: &Scene<'_>) -> Result<Pair> {
    let entry = ports::free()?;
    let (listen, app) = (scene.between.to_string(), scene.app.to_string());
    let server = ["server", "--listen", &listen, "--target", &app, "--allow-uri", CLIENT_ID];
    let (listen, peer) = (entry.to_string(), scene.peer.to_string());
    let client = ["client", "--listen", &listen, "--target", &peer, "--verify-uri", SERVER_ID];
    // It wants a name beside the ID.
    let client = [&client[..], &["--override-server-name", SERVER_DNS]].concat();
    let sidecars =
        vec![sidecar(scene, &server, &scene.server.svid)?, sidecar(scene, &client, &scene.client.svid)?];
    Ok(Pair { sidecars, between: scene.between, entry })
}

fn sidecar(scene: &Scene<'_>, args: &[&str], svid: &SvidFiles) -> Result<Process> {
    let tool = scene.course.tools.ghostunnel.as_ref().context("ghostunnel is not here")?;
    // One worker: what Go runs at the same time.
    let launch = tool.launch().env("GOMAXPROCS", "1").args(args).args([
        "--quiet",
        "conns",
        "--quiet",
        "handshake-errs",
        "--keystore",
    ]);
    let launch = launch.arg(&svid.both).arg("--cacert").arg(&svid.bundle);
    scene.course.stack.guarded(launch).start("ghostunnel")
}
