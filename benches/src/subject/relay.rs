//! The floor: a pair of relays of our own that only receive and send, in plain text and for anyone.

use std::net::SocketAddr;

use anyhow::Result;
use svidecar_stack::{Process, ports};

use super::pair::{Pair, Scene};

/// Starts both relays.
pub fn start(scene: &Scene<'_>) -> Result<Pair> {
    let entry = ports::free()?;
    let sidecars = vec![relay(scene, scene.between, scene.app)?, relay(scene, entry, scene.peer)?];
    Ok(Pair { sidecars, between: scene.between, entry })
}

fn relay(scene: &Scene<'_>, listen: SocketAddr, target: SocketAddr) -> Result<Process> {
    scene.course.own("relay")?.arg(listen.to_string()).arg(target.to_string()).start("relay")
}
