//! What a stranger is counted as before it has proven who it is.
//!
//! Owns the coarseness: somebody who has one address must not be able to be many. It must never be taken for an identity.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Whom something is put down to that nobody has answered for yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A host.
    V4(Ipv4Addr),
    /// A /64, of which whoever has one address has all (RFC 4291 §2.5.4); its lower half is zero.
    V6(Ipv6Addr),
    /// A user of this host.
    User(u32),
    /// The transport does not tell.
    Unknown,
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => address.fmt(f),
            Self::V6(network) => write!(f, "{network}/64"),
            Self::User(uid) => write!(f, "user {uid}"),
            Self::Unknown => f.write_str("somebody"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: &str) -> Source {
        Source::from(address.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn one_network_of_ipv6_is_one_stranger() {
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::9"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_eq!(source("2001:db8:1:2:3::1").to_string(), "2001:db8:1:2::/64");
    }

    #[test]
    fn an_address_is_the_same_stranger_on_both_kinds_of_socket() {
        assert_eq!(source("::ffff:192.0.2.7"), source("192.0.2.7"));
        assert_ne!(source("192.0.2.8"), source("192.0.2.7"));
        assert_eq!(source("192.0.2.7").to_string(), "192.0.2.7");
    }
}
