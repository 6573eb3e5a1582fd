//! The `log` setting, and the one place where it takes effect.
//!
//! Logs go to standard error: standard output belongs to the access log and to what a command prints.

use std::io::{IsTerminal, stderr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use svidecar_code::Code;
use svidecar_document::{text::InvalidValue, text_value};
use tracing_subscriber::{EnvFilter, util::SubscriberInitExt};

/// What a program says about itself while it runs, on standard error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// Least important level that is logged: `error`, `warn`, `info`, `debug`, `trace` or `off`; or
    /// directives for single parts, such as `info,hyper=debug`.
    pub level: LogLevel,
    /// `text` for people, `json` for machines: one object per line.
    pub format: LogFormat,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// One line of text, coloured on a terminal.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// A level, or a comma separated list of `TARGET=LEVEL` directives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLevel(String);

impl LogLevel {
    /// The level as it was written, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn filter(&self) -> Result<EnvFilter, InvalidValue> {
        EnvFilter::try_new(&self.0)
            .map_err(|error| InvalidValue(format!("`{}` is not a log level: {error}", self.0)))
    }
}

impl Default for LogLevel {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl std::str::FromStr for LogLevel {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
        // SPIRE writes levels in capitals.
        let level = Self(text.to_ascii_lowercase());
        // The filter reads any bare word as the name of a part; a lone word must be a level here.
        if !text.contains(['=', ',']) && !LEVELS.contains(&level.as_str()) {
            return Err(InvalidValue(format!(
                "`{text}` is not a log level; expected one of {}",
                LEVELS.join(", ")
            )));
        }
        level.filter().map(|_| level)
    }
}

impl std::fmt::Display for LogLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

text_value!(LogLevel, "LogLevel", "log-level", ["info", "debug", "info,hyper=debug"]);

/// Logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is none.
    #[error(transparent)]
    Level(#[from] InvalidValue),
    /// Someone else in this process logs already.
    #[error("logging was set up twice in one process: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
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
    let coloured =
        stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(settings.level.filter()?)
        .with_writer(stderr)
        .with_ansi(coloured && settings.format == LogFormat::Text);
    match settings.format {
        LogFormat::Text => builder.with_target(false).finish().try_init()?,
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).finish().try_init()?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_words_or_directives() {
        for (text, read) in
            [("info", "info"), ("INFO", "info"), ("off", "off"), ("info,hyper=debug", "info,hyper=debug")]
        {
            assert_eq!(text.parse::<LogLevel>().unwrap().as_str(), read);
        }
        for text in ["", "verbose", "info,=x=y", "information"] {
            assert!(text.parse::<LogLevel>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_default_is_readable_text_at_info() {
        let read: LogSettings = serde_json::from_str("{}").unwrap();
        assert_eq!(read, LogSettings::default());
        assert_eq!((read.level.as_str(), read.format), ("info", LogFormat::Text));
    }
}
