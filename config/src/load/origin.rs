//! Where one value came from, and problems that know it.

use std::{fmt, path::PathBuf, sync::Arc};

use serde::{Serialize, Serializer};
use serde_json::Value;
use svidecar_document::{diagnostic::Diagnostic, finding::Finding};

/// How the environment is called.
pub(super) const ENVIRONMENT: &str = "environment variable";
/// How flags are called.
pub(super) const COMMAND_LINE: &str = "command line";

/// Where the value of a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of the file.
    File {
        /// The file.
        file: Arc<PathBuf>,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// A variable of the environment, by name.
    Environment(String),
    /// A flag.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line, column } => write!(f, "{}:{line}:{column}", file.display()),
            Self::Environment(name) => write!(f, "{ENVIRONMENT} {name}"),
            Self::CommandLine => f.write_str(COMMAND_LINE),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Origin {
    /// A mistake that is there.
    pub(super) fn diagnose(&self, finding: Finding) -> Diagnostic {
        let Finding { key, message, help, position: _ } = finding;
        let diagnostic = match self {
            Self::File { file, line, column } => Diagnostic::new(message).at(file, *line, *column),
            Self::Environment(name) => Diagnostic::new(format!("{ENVIRONMENT} `{name}`: {message}")),
            Self::CommandLine => Diagnostic::new(format!("{COMMAND_LINE}: {message}")),
            Self::Default => Diagnostic::new(message),
        };
        Diagnostic { help, ..diagnostic.path(key) }
    }
}

/// The value of one key and where it came from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// The key, such as `inbound[0].forward`.
    pub key: String,
    /// The value; `null` when it is not set and has no default.
    pub value: Value,
    /// Where the value came from.
    pub origin: Origin,
}
