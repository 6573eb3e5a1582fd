//! Why a command could not do what it was asked.

use std::{io, path::PathBuf};

use svidecar_api::transport::{ConnectError, EndpointError};
use svidecar_config::diagnostic::Diagnostics;
use svidecar_process::{WrapperError, command::Failure, log::LogError};
use svidecar_workload::ClientError;
use tonic::Status;

use crate::error::AgentError;

/// What goes to stderr.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// A sentence of SPIRE's, or one of ours in its manner.
    #[error("{0}")]
    Message(String),
    /// The agent answered with an error, printed as the Go library does: scripts look at it.
    #[error("rpc error: code = {:?} desc = {}", .0.code(), .0.message())]
    Rpc(#[from] Status),
    /// Nobody at the socket.
    #[error("{0}\n  Start the agent with `svidecar-agent run`, or name its socket with `--socket-path PATH`")]
    Connect(#[from] ConnectError),
    /// Nobody at the admin socket.
    #[error(
        "{0}\n  Name the running agent's settings with `--config FILE` or `--data-dir DIR`, and run as its user"
    )]
    Admin(ConnectError),
    /// Not an endpoint.
    #[error("{0}")]
    Endpoint(#[from] EndpointError),
    /// Nobody at the TCP address.
    #[error("cannot connect to {address}: {error}")]
    Tcp {
        /// The address.
        address: std::net::SocketAddr,
        /// What the transport said.
        error: tonic::transport::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The output cannot be written, or the runtime not be started.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The settings are not right.
    #[error("the configuration is not valid:\n{0}")]
    Config(#[from] Diagnostics),
    /// Logging cannot begin.
    #[error(transparent)]
    Log(#[from] LogError),
    /// What the agent sent is not an SVID or bundle.
    #[error(transparent)]
    Authority(#[from] svidecar_authority::AuthorityError),
    /// The command behind `--` cannot be run, which shows before there is a log.
    #[error("{0} ({code})", code = .0.code())]
    Command(WrapperError),
    /// What would stop the agent.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The agent ended with an error, which is in its log.
    #[error("the agent ended")]
    Logged,
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Connect(error) => Self::Connect(error),
            ClientError::ConnectTcp { address, error } => Self::Tcp { address, error },
            ClientError::Status(status) => Self::Rpc(*status),
            late @ ClientError::Timeout(_) => Self::Message(late.to_string()),
        }
    }
}

impl CliError {
    /// A sentence.
    pub fn message(text: impl Into<String>) -> Self {
        Self::Message(text.into())
    }
}

impl Failure for CliError {
    fn unprinted(&self) -> Option<&io::Error> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }

    /// As SPIRE's agent says it: the sentence alone.
    fn said(&self) -> Option<String> {
        match self {
            Self::Logged => None,
            other => Some(other.to_string()),
        }
    }
}
