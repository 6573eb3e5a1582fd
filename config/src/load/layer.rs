//! The layers: each is checked on its own, then figment merges them and remembers which layer won where.

mod check;

use std::{collections::BTreeMap, path::Path, path::PathBuf, sync::Arc};

use figment::{
    Figment, Metadata, Profile, Provider,
    value::{Dict, Map, Value as Merged},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use self::check::Checker;
use super::{
    keys,
    origin::{Finding, Origin},
    schema::{Schemas, Shape},
};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    problems::Problems,
    yaml::{Content, Entry, Node, Position},
};

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

/// The layers so far, and what is wrong with them.
pub(super) struct Layers<'s> {
    schemas: Schemas<'s>,
    foreign: &'static [(&'static str, &'static str)],
    figment: Figment,
    origins: Origins,
    findings: Vec<Finding>,
    /// Keys whose value was refused: they are neither missing nor unset.
    refused: Vec<String>,
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

/// One layer, as figment wants it.
struct Layer {
    index: usize,
    value: Value,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.index.to_string())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let dict = Merged::serialize(&self.value)?.into_dict().unwrap_or_default();
        Ok(Profile::Default.collect(dict))
    }
}

impl<'s> Layers<'s> {
    pub(super) fn new(
        schemas: Schemas<'s>,
        foreign: &'static [(&'static str, &'static str)],
        file: Option<&Path>,
    ) -> Self {
        let file = file.map(|file| Arc::new(file.to_owned()));
        Self {
            schemas,
            foreign,
            figment: Figment::new(),
            origins: Origins { file, layers: Vec::new(), winners: BTreeMap::new() },
            findings: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// The file.
    pub(super) fn add_file(&mut self, root: &Node) {
        let Some(file) = self.origins.file.clone() else { return };
        let at = |_: &str, position: Position| Origin::File {
            file: Arc::clone(&file),
            line: position.line,
            column: position.column,
        };
        self.add(root, &at);
    }

    /// Variables: key, name of the variable, value.
    pub(super) fn add_variables(&mut self, variables: Vec<(String, String, Node)>) {
        let names: BTreeMap<_, _> =
            variables.iter().map(|(key, name, _)| (key.clone(), name.clone())).collect();
        let root = nest(variables.into_iter().map(|(key, _, value)| (key, value)));
        let at = |key: &str, _: Position| {
            let mut around = Some(key);
            while let Some(key) = around {
                if let Some(name) = names.get(key) {
                    return Origin::Environment(name.clone());
                }
                around = keys::parent(key);
            }
            Origin::Default
        };
        self.add(&root, &at);
    }

    /// Flags: dotted key, value.
    pub(super) fn add_flags(&mut self, flags: &[(String, Value)]) {
        let given = flags.iter().filter(|(_, value)| !value.is_null());
        let root = nest(given.map(|(key, value)| (key.clone(), from_json(value))));
        self.add(&root, &|_, _| Origin::CommandLine);
    }

    fn add(&mut self, root: &Node, at: &dyn Fn(&str, Position) -> Origin) {
        let mut checker = Checker::new(self.schemas, self.foreign, at);
        let value = checker.check_root(root);
        self.findings.append(&mut checker.findings);
        self.refused.append(&mut checker.refused);
        let layer = Layer { index: self.origins.layers.len(), value };
        self.origins.layers.push(checker.origins);
        self.figment = std::mem::take(&mut self.figment).merge(layer);
    }

    /// Notes problems that were found elsewhere.
    pub(super) fn report(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.findings.extend(findings);
    }

    /// Merges, and notes which required keys no layer has.
    pub(super) fn check_required(&mut self, prefix: &str) {
        let Ok(merged) = self.figment.find_value("") else { return };
        self.origins.note_winners(&self.figment, &merged, "");
        self.require(self.schemas.root, &merged, "", prefix);
    }

    fn require(&mut self, schema: &'s Value, merged: &Merged, key: &str, prefix: &str) {
        match self.schemas.shape(schema) {
            Shape::Group { properties, required } => {
                let Some(dict) = merged.as_dict() else { return };
                for (name, property) in properties {
                    let key = keys::child(key, name);
                    match dict.get(name) {
                        Some(value) => self.require(property, value, &key, prefix),
                        None if required.contains(&name.as_str()) && !self.refused.contains(&key) => {
                            self.report_missing(&key, property, prefix);
                        }
                        None => {}
                    }
                }
            }
            Shape::List { items, .. } => {
                for (index, value) in merged.as_array().into_iter().flatten().enumerate() {
                    self.require(items, value, &keys::item(key, index), prefix);
                }
            }
            _ => {}
        }
    }

    fn report_missing(&mut self, key: &str, schema: &'s Value, prefix: &str) {
        let shape = self.schemas.shape(schema);
        let example = match &shape {
            Shape::Text { example: Some(example), .. } => format!("{key}: {example}"),
            _ => format!("{key}: …"),
        };
        let help = if key.contains('[') {
            schema.get("description").and_then(Value::as_str).map(|meaning| meaning.replace('\n', " "))
        } else {
            Some(format!("write `{example}`, or set {}", super::environment::variable(prefix, key)))
        };
        let message = format!("`{key}` is missing");
        self.findings.push(Finding { key: key.to_owned(), origin: None, message, help });
    }

    /// Fills the types. A value comes back if there is one worth validating.
    pub(super) fn extract<T: DeserializeOwned>(&mut self) -> (Option<T>, Vec<Finding>) {
        match self.figment.extract::<T>() {
            Ok(value) if self.refused.is_empty() => (Some(value), Vec::new()),
            // What was refused or is missing has been said; serde would only say it again.
            Ok(_) => (None, Vec::new()),
            Err(_) if !self.findings.is_empty() => (None, Vec::new()),
            Err(error) => {
                let key = error.path.iter().fold(String::new(), |key, part| match part.parse() {
                    Ok(index) => keys::item(&key, index),
                    Err(_) => keys::child(&key, part),
                });
                let message = format!("`{key}`: {}", error.kind);
                (None, vec![Finding { key, origin: None, message, help: None }])
            }
        }
    }

    /// All that is wrong, for a caller who knows that something is.
    pub(super) fn diagnose(&mut self, more: Vec<Finding>) -> Diagnostics {
        self.findings.extend(more);
        match self.finish() {
            Err(diagnostics) => diagnostics,
            Ok(()) => Diagnostic::new("the settings cannot be read").into(),
        }
    }

    /// All that is wrong.
    pub(super) fn finish(&mut self) -> Result<(), Diagnostics> {
        let findings = std::mem::take(&mut self.findings);
        Diagnostics::check(findings.into_iter().map(|finding| self.origins.diagnose(finding)).collect())
    }

    pub(super) fn into_origins(self) -> Origins {
        self.origins
    }
}

impl Origins {
    fn note_winners(&mut self, figment: &Figment, merged: &Merged, key: &str) {
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

    fn diagnose(&self, mut finding: Finding) -> Diagnostic {
        let origin = finding.origin.take().unwrap_or_else(|| self.nearest(&finding.key));
        match (origin, &self.file) {
            (Origin::Default, Some(file)) => {
                finding.diagnose(Origin::File { file: Arc::clone(file), line: 0, column: 0 })
            }
            (origin, _) => finding.diagnose(origin),
        }
    }

    /// Places what a validation found.
    pub(super) fn place(&self, problems: Problems) -> Result<(), Diagnostics> {
        let findings = problems.into_vec().into_iter().map(Finding::from);
        Diagnostics::check(findings.map(|finding| self.diagnose(finding)).collect())
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

const NOWHERE: Position = Position { line: 0, column: 0 };

/// Dotted keys as nested mappings.
fn nest(values: impl Iterator<Item = (String, Node)>) -> Node {
    let mut root = Vec::new();
    for (key, value) in values {
        insert(&mut root, &key, value);
    }
    Node { position: NOWHERE, content: Content::Map(root) }
}

fn insert(entries: &mut Vec<Entry>, key: &str, value: Node) {
    let (name, rest) = match key.split_once('.') {
        Some((name, rest)) => (name, Some(rest)),
        None => (key, None),
    };
    let index = entries.iter().position(|entry| entry.key == name);
    let Some(rest) = rest else {
        entries.retain(|entry| entry.key != name);
        entries.push(Entry { key: name.to_owned(), key_position: NOWHERE, value });
        return;
    };
    match index.and_then(|index| entries.get_mut(index)) {
        Some(Entry { value: Node { content: Content::Map(inner), .. }, .. }) => insert(inner, rest, value),
        _ => {
            let mut inner = Vec::new();
            insert(&mut inner, rest, value);
            let group = Node { position: NOWHERE, content: Content::Map(inner) };
            entries.push(Entry { key: name.to_owned(), key_position: NOWHERE, value: group });
        }
    }
}

fn from_json(value: &Value) -> Node {
    let content = match value {
        Value::Null => Content::Scalar { text: String::new(), plain: true },
        Value::String(text) => Content::Scalar { text: text.clone(), plain: false },
        Value::Bool(_) | Value::Number(_) => Content::Scalar { text: value.to_string(), plain: true },
        Value::Array(items) => Content::List(items.iter().map(from_json).collect()),
        Value::Object(map) => Content::Map(
            map.iter()
                .map(|(key, value)| Entry {
                    key: key.clone(),
                    key_position: NOWHERE,
                    value: from_json(value),
                })
                .collect(),
        ),
    };
    Node { position: NOWHERE, content }
}
