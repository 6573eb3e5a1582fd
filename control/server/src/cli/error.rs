//! Why a command could not do what it was asked.

use std::{io, path::PathBuf};

use svidecar_api::transport::ConnectError;
use svidecar_config::diagnostic::Diagnostics;
use svidecar_process::{command::Failure, log::LogError};
use tonic::{Code, Status};

use crate::error::ServerError;

/// What goes to stderr after `Error: `.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// A sentence of SPIRE's, or one of ours in its manner.
    #[error("{0}")]
    Message(String),
    /// The server answered with an error.
    #[error("{}", rpc(.0))]
    Rpc(#[from] Status),
    /// The same, while something was being done.
    #[error("{doing}: {}", rpc(.status))]
    While {
        /// What was being done, such as `unable to mint SVID`.
        doing: String,
        /// The answer.
        status: Status,
    },
    /// No server at the socket.
    #[error("{0}\n  Start it with `svidecar-server run`, or name its socket with `--socket-path PATH`")]
    Connect(#[from] ConnectError),
    /// A file cannot be read or written.
    #[error("{doing} {}: {error}", path.display())]
    File {
        /// `cannot read`, `cannot write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Write(#[from] io::Error),
    /// A file or the settings are not right.
    #[error("the configuration is not valid:\n{0}")]
    Config(#[from] Diagnostics),
    /// Not an SVID, key or bundle.
    #[error(transparent)]
    Authority(#[from] svidecar_authority::AuthorityError),
    /// The server cannot start, or had to stop.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// Logging cannot be set up.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Threads cannot be had.
    #[error("cannot start threads: {0}")]
    Runtime(io::Error),
}

impl CliError {
    pub(super) fn message(text: impl Into<String>) -> Self {
        Self::Message(text.into())
    }

    /// For `map_err` on an answer: says what was being done.
    pub(super) fn doing(doing: impl Into<String>) -> impl FnOnce(Status) -> Self {
        let doing = doing.into();
        move |status| Self::While { doing, status }
    }
}

impl Failure for CliError {
    /// The stable name of what keeps the server from running. Other commands fail in SPIRE's words alone, which scripts know.
    fn code(&self) -> Option<svidecar_code::Code> {
        match self {
            Self::Server(error) => Some(error.code()),
            _ => None,
        }
    }

    fn unprinted(&self) -> Option<&io::Error> {
        match self {
            Self::Write(error) => Some(error),
            _ => None,
        }
    }
}

/// A status as the Go library prints it, for scripts that look at it.
fn rpc(status: &Status) -> String {
    format!("rpc error: code = {} desc = {}", code_name(status.code()), status.message())
}

/// The name of a code as the Go library prints it.
pub(super) fn code_name(code: Code) -> String {
    match code {
        Code::Ok => "OK".to_owned(),
        Code::Cancelled => "Canceled".to_owned(),
        code => format!("{code:?}"),
    }
}
