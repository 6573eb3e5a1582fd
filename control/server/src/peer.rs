//! Who is at the other end of a connection, as the connection itself proves it.

use std::{fmt, net::SocketAddr, sync::Arc};

use svidecar_authority::x509::VerifiedPeer;

/// The other end of a connection.
#[derive(Clone, Debug)]
pub enum Peer {
    /// A process on this machine that may open the administrators' socket.
    Local {
        /// Its user.
        uid: u32,
        /// Its process, where the kernel says.
        pid: Option<i32>,
    },
    /// Somebody on the network.
    Remote {
        /// Where from.
        address: SocketAddr,
        /// The SVID that was presented and verified, if one was.
        svid: Option<Arc<VerifiedPeer>>,
    },
}

impl Peer {
    /// The network address, or the user of a local process, for records of who did something.
    #[must_use]
    pub fn origin(&self) -> String {
        match self {
            Self::Local { uid, .. } => format!("local user {uid}"),
            Self::Remote { address, .. } => address.to_string(),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { uid, pid: Some(pid) } => write!(f, "local user {uid}, process {pid}"),
            Self::Local { uid, pid: None } => write!(f, "local user {uid}"),
            Self::Remote { address, svid: Some(svid) } => write!(f, "{} at {address}", svid.id),
            Self::Remote { address, svid: None } => write!(f, "{address}"),
        }
    }
}
