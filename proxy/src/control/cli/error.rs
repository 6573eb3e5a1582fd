//! Why a command did not do what was asked, and the exit code that says it.

use std::{io, path::PathBuf, process::ExitCode, time::Duration};

use svidecar_code::Code;
use svidecar_config::diagnostic::{Diagnostic, Diagnostics};

use super::EXIT_USAGE;
use crate::error::ProxyError;

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

    /// The stable name of what kept the proxy from running; the heading of the troubleshooting page.
    pub(super) const fn code(&self) -> Option<Code> {
        match self {
            Self::Proxy(error) => Some(error.code()),
            _ => None,
        }
    }

    /// 64 when what was given is wrong, 1 when it could not be done.
    pub(super) fn exit_code(&self) -> ExitCode {
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

    /// A reader that went away (`| head`) has seen what it wanted.
    pub(super) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Write(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
