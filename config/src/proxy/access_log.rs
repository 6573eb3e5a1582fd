//! The settings of the access log.

use std::{fmt, path::PathBuf, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use svidecar_document::{text::InvalidValue, text_value};

/// One line per request or connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLogSettings {
    /// How a line of the access log is written.
    pub format: AccessLogFormat,
    /// Where the access log goes: `stdout`, `stderr` or a file, which is appended to. A line is written at most 100 ms
    /// after its request, together with others; a crash costs the lines of that time.
    pub path: AccessLogPath,
}

/// How a line of the access log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AccessLogFormat {
    /// One JSON object per line.
    #[default]
    Json,
    /// One line of text.
    Text,
    /// No access log.
    Off,
}

/// Where the access log goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AccessLogPath {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, which is appended to.
    File(PathBuf),
}

impl FromStr for AccessLogPath {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "" => {
                Err(InvalidValue("expected `stdout`, `stderr` or the path of a file, found nothing".into()))
            }
            "stdout" => Ok(Self::Stdout),
            "stderr" => Ok(Self::Stderr),
            path => Ok(Self::File(PathBuf::from(path))),
        }
    }
}

impl fmt::Display for AccessLogPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::Stderr => f.write_str("stderr"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

text_value!(AccessLogPath, "AccessLogPath", "access-log-path", ["stdout", "stderr", "/var/log/svidecar.log"]);
