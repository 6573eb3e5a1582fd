//! Who is at the other end of a connection, as the connection itself proves it.

use std::{fmt, net::SocketAddr, sync::Arc};

use svidecar_authority::x509::VerifiedPeer;
use svidecar_process::Source;

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
        /// What it has proven instead, where it asked for a bootstrap key: that we signed for its key once.
        membership: Option<Arc<Membership>>,
    },
}

/// What lets an agent come back, verified but for its dates. It is no SVID, and good for nothing else.
#[derive(Debug)]
pub struct Membership {
    /// What the certificate says.
    pub facts: VerifiedPeer,
    /// SHA-256 of its key, hex.
    pub key_sha256: String,
}

impl Membership {
    /// Which of the agent's SVIDs it came with, by count.
    #[must_use]
    pub fn generation(&self) -> i64 {
        let serial = self.facts.serial.parse::<u128>().unwrap_or_default();
        i64::try_from(serial >> 64).unwrap_or_default()
    }
}

impl Peer {
    /// What it is counted as until it has proven more.
    #[must_use]
    pub fn source(&self) -> Source {
        match self {
            Self::Local { uid, .. } => Source::User(*uid),
            Self::Remote { address, .. } => address.ip().into(),
        }
    }

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
            Self::Remote { address, svid: Some(svid), .. } => write!(f, "{} at {address}", svid.id),
            Self::Remote { address, .. } => write!(f, "{address}"),
        }
    }
}
