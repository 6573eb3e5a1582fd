//! Why the command after `--` cannot be run.

use std::{ffi::OsString, io};

use svidecar_code::Code;

/// Why a command cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum WrapperError {
    /// Nothing after `--`.
    #[error("there is no command after `--`; write `run -- COMMAND [ARGUMENT…]`")]
    NoCommand,
    /// It cannot be started.
    #[error("cannot start {}: {source}; the command after `--` is looked for in PATH", program.to_string_lossy())]
    Start {
        /// The program.
        program: OsString,
        /// What the system says.
        source: io::Error,
    },
    /// Its end cannot be learned.
    #[error("cannot wait for the command: {source}")]
    Wait {
        /// What the system says.
        source: io::Error,
    },
    /// Signals cannot be received.
    #[error("cannot listen to signals: {source}")]
    Signals {
        /// What the system says.
        source: io::Error,
    },
}

impl WrapperError {
    /// Stable, for logs and scripts.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::NoCommand => Code::NoCommand,
            Self::Start { .. } => Code::CannotStartApp,
            Self::Wait { .. } => Code::CannotWaitForApp,
            Self::Signals { .. } => Code::SystemRefused,
        }
    }
}
