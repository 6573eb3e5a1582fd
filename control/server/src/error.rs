//! Why the server cannot start or go on.

use std::{io, net::SocketAddr};

use svidecar_api::transport::BindError;
use svidecar_authority::AuthorityError;
use svidecar_code::Code;
use svidecar_process::{private::Exposed, tasks::Lost};

use crate::{ca::CaError, store::StoreError};

/// A failure of the whole server. Each has a stable [`ServerError::code`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// Settings that do not fit together; all that was found, one per line.
    #[error("the settings cannot work:\n{}", .0.iter().map(|problem| format!("  {problem}")).collect::<Vec<_>>().join("\n"))]
    Settings(Vec<String>),
    /// The data directory is not ours alone.
    #[error(transparent)]
    Exposed(#[from] Exposed),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The certificate authority.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// A backup that cannot be taken or restored.
    #[error("the backup cannot be used: {0}")]
    Backup(String),
    /// The administrators' socket.
    #[error("the administrators' socket: {0}")]
    Socket(#[from] BindError),
    /// The TCP address.
    #[error("cannot listen on {address}{}: {error}", hint(error))]
    Listen {
        /// What was to be bound.
        address: SocketAddr,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// Signals cannot be received.
    #[error("cannot wait for signals: {0}")]
    Signals(#[source] io::Error),
    /// The TLS settings of the endpoint.
    #[error("TLS for agents: {0}")]
    Tls(#[source] AuthorityError),
    /// Our own descriptors for reflection.
    #[error("gRPC reflection: {0}")]
    Reflection(#[source] tonic_reflection::server::Error),
    /// One of its parts is gone.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The gRPC server ended by itself.
    #[error("the gRPC server stopped: {0}")]
    Serve(#[from] tonic::transport::Error),
}

impl ServerError {
    /// A stable name for logs and metrics.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Settings(_) => Code::Settings,
            Self::Exposed(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Ca(error) => error.code(),
            Self::Backup(_) => Code::BackupUnusable,
            Self::Socket(_) => Code::SocketBind,
            Self::Listen { .. } => Code::Listen,
            Self::Signals(_) => Code::Signals,
            Self::Tls(_) => Code::TlsSetup,
            Self::Reflection(_) => Code::Reflection,
            Self::Lost(lost) => lost.code(),
            Self::Serve(_) => Code::Serve,
        }
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (another process does; stop it, or set `bind_port`)",
        io::ErrorKind::AddrNotAvailable => " (this machine has no such address; set `bind_address`)",
        io::ErrorKind::PermissionDenied => " (ports below 1024 need privileges; set `bind_port`)",
        _ => "",
    }
}
