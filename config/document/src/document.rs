//! From the text of a file to a value of our type whose every part knows where it stands.

use std::{
    collections::BTreeMap,
    marker::PhantomData,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

use crate::{
    check::{Dialect, check},
    diagnostic::{Diagnostic, Diagnostics},
    finding::Finding,
    keys,
    node::{Content, Node, Position},
    problems::{Problem, Problems},
    required::missing,
    schema::{Schemas, json_schema},
    yaml,
};

/// A value that was read from one file, and where each part of it stands.
#[derive(Debug, Clone)]
pub struct Document<T> {
    /// The value.
    pub value: T,
    /// Where each part of it stands.
    pub layout: Layout,
}

impl<T> Document<T> {
    /// Places problems that a check of the value found, by key (`rules[2].from[0]`).
    ///
    /// # Errors
    /// The problems, if there are any.
    pub fn place(&self, problems: Problems) -> Result<(), Diagnostics> {
        self.layout.place(problems)
    }
}

/// Where each part of a document stands.
#[derive(Debug, Clone)]
pub struct Layout {
    file: PathBuf,
    root: Node,
}

impl Layout {
    /// Where the items of a list at the top level begin.
    pub fn items(&self, key: &str) -> impl Iterator<Item = Position> {
        let items = self.root.entry(key).map_or(&[][..], |entry| entry.value.items());
        items.iter().map(|item| item.position)
    }

    /// Places problems that a check of the value found, by key (`rules[2].from[0]`).
    ///
    /// # Errors
    /// The problems, if there are any.
    pub fn place(&self, problems: Problems) -> Result<(), Diagnostics> {
        if problems.is_empty() {
            return Ok(());
        }
        let places = Places::of(&self.root);
        let found = problems.into_iter().map(|problem| places.locate(problem).in_file(&self.file));
        Diagnostics::check(found.collect())
    }
}

/// A kind of document: the type that its text becomes, and what it has of its own.
pub struct Kind<T> {
    /// Made when the first document is read, since it costs more than to read a short one.
    schema: LazyLock<Value>,
    dialect: Dialect,
    value: PhantomData<fn() -> T>,
}

impl<T: JsonSchema + DeserializeOwned> Kind<T> {
    /// Documents that become a `T`, by the JSON Schema of it.
    #[must_use]
    pub const fn new(dialect: Dialect) -> Self {
        Self { schema: LazyLock::new(json_schema::<T>), dialect, value: PhantomData }
    }

    /// Reads a value from the text of a file. `misfits` finds what the parts of the document must not be together; it
    /// looks at the document as it was written, so that what it finds is told also when other parts are wrong.
    ///
    /// # Errors
    /// All that is wrong, each with line and column. `file` is only named, never opened.
    pub fn read(
        &self,
        text: &str,
        file: &Path,
        misfits: impl FnOnce(&Node) -> Problems,
    ) -> Result<Document<T>, Diagnostics> {
        let root = yaml::parse(text, file)?;
        let schemas = Schemas::new(&self.schema);
        let checked = check(&schemas, &self.dialect, &root);
        let missing =
            missing(&schemas, &checked.value, &checked.refused).into_iter().map(|missing| Finding {
                message: format!("`{}` is missing", missing.key),
                key: missing.key,
                position: None,
                help: missing.meaning,
            });
        let problems = misfits(&root);
        let mut findings = checked.findings;
        findings.extend(missing);
        if findings.is_empty() && problems.is_empty() {
            match fill(checked.value) {
                Ok(value) => return Ok(Document { value, layout: Layout { file: file.to_owned(), root } }),
                Err(finding) => findings.push(finding),
            }
        }
        let places = Places::of(&root);
        for finding in findings.iter_mut().filter(|finding| finding.position.is_none()) {
            finding.position = places.nearest(&finding.key).map(|place| place.value);
        }
        findings.extend(problems.into_iter().map(|problem| places.locate(problem)));
        let found = findings.into_iter().map(|finding| finding.in_file(file));
        Diagnostics::check(found.collect())?;
        // There is a finding where there is no value.
        Err(Diagnostic::new("the file cannot be read").at(file, 0, 0).into())
    }
}

/// Fills a type from a value that fits its schema.
///
/// # Errors
/// What the type demands beyond its schema.
pub fn fill<T: DeserializeOwned>(value: Value) -> Result<T, Finding> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let key = error.path().iter().fold(String::new(), |key, segment| match segment {
            Segment::Seq { index } => keys::item(&key, *index),
            Segment::Map { key: name } | Segment::Enum { variant: name } => keys::child(&key, name),
            Segment::Unknown => key,
        });
        let message = format!("`{key}`: {}", error.inner());
        Finding { key, position: None, message, help: None }
    })
}

/// Where a key and its value stand. An item of a list has no key: the place of its value counts as both.
#[derive(Debug, Clone, Copy)]
struct Place {
    key: Position,
    value: Position,
}

/// The places of all keys. Made where something is wrong: a document that is right needs none.
struct Places(BTreeMap<String, Place>);

impl Places {
    fn of(root: &Node) -> Self {
        let mut places = Self(BTreeMap::new());
        places.note(root, "");
        places
    }

    fn note(&mut self, node: &Node, key: &str) {
        match &node.content {
            Content::Scalar { .. } => {}
            Content::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    let key = keys::item(key, index);
                    self.note(item, &key);
                    self.0.insert(key, Place { key: item.position, value: item.position });
                }
            }
            Content::Map(entries) => {
                for entry in entries {
                    let key = keys::child(key, &entry.key);
                    self.note(&entry.value, &key);
                    self.0.insert(key, Place { key: entry.key_position, value: entry.value.position });
                }
            }
        }
    }

    /// The place of the key, or of the nearest key around it that is there.
    fn nearest(&self, key: &str) -> Option<Place> {
        let mut around = Some(key);
        while let Some(key) = around {
            if let Some(place) = self.0.get(key) {
                return Some(*place);
            }
            around = keys::parent(key);
        }
        None
    }

    /// A problem with the place of its key, or else with the key itself.
    fn locate(&self, problem: Problem) -> Finding {
        let Problem { key, message, help, is_about_key } = problem;
        match self.nearest(&key) {
            Some(place) => {
                let position = if is_about_key { place.key } else { place.value };
                Finding { key, position: Some(position), message, help }
            }
            None => Finding { message: format!("`{key}`: {message}"), key, position: None, help },
        }
    }
}

#[cfg(test)]
mod tests;
