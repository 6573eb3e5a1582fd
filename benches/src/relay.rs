//! A relay that only receives and sends: what any program between two sockets takes at least. Knows no TLS, no protocol
//! and no peer.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};

/// What one read takes at most, in bytes.
const READ: usize = 64 << 10;

/// Relays connections until it is killed.
pub async fn run(listen: SocketAddr, target: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        // A connection that fails is the load's to count: it misses an answer.
        drop(tokio::spawn(relay(stream, target)));
    }
}

async fn relay(mut caller: TcpStream, target: SocketAddr) -> Result<()> {
    let mut callee = TcpStream::connect(target).await?;
    caller.set_nodelay(true)?;
    callee.set_nodelay(true)?;
    copy_bidirectional_with_sizes(&mut caller, &mut callee, READ, READ).await?;
    Ok(())
}
