//! Where the other end of a connection is.

use std::{fmt, net::SocketAddr};

use svidecar_process::Source;

/// The other end of an accepted connection.
#[derive(Clone, Copy, Debug)]
pub enum PeerAddress {
    /// Its IP address and port.
    Tcp(SocketAddr),
    /// A local process; its PID where the kernel gave one.
    Unix(Option<i32>),
}

impl PeerAddress {
    /// The IP address and port, if there is one.
    #[must_use]
    pub fn socket_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// What it is counted as until it has proven more.
    #[must_use]
    pub fn source(&self) -> Source {
        match self {
            Self::Tcp(address) => address.ip().into(),
            Self::Unix(_) => Source::Unknown,
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(Some(pid)) => write!(f, "unix:pid={pid}"),
            Self::Unix(None) => f.write_str("unix"),
        }
    }
}
