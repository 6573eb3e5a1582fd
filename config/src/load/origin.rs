//! Where a value came from, and problems that know it.

use std::{fmt, path::PathBuf, sync::Arc};

use serde::{Serialize, Serializer};

use crate::{diagnostic::Diagnostic, problems::Problem};

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
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A problem with one key, placed where its value came from unless it names the place itself.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub key: String,
    pub origin: Option<Origin>,
    pub message: String,
    pub help: Option<String>,
}

impl Finding {
    pub(super) fn new(key: &str, origin: Origin, message: impl Into<String>) -> Self {
        Self { key: key.to_owned(), origin: Some(origin), message: message.into(), help: None }
    }

    pub(super) fn help(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }

    pub(super) fn diagnose(self, origin: Origin) -> Diagnostic {
        let diagnostic = match origin {
            Origin::File { file, line, column } => Diagnostic::new(self.message).at(&file, line, column),
            Origin::Environment(name) => {
                Diagnostic::new(format!("environment variable `{name}`: {}", self.message))
            }
            Origin::CommandLine => Diagnostic::new(format!("command line: {}", self.message)),
            Origin::Default => Diagnostic::new(self.message),
        };
        let diagnostic = diagnostic.path(self.key);
        match self.help {
            Some(help) => diagnostic.help(help),
            None => diagnostic,
        }
    }
}

impl From<Problem> for Finding {
    fn from(problem: Problem) -> Self {
        Self { key: problem.key, origin: None, message: problem.message, help: problem.help }
    }
}
