//! Who made a TCP socket of this host, by the kernel's own table.
//!
//! TCP has no SO_PEERCRED. Knows nothing of processes: which of them hold a socket is the asker's to find out.

use std::{
    fs, io,
    io::BufRead as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// Lines of `/proc/net/tcp` that are read at most.
const MAX_SOCKETS: usize = 200_000;

/// A TCP socket of this host, as the kernel's table has it.
#[derive(Debug, PartialEq, Eq)]
pub struct Socket {
    /// What its descriptors lead to.
    pub inode: u64,
    /// Who made the socket; another user now at its descriptor means that it was handed over.
    pub uid: u32,
}

/// The socket whose local end is `local` and whose remote end is `remote`, if it is of our network namespace. Reads a file that
/// grows with the sockets of the host: run it off the async threads.
///
/// # Errors
/// When the table cannot be read.
pub fn socket(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Socket>> {
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

    #[test]
    fn the_other_end_of_a_loopback_connection_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, peer) = listener.accept().unwrap();
        let found = socket(peer, accepted.local_addr().unwrap()).unwrap().unwrap();
        assert_eq!(found.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(socket("127.0.0.1:1".parse().unwrap(), peer).unwrap(), None);
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
