//! The command after `--`: started with our standard streams, sent the signals that we get, its exit code becomes
//! ours. For `svidecar run -- CMD` and `svidecar-agent run -- CMD`.
//!
//! Owns the processes below us: no other code of a binary that has a command may start or await one. As PID 1 it also
//! buries what others left behind. It must never start a command again: that is the job of whatever started us.

mod child;
mod keyboard;
mod signals;

use std::{ffi::OsString, io};
use svidecar_code::Code;

pub use child::Child;
pub use signals::{Received, Signals, is_termination};

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
