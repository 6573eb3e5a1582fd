//! Which local process owns the other end of a loopback TCP connection.
//!
//! TCP has no SO_PEERCRED. The kernel's socket table gives the inode of the peer's socket, and the process
//! that holds that inode is the caller, provided exactly one does. The process is pinned first and looked at again after,
//! so that the answer belongs to the pinned process. In doubt (no holder, two holders, a table too long) the answer is an
//! error: a socket shared over `fork` has no single owner. It must never be used for a peer that is not on loopback.

use std::{
    fs, io,
    io::BufRead as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::{Caller, holders};
use crate::error::AttestError;

/// Lines of `/proc/net/tcp` that are read at most.
const MAX_SOCKETS: usize = 200_000;

/// Finds and pins the process at the other end of a connection that we accepted at `ours` from `peer`.
/// Reads all of `/proc`: run it off the async threads.
///
/// # Errors
/// When the peer is not on loopback, or its process is not found, or not the only one.
pub fn owner(ours: SocketAddr, peer: SocketAddr) -> Result<Caller, AttestError> {
    if !peer.ip().to_canonical().is_loopback() || !ours.ip().to_canonical().is_loopback() {
        return Err(AttestError::NotLoopback { peer });
    }
    let socket = find_inode(peer, ours)
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

#[derive(Debug, PartialEq, Eq)]
struct Socket {
    inode: u64,
    /// Who made the socket; another user now at its descriptor means that it was handed over.
    uid: u32,
}

/// The socket whose local end is `local` and whose remote end is `remote`.
fn find_inode(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Socket>> {
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let file = match fs::File::open(table) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for line in io::BufReader::new(file).lines().skip(1).take(MAX_SOCKETS) {
            if let Some((from, to, socket)) = parse_line(&line?)
                && from == canonical(local)
                && to == canonical(remote)
            {
                return Ok(Some(socket));
            }
        }
    }
    Ok(None)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// One line of `/proc/net/tcp{,6}` (proc_pid_net(5)).
fn parse_line(line: &str) -> Option<(SocketAddr, SocketAddr, Socket)> {
    let mut fields = line.split_ascii_whitespace();
    let local = parse_address(fields.nth(1)?)?;
    let remote = parse_address(fields.next()?)?;
    // State, queues, timer, retransmits; then the user, the timeout and the inode.
    let uid = fields.nth(4)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    (inode != 0).then_some((local, remote, Socket { inode, uid }))
}

/// An address as the kernel prints it: words in the machine's byte order, in hex.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let bytes = hex::decode(address).ok()?;
    let word =
        |chunk: &[u8]| -> Option<[u8; 4]> { Some(u32::from_be_bytes(chunk.try_into().ok()?).to_ne_bytes()) };
    let ip = match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(word(&bytes)?)),
        16 => {
            let words: Vec<[u8; 4]> = bytes.chunks(4).map(word).collect::<Option<_>>()?;
            IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
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

    #[test]
    #[cfg(target_endian = "little")]
    fn the_kernels_table_is_understood() {
        let line = "   1: 0100007F:1F90 0200007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 20 4 0 10 -1";
        let (local, remote, socket) = parse_line(line).unwrap();
        assert_eq!(local, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(remote, "127.0.0.2:50000".parse().unwrap());
        assert_eq!(socket, Socket { inode: 4711, uid: 1000 });
        assert_eq!(
            parse_address("00000000000000000000000001000000:0050").unwrap(),
            "[::1]:80".parse().unwrap()
        );
        assert_eq!(parse_line("nonsense"), None);
    }
}
