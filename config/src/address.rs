//! Addresses as settings write them: where to listen, and where to connect.
//!
//! Loopback is the default of both: a bare port never means every interface.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
};

use svidecar_document::{problems::Problems, text::InvalidValue, text_value};

/// Longest path of a Unix socket in bytes: `sun_path` of unix(7) less its final NUL.
const MAX_SOCKET_PATH: usize = 107;

/// Where a listener binds: `0.0.0.0:8443`, `[::]:8443`, `localhost:8443`, `8443` or `:8443` (both mean
/// 127.0.0.1), `*:8443` (every interface), `unix:/run/app.sock`. Port 0 lets the system pick one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix stream socket.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Whether only this machine can connect.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// Whether both would bind the same place. Two listeners with port 0 never clash.
    #[must_use]
    pub fn clashes_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unix(a), Self::Unix(b)) => a == b,
            (Self::Tcp(a), Self::Tcp(b)) => {
                let any = a.ip().is_unspecified() || b.ip().is_unspecified();
                a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || any)
            }
            _ => false,
        }
    }
}

impl FromStr for ListenAddress {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if let Some(port) = text.strip_prefix("*:").and_then(|port| port.parse().ok()) {
            return Ok(Self::Tcp((Ipv6Addr::UNSPECIFIED, port).into()));
        }
        match text.parse()? {
            Address::Unix(path) => Ok(Self::Unix(path)),
            Address::Tcp { host, port } => match host.as_str() {
                "localhost" => Ok(Self::Tcp((Ipv4Addr::LOCALHOST, port).into())),
                _ => host.parse().map(|ip: IpAddr| Self::Tcp((ip, port).into())).map_err(|_| {
                    InvalidValue(format!(
                        "`{text}` is not an address to listen on: `{host}` is a name; write an IP address, or only the port for 127.0.0.1"
                    ))
                }),
            },
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

text_value!(ListenAddress, "ListenAddress", "listen-address", ["0.0.0.0:8443", "8443", "unix:/run/app.sock"]);

/// A [`ListenAddress`] or `off`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum OptionalListenAddress {
    /// Nothing listens.
    #[default]
    Off,
    /// It listens here.
    At(ListenAddress),
}

impl OptionalListenAddress {
    /// The address, unless it is off.
    #[must_use]
    pub const fn address(&self) -> Option<&ListenAddress> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }
}

impl FromStr for OptionalListenAddress {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if text == "off" { Ok(Self::Off) } else { text.parse().map(Self::At) }
    }
}

impl fmt::Display for OptionalListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

text_value!(
    OptionalListenAddress,
    "OptionalListenAddress",
    "listen-address-or-off",
    ["127.0.0.1:15000", "unix:/run/admin.sock", "off"]
);

/// Where to connect: `127.0.0.1:8080`, `[::1]:8080`, `orders.internal:8443`, `8080` (127.0.0.1), or
/// `unix:/run/app.sock`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A host, which is an IP address without brackets or a DNS name, and a port.
    Tcp {
        /// IP address or DNS name.
        host: String,
        /// Port.
        port: u16,
    },
    /// The path of a Unix stream socket.
    Unix(PathBuf),
}

impl Address {
    /// Whether it cannot leave this machine: a loopback address, `localhost`, or a Unix socket. Other names
    /// are not looked up; they count as remote.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp { host, .. } => {
                host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
            }
            Self::Unix(_) => true,
        }
    }
}

impl FromStr for Address {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let wrong = |why: &str| InvalidValue(format!("`{text}` is not an address: {why}"));
        if let Some(path) = text.strip_prefix("unix:") {
            return socket_path(path).map(Self::Unix).map_err(|why| wrong(&why));
        }
        if text.starts_with('/') {
            return Err(wrong(&format!("for a Unix socket write `unix:{text}`")));
        }
        if text.contains("://") {
            return Err(wrong("drop the scheme; expected `HOST:PORT` or `unix:/PATH`"));
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let port = port.parse().map_err(|_| wrong("expected `HOST:PORT`, `PORT` or `unix:/PATH`"))?;
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let host = match bracketed {
            Some(inner) if inner.parse::<Ipv6Addr>().is_ok() => inner,
            Some(_) => return Err(wrong("what is in brackets is not an IPv6 address")),
            None if host.contains(':') => {
                return Err(wrong("an IPv6 address is written in brackets, `[::1]:8080`"));
            }
            None if host.is_empty() => "127.0.0.1",
            None if is_host_name(host) => host,
            None => return Err(wrong(&format!("`{host}` is neither an IP address nor a DNS name"))),
        };
        Ok(Self::Tcp { host: host.to_owned(), port })
    }
}

/// RFC 1123 §2.1, with `_`, which names inside clusters use; covers IPv4 addresses.
fn is_host_name(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(label)
}

/// `unix:/p` and `unix:///p` (RFC 8089 style, as SPIFFE Workload Endpoint §4 writes it).
fn socket_path(path: &str) -> Result<PathBuf, String> {
    let path = path.strip_prefix("//").unwrap_or(path);
    if !path.starts_with('/') {
        return Err("the path of a Unix socket is absolute, `unix:/PATH`".to_owned());
    }
    if path.len() > MAX_SOCKET_PATH || path.contains('\0') {
        return Err(format!(
            "the path of a Unix socket has at most {MAX_SOCKET_PATH} bytes, this one has {}",
            path.len()
        ));
    }
    Ok(PathBuf::from(path))
}

/// Notes a path that no socket can be bound to.
pub(crate) fn check_socket_path(key: &str, path: &Path, problems: &mut Problems) {
    let length = path.as_os_str().len();
    if !(1..=MAX_SOCKET_PATH).contains(&length) {
        let message =
            format!("the path of a Unix socket has 1 to {MAX_SOCKET_PATH} bytes, this one has {length}");
        problems.add(key, message);
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

text_value!(Address, "Address", "address", ["127.0.0.1:8080", "orders.internal:8443", "unix:/run/app.sock"]);

#[cfg(test)]
mod tests;
