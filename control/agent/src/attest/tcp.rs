//! Which local process owns the other end of a loopback TCP connection.
//!
//! TCP has no SO_PEERCRED. The kernel's socket table gives the inode of the peer's socket, and the process
//! that holds that inode is the caller, provided exactly one does. The process is pinned first and looked at again after,
//! so that the answer belongs to the pinned process. In doubt (no holder, two holders, a table too long) the answer is an
//! error: a socket shared over `fork` has no single owner. It must never be used for a peer that is not on loopback.

use std::net::SocketAddr;

use svidecar_process::loopback;

use super::{Caller, holders};
use crate::error::AttestError;

/// Finds and pins the process at the other end of a connection that we accepted at `ours` from `peer`.
/// Reads all of `/proc`: run it off the async threads.
///
/// # Errors
/// When the peer is not on loopback, or its process is not found, or not the only one.
pub fn owner(ours: SocketAddr, peer: SocketAddr) -> Result<Caller, AttestError> {
    if !peer.ip().to_canonical().is_loopback() || !ours.ip().to_canonical().is_loopback() {
        return Err(AttestError::NotLoopback { peer });
    }
    let socket = loopback::socket(peer, ours)
        .map_err(|source| AttestError::SocketTable { source })?
        .ok_or(AttestError::NoSocketOwner)?;
    let mut holders = holders::of(socket.inode).into_iter();
    let pid = match (holders.next(), holders.next()) {
        (Some(pid), None) => pid,
        (Some(pid), Some(other)) => return Err(AttestError::SharedConnection { pid, other }),
        _ => return Err(AttestError::NoSocketOwner),
    };
    let caller = Caller::of_tcp(pid, socket.inode)?;
    if caller.uid() != socket.uid {
        return Err(AttestError::CredentialsChanged {
            pid,
            connected: format!("uid {}", socket.uid),
            now: format!("uid {}", caller.uid()),
        });
    }
    Ok(caller)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn the_owner_of_a_loopback_connection_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, peer) = listener.accept().unwrap();
        let caller = owner(accepted.local_addr().unwrap(), peer).unwrap();
        assert_eq!(caller.pid(), i32::try_from(std::process::id()).unwrap());
        drop(client);
    }

    #[test]
    fn a_socket_that_nobody_holds_has_no_owner() {
        let ours = "127.0.0.1:1".parse().unwrap();
        let peer = "127.0.0.1:2".parse().unwrap();
        assert!(matches!(owner(ours, peer), Err(AttestError::NoSocketOwner)));
    }

    #[test]
    fn other_hosts_are_refused() {
        let ours = "127.0.0.1:1".parse().unwrap();
        let peer = "192.0.2.1:2".parse().unwrap();
        assert!(matches!(owner(ours, peer), Err(AttestError::NotLoopback { .. })));
    }
}
