//! One address of an upstream: where it is, and what the settings call it.
//!
//! Values only.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc};

use svidecar_config::address::Address;

use crate::plan::upstream::UpstreamSpec;

/// An address, and whose it is.
#[derive(Clone)]
pub struct Place {
    /// The upstream that it belongs to.
    pub spec: Arc<UpstreamSpec>,
    /// The name that the settings have for it. It may stand for several addresses.
    pub name: Address,
    /// Where it is.
    pub location: Location,
}

/// What can be dialled without a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// An address of TCP.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Location {
    /// Where a name leads that needs no lookup: an IP address, or a path.
    #[must_use]
    pub fn of(name: &Address) -> Option<Self> {
        match name {
            Address::Tcp { host, port } => Some(Self::Tcp(SocketAddr::new(host.parse().ok()?, *port))),
            Address::Unix(path) => Some(Self::Unix(path.clone())),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_no_lookup() {
        for (name, location) in [
            ("127.0.0.1:80", Some("127.0.0.1:80")),
            ("[::1]:8443", Some("[::1]:8443")),
            ("unix:/run/app.sock", Some("unix:/run/app.sock")),
            ("localhost:80", None),
            ("orders.internal:8443", None),
        ] {
            let found = Location::of(&name.parse().unwrap());
            assert_eq!(found.map(|found| found.to_string()).as_deref(), location);
        }
    }
}
