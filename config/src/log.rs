//! The `log` setting: what is logged, and how it is written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use svidecar_document::{text::InvalidValue, text_value};
use tracing_subscriber::EnvFilter;

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

    /// What it lets through.
    ///
    /// # Errors
    /// Never for a level that was read, only for one that is none.
    pub fn filter(&self) -> Result<EnvFilter, InvalidValue> {
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
