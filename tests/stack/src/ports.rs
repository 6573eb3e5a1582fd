//! Free loopback ports, for those processes whose address must be written down before they start.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

/// Below the range from which the kernel takes the ports of outgoing connections, so that none of those can
/// sit on a port between our look and the process that binds it.
const RANGE: RangeInclusive<u16> = 15_000..=32_000;

/// How many ports were handed out in this process: none is handed out twice.
static TAKEN: AtomicU16 = AtomicU16::new(0);

/// A loopback address that nobody listens on. Processes that run side by side start at different places.
///
/// # Errors
/// When no port of the range is free.
pub fn free() -> Result<SocketAddr> {
    let size = RANGE.end() - RANGE.start() + 1;
    let first = (std::process::id().wrapping_mul(97) % u32::from(size)) as u16;
    for _ in RANGE {
        let taken = TAKEN.fetch_add(1, Ordering::Relaxed);
        let port = RANGE.start() + ((u32::from(first) + u32::from(taken)) % u32::from(size)) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        }
    }
    bail!("no free loopback port in {RANGE:?}")
}
