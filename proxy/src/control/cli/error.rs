//! Why a command did not do what was asked, and the exit code that says it.

use std::{io, path::PathBuf, process::ExitCode, time::Duration};

use svidecar_code::Code;
use svidecar_config::diagnostic::{Diagnostic, Diagnostics};
use svidecar_process::command::Failure;

use crate::error::ProxyError;

/// The configuration, or the command line, is wrong (`EX_USAGE` of sysexits.h).
pub(super) const EXIT_USAGE: u8 = 64;

/// A failed command.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// Settings or policies are wrong.
    #[error("the configuration is not valid:\n{0}")]
    Config(#[from] Diagnostics),
    /// The proxy did not start, or did not go on.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// Stdout cannot be written.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
    /// Nothing answers at the admin's address.
    #[error(
        "no proxy answers at http://{address}: {problem}; is it running, and is `admin.listen` this address? \
         `--admin HOST:PORT` names another"
    )]
    Admin {
        /// Where it was asked.
        address: String,
        /// What went wrong.
        problem: String,
    },
    /// The address of the admin listener is not one that can be asked.
    #[error("{0}")]
    Address(String),
    /// The proxy did not become ready in time.
    #[error("not ready after {waited:?}: {missing}")]
    NotReady {
        /// How long was waited.
        waited: Duration,
        /// What was missing in the end.
        missing: String,
    },
    /// A command needs a policy and the settings do not say which.
    #[error("{0}")]
    WhichPolicy(String),
    /// A request on the command line that is none.
    #[error("{0}")]
    Request(String),
    /// The configuration names no policy.
    #[error("{} names no inbound listener, so there is no policy", .0.display())]
    NoPolicy(PathBuf),
}

impl CliError {
    /// What is wrong with the configuration, each with its place; any other failure is one problem without.
    pub(super) fn problems(&self) -> Vec<Diagnostic> {
        match self {
            Self::Config(problems)
            | Self::Proxy(ProxyError::Config(problems) | ProxyError::ReadFile(problems)) => {
                problems.iter().cloned().collect()
            }
            other => vec![Diagnostic::new(other.to_string())],
        }
    }
}

impl Failure for CliError {
    /// The stable name of what kept the proxy from running; the heading of the troubleshooting page.
    fn code(&self) -> Option<Code> {
        match self {
            Self::Proxy(error) => Some(error.code()),
            _ => None,
        }
    }

    /// 64 when what was given is wrong, 1 when it could not be done.
    fn exit_code(&self) -> ExitCode {
        let usage = match self {
            Self::Config(_)
            | Self::Address(_)
            | Self::WhichPolicy(_)
            | Self::Request(_)
            | Self::NoPolicy(_) => true,
            Self::Proxy(error) => error.is_config(),
            Self::Write(_) | Self::Admin { .. } | Self::NotReady { .. } => false,
        };
        if usage { ExitCode::from(EXIT_USAGE) } else { ExitCode::FAILURE }
    }

    fn unprinted(&self) -> Option<&io::Error> {
        match self {
            Self::Write(error) => Some(error),
            _ => None,
        }
    }
}
