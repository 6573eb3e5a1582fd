//! Where each value of the merged settings came from: figment says the layer, the file's own document the line.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use figment::{Figment, value::Value as Tagged};
use serde_json::Value;
use svidecar_document::{
    diagnostic::{Diagnostic, Diagnostics},
    finding::Finding,
    keys,
    node::Node,
    problems::{Problem, Problems},
};

use super::{
    origin::{Origin, Setting},
    source::Source,
};

/// The origins of the values that somebody set.
#[derive(Debug, Clone)]
pub(super) struct Origins {
    file: Option<Arc<PathBuf>>,
    by_key: BTreeMap<String, Origin>,
}

impl Origins {
    pub(super) fn new(file: Option<&Path>) -> Self {
        Self { file: file.map(|file| Arc::new(file.to_owned())), by_key: BTreeMap::new() }
    }

    /// The file, if there is one.
    pub(super) const fn file(&self) -> Option<&Arc<PathBuf>> {
        self.file.as_ref()
    }

    /// Notes the origins of all that is in `merged`; `document` is what the file says.
    pub(super) fn note(&mut self, figment: &Figment, merged: &Tagged, document: Option<&Node>) {
        self.note_inside(figment, merged, document, "");
    }

    fn note_inside(&mut self, figment: &Figment, value: &Tagged, node: Option<&Node>, key: &str) {
        for (name, value) in value.as_dict().into_iter().flatten() {
            let node = node.and_then(|node| node.entry(name)).map(|entry| &entry.value);
            self.note_value(figment, value, node, keys::child(key, name));
        }
        for (index, value) in value.as_array().into_iter().flatten().enumerate() {
            let node = node.and_then(|node| node.items().get(index));
            self.note_value(figment, value, node, keys::item(key, index));
        }
    }

    fn note_value(&mut self, figment: &Figment, value: &Tagged, node: Option<&Node>, key: String) {
        self.note_inside(figment, value, node, &key);
        let position = node.map(|node| node.position);
        let source = match (value, &self.file) {
            // Several layers may have a part of a group; as a whole it stands in the file or nowhere.
            (Tagged::Dict(..), Some(file)) => position.map(|_| Source::File(Arc::clone(file))),
            (Tagged::Dict(..), None) => None,
            _ => figment.get_metadata(value.tag()).and_then(Source::of),
        };
        if let Some(source) = source {
            self.by_key.insert(key, source.origin(position));
        }
    }

    pub(super) fn origin(&self, key: &str) -> Origin {
        self.by_key.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// The origin of the key, or of the nearest key around it that has one.
    fn nearest(&self, key: &str) -> Origin {
        let mut around = Some(key);
        while let Some(key) = around {
            if let Some(origin) = self.by_key.get(key) {
                return origin.clone();
            }
            around = keys::parent(key);
        }
        Origin::Default
    }

    /// A mistake, placed where the value of its key came from. What nobody set is missing in the file.
    pub(super) fn diagnose(&self, finding: Finding) -> Diagnostic {
        self.diagnose_at(self.nearest(&finding.key), finding)
    }

    fn diagnose_at(&self, origin: Origin, finding: Finding) -> Diagnostic {
        match (origin, &self.file) {
            (Origin::Default, Some(file)) => {
                Origin::File { file: Arc::clone(file), line: 0, column: 0 }.diagnose(finding)
            }
            (origin, _) => origin.diagnose(finding),
        }
    }

    /// What a validation found wrong, and where that is: a line or a variable, or else the key itself.
    pub(super) fn locate(&self, problem: Problem) -> Diagnostic {
        let Problem { key, message, help, is_about_key: _ } = problem;
        let origin = self.nearest(&key);
        let message = match origin {
            Origin::File { .. } | Origin::Environment(_) => message,
            Origin::CommandLine | Origin::Default => format!("`{key}`: {message}"),
        };
        self.diagnose_at(origin, Finding { key, position: None, message, help })
    }

    /// Places what a validation found.
    pub(super) fn place(&self, problems: Problems) -> Result<(), Diagnostics> {
        Diagnostics::check(problems.into_iter().map(|problem| self.locate(problem)).collect())
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
