//! The layers: each is checked on its own, then figment merges them and remembers which layer won where.

mod check;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use figment::{
    Figment, Metadata, Profile, Provider,
    value::{Dict, Map, Value as Merged},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::check::Checker;
use super::{
    keys, nodes,
    origin::{Finding, Origin, Origins},
    schema::{Schemas, Shape},
};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    problems::Problems,
    yaml::{Node, Position},
};

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
        Self {
            schemas,
            foreign,
            figment: Figment::new(),
            origins: Origins::new(file),
            findings: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// The file.
    pub(super) fn add_file(&mut self, root: &Node) {
        let Some(file) = self.origins.file() else { return };
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
        let root = nodes::nest(variables.into_iter().map(|(key, _, value)| (key, value)));
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
        let root = nodes::nest(given.map(|(key, value)| (key.clone(), nodes::from_json(value))));
        self.add(&root, &|_, _| Origin::CommandLine);
    }

    fn add(&mut self, root: &Node, at: &dyn Fn(&str, Position) -> Origin) {
        let mut checker = Checker::new(self.schemas, self.foreign, at);
        let value = checker.check_root(root);
        self.findings.append(&mut checker.findings);
        self.refused.append(&mut checker.refused);
        let layer = Layer { index: self.origins.add_layer(checker.origins), value };
        self.figment = std::mem::take(&mut self.figment).merge(layer);
    }

    /// Notes problems that were found elsewhere.
    pub(super) fn report(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.findings.extend(findings);
    }

    /// Merges, and notes which required keys no layer has. `prefix` begins the variables that could set them.
    pub(super) fn check_required(&mut self, prefix: Option<&str>) {
        let Ok(merged) = self.figment.find_value("") else { return };
        self.origins.note_winners(&self.figment, &merged, "");
        self.require(self.schemas.root, &merged, "", prefix);
    }

    fn require(&mut self, schema: &'s Value, merged: &Merged, key: &str, prefix: Option<&str>) {
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

    fn report_missing(&mut self, key: &str, schema: &'s Value, prefix: Option<&str>) {
        let help = match prefix {
            Some(prefix) if !key.contains('[') => {
                let example = match self.schemas.shape(schema) {
                    Shape::Text { example: Some(example), .. } => example,
                    _ => "…",
                };
                let variable = super::environment::variable(prefix, key);
                Some(format!("write `{key}: {example}`, or set {variable}"))
            }
            _ => schema.get("description").and_then(Value::as_str).map(|meaning| meaning.replace('\n', " ")),
        };
        let message = format!("`{key}` is missing");
        self.findings.push(Finding { key: key.to_owned(), origin: None, message, help });
    }

    /// Fills the types.
    ///
    /// # Errors
    /// All that is wrong, if that leaves no value that is worth a further look.
    pub(super) fn extract<T: DeserializeOwned>(&mut self) -> Result<T, Diagnostics> {
        match self.figment.extract::<T>() {
            // With a value left out, what seems wrong with the others may be a mere consequence.
            Ok(value) if self.refused.is_empty() => return Ok(value),
            // What was refused or is missing has been said; serde would only say it again.
            Err(error) if self.findings.is_empty() => {
                let key = error.path.iter().fold(String::new(), |key, part| match part.parse() {
                    Ok(index) => keys::item(&key, index),
                    Err(_) => keys::child(&key, part),
                });
                let message = format!("`{key}`: {}", error.kind);
                self.findings.push(Finding { key, origin: None, message, help: None });
            }
            _ => {}
        }
        self.finish()?;
        Err(Diagnostic::new("the settings cannot be read").into())
    }

    /// Adds what a validation found.
    pub(super) fn report_problems(&mut self, problems: Problems) {
        self.findings.extend(problems.into_vec().into_iter().map(|problem| self.origins.locate(problem)));
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
