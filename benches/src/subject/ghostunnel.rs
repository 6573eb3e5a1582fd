//! ghostunnel: TCP only; both sides check the other's SPIFFE ID as a URI.

use anyhow::{Context as _, Result};
use svidecar_stack::{Process, ports};

use super::{Pair, Scene};
use crate::course::{CLIENT_ID, SERVER_ID, SvidFiles};

/// Starts both sidecars.
pub fn start(scene: &Scene<'_>) -> Result<Pair> {
    let (between, entry) = (ports::free()?, ports::free()?);
    let course = scene.course;
    let server = [
        "server",
        "--listen",
        &between.to_string(),
        "--target",
        &scene.app.to_string(),
        "--allow-uri",
        CLIENT_ID,
    ];
    let client = [
        "client",
        "--listen",
        &entry.to_string(),
        "--target",
        &between.to_string(),
        "--verify-uri",
        SERVER_ID,
    ];
    let sidecars =
        vec![sidecar(scene, &server, &course.server_svid)?, sidecar(scene, &client, &course.client_svid)?];
    Ok(Pair { sidecars, middle: between, entry })
}

fn sidecar(scene: &Scene<'_>, args: &[&str], svid: &SvidFiles) -> Result<Process> {
    let tool = scene.course.tools.ghostunnel.as_ref().context("ghostunnel is not here")?;
    // One worker: what Go runs at the same time.
    let launch = tool.launch().env("GOMAXPROCS", "1").args(args).args(["--quiet", "all", "--keystore"]);
    let launch = launch.arg(&svid.both).arg("--cacert").arg(&svid.bundle);
    scene.course.stack.guarded(launch).start("ghostunnel")
}
