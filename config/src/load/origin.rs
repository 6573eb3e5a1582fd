//! Where values came from, and problems that know it.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use figment::{Figment, value::Value as Merged};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::keys;
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    problems::{Problem, Problems},
};

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

    fn diagnose(self, origin: Origin) -> Diagnostic {
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

/// Which layer won, and where in it a value stands.
#[derive(Debug, Clone)]
pub(super) struct Origins {
    file: Option<Arc<PathBuf>>,
    /// The origins of each layer's keys; figment knows a layer by its index here.
    layers: Vec<BTreeMap<String, Origin>>,
    /// The layer that won, by key.
    winners: BTreeMap<String, usize>,
}

impl Origins {
    pub(super) fn new(file: Option<&Path>) -> Self {
        let file = file.map(|file| Arc::new(file.to_owned()));
        Self { file, layers: Vec::new(), winners: BTreeMap::new() }
    }

    pub(super) fn file(&self) -> Option<Arc<PathBuf>> {
        self.file.clone()
    }

    /// Notes the origins of one more layer; its index comes back.
    pub(super) fn add_layer(&mut self, origins: BTreeMap<String, Origin>) -> usize {
        self.layers.push(origins);
        self.layers.len() - 1
    }

    /// Notes, for `merged` and all in it, which layer figment took it from.
    pub(super) fn note_winners(&mut self, figment: &Figment, merged: &Merged, key: &str) {
        let layer = figment.get_metadata(merged.tag()).and_then(|metadata| metadata.name.parse().ok());
        if let Some(layer) = layer {
            self.winners.insert(key.to_owned(), layer);
        }
        if let Some(dict) = merged.as_dict() {
            for (name, value) in dict {
                self.note_winners(figment, value, &keys::child(key, name));
            }
        }
        for (index, value) in merged.as_array().into_iter().flatten().enumerate() {
            self.note_winners(figment, value, &keys::item(key, index));
        }
    }

    pub(super) fn origin(&self, key: &str) -> Origin {
        let layer = self.winners.get(key).and_then(|&index| self.layers.get(index));
        layer.and_then(|origins| origins.get(key)).cloned().unwrap_or(Origin::Default)
    }

    /// The origin of the key, or of the nearest key around it that has one.
    fn nearest(&self, key: &str) -> Origin {
        let mut around = Some(key);
        while let Some(key) = around {
            match self.origin(key) {
                Origin::Default => around = keys::parent(key),
                origin => return origin,
            }
        }
        Origin::Default
    }

    pub(super) fn diagnose(&self, mut finding: Finding) -> Diagnostic {
        let origin = finding.origin.take().unwrap_or_else(|| self.nearest(&finding.key));
        match (origin, &self.file) {
            (Origin::Default, Some(file)) => {
                finding.diagnose(Origin::File { file: Arc::clone(file), line: 0, column: 0 })
            }
            (origin, _) => finding.diagnose(origin),
        }
    }

    /// What a validation found wrong, and where that is: a line or a variable, or else the key itself.
    pub(super) fn locate(&self, problem: Problem) -> Finding {
        let Problem { key, message, help } = problem;
        let origin = self.nearest(&key);
        let message = match origin {
            Origin::File { .. } | Origin::Environment(_) => message,
            Origin::CommandLine | Origin::Default => format!("`{key}`: {message}"),
        };
        Finding { key, origin: Some(origin), message, help }
    }

    /// Places what a validation found.
    pub(super) fn place(&self, problems: Problems) -> Result<(), Diagnostics> {
        let found = problems.into_vec().into_iter().map(|problem| self.diagnose(self.locate(problem)));
        Diagnostics::check(found.collect())
    }

    /// Every value in `value` with its origin.
    pub(super) fn settings(&self, value: &Value) -> Vec<Setting> {
        let mut settings = Vec::new();
        self.collect(value, "", &mut settings);
        settings
    }

    fn collect(&self, value: &Value, key: &str, settings: &mut Vec<Setting>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (name, value) in map {
                    self.collect(value, &keys::child(key, name), settings);
                }
            }
            Value::Array(items) if items.iter().any(Value::is_object) => {
                for (index, value) in items.iter().enumerate() {
                    self.collect(value, &keys::item(key, index), settings);
                }
            }
            _ => {
                settings.push(Setting { key: key.to_owned(), value: value.clone(), origin: self.origin(key) })
            }
        }
    }
}
