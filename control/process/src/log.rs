//! Where the log setting takes effect.
//!
//! Logs go to standard error: standard output belongs to the access log and to what a command prints.

use std::io::stderr;

use svidecar_code::Code;
use svidecar_config::{
    InvalidValue,
    log::{LogFormat, LogSettings},
};
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::console::shows_colours;

/// Logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is none.
    #[error(transparent)]
    Level(#[from] InvalidValue),
    /// Someone else in this process logs already.
    #[error("logging was set up twice in one process: {0}")]
    Twice(#[from] TryInitError),
}

impl LogError {
    /// The stable code of the error.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Level(_) => Code::InvalidLogLevel,
            Self::Twice(_) => Code::LoggingSetUpTwice,
        }
    }
}

/// Starts logging to standard error, for the whole process and for good.
///
/// # Errors
/// When logging was started before.
pub fn init(settings: &LogSettings) -> Result<(), LogError> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(settings.level.filter()?)
        .with_writer(stderr)
        .with_ansi(settings.format == LogFormat::Text && shows_colours(&stderr()));
    match settings.format {
        LogFormat::Text => builder.with_target(false).finish().try_init()?,
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).finish().try_init()?,
    }
    Ok(())
}
