//! How bytes of any protocol get through mutual TLS to an upstream.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use svidecar_document::{text::InvalidValue, text_value};

use crate::address::Address;

/// How bytes of any protocol get to an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UpstreamTunnel {
    /// Many connections share a few of mutual TLS where a svidecar answers; elsewhere each is one of its own.
    #[default]
    Auto,
    /// Many connections share a few of mutual TLS with anyone who knows HBONE: CONNECT over HTTP/2.
    Hbone,
}

/// Where a tunnel leads: `HOST:PORT`, or the port of a service on the endpoint's own host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TunnelDestination {
    /// This one, whatever the endpoint.
    Address(Address),
    /// This port of the endpoint's host.
    Port(u16),
}

impl TunnelDestination {
    /// `HOST:PORT`, as seen through this endpoint; none if the endpoint is a Unix socket, which has no host.
    #[must_use]
    pub fn through(&self, endpoint: &Address) -> Option<String> {
        match (self, endpoint) {
            (Self::Address(address), _) => Some(address.to_string()),
            (Self::Port(port), Address::Tcp { host, .. }) => {
                Some(Address::Tcp { host: host.clone(), port: *port }.to_string())
            }
            (Self::Port(_), Address::Unix(_)) => None,
        }
    }
}

impl FromStr for TunnelDestination {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let wrong = |why: &str| InvalidValue(format!("`{text}` is not where a tunnel can lead: {why}"));
        let destination = match text.strip_prefix(':').unwrap_or(text).parse() {
            Ok(port) => Self::Port(port),
            Err(_) => Self::Address(text.parse()?),
        };
        match destination {
            Self::Port(0) | Self::Address(Address::Tcp { port: 0, .. }) => {
                Err(wrong("nothing can be reached at port 0"))
            }
            Self::Address(Address::Unix(_)) => Err(wrong("expected `HOST:PORT` or `PORT`")),
            destination => Ok(destination),
        }
    }
}

impl fmt::Display for TunnelDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Port(port) => port.fmt(f),
        }
    }
}

text_value!(TunnelDestination, "TunnelDestination", "tunnel-destination", ["10.0.0.7:5432", "5432"]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_an_address_or_a_port_of_the_endpoint() {
        let endpoint: Address = "[fd00::7]:15008".parse().unwrap();
        for (text, authority) in [
            ("5432", "[fd00::7]:5432"),
            (":5432", "[fd00::7]:5432"),
            ("10.0.0.7:5432", "10.0.0.7:5432"),
            ("db.internal:5432", "db.internal:5432"),
        ] {
            let destination: TunnelDestination = text.parse().unwrap();
            assert_eq!(destination.through(&endpoint).as_deref(), Some(authority), "{text}");
            assert_eq!(destination.to_string().parse::<TunnelDestination>().unwrap(), destination);
        }
        let socket: Address = "unix:/run/ztunnel.sock".parse().unwrap();
        assert_eq!("5432".parse::<TunnelDestination>().unwrap().through(&socket), None);
    }

    #[test]
    fn a_wrong_destination_says_what_to_write() {
        for (text, part) in [
            ("0", "port 0"),
            ("db:0", "port 0"),
            ("unix:/run/db.sock", "HOST:PORT"),
            ("http://db:5432", "drop the scheme"),
            ("db", "HOST:PORT"),
        ] {
            let error = text.parse::<TunnelDestination>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
