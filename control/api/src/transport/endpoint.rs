//! Addresses of Workload API endpoints, as the environment variable `SPIFFE_ENDPOINT_SOCKET` and the
//! settings write them (SPIFFE Workload Endpoint §4).

use std::{
    fmt,
    net::SocketAddr,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, OnceLock},
};

/// Longest path of a Unix socket in bytes: `sun_path` with its terminating zero (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// Where an endpoint listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket, by absolute path.
    Unix(PathBuf),
    /// A Unix socket that nobody named.
    Usual(Usual),
    /// A TCP address; never a host name.
    Tcp(SocketAddr),
}

/// Where a Unix socket is looked for that nobody named, until one answers. Clones keep to the same one from then on: while
/// its agent is away, another one of this host must not make us somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usual {
    ours: Vec<PathBuf>,
    anybodys: PathBuf,
    answered: Arc<OnceLock<PathBuf>>,
}

impl Usual {
    /// The first of `ours` that is there, otherwise `anybodys`, if root or our own user serves it: anybody can be first there.
    #[must_use]
    pub fn new(ours: Vec<PathBuf>, anybodys: PathBuf) -> Self {
        Self { ours, anybodys, answered: Arc::default() }
    }

    /// The socket that has answered; before one has, the first that is there, and where there is none, the last of ours.
    #[must_use]
    pub fn path(&self) -> &Path {
        let is_there =
            |path: &&Path| std::fs::metadata(path).is_ok_and(|found| found.file_type().is_socket());
        if let Some(answered) = self.answered.get() {
            return answered;
        }
        let mut all = self.ours.iter().map(PathBuf::as_path).chain([self.anybodys.as_path()]);
        all.find(is_there).or(self.ours.last().map(PathBuf::as_path)).unwrap_or(&self.anybodys)
    }

    /// Whether anybody can have made the socket.
    pub(super) fn is_anybodys(&self, path: &Path) -> bool {
        path == self.anybodys
    }

    /// Keeps to this socket.
    pub(super) fn keep(&self, path: &Path) {
        self.answered.get_or_init(|| path.to_owned());
    }
}

/// Why a text is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Neither `unix:`, `tcp:` nor an absolute path.
    #[error("`{0}` is not an endpoint; expected `unix:///PATH`, an absolute path, or `tcp://IP:PORT`")]
    Scheme(String),
    /// `unix://HOST/…`.
    #[error("`{0}` has a host after `unix://`; write `unix:///PATH` with three slashes")]
    UnixAuthority(String),
    /// A path that does not begin with `/`.
    #[error("`{0}` has no absolute path; write `unix:///PATH`")]
    RelativePath(String),
    /// More than the kernel takes.
    #[error("the path of the socket has {0} bytes; the kernel takes at most 107")]
    PathTooLong(usize),
    /// A query, fragment or user info.
    #[error("`{0}` has a query, fragment or user; an endpoint has none")]
    ExtraComponent(String),
    /// A host name, no port, or anything else that is not `IP:PORT`.
    #[error("`{0}` is not `tcp://IP:PORT`; the host must be an IP address, and the port must be given")]
    TcpAddress(String),
}

impl Endpoint {
    /// Parses `unix:///p`, `unix:/p`, `/p` or `tcp://127.0.0.1:port`.
    ///
    /// # Errors
    /// [`EndpointError`] says which rule of Workload Endpoint §4 is broken.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        if text.starts_with('/') {
            return unix(text, text);
        }
        if let Some(rest) = text.strip_prefix("unix:") {
            if rest.contains(['?', '#']) {
                return Err(EndpointError::ExtraComponent(text.to_owned()));
            }
            return match rest.strip_prefix("//") {
                Some(path) if path.starts_with('/') => unix(text, path),
                Some("") => Err(EndpointError::RelativePath(text.to_owned())),
                Some(_) => Err(EndpointError::UnixAuthority(text.to_owned())),
                None => unix(text, rest),
            };
        }
        if let Some(rest) = text.strip_prefix("tcp://") {
            return tcp(text, rest);
        }
        Err(EndpointError::Scheme(text.to_owned()))
    }

    /// Whether the endpoint can be reached from this machine only.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) | Self::Usual(_) => true,
            Self::Tcp(address) => address.ip().is_loopback(),
        }
    }
}

fn unix(text: &str, path: &str) -> Result<Endpoint, EndpointError> {
    match path {
        _ if !path.starts_with('/') || path == "/" => Err(EndpointError::RelativePath(text.to_owned())),
        _ if path.len() > MAX_SOCKET_PATH => Err(EndpointError::PathTooLong(path.len())),
        _ => Ok(Endpoint::Unix(path.into())),
    }
}

fn tcp(text: &str, rest: &str) -> Result<Endpoint, EndpointError> {
    if rest.contains(['?', '#', '@', '/']) {
        return Err(EndpointError::ExtraComponent(text.to_owned()));
    }
    match rest.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(Endpoint::Tcp(address)),
        _ => Err(EndpointError::TcpAddress(text.to_owned())),
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        Self::parse(text)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Usual(usual) => write!(f, "unix://{}", usual.path().display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// I3, I4, I5
    #[test]
    fn the_forms_of_the_standard_parse() {
        for (text, shown) in [
            ("unix:///run/agent.sock", "unix:///run/agent.sock"),
            ("unix:/run/agent.sock", "unix:///run/agent.sock"),
            ("/run/agent.sock", "unix:///run/agent.sock"),
            ("tcp://127.0.0.1:8081", "tcp://127.0.0.1:8081"),
            ("tcp://[::1]:8081", "tcp://[::1]:8081"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), shown);
        }
    }

    /// I3, I4, I5
    #[test]
    fn everything_else_is_refused_with_its_reason() {
        use EndpointError as E;
        for (text, error) in [
            ("", E::Scheme(String::new())),
            ("run/agent.sock", E::Scheme("run/agent.sock".into())),
            ("http://127.0.0.1:1", E::Scheme("http://127.0.0.1:1".into())),
            ("unix://host/run/x", E::UnixAuthority("unix://host/run/x".into())),
            ("unix:run/x", E::RelativePath("unix:run/x".into())),
            ("unix://", E::RelativePath("unix://".into())),
            ("unix:///", E::RelativePath("unix:///".into())),
            ("unix:///x?y", E::ExtraComponent("unix:///x?y".into())),
            ("tcp://localhost:80", E::TcpAddress("tcp://localhost:80".into())),
            ("tcp://127.0.0.1", E::TcpAddress("tcp://127.0.0.1".into())),
            ("tcp://127.0.0.1:0", E::TcpAddress("tcp://127.0.0.1:0".into())),
            ("tcp://127.0.0.1:80/x", E::ExtraComponent("tcp://127.0.0.1:80/x".into())),
            ("tcp://me@127.0.0.1:80", E::ExtraComponent("tcp://me@127.0.0.1:80".into())),
        ] {
            assert_eq!(Endpoint::parse(text), Err(error), "{text}");
        }
        let long = format!("/{}", "x".repeat(MAX_SOCKET_PATH));
        assert_eq!(Endpoint::parse(&long), Err(E::PathTooLong(108)));
    }
}
