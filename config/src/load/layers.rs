//! The layers: each is checked on its own, then figment merges them and remembers from which each value is.

use std::{mem, path::Path, sync::Arc};

use figment::{
    Figment, Metadata, Profile, Provider,
    value::{Dict, Map, Value as Tagged},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use svidecar_document::{
    check::{Checked, Dialect, check},
    diagnostic::{Diagnostic, Diagnostics},
    document::fill,
    finding::Finding,
    node::Node,
    problems::Problems,
    required::{Missing, missing},
    schema::Schemas,
};

use super::{environment, origins::Origins, source::Source};

/// The layers so far, and what is wrong with them.
pub(super) struct Layers<'l, 's> {
    schemas: &'l Schemas<'s>,
    dialect: Dialect,
    figment: Figment,
    origins: Origins,
    /// What the file says.
    document: Option<Node>,
    problems: Vec<Diagnostic>,
    /// Keys whose value was refused: they are neither missing nor unset.
    refused: Vec<String>,
}

/// One layer, as figment wants it.
struct Layer {
    source: Source,
    value: Value,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        self.source.metadata()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let dict = Tagged::serialize(&self.value)?.into_dict().unwrap_or_default();
        Ok(Profile::Default.collect(dict))
    }
}

impl<'l, 's> Layers<'l, 's> {
    pub(super) fn new(schemas: &'l Schemas<'s>, dialect: Dialect, file: Option<&Path>) -> Self {
        Self {
            schemas,
            dialect,
            figment: Figment::new(),
            origins: Origins::new(file),
            document: None,
            problems: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// Adds the file.
    pub(super) fn add_file(&mut self, root: Node) {
        if let Some(file) = self.origins.file() {
            self.add(Source::File(Arc::clone(file)), &root);
        }
        self.document = Some(root);
    }

    /// Adds a layer over those before.
    pub(super) fn add(&mut self, source: Source, root: &Node) {
        let Checked { value, findings, refused } = check(self.schemas, &self.dialect, root);
        findings.into_iter().for_each(|finding| self.report(&source, finding));
        self.refused.extend(refused);
        self.figment = mem::take(&mut self.figment).merge(Layer { source, value });
    }

    /// Notes what is wrong with a layer.
    pub(super) fn report(&mut self, source: &Source, finding: Finding) {
        self.problems.push(source.origin(finding.position).diagnose(finding));
    }

    /// Merges the layers.
    pub(super) fn merge(mut self) -> Merged {
        let value = match self.figment.find_value("") {
            Ok(merged) => {
                self.origins.note(&self.figment, &merged, self.document.as_ref());
                serde_json::to_value(&merged).unwrap_or_default()
            }
            Err(error) => {
                self.problems.push(Diagnostic::new(error.to_string()));
                Value::Null
            }
        };
        Merged { value, origins: self.origins, problems: self.problems, refused: self.refused }
    }
}

/// What the layers come to.
pub(super) struct Merged {
    value: Value,
    origins: Origins,
    problems: Vec<Diagnostic>,
    refused: Vec<String>,
}

impl Merged {
    /// Notes which required keys no layer has. `prefix` begins the variables that could set them.
    pub(super) fn check_required(&mut self, schemas: &Schemas<'_>, prefix: &str) {
        for Missing { key, example, meaning } in missing(schemas, &self.value, &self.refused) {
            let help = if key.contains('[') {
                meaning
            } else {
                let variable = environment::variable(prefix, &key);
                Some(format!("write `{key}: {}`, or set {variable}", example.unwrap_or("…")))
            };
            let message = format!("`{key}` is missing");
            self.problems.push(self.origins.diagnose(Finding { key, position: None, message, help }));
        }
    }

    /// Fills the types.
    ///
    /// # Errors
    /// All that is wrong, if that leaves no value that is worth a further look.
    pub(super) fn fill<T: DeserializeOwned>(&mut self) -> Result<T, Diagnostics> {
        match fill(mem::take(&mut self.value)) {
            // With a value left out, what seems wrong with the others may be a mere consequence.
            Ok(value) if self.refused.is_empty() => return Ok(value),
            // What was refused or is missing has been said; serde would only say it again.
            Err(finding) if self.problems.is_empty() => self.problems.push(self.origins.diagnose(finding)),
            _ => {}
        }
        Diagnostics::check(mem::take(&mut self.problems))?;
        Err(Diagnostic::new("the settings cannot be read").into())
    }

    /// Where every value came from, if a validation found no `problems` and nothing else is wrong.
    ///
    /// # Errors
    /// All that is wrong.
    pub(super) fn finish(mut self, problems: Problems) -> Result<Origins, Diagnostics> {
        self.problems.extend(problems.into_iter().map(|problem| self.origins.locate(problem)));
        Diagnostics::check(self.problems)?;
        Ok(self.origins)
    }
}
