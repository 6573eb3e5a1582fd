//! Listening sockets: all bound before any worker starts, so that a port that is taken stops the start, not the
//! traffic.
//!
//! Each worker gets its own `SO_REUSEPORT` socket, so the kernel spreads connections and no lock is shared.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use socket2::{Domain, Protocol, Socket, Type};
use svidecar_config::address::ListenAddress;

use crate::{error::ProxyError, io::socket::set_options};

/// Connections that wait for `accept(2)`; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Users of a Unix listener: the owner and its group. Whoever may connect uses our identity.
const UNIX_SOCKET_MODE: u32 = 0o660;

/// One listening socket per worker.
pub struct BoundListener {
    /// Where it really listens: port 0 is resolved.
    pub address: ListenAddress,
    /// As many as there are workers.
    pub sockets: Vec<ListenSocket>,
    /// Removes the file of a Unix socket at the end.
    pub file: Option<SocketFile>,
}

/// A listening socket, not yet registered with a runtime.
pub enum ListenSocket {
    /// TCP.
    Tcp(TcpListener),
    /// Unix.
    Unix(UnixListener),
}

/// Removes the socket's file when it goes.
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Binds `address` once for each of `workers`.
///
/// # Errors
/// [`ProxyError::Bind`] with the address and what the system says.
pub fn bind(name: &str, address: &ListenAddress, workers: usize) -> Result<BoundListener, ProxyError> {
    let failed =
        |source| ProxyError::Bind { listener: name.to_owned(), address: address.to_string(), source };
    match address {
        ListenAddress::Tcp(address) => bind_tcp(*address, workers).map_err(failed),
        ListenAddress::Unix(path) => bind_unix(path, workers).map_err(failed),
    }
}

fn bind_tcp(address: SocketAddr, workers: usize) -> io::Result<BoundListener> {
    if address.port() != 0 {
        // With SO_REUSEPORT a second process of the same user would silently take half of the connections.
        // A socket without it fails when anyone listens there.
        tcp_socket(address, false)?;
    }
    let first = tcp_socket(address, true)?;
    let bound = first.local_addr()?;
    let mut sockets = vec![ListenSocket::Tcp(first)];
    for _ in 1..workers {
        sockets.push(ListenSocket::Tcp(tcp_socket(bound, true)?));
    }
    Ok(BoundListener { address: ListenAddress::Tcp(bound), sockets, file: None })
}

fn tcp_socket(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_nonblocking(true)?;
    set_options(&(&socket).into());
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path, workers: usize) -> io::Result<BoundListener> {
    remove_stale(path)?;
    let first = UnixListener::bind(path)?;
    let file = SocketFile(path.to_owned());
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(UNIX_SOCKET_MODE))?;
    first.set_nonblocking(true)?;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 1..workers {
        sockets.push(ListenSocket::Unix(first.try_clone()?));
    }
    sockets.push(ListenSocket::Unix(first));
    Ok(BoundListener { address: ListenAddress::Unix(path.to_owned()), sockets, file: Some(file) })
}

/// Removes the socket that a process left behind; never one that still answers, never another kind of file.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is not a socket is in the way",
        ));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(address: &str) -> ListenAddress {
        address.parse().unwrap()
    }

    #[test]
    fn every_worker_gets_a_socket_on_the_same_port() {
        let bound = bind("a", &tcp("127.0.0.1:0"), 3).unwrap();
        assert_eq!(bound.sockets.len(), 3);
        let ports: Vec<_> = bound
            .sockets
            .iter()
            .map(|socket| match socket {
                ListenSocket::Tcp(socket) => socket.local_addr().unwrap().to_string(),
                ListenSocket::Unix(_) => panic!("not TCP"),
            })
            .collect();
        assert!(ports.iter().all(|port| *port == bound.address.to_string()), "{ports:?}");
    }

    /// So that no connection has to be given them one by one.
    #[test]
    fn connections_inherit_the_options_of_their_listener() {
        let bound = bind("a", &tcp("127.0.0.1:0"), 1).unwrap();
        let ListenAddress::Tcp(address) = bound.address else { panic!("not TCP") };
        let ListenSocket::Tcp(listening) = &bound.sockets[0] else { panic!("not TCP") };
        let _client = std::net::TcpStream::connect(address).unwrap();
        let accepted = std::iter::repeat_with(|| listening.accept()).find_map(Result::ok).unwrap().0;
        let accepted = socket2::SockRef::from(&accepted);
        assert!(accepted.tcp_nodelay().unwrap() && accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_retries().unwrap(), 3);
        // The kernel cuts a connection whose reader pauses for longer.
        assert!(accepted.tcp_user_timeout().unwrap().unwrap() >= std::time::Duration::from_secs(300));
    }

    #[test]
    fn a_port_that_is_taken_is_an_error_even_by_ourselves() {
        let first = bind("a", &tcp("127.0.0.1:0"), 1).unwrap();
        let error = bind("b", &first.address, 1).err().unwrap();
        assert!(error.to_string().contains(&first.address.to_string()), "{error}");
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_a_live_one_and_a_file_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let address = ListenAddress::Unix(path.clone());

        drop(UnixListener::bind(&path).unwrap());
        let live = bind("a", &address, 2).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, UNIX_SOCKET_MODE);
        assert!(bind("b", &address, 1).is_err());
        drop(live);
        assert!(!path.exists());

        std::fs::write(&path, "data").unwrap();
        assert!(bind("c", &address, 1).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"data");
    }
}
