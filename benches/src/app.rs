//! The plain app behind the server sidecar. Does as little as an app can, because only the sidecars are measured.

mod http1;
mod http2;
mod tcp;

use std::io::Write as _;
use std::net::Ipv4Addr;

use anyhow::Result;
use tokio::net::TcpListener;

use crate::wire::Wire;

/// Serves one wire on a free loopback port, which it prints, until it is killed.
pub async fn run(wire: Wire) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    writeln!(std::io::stdout(), "listening on {}", listener.local_addr()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // A connection that fails is the load's to count: it misses an answer.
        match wire {
            Wire::Http1 => drop(tokio::spawn(http1::serve(stream))),
            Wire::Http2 => drop(tokio::spawn(http2::serve(stream))),
            Wire::Tcp => drop(tokio::spawn(tcp::serve(stream))),
        }
    }
}
